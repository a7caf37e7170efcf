"""The DICOM JSON Model (PS3.18 Annex F), made from an encoded dataset.

Texts are NFC in UTF-8, so Specific Character Set says ISO_IR 192. Binary values
are BulkDataURIs, small ones are inline. A value that is not what its VR promises is
given as the text that stands there; nothing here fails because a value is bad.
"""

import base64
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pacs import charsets
from pacs.elements import Event, Kind, Scanner
from pacs.encoding import (
    BULK_VRS,
    EXPLICIT_LITTLE,
    KNOWN_VRS,
    LOCALISED_VRS,
    NUMBER_CODES,
    PIXEL_TAGS,
    SINGLE_TEXT_VRS,
    WORD_BYTES,
    Codec,
    swapped,
)
from pacs.header import PIXEL_REPRESENTATION, SPECIFIC_CHARACTER_SET, clean, dictionary_vr
from pacs.part10 import Buffer
from storage.base import values
from storage.base.errors import NotFound

BulkUri = Callable[[str], str]
"""Path of a binary value (``7FE00010``, ``00400275/0/00400555``) to its URI."""

INLINE_BYTES: Final = 1024
"""Binary values up to this size are inline: icons' palettes, checksums, private switches."""
TRAILING_PADDING: Final = 0xFFFCFFFC
_BINARY: Final = frozenset(vr.decode("ascii") for vr in BULK_VRS)
_EXACT: Final = 1 << 53
"""Whole numbers below are exact in every JSON reader."""
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")

Json = dict[str, Any]


@dataclass(slots=True)
class _Level:
    """The dataset or item that is being written."""

    attributes: Json
    path: str
    charset: str
    signed: bool
    items: list[Json] | None = None
    """Of the sequence that is open in it."""
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class BulkData:
    """Where a binary value lies in its dataset."""

    tag: int
    vr: str
    pieces: tuple[tuple[int, int], ...]
    """(offset, length); of encapsulated pixel data each fragment behind the offset table."""
    encapsulated: bool
    word_bytes: int
    """Swap words of this size to get little endian; 1 when the bytes are right as they are."""
    inflated: bool
    """Positions are those of the inflated dataset."""


def dataset_json(dataset: Buffer, transfer_syntax_uid: str, bulk_uri: BulkUri) -> Json:
    """Return the DICOM JSON Model object of a dataset.

    The dataset may end before its pixel data; then they are not in the object.

    Raises
    ------
    Malformed
        The encoding is broken, as `pacs.header.scan` tells.
    """
    events, scanner = _read(dataset, transfer_syntax_uid)
    return _Writer(scanner, bulk_uri).write(events)


def encode(objects: Any) -> bytes:  # noqa: ANN401 - one object or a list
    """Return the bytes of JSON."""
    return msgspec.json.encode(objects)


def text_attribute(vr: str, text: str) -> Json:
    """Return the JSON of an attribute that is a text, several values by backslash."""
    found = _values(text.encode(), vr, "ISO_IR 192", EXPLICIT_LITTLE)
    return {"vr": vr, **({"Value": found} if found else {})}


def bulk_data(dataset: Buffer, transfer_syntax_uid: str, path: str) -> BulkData:
    """Find the binary value that a `BulkUri` was made for.

    Raises
    ------
    NotFound
        There is no binary value at `path`.
    Malformed
        The encoding is broken.
    """
    events, scanner = _read(dataset, transfer_syntax_uid)
    pieces: list[tuple[int, int]] = []
    wanted: Event | None = None
    for event, here in _paths(events):
        kind, _, _, start, length, _ = event
        if here != path:
            continue
        if kind is Kind.VALUE:
            return _bulk(event, ((start, length),), scanner, encapsulated=False)
        if kind is Kind.FRAGMENTS:
            wanted, pieces = event, []
        elif kind is Kind.FRAGMENT:
            pieces.append((start, length))
        elif kind is Kind.FRAGMENTS_END and wanted is not None:
            return _bulk(wanted, tuple(pieces[1:]), scanner, encapsulated=True)
    raise NotFound(f"no binary value at {path[:64]}")


def _read(dataset: Buffer, transfer_syntax_uid: str) -> tuple[list[Event], Scanner]:
    events: list[Event] = []
    scanner = Scanner(transfer_syntax_uid, events)
    scanner.read(dataset)
    return events, scanner


def _bulk(
    event: Event, pieces: tuple[tuple[int, int], ...], scanner: Scanner, *, encapsulated: bool
) -> BulkData:
    _, tag, sent, _, _, codec = event
    vr = _vr(tag, sent, signed=False)
    if vr not in _BINARY:
        raise NotFound(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is no binary value")
    swap = WORD_BYTES.get(vr, 1) if codec.big_endian and not encapsulated else 1
    return BulkData(tag, vr, pieces, encapsulated, swap, scanner.deflated)


def _paths(events: list[Event]) -> list[tuple[Event, str]]:
    """Pair each event with the path of its element, counting the items of each sequence from 0."""
    found: list[tuple[Event, str]] = []
    open_items: list[str] = []
    counts: list[int] = []
    for event in events:
        kind = event[0]
        prefix = "".join(open_items)
        name = f"{prefix}{event[1]:08X}"
        if kind is Kind.SEQUENCE:
            counts.append(0)
        elif kind is Kind.ITEM:
            open_items.append(f"{event[1]:08X}/{counts[-1]}/")
            counts[-1] += 1
        elif kind is Kind.ITEM_END:
            open_items.pop()
        elif kind is Kind.SEQUENCE_END:
            counts.pop()
        else:
            found.append((event, name))
    return found


class _Writer:
    """Builds the object from the events of a scan, without recursion."""

    def __init__(self, scanner: Scanner, bulk_uri: BulkUri) -> None:
        self._scanner = scanner
        self._bulk_uri = bulk_uri
        self._levels: list[_Level] = []

    def write(self, events: list[Event]) -> Json:
        root: Json = {}
        self._levels = [_Level(root, "", "", signed=False)]
        for event in events:
            kind, tag, sent, start, length, codec = event
            if kind is Kind.VALUE:
                self._value(tag, sent, start, length, codec)
            elif kind is Kind.SEQUENCE:
                self._sequence(tag)
            elif kind is Kind.ITEM:
                self._item()
            elif kind is Kind.ITEM_END:
                self._levels.pop()
            elif kind is Kind.SEQUENCE_END:
                self._sequence_end()
            elif kind is Kind.FRAGMENTS:
                self._put(tag, "OB", BulkDataURI=self._bulk_uri(self._path(tag)))
        return root

    def _path(self, tag: int) -> str:
        return f"{self._levels[-1].path}{tag:08X}"

    def _put(self, tag: int, vr: str, **value: Any) -> None:  # noqa: ANN401 - JSON
        self._levels[-1].attributes[f"{tag:08X}"] = {"vr": vr, **value}

    def _sequence(self, tag: int) -> None:
        level = self._levels[-1]
        level.items, level.sequence = [], f"{tag:08X}"

    def _item(self) -> None:
        level = self._levels[-1]
        items = level.items if level.items is not None else []
        item: Json = {}
        path = f"{level.path}{level.sequence}/{len(items)}/"
        items.append(item)
        self._levels.append(_Level(item, path, level.charset, signed=level.signed))

    def _sequence_end(self) -> None:
        level = self._levels[-1]
        value: Json = {"Value": level.items} if level.items else {}
        level.attributes[level.sequence] = {"vr": "SQ", **value}
        level.items = None

    def _value(self, tag: int, sent: bytes, start: int, length: int, codec: Codec) -> None:
        level = self._levels[-1]
        if tag & 0xFFFF == 0 or tag == TRAILING_PADDING:
            return  # group lengths and padding describe the encoding, not the object
        vr = _vr(tag, sent, signed=level.signed)
        if vr == "SQ":  # UN of defined length that would be a sequence
            vr = "UN" if length else "SQ"
        if length == 0:
            self._put(tag, vr)
        elif vr in _BINARY:
            self._binary(tag, vr, start, length, codec)
        else:
            raw = self._scanner.kept(start, length) or b""
            self._remember(level, tag, raw, codec)
            found = _values(raw, vr, level.charset, codec)
            if tag == SPECIFIC_CHARACTER_SET:
                found = ["ISO_IR 192"]
            self._put(tag, vr, **({"Value": found} if found else {}))

    def _remember(self, level: _Level, tag: int, raw: bytes, codec: Codec) -> None:
        if tag == SPECIFIC_CHARACTER_SET:
            level.charset = raw.decode("latin-1")
        elif tag == PIXEL_REPRESENTATION:
            level.signed = int.from_bytes(raw, "big" if codec.big_endian else "little") == 1

    def _binary(self, tag: int, vr: str, start: int, length: int, codec: Codec) -> None:
        raw = self._scanner.kept(start, length) if length <= INLINE_BYTES else None
        if raw is None or tag in PIXEL_TAGS:
            self._put(tag, vr, BulkDataURI=self._bulk_uri(self._path(tag)))
            return
        little = swapped(raw, WORD_BYTES.get(vr, 1)) if codec.big_endian else raw
        self._put(tag, vr, InlineBinary=base64.b64encode(little).decode("ascii"))


def _vr(tag: int, sent: bytes, *, signed: bool) -> str:
    """Return the VR to write: as sent, or of the dictionary where it was not said."""
    if sent not in (b"", b"UN"):
        return sent.decode("ascii") if sent in KNOWN_VRS else "UN"
    vr = dictionary_vr(tag)
    if vr == "US or SS":
        return "SS" if signed else "US"
    return "OW" if " or " in vr else vr


def _values(raw: bytes, vr: str, charset: str, codec: Codec) -> list[Any]:
    if vr in NUMBER_CODES or vr == "AT":
        return _unpacked(raw, vr, ">" if codec.big_endian else "<")
    decoded, _ = charsets.decode(raw, charset if vr in LOCALISED_VRS else "", vr)
    text = clean(charsets.nfc(decoded), vr)
    if not text:
        return []
    if vr in SINGLE_TEXT_VRS:
        return [text]
    parts = text.split("\\")
    if vr == "PN":
        return [_person_name(part) for part in parts]
    if vr in {"IS", "DS"}:
        return [_number(part) for part in parts]
    return [part or None for part in parts]


def _unpacked(raw: bytes, vr: str, order: str) -> list[Any]:
    if vr == "AT":
        words = struct.unpack_from(f"{order}{len(raw) // 4 * 2}H", raw)
        return [f"{a:04X}{b:04X}" for a, b in zip(words[::2], words[1::2], strict=True)]
    code = NUMBER_CODES[vr]
    count = len(raw) // struct.calcsize(order + code)
    return [_finite(number) for number in struct.unpack_from(f"{order}{count}{code}", raw)]


def _finite(number: float) -> float | str | None:
    """Return what JSON can hold: NaN and the infinities are not numbers there."""
    if isinstance(number, int):
        return number if abs(number) < _EXACT else str(number)
    return number if math.isfinite(number) else None


def _number(text: str) -> float | str | None:
    """Return the number of an IS or DS, or its text when it is none."""
    if not text:
        return None
    try:
        if text.lstrip("+-").isdecimal():
            return _finite(int(text))
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and "_" not in text else text


def _person_name(text: str) -> Json | None:
    groups = [group.strip(values.PADDING) for group in text.split("=")]
    named = zip(_GROUPS, groups, strict=False)
    return {name: group for name, group in named if group} or None
