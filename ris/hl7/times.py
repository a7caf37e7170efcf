"""Dates and times of HL7 (TS, DTM), read as they are sent.

4 to 14 digits, a fraction, a zone; day first with slashes as people write it; zeros where a part
is not known. Clinical time is what the wall clock of the hospital says: a value with a zone is
turned into that, a value without is taken as it stands.
"""

import re
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Final

_TS: Final = re.compile(
    r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_SLASHED: Final = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?")
_ISO: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?")


def parse_ts(text: str, zone: tzinfo) -> datetime:
    """Return the local time that a TS names; what it leaves out is the first moment.

    Raises
    ------
    ValueError
        It is no time.
    """
    year, month, day, hour, minute, second, fraction, offset = _parts(text)
    micro = int((fraction or "0").ljust(6, "0")[:6])
    seconds = min(int(second or 0), 59)  # a leap second
    date_parts = int(year), int(month or 0) or 1, int(day or 0) or 1
    local = datetime(*date_parts, int(hour or 0), int(minute or 0), seconds, micro)  # noqa: DTZ001
    if not offset:
        return local
    return local.replace(tzinfo=_offset(offset)).astimezone(zone).replace(tzinfo=None)


def parse_birth_date(text: str) -> date | None:
    """Return the day of birth, None when the day or month is not known.

    Raises
    ------
    ValueError
        It is no date.
    """
    year, month, day, *_ = (int(part) if part.isdigit() else 0 for part in _parts(text))
    return date(year, month, day) if year and month and day else None


def _parts(text: str) -> list[str]:
    """Return year, month, day, hour, minute, second, fraction and offset, '' for what is not."""
    bare = text.strip()
    if match := _TS.fullmatch(bare):
        return [part or "" for part in match.groups()]
    if match := _SLASHED.fullmatch(bare):
        day, month, year, *rest = (part or "" for part in match.groups())
        return [year, month, day, *rest, "", ""]
    if match := _ISO.fullmatch(bare):
        return [*(part or "" for part in match.groups()), "", ""]
    raise ValueError("not YYYYMMDD[HHMM[SS]]")


def _offset(text: str) -> timezone:
    if text == "Z":
        return timezone(timedelta())
    digits = text[1:].replace(":", "")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-size if text[0] == "-" else size)
