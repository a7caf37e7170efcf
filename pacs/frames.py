"""Where the frames of pixel data are (PS3.5 8 and A.4, PS3.3 C.7.6.3).

    native          one run of bytes, or of bits where Bits Allocated is 1
    encapsulated    fragments, told apart by the Extended Offset Table, the Basic Offset
                    Table, their number, or the marker with which a codestream starts

An index holds positions in the dataset, so a frame can be fetched by range.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pacs import contexts
from pacs.header import Header
from storage.base.errors import Malformed, NotFound

Read = Callable[[int, int], bytes]
"""(offset in the dataset, length) to bytes"""
Check = Callable[[int, bytes], None]
"""(number of a frame, the bytes in which it lies); raises when they are not right"""
Piece = tuple[int, int]
"""(offset in the dataset, length)"""

ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
PLANAR_CONFIGURATION: Final = 0x00280006
NUMBER_OF_FRAMES: Final = 0x00280008
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXEL_REPRESENTATION: Final = 0x00280103
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002
FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009

_MAX_SIDE: Final = 65535
_DEPTHS: Final = frozenset((1, 8, 16, 32, 64))
_SAMPLES: Final = range(1, 5)
_RGB: Final = 3

# Every codestream starts with one of these: JPEG and JPEG-LS, JPEG 2000, JP2, JPEG XL.
_STARTS: Final = (
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL ",
)
_START_BYTES: Final = 8
# PS3.5 A.4.2: a frame in RLE is always one fragment
_ONE_FRAGMENT: Final = frozenset({contexts.RLE_LOSSLESS, contexts.DEFLATED_IMAGE_FRAME})


@dataclass(frozen=True, slots=True)
class ImagePixel:
    """The Image Pixel module (PS3.3 Table C.7-11a) as far as it shapes pixel data."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    planar_configuration: int
    photometric_interpretation: str
    number_of_frames: int

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame; in YBR_FULL_422 two pixels share their colour."""
        samples = self.samples
        if samples == _RGB and self.photometric_interpretation == "YBR_FULL_422":
            samples = 2
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def decoded_bytes(self) -> int:
        """Bytes of one decoded frame, in which no pixels share their colour."""
        return (self.rows * self.columns * self.samples * self.bits_allocated + 7) // 8

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame that stands alone."""
        return (self.frame_bits + 7) // 8


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The frames of one object."""

    count: int
    encapsulated: bool
    inflated: bool = False
    """Positions are those of the inflated dataset (deflated transfer syntax)."""
    start: int = 0
    """Of native pixel data in the dataset."""
    frame_bits: int = 0
    """Of each native frame."""
    fragments: Sequence[Sequence[Piece]] = ()
    """Of each encapsulated frame."""

    def pieces(self, number: int) -> Sequence[Piece]:
        """Return the pieces that make frame `number`, counted from 1.

        Raises
        ------
        NotFound
            There is no such frame.
        """
        if not 1 <= number <= self.count:
            raise NotFound(f"frame {number}: the object has {self.count} frames")
        if self.encapsulated:
            return self.fragments[number - 1]
        first = self.frame_bits * (number - 1) // 8
        return ((self.start + first, (self.frame_bits * number + 7) // 8 - first),)


def image_pixel(header: Header) -> ImagePixel:
    """Read the Image Pixel module.

    Raises
    ------
    Malformed
        A value is missing, or makes no image; the text names its tag.
    """
    float_bits = {FLOAT_PIXEL_DATA: 32, DOUBLE_FLOAT_PIXEL_DATA: 64}
    tag = header.pixel_data.tag if header.pixel_data else 0
    bits = _between(header, BITS_ALLOCATED, _DEPTHS, float_bits.get(tag))
    stored = header.number(BITS_STORED, bits)
    return ImagePixel(
        rows=_between(header, ROWS, range(1, _MAX_SIDE + 1)),
        columns=_between(header, COLUMNS, range(1, _MAX_SIDE + 1)),
        samples=_between(header, SAMPLES_PER_PIXEL, _SAMPLES, 1),
        bits_allocated=bits,
        bits_stored=stored if 1 <= stored <= bits else bits,
        pixel_representation=_between(header, PIXEL_REPRESENTATION, range(2), 0),
        planar_configuration=_between(header, PLANAR_CONFIGURATION, range(2), 0),
        photometric_interpretation=header.text(PHOTOMETRIC_INTERPRETATION),
        number_of_frames=_between(header, NUMBER_OF_FRAMES, range(1 << 31), 1) or 1,
    )


def locate(header: Header, read: Read) -> FrameIndex:
    """Find the frames of an object; `read` is asked only where fragments need telling apart.

    Raises
    ------
    NotFound
        The object has no pixel data.
    Malformed
        The pixel data does not hold the frames that the header tells of.
    """
    pixels = header.pixel_data
    if pixels is None:
        raise NotFound("the object has no pixel data")
    if not pixels.encapsulated:
        return _native(header, image_pixel(header), pixels.offset, pixels.length)
    fragments = pixels.fragments or []
    frames = _number_of_frames(header)
    if contexts.is_video(header.transfer_syntax_uid):
        return FrameIndex(count=1, encapsulated=True, fragments=(tuple(fragments),))
    found = (
        _by_extended_table(header, fragments, frames)
        or _by_basic_table(pixels.offset_table, fragments, frames)
        or _by_number(fragments, frames)
        or _by_markers(header.transfer_syntax_uid, fragments, frames, read)
    )
    return FrameIndex(count=frames, encapsulated=True, fragments=found)


def frame_bytes(index: FrameIndex, number: int, read: Read, check: Check | None = None) -> bytes:
    """Return frame `number`, counted from 1, as it is encoded in the object.

    Frames of single bits that do not end on a byte are shifted to begin with one. `check`
    sees the bytes as they lie.

    Raises
    ------
    NotFound
        There is no such frame.
    """
    joined = lying_bytes(index, number, read)
    if check is not None:
        check(number, joined)
    if index.encapsulated or index.frame_bits % 8 == 0:
        return joined
    return _bits(joined, (number - 1) * index.frame_bits % 8, index.frame_bits)


def lying_bytes(index: FrameIndex, number: int, read: Read) -> bytes:
    """Return the bytes in which frame `number` lies, with what shares the first and the last."""
    return b"".join([read(offset, length) for offset, length in index.pieces(number)])


def _bits(packed: bytes, first: int, count: int) -> bytes:
    """Return `count` bits from bit `first` on; the first pixel is the lowest bit (PS3.5 8.1.1)."""
    number = int.from_bytes(packed, "little") >> first & (1 << count) - 1
    return number.to_bytes((count + 7) // 8, "little")


def _between(
    header: Header, tag: int, allowed: range | frozenset[int], default: int | None = None
) -> int:
    where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    if default is None and not header.text(tag):
        raise Malformed(f"{where} is missing: no image without it")
    value = header.number(tag, default or 0)
    if value not in allowed:
        raise Malformed(f"{where} is {value}, which makes no image")
    return value


def _number_of_frames(header: Header) -> int:
    return _between(header, NUMBER_OF_FRAMES, range(1 << 31), 1) or 1


def _native(header: Header, image: ImagePixel, start: int, length: int) -> FrameIndex:
    bits = image.frame_bits
    frames = image.number_of_frames
    needed = (bits * frames + 7) // 8
    if needed > length:
        raise Malformed(
            f"(7FE0,0010) holds {length} bytes, {frames} frames of {image.rows} x {image.columns} "
            f"need {needed}"
        )
    return FrameIndex(
        count=frames,
        encapsulated=False,
        inflated=header.transfer_syntax_uid == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        start=start,
        frame_bits=bits,
    )


def _by_extended_table(
    header: Header, fragments: Sequence[Piece], frames: int
) -> list[tuple[Piece, ...]] | None:
    """Use the Extended Offset Table (PS3.3 C.7.6.3.1.8): one fragment for a frame."""
    if EXTENDED_OFFSET_TABLE not in header.elements or not fragments:
        return None
    offsets = _table(header.value(EXTENDED_OFFSET_TABLE), "Q")
    lengths = _table(header.value(EXTENDED_OFFSET_TABLE_LENGTHS), "Q")
    first = fragments[0][0]
    whole = dict(fragments)
    pieces = [(first + offset, size) for offset, size in zip(offsets, lengths, strict=False)]
    if len(offsets) != frames or len(pieces) != frames:
        return None
    if any(not 0 < size <= whole.get(start, 0) for start, size in pieces):
        return None
    return [(piece,) for piece in pieces]


def _by_basic_table(
    table: bytes, fragments: Sequence[Piece], frames: int
) -> list[tuple[Piece, ...]] | None:
    """Use the Basic Offset Table (PS3.5 A.4); one that points nowhere is as good as none."""
    offsets = _table(table, "I")
    if len(offsets) != frames or not fragments or offsets[0] != 0:
        return None
    first = fragments[0][0]
    place = {start - first: at for at, (start, _) in enumerate(fragments)}
    starts = [place.get(offset, -1) for offset in offsets]
    if any(a >= b for a, b in pairwise(starts)) or -1 in starts:
        return None
    return _grouped(fragments, starts)


def _by_number(fragments: Sequence[Piece], frames: int) -> list[tuple[Piece, ...]] | None:
    if frames == 1 and fragments:
        return [tuple(fragments)]
    return [(piece,) for piece in fragments] if len(fragments) == frames else None


def _by_markers(
    transfer_syntax_uid: str, fragments: Sequence[Piece], frames: int, read: Read
) -> list[tuple[Piece, ...]]:
    """Tell frames apart by the marker that begins each codestream."""
    starts = []
    if len(fragments) > frames and transfer_syntax_uid not in _ONE_FRAGMENT:
        for at, (offset, length) in enumerate(fragments):
            if read(offset, min(length, _START_BYTES)).startswith(_STARTS):
                starts.append(at)
    if len(starts) != frames or starts[0] != 0:
        raise Malformed(
            f"(7FE0,0010) has {len(fragments)} fragments, which cannot be shared out among "
            f"{frames} frames"
        )
    return _grouped(fragments, starts)


def _grouped(fragments: Sequence[Piece], starts: Sequence[int]) -> list[tuple[Piece, ...]]:
    ends = [*starts[1:], len(fragments)]
    return [tuple(fragments[a:b]) for a, b in zip(starts, ends, strict=True)]


def _table(value: bytes, code: str) -> tuple[int, ...]:
    count = len(value) // struct.calcsize("<" + code)
    return struct.unpack_from(f"<{count}{code}", value)
