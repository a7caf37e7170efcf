"""An encoded dataset made of a DICOM JSON Model object (PS3.18 Annex F, PS3.5 7.1.2).

Explicit VR Little Endian, texts in UTF-8, sequences and items of undefined length, so
nothing has to be measured before it is written. Binary values that stand elsewhere are
written piece by piece: memory does not grow with them.
"""

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pacs.encoding import (
    BULK_VRS,
    ITEM,
    ITEM_END,
    KNOWN_VRS,
    NUMBER_CODES,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    SINGLE_TEXT_VRS,
    UNDEFINED,
    WORD_BYTES,
)
from pacs.header import SPECIFIC_CHARACTER_SET, dictionary_vr
from storage.base.errors import Malformed

Json = Mapping[str, Any]

MAX_DEPTH: Final = 32
MAX_SHORT: Final = 0xFFFE
MAX_LONG: Final = 0xFFFFFFFE
UTF_8: Final = "ISO_IR 192"

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_BINARY: Final = frozenset(vr.decode("ascii") for vr in BULK_VRS)
_KNOWN: Final = frozenset(vr.decode("ascii") for vr in KNOWN_VRS)
_SHORT: Final = frozenset(vr.decode("ascii") for vr in SHORT_VRS)
_NOT_OF_DATASETS: Final = range(0x0008)
"""Groups of commands, file meta information and directories' own; the rest may be anything."""
# They tell of an archive, not of the object (PS3.18 10.6.3, 10.4.3).
_OF_ARCHIVES: Final = frozenset({0x00080056, 0x00081190, 0x00083002})
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_DS_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Value:
    """Bytes that stand elsewhere: how many, and how they are read."""

    size: int
    pieces: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Bulk:
    """A binary value; when `encapsulated`, pixel data with a fragment of each of `values`."""

    values: Sequence[Value]
    encapsulated: bool = False


def compose(dataset: Json, bulk: Mapping[str, Bulk]) -> Iterator[bytes]:
    """Yield the encoded dataset; `bulk` has the binary values by their URI.

    What belongs to the file meta information or tells of an archive is left out.

    Raises
    ------
    Malformed
        The object is no DICOM JSON Model, or a value is not one of its VR; the text names
        the tag, never the value.
    """
    written = {name: one for name, one in dataset.items() if not _is_left_out(name)}
    written[f"{SPECIFIC_CHARACTER_SET:08X}"] = {"vr": "CS", "Value": [UTF_8]}
    yield from _elements(written, bulk, 0)


def text_of(dataset: Json, tag: int) -> str:
    """Return the first value of a top-level attribute as text, '' when there is none.

    Raises
    ------
    Malformed
        The attribute is not what the model makes of one.
    """
    name = f"{tag:08X}"
    if name not in dataset:
        return ""
    _, attribute = _attribute(name, dataset[name])
    first = next(iter(_values(name, attribute)), None)
    return "" if first is None or isinstance(first, dict) else str(first).strip()


def _is_left_out(name: str) -> bool:
    if not _TAG.fullmatch(name):
        return False  # it is told of where it is written
    tag = int(name, 16)
    return tag >> 16 in _NOT_OF_DATASETS or tag in _OF_ARCHIVES


def _elements(dataset: Json, bulk: Mapping[str, Bulk], depth: int) -> Iterator[bytes]:
    if depth > MAX_DEPTH:
        raise Malformed(f"more than {MAX_DEPTH} sequences in each other")
    for name in sorted(dataset, key=str.upper):
        vr, attribute = _attribute(name, dataset[name])
        tag = int(name, 16)
        if tag & 0xFFFF == 0 or (depth and tag == SPECIFIC_CHARACTER_SET):
            continue  # group lengths; all texts are in UTF-8
        if vr == "SQ":
            yield from _sequence(name, tag, attribute, bulk, depth)
        elif "BulkDataURI" in attribute:
            yield from _bulk_data(name, tag, vr, attribute, bulk)
        else:
            value = _encoded(name, vr, attribute)
            yield _head(name, tag, vr, len(value)) + value


def _attribute(name: str, attribute: object) -> tuple[str, Json]:
    if not _TAG.fullmatch(name):
        raise Malformed(f"{name[:64]!r} is no tag of eight hexadecimal digits")
    if not isinstance(attribute, dict):
        raise Malformed(f"({name}): no object with a vr and a value")
    vr = attribute.get("vr") or dictionary_vr(int(name, 16))
    if not isinstance(vr, str) or vr not in _KNOWN:
        raise Malformed(f"({name}): the VR is missing or unknown")
    return vr, attribute


def _values(name: str, attribute: Json) -> Sequence[Any]:
    values = attribute.get("Value", ())
    if not isinstance(values, list | tuple):
        raise Malformed(f"({name}): Value is no array")
    return values


def _head(name: str, tag: int, vr: str, length: int) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if vr in _SHORT:
        if length > MAX_SHORT:
            raise Malformed(f"({name}): a value of {length} bytes in VR {vr}")
        return struct.pack("<HH2sH", group, number, vr.encode(), length)
    return struct.pack("<HH2sHI", group, number, vr.encode(), 0, length)


def _mark(tag: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _sequence(
    name: str, tag: int, attribute: Json, bulk: Mapping[str, Bulk], depth: int
) -> Iterator[bytes]:
    yield _head(name, tag, "SQ", UNDEFINED)
    for item in _values(name, attribute):
        if item is not None and not isinstance(item, dict):
            raise Malformed(f"({name}): an item that is no object")
        yield _mark(ITEM, UNDEFINED)
        yield from _elements(item or {}, bulk, depth + 1)
        yield _mark(ITEM_END)
    yield _mark(SEQUENCE_END)


# Binary values


def _bulk_data(
    name: str, tag: int, vr: str, attribute: Json, bulk: Mapping[str, Bulk]
) -> Iterator[bytes]:
    found = bulk.get(str(attribute["BulkDataURI"]))
    if found is None:
        raise Malformed(f"({name}): no part of the request is the bulk data that it names")
    if found.encapsulated:
        if tag != PIXEL_DATA:
            raise Malformed(f"({name}): a picture where other bytes belong")
        yield from _encapsulated(name, tag, found)
        return
    if vr not in _BINARY:
        raise Malformed(f"({name}): bulk data in VR {vr}")
    size = sum(value.size for value in found.values)
    if size > MAX_LONG:
        raise Malformed(f"({name}): a value of {size} bytes")
    yield _head(name, tag, vr, size + size % 2)
    for value in found.values:
        yield from value.pieces()
    yield bytes(size % 2)


def _encapsulated(name: str, tag: int, found: Bulk) -> Iterator[bytes]:
    """Yield fragments behind an empty offset table (PS3.5 A.4)."""
    yield _head(name, tag, "OB", UNDEFINED)
    yield _mark(ITEM)
    for value in found.values:
        if value.size > MAX_LONG:
            raise Malformed(f"({name}): a fragment of {value.size} bytes")
        yield _mark(ITEM, value.size + value.size % 2)
        yield from value.pieces()
        yield bytes(value.size % 2)
    yield _mark(SEQUENCE_END)


def _encoded(name: str, vr: str, attribute: Json) -> bytes:
    if vr in _BINARY:
        return _inline(name, vr, attribute)
    values = _values(name, attribute)
    try:
        if vr in NUMBER_CODES:
            return b"".join(_packed(value, vr) for value in values if value is not None)
        if vr == "AT":
            return b"".join(_tag_value(value) for value in values if value is not None)
        text = "\\".join(_text(value, vr) for value in values)
        value = text.encode()
    except (ValueError, OverflowError, struct.error) as error:
        raise Malformed(f"({name}): a value that is none of VR {vr}") from error
    if len(values) > 1 and vr in SINGLE_TEXT_VRS:
        raise Malformed(f"({name}): several values in VR {vr}")
    padding = b"\0" if vr == "UI" else b" "
    return value + padding * (len(value) % 2)


def _inline(name: str, vr: str, attribute: Json) -> bytes:
    if attribute.get("Value"):
        raise Malformed(f"({name}): a Value in VR {vr}; InlineBinary or BulkDataURI belongs there")
    try:
        value = base64.b64decode(str(attribute.get("InlineBinary", "")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"({name}): InlineBinary is no base64") from error
    if len(value) % WORD_BYTES.get(vr, 1):
        raise Malformed(f"({name}): {len(value)} bytes in VR {vr}")
    return value + bytes(len(value) % 2)


def _packed(value: object, vr: str) -> bytes:
    code = NUMBER_CODES[vr]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("no number")  # noqa: TRY004 - one kind for whatever is no value
    number = float(value) if code in "fd" else int(value)
    if code not in "fd" and isinstance(value, float) and number != value:
        raise ValueError("no whole number")
    return struct.pack(f"<{code}", number)


def _tag_value(value: object) -> bytes:
    if not isinstance(value, str) or not _TAG.fullmatch(value):
        raise ValueError("no tag")
    return struct.pack("<HH", int(value[:4], 16), int(value[4:], 16))


def _text(value: object, vr: str) -> str:
    if value is None:
        return ""
    if vr == "PN" and isinstance(value, dict):
        return _person_name(value)
    if isinstance(value, bool | dict | list):
        raise ValueError("no text")  # noqa: TRY004 - one kind for whatever is no value
    if vr == "DS" and isinstance(value, float):
        return _decimal(value)
    text = str(value)
    if vr not in SINGLE_TEXT_VRS and "\\" in text:
        raise ValueError("a backslash")
    return text


def _person_name(value: Mapping[str, object]) -> str:
    groups = [value.get(group) or "" for group in _GROUPS]
    if not all(isinstance(group, str) for group in groups):
        raise ValueError("no name")
    return "=".join(map(str, groups)).rstrip("=")


def _decimal(number: float) -> str:
    """Return a number in at most 16 characters (PS3.5 6.2 for VR DS), as exact as they allow."""
    if not math.isfinite(number):
        raise ValueError("no number")
    text = repr(number).removesuffix(".0")
    digits = 17
    while len(text) > _DS_BYTES:
        digits -= 1
        text = f"{number:.{digits}g}"
    return text
