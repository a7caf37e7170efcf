"""A dataset in another transfer syntax (PS3.5 Annex A), with the same values.

native to native        each element is encoded anew, its value is kept byte for byte
                        or with its words swapped
encapsulated to native  the same, with the frames decoded by `pacs.decoding`
any to encapsulated     the same, with each frame encoded there; without loss, save
                        JPEG Baseline, which makes another SOP Instance
"""

import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from pacs import contexts, decoding, deflate, frames, header, rewriting, targets
from pacs.decoding import Coded, Decoded, Decoders
from pacs.elements import Event, Scanner
from pacs.encoding import ITEM, PIXEL_DATA, codec_of, swapped
from pacs.frames import FrameIndex, ImagePixel, Read
from pacs.header import Header
from pacs.rewriting import Changes, even
from storage.base.errors import Malformed, NotSupported

MAX_NATIVE_BYTES: Final = 2 << 30
QUALITY: Final = 90
"""Of JPEG Baseline, 1 to 100."""
LOSSY_IMAGE_COMPRESSION: Final = 0x00282110
LOSSY_IMAGE_COMPRESSION_RATIO: Final = 0x00282112
LOSSY_IMAGE_COMPRESSION_METHOD: Final = 0x00282114
IMAGE_TYPE: Final = 0x00080008
SOURCE_IMAGE_SEQUENCE: Final = 0x00082112
_REFERENCED: Final = (0x00081150, 0x00081155)
_BYTE: Final = 8
# They describe fragments that are no longer there.
_OF_FRAGMENTS: Final = frozenset((0x7FE00001, 0x7FE00002, 0x7FE00003))
_LOSSY: Final = contexts.LOSSY_JPEG | {contexts.JPEG_LS_NEAR_LOSSLESS}

Made = TypeVar("Made", Coded, Decoded)


def transcode(
    dataset: bytes,
    source_transfer_syntax: str,
    target_transfer_syntax: str,
    decoders: Decoders | None = None,
) -> bytes:
    """Return `dataset` encoded in the target transfer syntax.

    In JPEG Baseline it is another SOP Instance, that of `derived_uid`.

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
        raise NotSupported(f"{way}: it is not written here")
    if source_transfer_syntax not in contexts.NATIVE | contexts.DECODABLE:
        raise NotSupported(f"{way}: there is no codec for the stored one")
    try:
        return _transcoded(dataset, source_transfer_syntax, target_transfer_syntax, decoders)
    except NotSupported as error:
        raise NotSupported(f"{way}: {error}") from error


def is_derived(source_transfer_syntax: str, target_transfer_syntax: str) -> bool:
    """Whether an object loses something on the way, and so becomes another SOP Instance."""
    lossy = target_transfer_syntax in contexts.LOSSY_JPEG
    return lossy and source_transfer_syntax != target_transfer_syntax


def derived_uid(sop_instance_uid: str, target_transfer_syntax: str) -> str:
    """Return the SOP Instance UID of the lossy copy, always the same one (PS3.5 B.2)."""
    name = f"{sop_instance_uid}\n{target_transfer_syntax}\n{QUALITY}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


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


def recoded_frame(
    found: Header,
    index: FrameIndex,
    number: int,
    read: Read,
    target_transfer_syntax: str,
    decoders: Decoders | None = None,
) -> Coded:
    """Return frame `number`, counted from 1, in an encapsulated transfer syntax.

    Raises
    ------
    NotFound, NotSupported, Malformed
        As `native_frame`; also when the target cannot hold it.
    """
    image, pool = frames.image_pixel(found), decoders or decoding.shared()
    source = found.transfer_syntax_uid
    if index.encapsulated:
        frame = frames.frame_bytes(index, number, read)
    else:
        frame = native_frame(found, index, number, read, pool)
    return pool.recode(frame, source, image, target_transfer_syntax, QUALITY)


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
    found = header.Header(scanner, codec_of(source, plain))
    changes: Changes = {}
    if target not in contexts.NATIVE:
        changes = recoded(found, plain, target, decoders)
    elif source not in contexts.NATIVE and scanner.pixel_data is not None:
        changes = decoded(found, plain, decoders)
    parts = rewriting.rewrite(plain, events, codec_of(target, b""), changes)
    if target != contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return b"".join(parts)
    return deflate.deflated(parts)


# --- to native pixels


def decoded(found: Header, plain: bytes, decoders: Decoders | None = None) -> Changes:
    """Decode every frame; return what becomes of the Image Pixel module.

    Raises
    ------
    NotSupported, Malformed
        As `transcode`.
    """
    pixels = found.pixel_data
    if pixels is None or not pixels.encapsulated:
        raise Malformed("(7FE0,0010) is not encapsulated, which its transfer syntax demands")
    image = frames.image_pixel(found)
    if image.decoded_bytes * image.number_of_frames > MAX_NATIVE_BYTES:
        raise NotSupported(f"the decoded frames are larger than {MAX_NATIVE_BYTES} bytes")
    read, pool = _reader(plain), decoders or decoding.shared()
    index = frames.locate(found, read)

    def decode(number: int) -> Decoded:
        frame = frames.frame_bytes(index, number, read)
        return pool.decode(frame, found.transfer_syntax_uid, image)

    return _changes(found, image, _each(decode, index.count, pool))


def _changes(found: Header, image: ImagePixel, decoded: Sequence[Decoded]) -> Changes:
    vr = b"OW" if image.bits_allocated > _BYTE else b"OB"
    changes = _module(found, image, decoded)
    changes[PIXEL_DATA] = (vr, even(_joined(image, decoded), b"\0"))
    return changes


def _joined(image: ImagePixel, decoded: Sequence[Decoded]) -> bytes:
    """Join frames; those of single bits follow each other without a gap (PS3.5 8.1.1)."""
    bits = image.frame_bits
    if image.bits_allocated > 1 or bits % _BYTE == 0:
        return b"".join(frame.pixels for frame in decoded)
    number = 0
    for at, frame in enumerate(decoded):
        number |= (int.from_bytes(frame.pixels, "little") & ((1 << bits) - 1)) << (bits * at)
    return number.to_bytes((bits * len(decoded) + 7) // _BYTE, "little")


# --- to codestreams


def recoded(found: Header, plain: bytes, target: str, decoders: Decoders | None = None) -> Changes:
    """Encode every frame; return what becomes of the Image Pixel module; errors as `decoded`."""
    pixels = found.pixel_data
    if pixels is None:
        raise NotSupported("it has no pixel data")
    if pixels.tag != PIXEL_DATA:
        raise NotSupported("float pixel data is never encapsulated (PS3.5 8.2)")
    image = frames.image_pixel(found)
    if reason := targets.obstacle(target, image):
        raise NotSupported(reason)
    read, pool = _reader(plain), decoders or decoding.shared()
    index = frames.locate(found, read)

    def recode(number: int) -> Coded:
        return recoded_frame(found, index, number, read, target, pool)

    coded = _each(recode, index.count, pool)
    changes = _module(found, image, coded)
    changes[PIXEL_DATA] = [frame.codestream for frame in coded]
    if is_derived(found.transfer_syntax_uid, target):
        changes |= _derivation(found, image, coded, target)
    return changes


def _derivation(found: Header, image: ImagePixel, coded: Sequence[Coded], target: str) -> Changes:
    """Say that the object is a lossy copy, and of which (PS3.3 C.7.6.1.1.5, C.12.4.1.1)."""
    size = sum(len(frame.codestream) for frame in coded)
    ratio = f"{image.decoded_bytes * len(coded) / size:.2f}"
    ratios = [*filter(None, found.text(LOSSY_IMAGE_COMPRESSION_RATIO).split("\\")), ratio]
    methods = [*filter(None, found.text(LOSSY_IMAGE_COMPRESSION_METHOD).split("\\")), "ISO_10918_1"]
    kinds = ["DERIVED", *(found.text(IMAGE_TYPE) or "\\SECONDARY").split("\\")[1:]]
    uids = found.text(header.SOP_CLASS_UID), found.text(header.SOP_INSTANCE_UID)
    item = b"".join(
        struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"UI", len(uid)) + uid
        for tag, uid in zip(_REFERENCED, (even(uid.encode(), b"\0") for uid in uids), strict=True)
    )
    start = struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, len(item))
    derived = derived_uid(uids[1], target).encode()
    return {
        IMAGE_TYPE: _text(b"CS", kinds),
        header.SOP_INSTANCE_UID: (b"UI", even(derived, b"\0")),
        SOURCE_IMAGE_SEQUENCE: (b"SQ", start + item),
        LOSSY_IMAGE_COMPRESSION: (b"CS", b"01"),
        LOSSY_IMAGE_COMPRESSION_RATIO: _text(b"DS", ratios),
        LOSSY_IMAGE_COMPRESSION_METHOD: _text(b"CS", methods),
    }


def _text(vr: bytes, values: Sequence[str]) -> tuple[bytes, bytes]:
    return vr, even("\\".join(values).encode("ascii", "replace"), b" ")


# --- both


def _reader(plain: bytes) -> Read:
    return lambda offset, length: plain[offset : offset + length]


def _each(work: Callable[[int], Made], count: int, pool: Decoders) -> list[Made]:
    """Do the work for every frame, as many at once as there are processes."""
    numbers: Iterable[int] = range(1, count + 1)
    if count == 1:
        return [work(1)]
    with ThreadPoolExecutor(pool.processes) as threads:
        return list(threads.map(work, numbers))


def _module(found: Header, image: ImagePixel, made: Sequence[Coded] | Sequence[Decoded]) -> Changes:
    """Return what becomes of the Image Pixel module beside the pixel data."""
    photometric = made[0].photometric_interpretation
    if any(frame.photometric_interpretation != photometric for frame in made):
        raise NotSupported("its frames decode to different photometric interpretations")
    changes: Changes = dict.fromkeys(_OF_FRAGMENTS)
    changes[frames.PHOTOMETRIC_INTERPRETATION] = _text(b"CS", [photometric])
    if image.samples > 1:
        changes[frames.PLANAR_CONFIGURATION] = (b"US", b"\0\0")
    if found.transfer_syntax_uid in _LOSSY and not found.text(LOSSY_IMAGE_COMPRESSION):
        changes[LOSSY_IMAGE_COMPRESSION] = (b"CS", b"01")
    return changes
