from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from ris.hl7 import times

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", datetime(2026, 1, 1)),
        ("202603", datetime(2026, 3, 1)),
        ("20260310", datetime(2026, 3, 10)),
        ("2026031008", datetime(2026, 3, 10, 8)),
        ("202603100830", datetime(2026, 3, 10, 8, 30)),
        ("20260310083015", datetime(2026, 3, 10, 8, 30, 15)),
        ("20260310083015.1234", datetime(2026, 3, 10, 8, 30, 15, 123400)),
        ("20260310083060", datetime(2026, 3, 10, 8, 30, 59)),
        ("20260000", datetime(2026, 1, 1)),
        ("10/03/2026", datetime(2026, 3, 10)),
        ("10/03/2026 08:30", datetime(2026, 3, 10, 8, 30)),
        ("2026-03-10T08:30:15", datetime(2026, 3, 10, 8, 30, 15)),
        (" 20260310 ", datetime(2026, 3, 10)),
    ],
)
def test_time_without_zone_is_taken_as_it_stands(text: str, expected: datetime) -> None:
    assert times.parse_ts(text, VIETNAM) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260310083000+0700", datetime(2026, 3, 10, 8, 30)),
        ("20260310013000Z", datetime(2026, 3, 10, 8, 30)),
        ("20260309200000-0530", datetime(2026, 3, 10, 8, 30)),
        ("20260310083000.5+07:00", datetime(2026, 3, 10, 8, 30, 0, 500000)),
    ],
)
def test_time_with_zone_becomes_the_local_one(text: str, expected: datetime) -> None:
    assert times.parse_ts(text, VIETNAM) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "20261301",
        "20260230",
        "202603102460",
        "2026031",
        "١٩٨٠",
        "20260310+9900",
        "0000",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        times.parse_ts(text, VIETNAM)
    assert not text or text not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("19510716", date(1951, 7, 16)),
        ("19510716083000", date(1951, 7, 16)),
        ("16/07/1951", date(1951, 7, 16)),
        ("1951", None),
        ("195107", None),
        ("19510000", None),
        ("00000000", None),
        ("195100000000", None),
    ],
)
def test_birth_date_is_a_whole_day_or_none(text: str, expected: date | None) -> None:
    assert times.parse_birth_date(text) == expected


def test_birth_date_that_is_no_day_is_refused() -> None:
    with pytest.raises(ValueError, match="day is out of range"):
        times.parse_birth_date("19510231")
