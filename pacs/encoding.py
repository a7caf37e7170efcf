"""How elements are encoded (PS3.5 Section 7 and Annex A): tags, VRs, byte orders."""

import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from pydicom._dicom_dict import DicomDictionary

from pacs import contexts, part10
from pacs.part10 import Buffer
from storage.base.errors import Malformed

UNDEFINED: Final = 0xFFFFFFFF
# PS3.5 6.2 and 7.3: bytes of the words that change with the byte order
WORD_BYTES: Final = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
# PS3.5 6.2: the binary numbers, as `struct` calls them
NUMBER_CODES: Final = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "SV": "q",
    "UV": "Q",
}
# PS3.5 6.1.2.3: texts in the Specific Character Set
LOCALISED_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
# PS3.5 6.2: one value, whose leading spaces mean something
SINGLE_TEXT_VRS: Final = frozenset({"LT", "ST", "UR", "UT"})
_WORDS: Final = {2: "H", 4: "I", 8: "Q"}
HEADER: Final = 8
"""Bytes of a tag, VR and short length, or of a tag and a length."""
LONG_HEADER: Final = 12
PIXEL_DATA: Final = 0x7FE00010
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
DELIMITERS: Final = frozenset((ITEM, ITEM_END, SEQUENCE_END))

# PS3.5 Table 7.1-2: these have a 16-bit length; all others, and all future ones, 32 bits.
SHORT_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
KNOWN_VRS: Final = SHORT_VRS | LONG_VRS
BULK_VRS: Final = frozenset(b"OB OD OF OL OV OW UN".split())
SEQUENCE_TAGS: Final = frozenset(t for t, entry in DicomDictionary.items() if entry[0] == "SQ")
SPECIAL_TAGS: Final = SEQUENCE_TAGS | DELIMITERS | {PIXEL_DATA, 0}
PIXEL_TAGS: Final = frozenset((PIXEL_DATA, 0x7FE00008, 0x7FE00009))


@dataclass(frozen=True, slots=True)
class Codec:
    """One of the encodings of PS3.5 7.1 and 7.3."""

    implicit: bool
    big_endian: bool
    element: Callable[[Buffer, int], tuple[int, int, bytes, int]]
    """(group, number, VR, 16-bit length)"""
    item: Callable[[Buffer, int], tuple[int, int, int]]
    """(group, number, 32-bit length)"""
    long: Callable[[Buffer, int], tuple[int]]


def _codec(order: str, *, implicit: bool) -> Codec:
    return Codec(
        implicit,
        order == ">",
        struct.Struct(f"{order}HH2sH").unpack_from,
        struct.Struct(f"{order}HHI").unpack_from,
        struct.Struct(f"{order}I").unpack_from,
    )


IMPLICIT_LITTLE: Final = _codec("<", implicit=True)
EXPLICIT_LITTLE: Final = _codec("<", implicit=False)
EXPLICIT_BIG: Final = _codec(">", implicit=False)

_CODECS: Final = {
    contexts.IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
    "1.2.840.10008.1.20": IMPLICIT_LITTLE,  # Papyrus 3, retired
    contexts.EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BIG,
    **dict.fromkeys(
        (
            uid
            for uid in contexts.TRANSFER_SYNTAXES
            if uid not in {contexts.IMPLICIT_VR_LITTLE_ENDIAN, contexts.EXPLICIT_VR_BIG_ENDIAN}
            and uid != "1.2.840.10008.1.20"
        ),
        EXPLICIT_LITTLE,
    ),
}


def swapped(value: bytes, width: int) -> bytes:
    """Return words of `width` bytes in the other byte order; bytes that make no word stay."""
    if width == 1:
        return value
    whole = len(value) // width * width
    words = array(_WORDS[width])
    words.frombytes(value[:whole])
    words.byteswap()
    return words.tobytes() + value[whole:]


def fault(tag: int, offset: int, what: str) -> NoReturn:
    """Raise `Malformed` naming the tag and where it stands."""
    raise Malformed(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) at byte {offset}: {what}")


def known_codec(transfer_syntax_uid: str) -> Codec | None:
    """Return how datasets in a registered transfer syntax are encoded."""
    return _CODECS.get(transfer_syntax_uid)


def codec_of(transfer_syntax_uid: str, start: Buffer) -> Codec:
    """Return how datasets in a transfer syntax are encoded; of unknown ones the start decides."""
    known = _CODECS.get(transfer_syntax_uid)
    return known or _CODECS[part10.guess_transfer_syntax(start)]
