from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.base.errors import Malformed
from storage.base.temporal import (
    da_range,
    dt_range,
    local_dt,
    parse_da,
    parse_dt,
    parse_tm,
    tm_range,
)

LAST = time(23, 59, 59, 999999)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        (" 20240229\0", date(2024, 2, 29)),
        ("", None),
        ("\0 ", None),
    ],
)
def test_date_is_read_in_both_forms(text: str, day: date | None) -> None:
    assert parse_da(text) == day


@pytest.mark.parametrize(
    "text",
    ["20230229", "00000101", "2024", "2024-02-29", "202402.29", "٢٠٢٤٠٢٢٩", "20240229x", "*"],
)
def test_what_is_no_date_is_malformed_and_not_repeated(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_da(text)

    assert text not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("07", time(7)),
        ("0730", time(7, 30)),
        ("073015", time(7, 30, 15)),
        ("073015.1", time(7, 30, 15, 100000)),
        ("073015.000001 ", time(7, 30, 15, 1)),
        ("07:30:15.5", time(7, 30, 15, 500000)),
        ("07:30", time(7, 30)),
        ("235960", LAST),
        ("", None),
    ],
)
def test_time_is_read_at_every_precision(text: str, moment: time | None) -> None:
    assert parse_tm(text) == moment


@pytest.mark.parametrize(
    "text",
    ["7", "073", "2400", "0760", "235961", "073015.", "073015.1234567", "07.5", "٠٧", "-", "now"],
)
def test_what_is_no_time_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="VR TM"):
        parse_tm(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("20240101-20240131", (date(2024, 1, 1), date(2024, 1, 31))),
        ("2024.01.01 - 2024.01.31", (date(2024, 1, 1), date(2024, 1, 31))),
        ("20240101-", (date(2024, 1, 1), None)),
        ("-20240131", (None, date(2024, 1, 31))),
        ("20240101", (date(2024, 1, 1), date(2024, 1, 1))),
        ("", (None, None)),
    ],
)
def test_date_range_has_both_ends_inside(text: str, days: tuple[date | None, date | None]) -> None:
    assert da_range(text) == days


@pytest.mark.parametrize(
    ("text", "moments"),
    [
        ("07", (time(7), time(7, 59, 59, 999999))),
        ("0730", (time(7, 30), time(7, 30, 59, 999999))),
        ("073015", (time(7, 30, 15), time(7, 30, 15, 999999))),
        ("073015.5", (time(7, 30, 15, 500000), time(7, 30, 15, 599999))),
        ("073015.123456", (time(7, 30, 15, 123456), time(7, 30, 15, 123456))),
        ("07-0730", (time(7), time(7, 30, 59, 999999))),
        ("-23", (None, LAST)),
        ("07-", (time(7), None)),
        ("235960", (LAST, LAST)),
        ("", (None, None)),
    ],
)
def test_time_range_ends_with_the_precision_of_its_last_time(
    text: str, moments: tuple[time | None, time | None]
) -> None:
    assert tm_range(text) == moments


@pytest.mark.parametrize("text", ["-", " - ", "20240101-20240102-20240103", "20240101--"])
def test_range_without_sense_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        da_range(text)
    with pytest.raises(Malformed):
        tm_range(text)


HANOI = ZoneInfo("Asia/Ho_Chi_Minh")
NEW_YEAR = datetime(2024, 1, 1)
LEAP_DAY = datetime(2024, 2, 29)


@pytest.mark.parametrize(
    ("text", "moments"),
    [
        ("2024", (NEW_YEAR, datetime.combine(date(2024, 12, 31), LAST))),
        ("202402", (datetime(2024, 2, 1), datetime.combine(LEAP_DAY, LAST))),
        ("20240229", (LEAP_DAY, datetime.combine(LEAP_DAY, LAST))),
        ("2024022907", (datetime(2024, 2, 29, 7), datetime(2024, 2, 29, 7, 59, 59, 999999))),
        ("20240101-", (NEW_YEAR, None)),
        ("-2024", (None, datetime.combine(date(2024, 12, 31), LAST))),
        ("2024-20240229", (NEW_YEAR, datetime.combine(LEAP_DAY, LAST))),
        # a year 0500 is none: it is an offset, five hours west of UTC
        ("20240229-0500", (LEAP_DAY, datetime.combine(LEAP_DAY, LAST))),
        ("20240101-0500-20240229+0700", (NEW_YEAR, datetime.combine(LEAP_DAY, LAST))),
    ],
)
def test_date_time_key_covers_its_precision(
    text: str, moments: tuple[datetime | None, datetime | None]
) -> None:
    assert dt_range(text) == moments


@pytest.mark.parametrize("text", ["-", "x", "202413", "2024010", "20240230", "2024+1500", "soon"])
def test_what_is_no_date_time_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        dt_range(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("20240101180000+0000", "20240102010000"),
        ("202401011800-0500", "202401020600"),
        ("2024010118+0530", "202401011930"),
        ("20240101120000", "20240101120000"),
        ("20240101+0000", "20240101+0000"),
        ("20240101180000+0000-20240102", "20240102010000-20240102"),
        ("00010101000000+1400", "00010101000000+1400"),
        ("soon", "soon"),
    ],
)
def test_date_time_of_elsewhere_is_told_by_the_clock_here(text: str, shown: str) -> None:
    assert local_dt(text, HANOI) == shown


@given(st.text(alphabet="0123456789-+:. *\0x"))
def test_any_text_is_read_or_malformed(text: str) -> None:
    local_dt(text, HANOI)
    for read in (parse_da, parse_tm, parse_dt, da_range, tm_range, dt_range):
        try:
            read(text)
        except Malformed:
            continue


@given(st.times())
def test_every_time_lies_in_its_own_range(moment: time) -> None:
    text = moment.strftime("%H%M%S.%f")

    for length in (2, 4, 6, 8, 13):
        low, high = tm_range(text[:length])
        assert low is not None
        assert high is not None
        assert low <= moment <= high
