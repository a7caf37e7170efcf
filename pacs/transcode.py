"""A dataset in another transfer syntax (PS3.5 Annex A), with the same values.

    native to native        each element is encoded anew, its value is kept byte for byte
                            or with its words swapped
    encapsulated to native  the same, with the frames decoded by `pacs.decoding`

Sequences are written with undefined length and group lengths are left out, so
nothing has to be measured before it is written.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from pacs import contexts, decoding, deflate, frames, header
from pacs.decoding import Decoders
from pacs.elements import Event, Kind, Scanner
from pacs.encoding import (
    ITEM,
    ITEM_END,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    WORD_BYTES,
    Codec,
    codec_of,
    swapped,
)
from pacs.frames import FrameIndex, ImagePixel, Read
from pacs.header import Header
from storage.base.errors import Malformed, NotSupported

MAX_NATIVE_BYTES: Final = 2 << 30
ICON_IMAGE_SEQUENCE: Final = 0x00880200
LOSSY_IMAGE_COMPRESSION: Final = 0x00282110
_MAX_SHORT: Final = 0xFFFE
_BYTE: Final = 8
# They describe fragments that are no longer there.
_OF_FRAGMENTS: Final = frozenset((0x7FE00001, 0x7FE00002, 0x7FE00003))
_LOSSY: Final = contexts.LOSSY_JPEG | {contexts.JPEG_LS_NEAR_LOSSLESS}

Changes = dict[int, tuple[bytes, bytes] | None]
"""Of top-level elements: tag to (VR, little endian value), None to leave it out."""


def transcode(
    dataset: bytes,
    source_transfer_syntax: str,
    target_transfer_syntax: str,
    decoders: Decoders | None = None,
) -> bytes:
    """Return `dataset` encoded in the target transfer syntax.

    Raises
    ------
    NotSupported
        There is no way from one to the other; the text names both, and the reason.
    Malformed
        The dataset, or its pixel data, is broken.
    """
    if source_transfer_syntax == target_transfer_syntax:
        return dataset
    way = (
        f"from {contexts.name_of(source_transfer_syntax)} "
        f"to {contexts.name_of(target_transfer_syntax)}"
    )
    if target_transfer_syntax not in contexts.TRANSCODE_TARGETS:
        raise NotSupported(f"{way}: objects are only transcoded to native transfer syntaxes")
    if source_transfer_syntax not in contexts.NATIVE | contexts.DECODABLE:
        raise NotSupported(f"{way}: there is no codec for the stored one")
    try:
        return _transcoded(dataset, source_transfer_syntax, target_transfer_syntax, decoders)
    except NotSupported as error:
        raise NotSupported(f"{way}: {error}") from error


def native_frame(
    found: Header, index: FrameIndex, number: int, read: Read, decoders: Decoders | None = None
) -> bytes:
    """Return frame `number`, counted from 1, uncompressed and little endian.

    Raises
    ------
    NotFound
        There is no such frame.
    NotSupported
        There is no codec for it.
    Malformed
        The frame is broken.
    """
    if index.encapsulated:
        frame = frames.frame_bytes(index, number, read)
        pool = decoders or decoding.shared()
        return pool.decode(frame, found.transfer_syntax_uid, frames.image_pixel(found)).pixels
    pixels = found.pixel_data
    if not found.codec.big_endian or pixels is None:
        return frames.frame_bytes(index, number, read)
    bits = frames.image_pixel(found).bits_allocated
    if bits > _BYTE:
        return swapped(frames.frame_bytes(index, number, read), bits // _BYTE)
    if pixels.vr != b"OW":
        return frames.frame_bytes(index, number, read)
    return frames.frame_bytes(index, number, _swapping(read, pixels.offset))


def _swapping(read: Read, start: int) -> Read:
    """Return a reader of swapped 16-bit words that lie from `start` on."""

    def read_swapped(offset: int, length: int) -> bytes:
        before = (offset - start) % 2
        words = read(offset - before, before + length + (before + length) % 2)
        return swapped(words, 2)[before : before + length]

    return read_swapped


def _transcoded(dataset: bytes, source: str, target: str, decoders: Decoders | None) -> bytes:
    plain = dataset
    if source == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        plain, source = deflate.inflate(dataset), contexts.EXPLICIT_VR_LITTLE_ENDIAN
    events: list[Event] = []
    scanner = Scanner(source, events)
    scanner.read(plain)
    changes: Changes = {}
    if source not in contexts.NATIVE and scanner.pixel_data is not None:
        changes = _decoded(header.Header(scanner, codec_of(source, plain)), plain, decoders)
    parts = _Encoder(plain, codec_of(target, b""), changes).encode(_without_icons(events))
    if target != contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return b"".join(parts)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = b"".join([*map(deflater.compress, parts), deflater.flush()])
    return deflated + b"\0" * (len(deflated) % 2)


# --- pixels


def _decoded(found: Header, plain: bytes, decoders: Decoders | None) -> Changes:
    """Decode every frame; return what becomes of the Image Pixel module."""
    pixels = found.pixel_data
    if pixels is None or not pixels.encapsulated:
        raise Malformed("(7FE0,0010) is not encapsulated, which its transfer syntax demands")
    image = frames.image_pixel(found)
    if image.decoded_bytes * image.number_of_frames > MAX_NATIVE_BYTES:
        raise NotSupported(f"the decoded frames are larger than {MAX_NATIVE_BYTES} bytes")
    index = frames.locate(found, lambda offset, length: plain[offset : offset + length])
    decoded = _decode_all(plain, found, index, decoders or decoding.shared())
    return _changes(found, image, decoded)


def _decode_all(
    plain: bytes, found: Header, index: FrameIndex, pool: Decoders
) -> Sequence[decoding.Decoded]:
    image = frames.image_pixel(found)

    def decode(number: int) -> decoding.Decoded:
        frame = frames.frame_bytes(index, number, lambda at, length: plain[at : at + length])
        return pool.decode(frame, found.transfer_syntax_uid, image)

    numbers = range(1, index.count + 1)
    if index.count == 1:
        return [decode(1)]
    with ThreadPoolExecutor(pool.processes) as threads:
        return list(threads.map(decode, numbers))


def _changes(found: Header, image: ImagePixel, decoded: Sequence[decoding.Decoded]) -> Changes:
    photometric = decoded[0].photometric_interpretation
    if any(frame.photometric_interpretation != photometric for frame in decoded):
        raise NotSupported("its frames decode to different photometric interpretations")
    changes: Changes = dict.fromkeys(_OF_FRAGMENTS)
    vr = b"OW" if image.bits_allocated > _BYTE else b"OB"
    changes[PIXEL_DATA] = (vr, _even(_joined(image, decoded), b"\0"))
    changes[frames.PHOTOMETRIC_INTERPRETATION] = (b"CS", _even(photometric.encode("ascii"), b" "))
    if image.samples > 1:
        changes[frames.PLANAR_CONFIGURATION] = (b"US", b"\0\0")
    if found.transfer_syntax_uid in _LOSSY and not found.text(LOSSY_IMAGE_COMPRESSION):
        changes[LOSSY_IMAGE_COMPRESSION] = (b"CS", b"01")
    return changes


def _joined(image: ImagePixel, decoded: Sequence[decoding.Decoded]) -> bytes:
    """Join frames; those of single bits follow each other without a gap (PS3.5 8.1.1)."""
    bits = image.frame_bits
    if image.bits_allocated > 1 or bits % _BYTE == 0:
        return b"".join(frame.pixels for frame in decoded)
    number = 0
    for at, frame in enumerate(decoded):
        number |= (int.from_bytes(frame.pixels, "little") & ((1 << bits) - 1)) << (bits * at)
    return number.to_bytes((bits * len(decoded) + 7) // _BYTE, "little")


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding * (len(value) % 2)


# --- elements


def _without_icons(events: Sequence[Event]) -> Iterator[Event]:
    """Leave out icons whose pixels are encapsulated: Type 3, and not worth a decoder."""
    at = 0
    while at < len(events):
        kind, tag = events[at][:2]
        if kind is not Kind.SEQUENCE or tag != ICON_IMAGE_SEQUENCE:
            yield events[at]
            at += 1
            continue
        end = _end_of_sequence(events, at)
        if all(event[0] is not Kind.FRAGMENTS for event in events[at:end]):
            yield from events[at:end]
        at = end


def _end_of_sequence(events: Sequence[Event], start: int) -> int:
    depth = 0
    for at in range(start, len(events)):
        depth += (events[at][0] is Kind.SEQUENCE) - (events[at][0] is Kind.SEQUENCE_END)
        if depth == 0:
            return at + 1
    return len(events)


@dataclass(slots=True)
class _Level:
    """What decides VRs and words in the dataset or item that is being written."""

    signed: bool = False
    bits_allocated: int = 16


class _Encoder:
    """Writes the elements of a trace in another encoding."""

    def __init__(self, plain: bytes, target: Codec, changes: Changes) -> None:
        self._plain = plain
        self._target = target
        self._changes = changes
        self._pending = sorted(tag for tag, change in changes.items() if change is not None)
        self._levels = [_Level()]
        self._skipping = False
        order = ">" if target.big_endian else "<"
        self._implicit = struct.Struct(f"{order}HHI")
        self._short = struct.Struct(f"{order}HH2sH")
        self._long = struct.Struct(f"{order}HH2sHI")

    def encode(self, events: Iterator[Event]) -> list[bytes]:
        """Return the pieces of the encoded dataset."""
        parts: list[bytes] = []
        for event in events:
            if len(self._levels) == 1 and event[0] in (Kind.VALUE, Kind.SEQUENCE, Kind.FRAGMENTS):
                parts.extend(self._changed_before(event[1]))
            parts.extend(self._event(event))
        parts.extend(self._changed_before(1 << 32))
        return parts

    def _changed_before(self, tag: int) -> Iterator[bytes]:
        """Write the changed elements that come before `tag`, and `tag` itself."""
        while self._pending and self._pending[0] <= tag:
            changed = self._pending.pop(0)
            if (change := self._changes[changed]) is not None:
                vr, value = change
                word = _word(vr, self._levels[0].bits_allocated)
                yield self._start(changed, vr, len(value))
                yield swapped(value, word) if self._target.big_endian else value

    def _event(self, event: Event) -> Iterator[bytes]:
        kind, tag, vr, start, length, codec = event
        if kind is Kind.VALUE:
            if not (len(self._levels) == 1 and tag in self._changes):
                yield from self._value(tag, vr, start, length, codec)
        elif kind is Kind.SEQUENCE:
            yield self._start(tag, b"SQ", UNDEFINED)
        elif kind is Kind.ITEM:
            self._levels.append(_Level(self._levels[-1].signed, self._levels[-1].bits_allocated))
            yield self._delimiter(ITEM, UNDEFINED)
        elif kind is Kind.ITEM_END:
            self._levels.pop()
            yield self._delimiter(ITEM_END, 0)
        elif kind is Kind.SEQUENCE_END:
            yield self._delimiter(SEQUENCE_END, 0)
        elif kind is Kind.FRAGMENTS and not (len(self._levels) == 1 and tag in self._changes):
            raise NotSupported(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is encapsulated")

    def _value(
        self, tag: int, sent: bytes, start: int, length: int, codec: Codec
    ) -> Iterator[bytes]:
        if tag & 0xFFFF == 0:
            return  # a group length, which would be another one now
        level = self._levels[-1]
        value = self._plain[start : start + length]
        if tag == frames.PIXEL_REPRESENTATION:
            level.signed = int.from_bytes(value, "big" if codec.big_endian else "little") == 1
        elif tag == frames.BITS_ALLOCATED:
            level.bits_allocated = int.from_bytes(value, "big" if codec.big_endian else "little")
        vr = sent or _vr(tag, signed=level.signed)
        if tag == PIXEL_DATA:
            vr, value = self._pixels(vr, value, level.bits_allocated, codec)
        elif codec.big_endian != self._target.big_endian:
            value = swapped(value, WORD_BYTES.get(vr.decode("ascii"), 1))
        yield self._start(tag, vr, len(value))
        yield value

    def _pixels(
        self, vr: bytes, value: bytes, bits_allocated: int, codec: Codec
    ) -> tuple[bytes, bytes]:
        """Return native pixels with the VR of their cells (PS3.5 8.1.2, A.2 and A.3).

        Cells of more than 8 bits change places as a whole; smaller ones are written OB,
        which has no byte order that a reader could mistake.
        """
        if bits_allocated > _BYTE:
            swap = codec.big_endian != self._target.big_endian
            return b"OW", swapped(value, bits_allocated // _BYTE) if swap else value
        return b"OB", swapped(value, 2) if codec.big_endian and vr == b"OW" else value

    def _start(self, tag: int, vr: bytes, length: int) -> bytes:
        group, number = tag >> 16, tag & 0xFFFF
        if self._target.implicit:
            return self._implicit.pack(group, number, length)
        if vr not in SHORT_VRS:
            return self._long.pack(group, number, vr, 0, length)
        if length > _MAX_SHORT:  # PS3.5 6.2.2: too long for its VR
            return self._long.pack(group, number, b"UN", 0, length)
        return self._short.pack(group, number, vr, length)

    def _delimiter(self, tag: int, length: int) -> bytes:
        return self._implicit.pack(tag >> 16, tag & 0xFFFF, length)


def _vr(tag: int, *, signed: bool) -> bytes:
    """Return the VR of an element that was sent without one."""
    vr = header.dictionary_vr(tag)
    if vr == "US or SS":
        vr = "SS" if signed else "US"
    elif " or " in vr:
        vr = "OW"  # PS3.5 A.1: in Implicit VR Little Endian these are OW
    elif vr == "SQ":
        vr = "UN"
    return vr.encode("ascii")


def _word(vr: bytes, bits_allocated: int) -> int:
    """Return the bytes of pixel data or of another value that change places together."""
    if vr == b"OW" and bits_allocated > _BYTE:
        return bits_allocated // _BYTE
    return WORD_BYTES.get(vr.decode("ascii"), 1)
