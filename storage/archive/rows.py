"""How a received object becomes values of columns.

Nothing that a device sends makes an insert fail: what is no date or number
becomes empty, NUL and broken Unicode go, and text ends where the longest lawful
value would (LT, PS3.5 6.2).
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Final

from storage.archive.attributes import BACKSLASH_VRS, Attribute, Matching, of_level
from storage.archive.model import Level
from storage.archive.tables import key_column
from storage.base import names, temporal
from storage.base.errors import Malformed

Value = str | int | None
"""What a column of an attribute holds."""

MAX_TEXT: Final = 10_240
MAX_NAME_KEY: Final = 500
"""Characters; a row of a B-tree index must fit in a third of a page."""
MAX_MEMBER: Final = 64
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,12}")
_INT32: Final = range(-(2**31), 2**31)


def clean(text: str) -> str:
    """Return `text` as the index keeps it: NFC, trimmed, storable."""
    bare = text[:MAX_TEXT].replace("\0", "").strip()
    if bare.isascii():
        return bare
    return unicodedata.normalize("NFC", bare.encode("utf-8", "replace").decode())


def members(text: str) -> tuple[str, ...]:
    """Return the trimmed values of a multi-valued text that are not empty."""
    return tuple(member for part in text.split("\\") if (member := part.strip()))


def name_key(text: str) -> str:
    """Return the folded search key of one or more person names."""
    keys = (names.search_key(name) for name in text.split("\\"))
    return "=".join(key for key in keys if key)[:MAX_NAME_KEY]


def date_text(day: date) -> str:
    """Return YYYYMMDD."""
    return f"{day.year:04}{day.month:02}{day.day:02}"


def time_text(moment: time) -> str:
    """Return HHMMSS.FFFFFF."""
    return f"{moment:%H%M%S.%f}"


def date_key(text: str) -> str:
    """Return YYYYMMDD of a DA, '' when it is none."""
    try:
        day = temporal.parse_da(text)
    except Malformed:
        return ""
    return date_text(day) if day else ""


def time_key(text: str) -> str:
    """Return HHMMSS.FFFFFF of a TM, '' when it is none."""
    try:
        moment = temporal.parse_tm(text)
    except Malformed:
        return ""
    return time_text(moment) if moment else ""


def _integer(text: str) -> int | None:
    number = integer(text.partition("\\")[0].strip())
    return number if number is not None and number in _INT32 else None


def integer(text: str) -> int | None:
    """Return the number that a text of VR IS or US writes, None when it writes none."""
    return int(text) if _INTEGER.fullmatch(text) else None


def _members(text: str) -> str:
    return "\\".join(part.strip() for part in text.split("\\"))


def _same(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class _Filler:
    """How one attribute fills its column, and the key that it is matched by."""

    keyword: str
    column: str
    empty: Value
    convert: Callable[[str], Value]
    key: str | None
    convert_key: Callable[[str], str]


def _filler(attribute: Attribute) -> _Filler:
    convert: Callable[[str], Value] = _same
    if attribute.number:
        convert = _integer
    elif attribute.vr == "DA":
        convert = date_key
    elif attribute.multiple and attribute.vr not in BACKSLASH_VRS:
        convert = _members
    return _Filler(
        keyword=attribute.keyword,
        column=attribute.column,
        empty=None if attribute.number else "",
        convert=convert,
        key=key_column(attribute),
        convert_key=name_key if attribute.matching is Matching.NAME else time_key,
    )


_FILLERS: Final = {
    level: tuple(_filler(row) for row in of_level(level) if row.received) for level in Level
}


def values(level: Level, attributes: Mapping[str, str]) -> dict[str, Value]:
    """Return every column of the attributes of `level`, empty where nothing was sent."""
    row: dict[str, Value] = {}
    for filler in _FILLERS[level]:
        text = attributes.get(filler.keyword)
        bare = clean(text) if text else ""
        row[filler.column] = filler.convert(bare) if bare else filler.empty
        if filler.key:
            row[filler.key] = filler.convert_key(bare) if bare else ""
    return row


def fills(
    level: Level, held: Mapping[str, Value], attributes: Mapping[str, str]
) -> dict[str, Value]:
    """Return the columns that are empty in `held` and not in `attributes`."""
    found: dict[str, Value] = {}
    for filler in _FILLERS[level]:
        if held[filler.column] != filler.empty:
            continue
        bare = clean(attributes.get(filler.keyword, ""))
        if bare and (value := filler.convert(bare)) != filler.empty:
            found[filler.column] = value
            if filler.key:
                found[filler.key] = filler.convert_key(bare)
    return found
