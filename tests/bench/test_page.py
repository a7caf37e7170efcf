import pytest

from tests.bench import page, run

TEXT = "# Title\n\n<!-- scale: begin -->\nold\n<!-- scale: end -->\n\nafter\n"


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    assert page.put(TEXT, "scale", "new") == (
        "# Title\n\n<!-- scale: begin -->\n\nnew\n\n<!-- scale: end -->\n\nafter\n"
    )


def test_putting_the_same_again_changes_nothing() -> None:
    once = page.put(TEXT, "scale", "new")

    assert page.put(once, "scale", "new") == once


@pytest.mark.parametrize(
    "text",
    ["", "<!-- scale: begin -->", "<!-- scale: end --><!-- scale: begin -->", TEXT + TEXT],
    ids=["none", "no end", "end before begin", "twice"],
)
def test_a_page_without_one_pair_of_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no pair of markers for scale"):
        page.put(text, "scale", "new")


@pytest.mark.parametrize("name", run.SECTIONS)
def test_every_section_has_its_place_on_the_page(name: str) -> None:
    assert "new" in page.put(page.PAGE.read_text(), name, "new")
