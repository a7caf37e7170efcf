from pathlib import Path

import pytest

from tests.bench import figures
from tests.bench.figures import Column, Figures

OURS = [{"rate": 30.0, "ms": 2.0}, {"rate": 40.0, "ms": 4.0}, {"rate": 90.0, "ms": 3.0}]
RIVAL = [{"rate": 10.0, "ms": 6.0}, {"rate": 20.0, "ms": 4.0}, {"rate": 30.0, "ms": 30.0}]


def both() -> Figures:
    filled = Figures()
    for ours, rival in zip(OURS, RIVAL, strict=True):
        filled.add("store", "ours", ours)
        filled.add("store", "rival", rival)
    return filled


def test_middle_is_the_median() -> None:
    assert figures.middle(OURS, "rate", 1) == "40.0"


def test_middle_of_what_was_not_measured_is_left_open() -> None:
    assert figures.middle(OURS, "memory") == figures.NOTHING


def test_ratio_pairs_the_turns_of_one_round() -> None:
    assert figures.ratio(OURS, RIVAL, "rate") == "3.00 (2.00–3.00)"


def test_ratio_of_times_says_how_many_times_faster() -> None:
    assert figures.ratio(OURS, RIVAL, "ms", less_is_better=True) == "3.00 (1.00–10.00)"


def test_ratio_uses_complete_rounds_only() -> None:
    assert figures.ratio(OURS[:1], RIVAL, "rate") == "3.00 (3.00–3.00)"


@pytest.mark.parametrize(
    ("ours", "rival", "key"),
    [
        ([], RIVAL, "rate"),
        (OURS, [], "rate"),
        (OURS, RIVAL, "memory"),
        (OURS, [{"rate": 0}], "rate"),
    ],
    ids=["no turn of ours", "no rival", "not measured", "rival did nothing"],
)
def test_ratio_without_a_pair_is_left_open(ours: list, rival: list, key: str) -> None:
    assert figures.ratio(ours, rival, key) == figures.NOTHING


def test_table_has_a_line_for_each_archive_and_no_ratio_to_itself() -> None:
    columns = (Column("rate /s", "rate"), Column("of rival", "rate", against="rival"))

    assert figures.table(both(), columns).splitlines() == [
        "| work | archive | rate /s | of rival |",
        "|---|---|---|---|",
        "| store | ours | 40 | 3.00 (2.00–3.00) |",
        "| store | rival | 20 | – |",
    ]


def test_table_names_the_archives_of_every_case_in_the_same_order() -> None:
    shuffled = Figures()
    for case, archive in (("a", "x"), ("a", "y"), ("b", "y"), ("b", "x")):
        shuffled.add(case, archive, {"rate": 1.0})

    lines = figures.table(shuffled, (Column("rate", "rate"),)).splitlines()[2:]

    assert [line.split(" | ")[1] for line in lines] == ["x", "y", "x", "y"]


def test_saved_figures_are_read_back(tmp_path: Path) -> None:
    both().save(tmp_path / "kept.json")

    assert Figures.load(tmp_path / "kept.json") == both()


def test_there_are_no_figures_before_the_first_run(tmp_path: Path) -> None:
    assert Figures.load(tmp_path / "kept.json") == Figures()
