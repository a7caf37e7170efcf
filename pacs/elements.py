"""The grammar of an encoded dataset (PS3.5 Section 7 and A.4), read without recursion.

    dataset    element*
    element    tag [VR] length value | tag [VR] length item* | tag VR undefined fragment*
    item       (FFFE,E000) length element* [(FFFE,E00D)]
    fragment   (FFFE,E000) length bytes

A `Scanner` takes the bytes as they arrive, in any pieces, or a whole buffer at once.
Open items and sequences are `_Frame`s on a list, so hostile nesting costs
nothing; limits bound what the rest can cost. It knows nothing of what values mean.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pacs import contexts
from pacs.deflate import Inflater
from pacs.encoding import (
    BULK_VRS,
    DELIMITERS,
    EXPLICIT_LITTLE,
    HEADER,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_END,
    KNOWN_VRS,
    LONG_HEADER,
    LONG_VRS,
    PIXEL_DATA,
    PIXEL_TAGS,
    SEQUENCE_END,
    SEQUENCE_TAGS,
    SHORT_VRS,
    SPECIAL_TAGS,
    UNDEFINED,
    Codec,
    codec_of,
    fault,
    known_codec,
)
from pacs.part10 import Buffer
from storage.base.errors import Malformed

MAX_DEPTH: Final = 32
MAX_ELEMENTS: Final = 100_000
MAX_ITEMS: Final = 50_000
MAX_FRAGMENTS: Final = 500_000
MAX_BESIDES_BULK: Final = 64 << 20
"""Bytes of a dataset besides pixel data and other binary values."""
KEPT_BULK: Final = 64 << 10
"""A binary value up to this size is kept with the header when a dataset streams by."""
KEPT_OFFSET_TABLE: Final = 8 << 20

ENDLESS: Final = 1 << 63
_ONE_OPEN: Final = 2
"""Frames when one sequence of the dataset, or its pixel data, is being read."""


class Kind(IntEnum):
    """What an `Event` tells."""

    VALUE = 0
    SEQUENCE = 1
    ITEM = 2
    ITEM_END = 3
    SEQUENCE_END = 4
    FRAGMENTS = 5
    FRAGMENT = 6
    FRAGMENTS_END = 7


Event = tuple[Kind, int, bytes, int, int, Codec]
"""(kind, tag, VR or b"" where implicit, offset of the value, its length, encoding)"""


@dataclass(slots=True)
class PixelData:
    """Where the pixel data of a dataset lies; offsets from the start of the dataset."""

    tag: int
    vr: bytes
    element_offset: int
    offset: int
    """Of the value."""
    length: int
    """Of the value; of encapsulated pixel data, with the items and without the delimiter."""
    encapsulated: bool = False
    offset_table: bytes = b""
    """Value of the first item, the Basic Offset Table."""
    fragments: list[tuple[int, int]] | None = None
    """(offset, length) of each fragment behind the offset table."""


class _Outcome(IntEnum):
    PLAIN = 0
    """An element was read."""
    CHANGED = 1
    """An item or sequence was opened or closed."""
    WAIT = 2
    """More bytes are needed."""


_PLAIN: Final = _Outcome.PLAIN
_CHANGED: Final = _Outcome.CHANGED
_WAIT: Final = _Outcome.WAIT


class _Frame:
    """A dataset, item, sequence or run of fragments that is being read."""

    __slots__ = ("codec", "delimited", "end", "kind", "tag")

    def __init__(self, kind: Kind, tag: int, codec: Codec, end: int, *, delimited: bool) -> None:
        self.kind = kind
        self.tag = tag
        self.codec = codec
        self.end = end
        self.delimited = delimited


class Scanner:
    """Reads one dataset and remembers where its top-level elements are.

    `elements` maps tags to (VR or b"" where implicit, offset of the value, length);
    of an element that comes twice the last one counts. With `trace`, every element
    of every level is told in order.
    """

    __slots__ = (
        "_base",
        "_buffer",
        "_bulk",
        "_counts",
        "_drop_until",
        "_frames",
        "_inflate",
        "_kept",
        "_padding",
        "_position",
        "_received",
        "_streaming",
        "codec",
        "elements",
        "pixel_data",
        "segments",
        "trace",
        "transfer_syntax_uid",
    )

    def __init__(self, transfer_syntax_uid: str, trace: list[Event] | None = None) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self.trace = trace
        self.elements: dict[int, tuple[bytes, int, int]] = {}
        self.pixel_data: PixelData | None = None
        self.segments: list[tuple[int, Buffer]] = []
        self.codec = known_codec(transfer_syntax_uid)
        self._frames: list[_Frame] = []
        self._buffer: Buffer = b""
        self._base = 0
        self._position = 0
        self._received = 0
        self._drop_until = 0
        self._bulk = 0
        self._kept = 0
        self._counts = [0, 0, 0]  # elements, items, fragments
        self._padding = False
        self._streaming = False
        deflated = transfer_syntax_uid == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        self._inflate = Inflater() if deflated else None

    # --- what callers use

    def read(self, dataset: Buffer) -> None:
        """Read a whole dataset, which must not change while `segments` is in use.

        Raises
        ------
        Malformed
            It breaks the grammar or a limit.
        """
        if self._inflate is not None:
            self.feed(dataset)
            self.finish()
            return
        self._buffer = dataset
        self._received = len(dataset)
        self.segments = [(0, dataset)]
        self._begin(len(dataset))
        self._advance()
        self.finish()

    def read_first_item(self, sequence: Buffer, codec: Codec) -> Codec:
        """Read the content of the first item of a sequence; return how it is encoded.

        Raises
        ------
        Malformed
            The value of the sequence does not begin with an item, or as `read`.
        """
        self._buffer = sequence
        self._received = len(sequence)
        self.segments = [(0, sequence)]
        group, number, length = codec.item(sequence, 0)
        if group << 16 | number != ITEM:
            fault(ITEM, 0, "not the start of a sequence")
        end = len(sequence) if length == UNDEFINED else HEADER + length
        frame = _Frame(Kind.ITEM, ITEM, codec, min(end, len(sequence)), delimited=True)
        self.codec = frame.codec = self._codec_of_item(frame, HEADER)
        self._position = HEADER
        self._frames = [frame]
        self._advance()
        return frame.codec

    def feed(self, chunk: Buffer) -> None:
        """Take the next bytes of a dataset that streams by; large binary values are not kept.

        Raises
        ------
        Malformed
            As `read`, as soon as it shows.
        """
        self._streaming = True
        if self._inflate is None:
            self._take(chunk)
        else:
            for piece in self._inflate.feed(chunk):
                self._take(piece)

    def finish(self) -> None:
        """Declare the dataset complete.

        Raises
        ------
        Malformed
            It ends too early, or is more than a header may be.
        """
        if self._inflate is not None:
            self._inflate.finish()
        if self._streaming and self._buffer:
            self._keep()
        if len(self._frames) > 1 or self._position > self._received:
            nested = len(self._frames) > 1
            tag = self._frames[-1].tag if nested else next(reversed(self.elements))
            fault(tag, self._received, "the dataset is cut off")
        if self._position < self._received and not self._padding:
            self._trailing_bytes()
        if self._received - self._bulk > MAX_BESIDES_BULK:
            raise Malformed(f"more than {MAX_BESIDES_BULK} bytes besides binary values")

    @property
    def deflated(self) -> bool:
        """Whether positions are those of the inflated dataset."""
        return self._inflate is not None

    @property
    def size(self) -> int:
        """Bytes of the dataset so far, inflated."""
        return self._received

    def kept(self, start: int, length: int) -> bytes | None:
        """Return bytes of the dataset, None when they streamed by and were not kept."""
        for base, segment in self.segments:
            at = start - base
            if at >= 0 and at + length <= len(segment):
                return bytes(segment[at : at + length])
        return None

    # --- taking bytes

    def _take(self, chunk: Buffer) -> None:
        dropped = min(len(chunk), max(0, self._drop_until - self._received))
        if dropped:
            self._keep()
            self._base = self._received + dropped
        self._received += len(chunk)
        if dropped == len(chunk):
            return
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray()
        self._buffer += memoryview(chunk)[dropped:]
        if not self._frames and not self._start():
            return
        self._advance()
        if (
            self._frames
            and self._frames[-1].kind is Kind.FRAGMENTS
            and len(self._frames) == _ONE_OPEN
        ):
            self._forget_fragments()
        if self._kept + len(self._buffer) > MAX_BESIDES_BULK + 2 * len(chunk) + KEPT_OFFSET_TABLE:
            raise Malformed(f"more than {MAX_BESIDES_BULK} bytes besides binary values")

    def _start(self) -> bool:
        if len(self._buffer) < HEADER:
            return False
        self._begin(ENDLESS)
        return True

    def _begin(self, end: int) -> None:
        if self.codec is None:
            guessed = EXPLICIT_LITTLE if end == 0 else codec_of("", self._buffer)
            self.codec = guessed
        self._frames = [_Frame(Kind.ITEM, 0, self.codec, end, delimited=False)]

    def _keep(self) -> None:
        """Put the bytes that a header may be asked for aside, and go on with an empty buffer."""
        if self._buffer:
            self.segments.append((self._base, self._buffer))
            self._kept += len(self._buffer)
        self._buffer = bytearray()
        self._base = self._received

    def _skip_bulk(self, length: int) -> None:
        """Count a binary value; when streaming, do not keep a large one."""
        self._bulk += length
        if self._streaming and length > KEPT_BULK:
            self._drop_until = self._position

    # --- the grammar

    def _advance(self) -> None:
        """Read on until the bytes or the dataset end."""
        frames = self._frames
        going = True
        while going and frames and not self._padding:
            kind = frames[-1].kind
            if kind is Kind.ITEM:
                going = self._elements(frames[-1])
            elif kind is Kind.SEQUENCE:
                going = self._items(frames[-1])
            else:
                going = self._fragments(frames[-1])
        if self._padding:
            self._check_padding()

    def _elements(self, frame: _Frame) -> bool:  # noqa: C901, PLR0915 - the one hot loop
        """Read elements; return False when more bytes are needed."""
        buffer, base = self._buffer, self._base
        codec, implicit, trace = frame.codec, frame.codec.implicit, self.trace
        read, read_implicit = codec.element, codec.item
        elements = self.elements if len(self._frames) == 1 else None
        end = frame.end
        last = min(end, base + len(buffer)) - HEADER
        at = self._position
        count = self._counts[0]
        try:
            while at <= last:
                if implicit:
                    group, number, length = read_implicit(buffer, at - base)
                    tag = group << 16 | number
                    vr = b""
                    plain = length != UNDEFINED and tag not in SPECIAL_TAGS
                else:
                    group, number, vr, length = read(buffer, at - base)
                    tag = group << 16 | number
                    plain = vr in SHORT_VRS
                count += 1
                if count > MAX_ELEMENTS:
                    fault(tag, at, f"more than {MAX_ELEMENTS} elements")
                if not plain:
                    self._position = at
                    self._counts[0] = count
                    outcome = self._special(frame, tag, vr, length)
                    at = self._position
                    if outcome is _PLAIN:
                        continue
                    count -= outcome is _WAIT
                    return outcome is _CHANGED
                start = at + HEADER
                at = start + length
                if at > end:
                    fault(tag, start, f"the value of {length} bytes runs past its dataset or item")
                if elements is not None:
                    elements[tag] = (vr, start, length)
                if trace is not None:
                    trace.append((Kind.VALUE, tag, vr, start, length, codec))
        finally:
            self._counts[0] = count
            self._position = at
        return self._at_end(frame)

    def _at_end(self, frame: _Frame) -> bool:
        """Close an item that ends by its length; return False when more bytes are needed."""
        if self._position < frame.end:
            if frame.end - self._position < HEADER and len(self._frames) > 1:
                fault(frame.tag, self._position, "the item ends inside an element")
            return False
        if frame.delimited and len(self._frames) > 1:
            fault(frame.tag, self._position, "the item is not delimited")
        self._close()
        return True

    def _special(self, frame: _Frame, tag: int, vr: bytes, length: int) -> _Outcome:
        """Read an element that is not a short plain one."""
        at = self._position
        if tag in DELIMITERS:
            return self._delimiter(frame, tag)
        if tag == 0 and length == 0 and len(self._frames) == 1 and self.elements:
            self._padding = True
            return _CHANGED
        start = at + HEADER
        codec = frame.codec
        if not codec.implicit:
            if vr in LONG_VRS or (vr.isalpha() and vr.isupper() and length == 0):
                if at + LONG_HEADER > self._base + len(self._buffer):
                    return self._wait_for(frame, tag, at + LONG_HEADER)
                start = at + LONG_HEADER
                (length,) = codec.long(self._buffer, at + HEADER - self._base)
            elif not (vr.isalpha() and vr.isupper()):  # an implicit element among explicit ones
                (length,) = codec.long(self._buffer, at + 4 - self._base)
                vr = b""
        return self._long(frame, tag, vr, start, length)

    def _wait_for(self, frame: _Frame, tag: int, needed: int) -> _Outcome:
        if needed > frame.end or not self._streaming:
            fault(tag, self._position, "the dataset is cut off")
        return _WAIT

    def _delimiter(self, frame: _Frame, tag: int) -> _Outcome:
        if tag != ITEM_END or not frame.delimited:
            fault(tag, self._position, "a delimiter or item where an element belongs")
        self._position += HEADER
        self._close()
        return _CHANGED

    def _long(self, frame: _Frame, tag: int, vr: bytes, start: int, length: int) -> _Outcome:
        if length == UNDEFINED:
            return self._undefined(frame, tag, vr, start)
        if start + length > frame.end:
            fault(tag, start, f"the value of {length} bytes runs past its dataset or item")
        if vr == b"SQ" or (not vr and tag in SEQUENCE_TAGS):
            self._open(Kind.SEQUENCE, frame.codec, tag, vr, start, length)
            return _CHANGED
        top = len(self._frames) == 1
        if top:
            self.elements[tag] = (vr, start, length)
            if tag in PIXEL_TAGS:
                self.pixel_data = PixelData(tag, vr, self._position, start, length)
        if self.trace is not None:
            self.trace.append((Kind.VALUE, tag, vr, start, length, frame.codec))
        self._position = start + length
        if vr in BULK_VRS or tag in PIXEL_TAGS:
            self._skip_bulk(length)
        return _PLAIN

    def _undefined(self, frame: _Frame, tag: int, vr: bytes, start: int) -> _Outcome:
        """Open an element of undefined length (PS3.5 6.2.2, 7.5.1 and A.4)."""
        if vr in (b"OB", b"OW") or tag == PIXEL_DATA:
            if len(self._frames) == 1 and tag == PIXEL_DATA:
                self.pixel_data = PixelData(
                    tag, vr, self._position, start, 0, encapsulated=True, fragments=[]
                )
            self._open(Kind.FRAGMENTS, frame.codec, tag, vr, start, UNDEFINED)
        elif vr in (b"SQ", b""):
            self._open(Kind.SEQUENCE, frame.codec, tag, vr, start, UNDEFINED)
        elif vr == b"UN":
            self._open(Kind.SEQUENCE, IMPLICIT_LITTLE, tag, vr, start, UNDEFINED)
        else:
            fault(tag, start, f"undefined length with VR {vr.decode('ascii', 'replace')}")
        return _CHANGED

    def _open(self, kind: Kind, codec: Codec, tag: int, vr: bytes, start: int, length: int) -> None:
        if len(self._frames) > 2 * MAX_DEPTH:
            fault(tag, start, f"sequences nested deeper than {MAX_DEPTH}")
        if len(self._frames) == 1:
            self.elements[tag] = (vr, start, length)
        if self.trace is not None:
            self.trace.append((kind, tag, vr, start, length, codec))
        delimited = length == UNDEFINED
        end = self._frames[-1].end if delimited else start + length
        self._frames.append(_Frame(kind, tag, codec, end, delimited=delimited))
        self._position = start

    def _close(self) -> None:
        """Leave the innermost frame at the present position."""
        frame = self._frames.pop()
        if self.trace is not None and self._frames:
            ending = {
                Kind.ITEM: Kind.ITEM_END,
                Kind.SEQUENCE: Kind.SEQUENCE_END,
                Kind.FRAGMENTS: Kind.FRAGMENTS_END,
            }[frame.kind]
            self.trace.append((ending, frame.tag, b"", self._position, 0, frame.codec))

    def _close_delimited(self, frame: _Frame) -> None:
        """Leave a sequence or fragments behind their delimiter."""
        if len(self._frames) == _ONE_OPEN and frame.tag in self.elements:
            vr, start, _ = self.elements[frame.tag]
            self.elements[frame.tag] = (vr, start, self._position - start)
        self._position += HEADER
        self._close()

    def _items(self, frame: _Frame) -> bool:
        """Read on in a sequence; return False when more bytes are needed."""
        at = self._position
        if at == frame.end and not frame.delimited:
            self._close()
            return True
        ready = self._base + len(self._buffer)
        if at + HEADER > min(frame.end, ready):
            if at + HEADER > frame.end:
                fault(frame.tag, at, "the sequence ends without its delimiter or inside an item")
            return False
        group, number, length = frame.codec.item(self._buffer, at - self._base)
        tag = group << 16 | number
        if tag == SEQUENCE_END and frame.delimited:
            self._close_delimited(frame)
            return True
        if tag != ITEM:
            fault(frame.tag, at, f"an item is expected, not ({group:04X},{number:04X})")
        return self._open_item(frame, at + HEADER, length)

    def _open_item(self, frame: _Frame, start: int, length: int) -> bool:
        end = frame.end if length == UNDEFINED else start + length
        if end > frame.end:
            fault(frame.tag, start, f"the item of {length} bytes runs past its sequence")
        if self._streaming and length and start + HEADER > self._base + len(self._buffer):
            return False
        self._counts[1] += 1
        if self._counts[1] > MAX_ITEMS:
            fault(frame.tag, start, f"more than {MAX_ITEMS} items")
        codec = self._codec_of_item(frame, start)
        self._position = start
        self._frames.append(_Frame(Kind.ITEM, frame.tag, codec, end, delimited=length == UNDEFINED))
        if self.trace is not None:
            self.trace.append((Kind.ITEM, frame.tag, b"", start, length, codec))
        return True

    def _codec_of_item(self, frame: _Frame, start: int) -> Codec:
        """Tell the encoding of an item: in UN it ought to be implicit, and often is not."""
        if not frame.codec.implicit:
            return frame.codec
        at = start + 4 - self._base
        return EXPLICIT_LITTLE if bytes(self._buffer[at : at + 2]) in KNOWN_VRS else frame.codec

    def _fragments(self, frame: _Frame) -> bool:
        """Read on in encapsulated pixel data; return False when more bytes are needed."""
        found = (
            self.pixel_data if len(self._frames) == _ONE_OPEN and frame.tag == PIXEL_DATA else None
        )
        while self._position + HEADER <= min(frame.end, self._base + len(self._buffer)):
            at = self._position
            group, number, length = frame.codec.item(self._buffer, at - self._base)
            tag = group << 16 | number
            if tag == SEQUENCE_END:
                if found is not None:
                    found.length = at - found.offset
                self._close_delimited(frame)
                return True
            if tag != ITEM or length == UNDEFINED or at + HEADER + length > frame.end:
                fault(frame.tag, at, "a fragment is expected, or the fragment runs past the end")
            if not self._fragment(frame, found, at + HEADER, length):
                return False
        if self._position + HEADER > frame.end:
            fault(frame.tag, self._position, "the fragments end without a delimiter")
        return False

    def _fragment(self, frame: _Frame, found: PixelData | None, start: int, length: int) -> bool:
        if found is not None and found.fragments is not None:
            is_table = start == found.offset + HEADER
            if is_table and length:
                if length > KEPT_OFFSET_TABLE:
                    fault(frame.tag, start, f"an offset table of {length} bytes")
                if start + length > self._base + len(self._buffer):
                    return False
                at = start - self._base
                found.offset_table = bytes(self._buffer[at : at + length])
            elif not is_table:
                found.fragments.append((start, length))
        self._counts[2] += 1
        if self._counts[2] > MAX_FRAGMENTS:
            fault(frame.tag, start, f"more than {MAX_FRAGMENTS} fragments")
        if self.trace is not None:
            self.trace.append((Kind.FRAGMENT, frame.tag, b"", start, length, frame.codec))
        self._position = start + length
        self._bulk += HEADER + length
        return True

    def _forget_fragments(self) -> None:
        """Keep what stands before the pixel data, and nothing of the fragments that passed."""
        if self.pixel_data is None or not isinstance(self._buffer, bytearray):
            return
        header = self.pixel_data.offset - self._base
        if header > 0:
            self.segments.append((self._base, bytes(self._buffer[:header])))
            self._kept += header
        passed = min(self._position, self._base + len(self._buffer)) - self._base
        del self._buffer[:passed]
        self._base += passed
        self._drop_until = self._position

    # --- what may follow the last element

    def _trailing_bytes(self) -> None:
        at = self._position - self._base
        rest = bytes(self._buffer[at : at + HEADER]) if not self._streaming else self._last_bytes()
        if rest.strip(b"\0"):
            raise Malformed(f"the dataset is cut off inside an element at byte {self._position}")

    def _last_bytes(self) -> bytes:
        base, kept = self.segments[-1] if self.segments else (0, b"")
        return bytes(kept[self._position - base :])

    def _check_padding(self) -> None:
        """Take zeros behind the last element as the padding of a file, and nothing else."""
        at = max(0, self._position - self._base)
        for start in range(at, len(self._buffer), 1 << 20):
            if bytes(self._buffer[start : start + (1 << 20)]).strip(b"\0"):
                raise Malformed(f"bytes that are no element at byte {self._position}")
        self._position = self._received
