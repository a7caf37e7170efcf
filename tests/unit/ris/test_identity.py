from datetime import datetime, timedelta

import pytest

from ris.identity import MAX_LENGTH, is_another_person, is_damaged, is_older, keys_of
from ris.requests import Identifier
from storage.base.errors import Malformed

EIGHT = datetime(2026, 3, 1, 8, 0, 30)


def value(text: str, kind: str = "") -> str:
    return keys_of(Identifier(text, "BV", kind), "his").value


@pytest.mark.parametrize("text", ["bn 001", " BN001 ", "Bn\t001"])
def test_spaces_and_case_do_not_count(text: str) -> None:
    assert value(text) == value("BN001")


def test_leading_zeros_count_and_are_left_out_of_the_loose_key() -> None:
    long, short = (keys_of(Identifier(text, "BV"), "his") for text in ("000123", "123"))

    assert long.value != short.value
    assert long.loose == short.loose


def test_zero_alone_has_a_loose_key() -> None:
    assert keys_of(Identifier("000", "BV"), "his").loose == "0"


@pytest.mark.parametrize("kind", ["HC", "NI"])
def test_marks_of_cards_do_not_count(kind: str) -> None:
    assert value("DN-4 01.1234567890", kind) == value("dn4011234567890", kind)


def test_marks_of_a_hospitals_number_count() -> None:
    assert value("12-3") != value("123")


def test_composed_and_decomposed_letters_are_one() -> None:
    assert value("Đ\u1ea4T1") == value("ĐA\u0302\u0301T1")


def test_number_without_issuer_is_its_senders_own() -> None:
    one, other = (keys_of(Identifier("1"), sender) for sender in ("his", "ris"))

    assert one.issuer != other.issuer
    assert one.issuer != keys_of(Identifier("1", "his"), "his").issuer


@pytest.mark.parametrize("text", ["", "  ", "\u3000"])
def test_empty_number_is_none(text: str) -> None:
    with pytest.raises(Malformed, match=r"PID-3\.1"):
        value(text)


def test_number_longer_than_any_may_be_is_refused() -> None:
    assert value("9" * MAX_LENGTH)
    with pytest.raises(Malformed, match="longer than"):
        value("9" * (MAX_LENGTH + 1))
    with pytest.raises(Malformed, match="longer than"):
        value(" " * 200 + "9")


def test_issuer_longer_than_any_may_be_is_refused() -> None:
    with pytest.raises(Malformed, match=r"PID-3\.4"):
        keys_of(Identifier("1", "B" * 200), "his")


def test_news_are_old_only_when_both_times_are_known() -> None:
    assert is_older(EIGHT, EIGHT + timedelta(seconds=1))
    assert not is_older(EIGHT, EIGHT)
    assert not is_older(None, EIGHT)
    assert not is_older(EIGHT, None)


def test_time_without_seconds_counts_as_the_end_of_its_minute() -> None:
    minute = EIGHT.replace(second=0)

    assert not is_older(minute, EIGHT)
    assert is_older(minute, minute + timedelta(minutes=1))


def test_day_alone_counts_as_the_end_of_its_day() -> None:
    day = EIGHT.replace(hour=0, minute=0, second=0)

    assert not is_older(day, EIGHT)
    assert is_older(day, day + timedelta(days=1))


@pytest.mark.parametrize("name", ["NGUY?N", "NGUYỄN TH?", "NGUY\ufffdN"])
def test_name_that_lost_letters_is_damaged(name: str) -> None:
    assert is_damaged(name)


@pytest.mark.parametrize("name", ["", "NGUYỄN VĂN AN", "?", "NGUYỄN ? AN"])
def test_other_names_are_not(name: str) -> None:
    assert not is_damaged(name)


def person(name: str, born: str | None) -> dict[str, str | None]:
    return {"patient_name": name, "patient_birth_date": born}


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (person("AN", "1980-01-01"), person("BÌNH", "1990-01-01"), True),
        (person("AN", "1980-01-01"), person("AN", "1990-01-01"), False),
        (person("AN", "1980-01-01"), person("BÌNH", "1980-01-01"), False),
        (person("AN", None), person("BÌNH", "1990-01-01"), False),
        (person("", "1980-01-01"), person("BÌNH", "1990-01-01"), False),
        (person("NGUYỄN^AN", "1980-01-01"), person("AN NGUYEN", "1990-01-01"), False),
    ],
)
def test_another_person_differs_in_name_and_birth_date(
    one: dict[str, str | None], other: dict[str, str | None], *, differs: bool
) -> None:
    assert is_another_person(one, other) is differs
