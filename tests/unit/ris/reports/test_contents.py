import unicodedata
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.reports import contents
from ris.reports.faults import Invalid
from ris.reports.model import SECTIONS, Addendum, Content, Measurement
from ris.requests import Code

WHOLE = Content(
    clinical_information="Đau ngực",
    technique="CLVT ngực",
    comparison="Không có",
    findings="Nốt 6 mm thuỳ trên phổi phải.",
    impression="Nốt đơn độc.",
    recommendation="Chụp lại sau 6 tháng.",
    measurements=(
        Measurement("Đường kính", "6.0", "mm", Code("410668003", "Length", "SCT")),
        Measurement("Tỷ trọng", "-35", "[hnsf'U]"),
    ),
    diagnoses=(Code("R91", "Bất thường của phổi", "I10"),),
    addenda=(Addendum("Đã hội chẩn.", "BS A", datetime(2026, 3, 1, tzinfo=UTC)),),
)


def pointers(content: Content) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as invalid:
        contents.cleaned(content)
    return [(fault.pointer, fault.code) for fault in invalid.value.faults]


def test_content_comes_back_as_it_was_kept() -> None:
    assert contents.from_json(contents.to_json(WHOLE)) == WHOLE
    assert contents.from_json({}) == Content()


def test_decomposed_text_is_composed_and_lines_are_kept() -> None:
    sent = unicodedata.normalize("NFD", "Đỗ ƯỜNG Ẵ Ộ") + "\r\nhai\rba \x07\t.\n\n"

    assert contents.clean(sent) == "Đỗ ƯỜNG Ẵ Ộ\nhai\nba \t."


@given(st.text(st.characters(codec="utf-8")))
def test_cleaning_twice_changes_nothing(sent: str) -> None:
    assert contents.clean(contents.clean(sent)) == contents.clean(sent)


@given(st.builds(Content, **{name: st.text(st.characters(codec="utf-8")) for name in SECTIONS}))
def test_kept_text_can_be_encoded_and_holds_no_controls(content: Content) -> None:
    if "\0" in "".join(getattr(content, name) for name in SECTIONS):
        assert {code for _, code in pointers(content)} == {"not_text"}
        return

    written = contents.canonical(contents.to_json(contents.cleaned(content))).decode()

    assert not any(unicodedata.category(one) == "Cc" for one in written)


@pytest.mark.parametrize("name", SECTIONS)
def test_each_section_is_named_when_it_is_too_long_or_no_text(name: str) -> None:
    long = "a" * (contents.MOST_CHARACTERS + 1)

    assert pointers(replace(WHOLE, **{name: long})) == [(f"/content/{name}", "too_long")]
    for broken in ("a\0b", "a\ud800"):
        assert pointers(replace(WHOLE, **{name: broken})) == [(f"/content/{name}", "not_text")]


@pytest.mark.parametrize(
    "value", ["", "sáu", "6 mm", "NaN", "Infinity", "0x10", "1e5000000000000000000"]
)
def test_what_is_no_number_is_no_measurement(value: str) -> None:
    faulty = replace(WHOLE, measurements=(Measurement("x", "1"), Measurement("y", value)))

    assert pointers(faulty) == [("/content/measurements/1/value", "not_a_number")]


def test_all_faults_are_named_at_once() -> None:
    faulty = replace(
        WHOLE,
        findings="\0",
        measurements=(Measurement(" ", "1", code=Code("")),),
        diagnoses=(Code("R91"), Code("", "x" * 2000)),
    )

    assert pointers(faulty) == [
        ("/content/findings", "not_text"),
        ("/content/measurements/0/name", "required"),
        ("/content/measurements/0/code/value", "required"),
        ("/content/diagnoses/1/value", "required"),
        ("/content/diagnoses/1/meaning", "too_long"),
    ]


@pytest.mark.parametrize("name", ["findings", "impression"])
def test_nothing_is_signed_without(name: str) -> None:
    with pytest.raises(Invalid, match=f"/content/{name} must not be empty") as invalid:
        contents.require_complete(replace(WHOLE, **{name: ""}))

    assert invalid.value.told("vi") == "không được để trống"


def test_chain_breaks_wherever_something_was_changed() -> None:
    facts = [{"revision": number, "text": f"v{number}"} for number in range(1, 5)]
    digests, before = [], ""
    for fact in facts:
        before = contents.chained(before, fact)
        digests.append(before)

    assert contents.chain_holds(digests, facts)
    for index in range(4):
        changed = [{**one, "text": "x"} if at == index else one for at, one in enumerate(facts)]
        assert not contents.chain_holds(digests, changed)
    assert not contents.chain_holds(digests[1:], facts[1:])
