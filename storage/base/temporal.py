"""Dates and times as DICOM writes them (PS3.5 6.2), and the ranges of queries.

Clinical time has no zone: it is what the wall clock of the device said.
"""

import re
from collections.abc import Callable
from datetime import date, time
from typing import Final, NoReturn, TypeVar

from storage.base.errors import Malformed

_DATE: Final = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})\.(\d\d)\.(\d\d)", re.ASCII)
_TIME: Final = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_LEAP_SECOND: Final = 60
_MICROSECOND_DIGITS: Final = 6

Value = TypeVar("Value", date, time)


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
