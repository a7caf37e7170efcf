"""What a dataset says of itself, read without building objects (PS3.5, PS3.4 B.3).

A `Header` knows where every top-level element lies and decodes a value when it is
asked for. `scan` reads a whole dataset; a `HeaderReader` reads one while it arrives.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword

from pacs import charsets
from pacs.elements import PixelData, Scanner
from pacs.encoding import (
    BULK_VRS,
    HEADER,
    IMPLICIT_LITTLE,
    LOCALISED_VRS,
    NUMBER_CODES,
    SINGLE_TEXT_VRS,
    Codec,
    fault,
)
from pacs.part10 import Buffer
from storage.base import values
from storage.base.errors import Conflict, Malformed

SPECIFIC_CHARACTER_SET: Final = 0x00080005
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
PIXEL_REPRESENTATION: Final = 0x00280103

_MAX_NUMBERS: Final = 4096
_PRIVATE_CREATORS: Final = range(0x10, 0x100)
_EXACT_FLOATS: Final = 1e15
_PLAIN_VRS: Final = frozenset(b"AS CS DA DS IS LO SH TM UI".split())
_REQUIRED_UIDS: Final = {
    SOP_CLASS_UID: "SOP Class UID (0008,0016)",
    SOP_INSTANCE_UID: "SOP Instance UID (0008,0018)",
    STUDY_INSTANCE_UID: "Study Instance UID (0020,000D)",
    SERIES_INSTANCE_UID: "Series Instance UID (0020,000E)",
}


class Header:
    """The top-level elements of a dataset or of an item."""

    __slots__ = (
        "_charset",
        "_scanner",
        "codec",
        "elements",
        "pixel_data",
        "size",
        "transfer_syntax_uid",
        "warnings",
    )

    def __init__(self, scanner: Scanner, codec: Codec, charset: str = "") -> None:
        self.transfer_syntax_uid = scanner.transfer_syntax_uid
        self.codec = codec
        self.elements = scanner.elements
        self.pixel_data: PixelData | None = scanner.pixel_data
        self.size = scanner.size
        """Bytes of the dataset, inflated."""
        self.warnings: list[str] = []
        """What was odd in the texts that were asked for; no values in it."""
        self._scanner = scanner
        self._charset = charset
        if SPECIFIC_CHARACTER_SET in self.elements:
            self._charset = self.value(SPECIFIC_CHARACTER_SET).decode("latin-1")

    @property
    def specific_character_set(self) -> str:
        """The character sets that hold here, as (0008,0005) names them, '' for the default."""
        return self._charset.strip(values.PADDING)

    def value(self, tag: int) -> bytes:
        """Return the encoded value of an element, empty when it is absent.

        Raises
        ------
        Malformed
            It is a large binary value that streamed by and was not kept.
        """
        found = self.elements.get(tag)
        if found is None:
            return b""
        _, start, length = found
        value = self._scanner.kept(start, length)
        if value is None:
            return fault(tag, start, f"a binary value of {length} bytes, not kept")
        return value

    def vr(self, tag: int) -> str:
        """Return the VR of an element as sent, else as the standard has it, else 'UN'."""
        found = self.elements.get(tag)
        sent = found[0].decode("ascii") if found else ""
        return dictionary_vr(tag) if sent in {"", "UN"} else sent

    def text(self, tag: int | str, told: str = "") -> str:
        """Return a value as NFC text, '' when it is absent, binary or a sequence.

        Several values are joined by a backslash, padding is removed, numbers are written
        out, AT as eight hexadecimal digits. `tag` may be a keyword. `told` is the VR of
        private elements that do not tell it.
        """
        number = tag if isinstance(tag, int) else tag_of(tag)
        found = self.elements.get(number)
        if found is None:
            return ""
        if found[0] in _PLAIN_VRS:  # the fast path: one value of the default repertoire
            raw = self.value(number)
            if raw.isascii() and b"\\" not in raw and b"\x1b" not in raw:
                return str(raw, "ascii").replace("\0", " ").strip()
        vr = self.vr(number)
        vr = told if vr == "UN" and told else vr
        if vr in NUMBER_CODES or vr in {"AT", "US or SS"}:
            return self._numbers(number, vr)
        if vr == "SQ" or vr[-2:].encode() in BULK_VRS:
            return ""
        return self._text(number, vr)

    def _text(self, tag: int, vr: str) -> str:
        raw = self.value(tag)
        text, warning = charsets.decode(raw, self._charset if vr in LOCALISED_VRS else "", vr)
        if warning:
            self.warnings.append(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): {warning}")
        return clean(charsets.nfc(text), vr)

    def _numbers(self, tag: int, vr: str) -> str:
        raw = self.value(tag)
        if vr == "AT":
            parts = struct.unpack(self._order + "HH" * (len(raw) // 4), raw[: len(raw) // 4 * 4])
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return "\\".join(f"{group:04X}{number:04X}" for group, number in pairs)
        return "\\".join(map(_plain_number, self._unpacked(raw, vr)))

    def _unpacked(self, raw: bytes, vr: str) -> tuple[int | float, ...]:
        code = NUMBER_CODES.get(vr) or ("h" if self._is_signed() else "H")
        size = struct.calcsize(code)
        count = min(len(raw) // size, _MAX_NUMBERS)
        return struct.unpack(f"{self._order}{count}{code}", raw[: count * size])

    def _is_signed(self) -> bool:
        """Return whether 'US or SS' is SS here (PS3.5 A.1)."""
        representation = self.value(PIXEL_REPRESENTATION)
        return int.from_bytes(representation, "big" if self.codec.big_endian else "little") == 1

    @property
    def _order(self) -> str:
        return ">" if self.codec.big_endian else "<"

    def text_at(self, path: Sequence[int], creator: str, vr: str) -> str:
        """Return the text of an element in the first items of sequences.

        It is '' when there is none, or none that can be read. Private elements are named
        without their block, ``gggg00ee``; `creator` has them. `vr` is that of the element, for
        encodings that do not tell it.
        """
        holder: Header | None = self
        for tag in path[:-1]:
            found = holder.place_of(tag, creator) if holder else None
            holder = holder.first_item(found, "SQ") if holder and found else None
        found = holder.place_of(path[-1], creator) if holder else None
        try:
            return holder.text(found, vr) if holder and found else ""
        except Malformed:
            return ""

    def place_of(self, tag: int, creator: str) -> int | None:
        """Return the tag under which an element is here, None when it is not."""
        if not tag >> 16 & 1:
            return tag if tag in self.elements else None
        group = tag & 0xFFFF0000
        blocks = (block for block in _PRIVATE_CREATORS if group | block in self.elements)
        mine = (block for block in blocks if self.text(group | block) == creator)
        places = (group | block << 8 | tag & 0xFF for block in mine)
        return next((place for place in places if place in self.elements), None)

    def number(self, tag: int | str, default: int = 0) -> int:
        """Return the first value of an element as a whole number, `default` when absent.

        Raises
        ------
        Malformed
            It is there and is no whole number.
        """
        first = self.text(tag).partition("\\")[0]
        if not first:
            return default
        try:
            return int(first) if first.lstrip("+-").isdecimal() else int(float(first))
        except (ValueError, OverflowError):
            number = tag if isinstance(tag, int) else tag_of(tag)
            return fault(number, self.elements[number][1], "not a whole number")

    def first_item(self, tag: int, told: str = "") -> "Header | None":
        """Return the first item of a sequence, None when there is none; `told` as in `text`."""
        found = self.elements.get(tag)
        vr = self.vr(tag)
        if found is None or found[2] < HEADER or (told if vr == "UN" and told else vr) != "SQ":
            return None
        kept = self.value(tag)
        scanner = Scanner(self.transfer_syntax_uid)
        try:
            outer = IMPLICIT_LITTLE if found[0] == b"UN" else self.codec
            codec = scanner.read_first_item(kept, outer)
        except Malformed:
            return None  # UN of defined length: its content was nobody's promise
        return Header(scanner, codec, self._charset)

    def attributes(self, keywords: Iterable[str]) -> dict[str, str]:
        """Return the texts of `keywords` that are there and not empty.

        A dotted keyword (``RequestAttributesSequence.ScheduledProcedureStepID``) reads
        the first item of the sequence.
        """
        found: dict[str, str] = {}
        items: dict[str, Header | None] = {}
        elements = self.elements
        for keyword, path, tag in _places(tuple(keywords)):
            if path:
                holder = self._holder(path, items)
                text = holder.text(tag) if holder else ""
            else:
                text = self.text(tag) if tag in elements else ""
            if text:
                found[keyword] = text
        return found

    def _holder(self, path: str, items: "dict[str, Header | None]") -> "Header | None":
        if path not in items:
            outer, _, last = path.rpartition(".")
            holder = self._holder(outer, items) if outer else self
            items[path] = holder.first_item(tag_of(last)) if holder else None
        return items[path]


@lru_cache(maxsize=64)
def _places(keywords: tuple[str, ...]) -> tuple[tuple[str, str, int], ...]:
    """Return (dotted keyword, its sequences, the tag of its last part) of each."""
    parts = ((keyword, *keyword.rpartition(".")) for keyword in keywords)
    return tuple((keyword, path, tag_of(last)) for keyword, path, _, last in parts)


class HeaderReader:
    """Scans a dataset while it arrives, in memory that does not grow with its pixel data."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self._scanner = Scanner(transfer_syntax_uid)

    def feed(self, chunk: Buffer) -> None:
        """Take the next bytes.

        Raises
        ------
        Malformed
            They break the grammar or a limit.
        """
        self._scanner.feed(chunk)

    def finish(self) -> Header:
        """Return the header of the complete dataset.

        Raises
        ------
        Malformed
            The dataset is cut off.
        """
        self._scanner.finish()
        return _header(self._scanner)


def scan(dataset: Buffer, transfer_syntax_uid: str) -> Header:
    """Read the header of a dataset.

    The dataset is referred to, not copied, and must live as long as the header is asked.

    Raises
    ------
    Malformed
        The dataset is no DICOM, is cut off, or breaks a limit; the text names the tag
        and its place.
    """
    scanner = Scanner(transfer_syntax_uid)
    scanner.read(dataset)
    return _header(scanner)


def pixel_data_at(start: Buffer, transfer_syntax_uid: str) -> int | None:
    """Return where the pixel data element begins, None when it is not within `start`.

    Positions in a deflated dataset mean nothing to a reader of its bytes: None.
    """
    scanner = Scanner(transfer_syntax_uid)
    scanner.feed(start)
    if scanner.pixel_data is None or scanner.deflated:
        return None
    return scanner.pixel_data.element_offset


def check(header: Header, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Check that a dataset says what it is, and is what the command or file meta says.

    Raises
    ------
    Malformed
        SOP Class, SOP Instance, Study or Series Instance UID is missing, empty or no UID.
    Conflict
        The SOP Class or Instance UID differs from (0000,0002) / (0000,1000) of the command
        or (0002,0002) / (0002,0003) of the file meta information.
    """
    found = {tag: header.text(tag) for tag in _REQUIRED_UIDS}
    for tag, uid in found.items():
        if not values.is_uid(uid):
            raise Malformed(f"{_REQUIRED_UIDS[tag]} {_why_no_uid(header, tag, uid)}")
    for tag, named, asked in (
        (SOP_CLASS_UID, sop_class_uid, "(0000,0002)/(0002,0002)"),
        (SOP_INSTANCE_UID, sop_instance_uid, "(0000,1000)/(0002,0003)"),
    ):
        if found[tag] != named.strip(values.PADDING):
            what = _REQUIRED_UIDS[tag]
            raise Conflict(f"{what} of the dataset is not that of the command or file meta {asked}")


def _why_no_uid(header: Header, tag: int, text: str) -> str:
    if tag not in header.elements:
        return "is missing"
    return "is no UID" if text else "is empty"


def clean(text: str, vr: str) -> str:
    """Remove the padding of a decoded value (PS3.5 6.2)."""
    if vr in SINGLE_TEXT_VRS:
        return text.rstrip()
    if "\\" not in text:
        # Empty groups at the end of a name may be left out (PS3.5 6.2.1.1).
        return text.strip().rstrip("= ") if vr == "PN" else text.strip()
    joined = "\\".join(part.strip() for part in text.split("\\"))
    return joined if joined.strip("\\") else ""


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int:
    """Return the tag of a DICOM keyword.

    Raises
    ------
    KeyError
        There is no such keyword: a mistake of the caller.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


@lru_cache(maxsize=8192)
def dictionary_vr(tag: int) -> str:
    """Return the VR of PS3.6, as 'OB or OW' where it depends, 'UN' for unknown tags."""
    known = DicomDictionary.get(tag) or DicomDictionary.get(_repeating(tag))
    if known is not None:
        return known[0]
    if tag & 0xFFFF == 0:
        return "UL"
    return "LO" if tag >> 16 & 1 and tag & 0xFFFF in _PRIVATE_CREATORS else "UN"


def _repeating(tag: int) -> int:
    """Return the tag under which PS3.6 lists a repeating group (50xx curves, 60xx overlays)."""
    return tag & 0xFF00FFFF if tag >> 24 in {0x50, 0x60} and not tag >> 16 & 1 else tag


def _header(scanner: Scanner) -> Header:
    if scanner.codec is None:
        raise Malformed("no dataset")
    return Header(scanner, scanner.codec)


def _plain_number(number: float) -> str:
    if isinstance(number, float) and number.is_integer() and abs(number) < _EXACT_FLOATS:
        return str(int(number))
    return str(number)
