"""A dataset with compressed pixels, from which the received one can be made again, byte for byte.

    compressed   what stands around the pixel data as it came ─ pixel data, encapsulated
    rest         what of the received dataset is not in its frames: deflated, in a
                 Data Set Trailing Padding element (PS3.10 7.2), so that the file stays DICOM

From Implicit VR, all elements are encoded anew; from Explicit VR, those of the Image Pixel
module that the codestream makes others. The rest has them as they came.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec

from pacs import contexts, frames, header, rewriting, transcode
from pacs.decoding import Decoders
from pacs.elements import Event, Scanner
from pacs.encoding import PIXEL_DATA, codec_of
from pacs.header import Header
from pacs.rewriting import Changes
from storage.base.errors import Malformed, NotSupported

SOURCES: Final = frozenset({contexts.IMPLICIT_VR_LITTLE_ENDIAN, contexts.EXPLICIT_VR_LITTLE_ENDIAN})
"""Transfer syntaxes that are compressed."""
_PADDING: Final = struct.Struct("<HH2sHI")
_PADDING_TAG: Final = (0xFFFC, 0xFFFC, b"OB", 0)
_VERSION: Final = 1
_SHORT_HEADER: Final = 8
_MODULE_VRS: Final = frozenset({b"CS", b"US"})
"""Of what may change in the Image Pixel module."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A dataset that was compressed."""

    dataset: bytes
    rest: bytes
    """Stands behind the dataset in its object, and is no part of what goes out."""


class _Rest(msgspec.Struct, array_like=True):
    version: int
    transfer_syntax_uid: str
    """Of the received dataset, for who reads the object without an index."""
    size: int
    """Bytes of the received dataset."""
    sha256: str
    before: bytes
    """What comes before the value of the pixel data, deflated."""
    pixels: int
    """Bytes of frames in that value."""
    after: bytes
    """What comes after them, deflated."""


def compress(
    dataset: bytes, transfer_syntax_uid: str, target: str, decoders: Decoders | None = None
) -> Compressed:
    """Return the dataset in `target`, a lossless encapsulated transfer syntax.

    Every frame was decoded again and compared, and so was the whole: it gives the received
    bytes.

    Raises
    ------
    NotSupported
        It cannot be, or not so that the received bytes could be made again.
    Malformed
        The dataset, or its pixel data, is broken.
    """
    if transfer_syntax_uid not in SOURCES:
        raise NotSupported("compressed already, or in an encoding that is left as it is")
    events: list[Event] = []
    scanner = Scanner(transfer_syntax_uid, events)
    scanner.read(dataset)
    found = Header(scanner, codec_of(transfer_syntax_uid, dataset))
    pixels = found.pixel_data
    if pixels is None or pixels.tag != PIXEL_DATA or pixels.encapsulated:
        raise NotSupported("no integer pixel data")
    image = frames.image_pixel(found)
    if image.samples > 1 and image.planar_configuration == 1:
        raise NotSupported("colours by plane")
    changes = transcode.recoded(found, dataset, target, decoders)
    if transfer_syntax_uid == contexts.EXPLICIT_VR_LITTLE_ENDIAN:
        made = _spliced(dataset, found, changes)
    else:
        made = b"".join(rewriting.rewrite(dataset, events, codec_of(target, b""), changes))
    size = image.frame_bits * image.number_of_frames // 8
    rest = _Rest(
        _VERSION,
        transfer_syntax_uid,
        len(dataset),
        hashlib.sha256(dataset).hexdigest(),
        zlib.compress(dataset[: pixels.offset]),
        size,
        zlib.compress(dataset[pixels.offset + size :]),
    )
    compressed = Compressed(made, _wrapped(msgspec.msgpack.encode(rest)))
    restore(compressed, target, decoders)
    return compressed


def restore(
    compressed: Compressed, transfer_syntax_uid: str, decoders: Decoders | None = None
) -> bytes:
    """Return the dataset as it was received, from one in `transfer_syntax_uid`.

    Raises
    ------
    NotSupported
        What comes out is not what was received.
    Malformed
        The rest is none.
    """
    rest = _unwrapped(compressed.rest)
    found = header.scan(compressed.dataset, transfer_syntax_uid)
    changes = transcode.decoded(found, compressed.dataset, decoders)
    made = changes[PIXEL_DATA]
    pixels = made[1] if isinstance(made, tuple) else b""
    received = b"".join(
        (_inflated(rest.before, rest.size), pixels[: rest.pixels], _inflated(rest.after, rest.size))
    )
    if hashlib.sha256(received).hexdigest() != rest.sha256:
        raise NotSupported("the received bytes cannot be made again")
    return received


def _spliced(dataset: bytes, found: Header, changes: Changes) -> bytes:
    """Return an Explicit VR dataset in which nothing is another but what `changes` has."""
    cuts: list[tuple[int, int, bytes]] = []
    for tag, change in changes.items():
        place = found.elements.get(tag)
        if tag == PIXEL_DATA or place is None:
            continue
        vr, start, length = place
        if not isinstance(change, tuple) or vr not in _MODULE_VRS or change[0] != vr:
            raise NotSupported(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) would have to change")
        value = change[1]
        if value != dataset[start : start + length]:
            element = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
            cuts.append((start - _SHORT_HEADER, start + length, element))
    pixels, codestreams = found.pixel_data, changes[PIXEL_DATA]
    if pixels is None or codestreams is None or isinstance(codestreams, tuple):
        raise NotSupported("no pixel data")
    end = pixels.offset + pixels.length
    whole = b"".join(rewriting.encapsulated(PIXEL_DATA, codestreams))
    cuts = sorted([*cuts, (pixels.element_offset, end, whole)])
    ends = [(0, 0, b""), *cuts, (len(dataset), len(dataset), b"")]
    parts = [before[2] + dataset[before[1] : after[0]] for before, after in pairwise(ends)]
    return b"".join(parts)


def _wrapped(content: bytes) -> bytes:
    even = rewriting.even(content, b"\0")
    # the length of the content is told beside it: the element is padded
    return _PADDING.pack(*_PADDING_TAG, len(even) + 4) + struct.pack("<I", len(content)) + even


def _unwrapped(element: bytes) -> _Rest:
    try:
        *tag, length = _PADDING.unpack_from(element)
        (size,) = struct.unpack_from("<I", element, _PADDING.size)
        content = element[_PADDING.size + 4 :][:size]
        if tuple(tag) != _PADDING_TAG or len(element) != _PADDING.size + length:
            raise Malformed("behind the dataset stands nothing to restore it with")
        rest = msgspec.msgpack.decode(content, type=_Rest)
    except (struct.error, msgspec.DecodeError) as error:
        raise Malformed("behind the dataset stands nothing to restore it with") from error
    if rest.version != _VERSION:
        raise Malformed(f"what the dataset is restored with is of version {rest.version}")
    return rest


def _inflated(content: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(content, most + 1)
    except zlib.error as error:
        raise Malformed("what the dataset is restored with is broken") from error
    if len(inflated) > most:
        raise Malformed("what the dataset is restored with is larger than that")
    return inflated
