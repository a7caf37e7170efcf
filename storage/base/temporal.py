"""Dates and times as DICOM writes them (PS3.5 6.2), and the ranges of queries.

Clinical time has no zone: it is what the wall clock of the device said.
"""

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Final, NoReturn, TypeVar

from storage.base.errors import Malformed

_DATE: Final = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)", re.ASCII)
_TIME: Final = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_MOMENT: Final = re.compile(
    r"(?P<digits>\d{4}(?:\d\d){0,5}(?:(?<=\d{14})\.\d{1,6})?)(?P<offset>[+-]\d{4})?", re.ASCII
)
_LEAP_SECOND: Final = 60
_OFFSETS: Final = range(-12 * 60, 14 * 60 + 1)
"""Minutes; PS3.5 6.2, VR DT."""
_MICROSECOND_DIGITS: Final = 6

Value = TypeVar("Value", date, time, datetime)


def parse_da(text: str) -> date | None:
    """Return the date of ``YYYYMMDD``, or of the retired ``YYYY.MM.DD``; None when empty.

    Raises
    ------
    Malformed
        It is no date.
    """
    bare = text.strip("\0 ")
    if not bare:
        return None
    match = _DATE.fullmatch(bare)
    try:
        return date(*(int(part) for part in match.groups() if part)) if match else _refuse("DA")
    except ValueError:
        return _refuse("DA")


def parse_tm(text: str) -> time | None:
    """Return the time of ``HH[MM[SS[.F{1,6}]]]``, colons allowed; None when empty.

    A leap second (``SS`` is 60) becomes the last microsecond of its minute.

    Raises
    ------
    Malformed
        It is no time.
    """
    bare = text.strip("\0 ")
    return _moments(bare)[0] if bare else None


def da_range(text: str) -> tuple[date | None, date | None]:
    """Return the first and the last day that a DA key asks for, None for an open end.

    Range matching of PS3.4 C.2.2.2.5: ``A-B``, ``A-``, ``-B``; one date is itself.

    Raises
    ------
    Malformed
        An end is no date, or the key is a bare hyphen.
    """
    return _range(text, "DA", parse_da, parse_da)


def tm_range(text: str) -> tuple[time | None, time | None]:
    """Return the first and the last time that a TM key asks for, None for an open end.

    The last one covers its own precision: ``0730`` ends at 07:30:59.999999.

    Raises
    ------
    Malformed
        An end is no time, or the key is a bare hyphen.
    """
    return _range(text, "TM", parse_tm, _last_moment)


def parse_dt(text: str) -> datetime | None:
    """Return the first moment of ``YYYY[MM[DD[HH[MM[SS[.F{1,6}]]]]]][&ZZXX]``; None when empty.

    It is what stands there, whatever the offset: see `local_dt`.

    Raises
    ------
    Malformed
        It is no date time.
    """
    bare = text.strip("\0 ")
    return _period(bare)[0] if bare else None


def dt_range(text: str) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last moment that a DT key asks for, None for an open end.

    The last one covers its own precision. A hyphen before four digits that can be an offset from
    UTC is one, else it is that of a range (PS3.4 C.2.2.2.5).

    Raises
    ------
    Malformed
        An end is no date time, or the key is a bare hyphen.
    """
    ends = _ends(text.strip("\0 "))
    if not any(ends):
        return _refuse("DT")
    return parse_dt(ends[0]), _period(ends[-1])[1] if ends[-1] else None


def local_dt(text: str, zone: tzinfo) -> str:
    """Return a DT, or a range of DT, of another offset from UTC as a clock in `zone` shows it.

    What has no offset, and what is none or names no hour, is given as it stands.
    """
    return "-".join(_local(end, zone) for end in _ends(text.strip("\0 ")))


def _ends(bare: str) -> tuple[str, ...]:
    """Split a DT key at the hyphen of a range, if it is one."""
    if _is_moment(bare):
        return (bare,)
    for found in re.finditer("-", bare):
        ends = bare[: found.start()], bare[found.end() :]
        if all(not end or _is_moment(end) for end in ends):
            return ends
    return (bare,)


def _is_moment(text: str) -> bool:
    match = _MOMENT.fullmatch(text)
    return match is not None and _offset(match["offset"] or "+0000") in _OFFSETS


def _offset(text: str) -> int:
    minutes = int(text[1:3]) * 60 + int(text[3:])
    return -minutes if text[0] == "-" else minutes


def _local(text: str, zone: tzinfo) -> str:
    match = _MOMENT.fullmatch(text)
    if match is None or match["offset"] is None or len(match["digits"]) < len("YYYYMMDDHH"):
        return text
    first, _ = _period(text)
    there = timezone(timedelta(minutes=_offset(match["offset"])))
    try:
        here = first.replace(tzinfo=there).astimezone(zone)
    except OverflowError:  # the first or the last day that there is
        return text
    shown = f"{here.year:04}{here:%m%d%H%M%S.%f}"
    return shown[: max(len(match["digits"]), len("YYYYMMDDHHMM"))]


def _period(bare: str) -> tuple[datetime, datetime]:
    """Return the first and the last microsecond of the period that a DT text names."""
    match = _MOMENT.fullmatch(bare)
    if match is None or _offset(match["offset"] or "+0000") not in _OFFSETS:
        return _refuse("DT")
    digits = match["digits"]
    day, clock = digits[:8], digits[8:]
    try:
        first_day = date(int(day[:4]), int(day[4:6] or 1), int(day[6:] or 1))
    except ValueError:
        return _refuse("DT")
    if not clock:
        return (
            datetime.combine(first_day, time.min),
            datetime.combine(_last_day(first_day, day), time.max),
        )
    first, last = _moments(clock)
    return datetime.combine(first_day, first), datetime.combine(first_day, last)


def _last_day(first: date, named: str) -> date:
    if len(named) == len("YYYYMMDD"):
        return first
    if len(named) == len("YYYYMM"):
        return first.replace(day=monthrange(first.year, first.month)[1])
    return first.replace(month=12, day=31)


def _range(
    text: str,
    vr: str,
    first: Callable[[str], Value | None],
    last: Callable[[str], Value | None],
) -> tuple[Value | None, Value | None]:
    bare = text.strip("\0 ")
    if bare == "-":
        return _refuse(vr)
    low, hyphen, high = bare.partition("-")
    return first(low), last(high if hyphen else low)


def _last_moment(text: str) -> time | None:
    bare = text.strip("\0 ")
    return _moments(bare)[1] if bare else None


def _moments(bare: str) -> tuple[time, time]:
    """Return the first and the last microsecond of the interval that a TM text names."""
    match = _TIME.fullmatch(bare)
    if match is None:
        return _refuse("TM")
    hour, minute, second, fraction = match.groups()
    if second and int(second) == _LEAP_SECOND:
        second, fraction = "59", "9" * _MICROSECOND_DIGITS
    digits = fraction or ""
    try:
        first = time(
            int(hour),
            int(minute or 0),
            int(second or 0),
            int(digits.ljust(_MICROSECOND_DIGITS, "0")),
        )
    except ValueError:
        return _refuse("TM")
    last = first.replace(
        minute=first.minute if minute else 59,
        second=first.second if second else 59,
        microsecond=int(digits.ljust(_MICROSECOND_DIGITS, "9")),
    )
    return first, last


def _refuse(vr: str) -> NoReturn:
    # The text stays out of the message: it may be a birth date.
    raise Malformed(f"not a value of VR {vr}")
