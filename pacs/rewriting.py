"""The elements of a dataset written in another encoding (PS3.5 7, Annex A).

Sequences are written with undefined length and group lengths are left out, so
nothing has to be measured before it is written.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pacs import frames, header
from pacs.elements import Event, Kind
from pacs.encoding import (
    ITEM,
    ITEM_END,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    WORD_BYTES,
    Codec,
    swapped,
)
from storage.base.errors import NotSupported

ICON_IMAGE_SEQUENCE: Final = 0x00880200
_MAX_SHORT: Final = 0xFFFE
_MAX_OFFSET: Final = 0xFFFFFFFF
_BYTE: Final = 8

Codestreams = Sequence[bytes]
"""One for each frame of encapsulated pixel data."""
Changes = dict[int, "tuple[bytes, bytes] | Codestreams | None"]
"""Of top-level elements: tag to (VR, little endian value), None to leave it out.

Pixel data may be codestreams; a sequence is given as it stands in the target.
"""


def rewrite(
    plain: bytes, events: Sequence[Event], target: Codec, changes: Changes
) -> Iterator[bytes]:
    """Yield the pieces of the dataset `plain`, of which `events` tells, in another encoding.

    Raises
    ------
    NotSupported
        Encapsulated pixel data stands where it cannot be written.
    """
    return _Encoder(plain, target, changes).encode(_without_icons(events))


def encapsulated(tag: int, codestreams: Codestreams) -> Iterator[bytes]:
    """Yield pixel data, each codestream one fragment behind a Basic Offset Table (PS3.5 A.4)."""
    padded = [even(codestream, b"\0") for codestream in codestreams]
    offsets, at = [], 0
    for fragment in padded:
        offsets.append(at)
        at += len(fragment) + _BYTE
    table = struct.pack(f"<{len(offsets)}I", *offsets) if offsets[-1] <= _MAX_OFFSET else b""
    yield struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"OB", 0, UNDEFINED)
    for item in (table, *padded):
        yield struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, len(item))
        yield item
    yield struct.pack("<HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)


def even(value: bytes, padding: bytes) -> bytes:
    """Return a value with an even length (PS3.5 7.1.1)."""
    return value + padding * (len(value) % 2)


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

    def encode(self, events: Iterator[Event]) -> Iterator[bytes]:
        """Yield the pieces of the encoded dataset."""
        replaced = 0
        for event in events:
            kind, tag = event[:2]
            if replaced:
                replaced += (kind is Kind.SEQUENCE) - (kind is Kind.SEQUENCE_END)
                continue
            if len(self._levels) == 1 and kind in (Kind.VALUE, Kind.SEQUENCE, Kind.FRAGMENTS):
                yield from self._changed_before(tag)
                if kind is Kind.SEQUENCE and tag in self._changes:
                    replaced = 1
                    continue
            yield from self._event(event)
        yield from self._changed_before(1 << 32)

    def _changed_before(self, tag: int) -> Iterator[bytes]:
        """Write the changed elements that come before `tag`, and `tag` itself."""
        while self._pending and self._pending[0] <= tag:
            changed = self._pending.pop(0)
            change = self._changes[changed]
            if isinstance(change, tuple):
                vr, value = change
                word = _word(vr, self._levels[0].bits_allocated)
                yield self._start(changed, vr, len(value))
                yield swapped(value, word) if self._target.big_endian else value
            elif change is not None:
                yield from encapsulated(changed, change)

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
