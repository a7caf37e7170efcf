"""WADO-RS, frames (PS3.18 10.4.1.1.6, 8.7.3.3): pixels as stored, or uncompressed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts, decoding, frames, header, retrieve
from pacs.frames import FrameIndex, ImagePixel
from pacs.header import Header, HeaderReader
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents
from viewer_api.multipart import Part

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

MAX_FRAMES: Final = 10_000
WHOLE: Final = 8 << 20
"""Bytes up to which an object is read at once to find its frames."""
MAX_DIGITS: Final = 9

UNCOMPRESSED: Final = frozenset(
    {contexts.IMPLICIT_VR_LITTLE_ENDIAN, contexts.EXPLICIT_VR_LITTLE_ENDIAN}
)
"""The octets of a frame are the same in both, and lie in the object as they are served."""

# PS3.18 Tables 8.7.3-2 and 8.7.3-3
CODED_AS: Final[Mapping[str, str]] = {
    contexts.JPEG_BASELINE: "image/jpeg",
    contexts.JPEG_EXTENDED: "image/jpeg",
    contexts.JPEG_LOSSLESS: "image/jpeg",
    contexts.JPEG_LOSSLESS_SV1: "image/jpeg",
    contexts.JPEG_LS_LOSSLESS: "image/jls",
    contexts.JPEG_LS_NEAR_LOSSLESS: "image/jls",
    contexts.JPEG_2000_LOSSLESS: "image/jp2",
    contexts.JPEG_2000: "image/jp2",
    contexts.HTJ2K_LOSSLESS: "image/jphc",
    contexts.HTJ2K_LOSSLESS_RPCL: "image/jphc",
    contexts.HTJ2K: "image/jphc",
    contexts.JPEG_XL_LOSSLESS: "image/jxl",
    contexts.JPEG_XL_RECOMPRESSION: "image/jxl",
    contexts.JPEG_XL: "image/jxl",
    contexts.RLE_LOSSLESS: "image/dicom-rle",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/mp4",
    "1.2.840.10008.1.2.4.108": "video/mp4",
}


@dataclass(frozen=True, slots=True)
class Form:
    """How the client takes frames."""

    multipart: bool
    media_type: str
    as_stored: bool


@dataclass(frozen=True, slots=True)
class Source:
    """The frames of one object and where their bytes come from."""

    transfer_syntax_uid: str
    """Of the frames as they are given."""
    index: FrameIndex
    read: frames.Read
    decode: Callable[[bytes], bytes] | None = None
    """From the coded to the native frame, None to give it as it lies."""
    decoded_bytes: int = 0
    check: frames.Check | None = None
    """Of the bytes in which a frame lies."""

    def require(self, numbers: Sequence[int]) -> None:
        """Raise `NotFound` unless the object has every frame of `numbers`."""
        for number in numbers:
            self.index.pieces(number)

    def size(self, number: int) -> int:
        """Return about how many bytes frame `number` has."""
        lying = sum(length for _, length in self.index.pieces(number))
        return max(lying, self.decoded_bytes)

    @property
    def total(self) -> int:
        """About how many bytes all frames have; exactly, when they lie there native."""
        if self.index.encapsulated:
            return sum(map(self.size, range(1, self.index.count + 1)))
        return (self.index.frame_bits * self.index.count + 7) // 8

    def frame(self, number: int) -> bytes:
        """Return frame `number`."""
        lying = frames.frame_bytes(self.index, number, self.read, self.check)
        return self.decode(lying) if self.decode else lying


@router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{frame_list}")
def retrieve_frames(
    request: Request, study: str, series: str, instance: str, frame_list: str
) -> Response:
    """Retrieve frames by number, counted from 1 and separated by commas."""
    numbers = _numbers(frame_list)
    entry = deps.parts(request).places.of_instance(study, series, instance)
    stored = entry.stored
    wanted = form(media.accepted(request), stored.transfer_syntax_uid, len(numbers))
    etag = entity_tag(stored, numbers, wanted)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    with contents.content_of(stored):
        source = source_of(deps.parts(request), entry, wanted)
        source.require(numbers)
        return answer(source, numbers, wanted, etag)


def entity_tag(stored: StoredInstance, numbers: Sequence[int], wanted: Form) -> str:
    """Return the ETag of some frames in a form."""
    return contents.entity_tag(stored.sop_instance_uid, stored.dataset_sha256, numbers, wanted)


def answer(source: Source, numbers: Sequence[int], wanted: Form, etag: str) -> Response:
    """Answer frames, each in a part of its own or one alone."""
    part_type = f"{wanted.media_type}; transfer-syntax={source.transfer_syntax_uid}"
    validators = contents.validators(etag)
    if not wanted.multipart:
        return Response(source.frame(numbers[0]), headers=validators, media_type=part_type)
    boundary = etag.strip('"')
    parts = (Part({"Content-Type": part_type}, iter((source.frame(n),))) for n in numbers)
    return contents.answer(
        multipart.write(parts, boundary),
        sum(map(source.size, numbers)),
        multipart.content_type(wanted.media_type, boundary),
        validators,
    )


def form(accept: str, syntax: str, count: int) -> Form:
    """Read an Accept value for frames that are stored in the transfer syntax `syntax`.

    Without a transfer-syntax, ``application/octet-stream`` means uncompressed (PS3.18
    8.7.3.5.2), while ``*/*`` takes what is stored.

    Raises
    ------
    NotSupported
        Nothing in it is a way in which these frames can be given.
    """
    coded = CODED_AS.get(syntax)
    for wish in media.wishes(accept):
        in_parts = wish.multipart is not False
        if count > 1 and not in_parts:
            continue
        wanted = wish.transfer_syntax
        if wish.takes(media.OCTET_STREAM):
            if wanted in {media.AS_STORED, syntax} or (not wanted and wish.media_type == media.ANY):
                return Form(in_parts, media.OCTET_STREAM, as_stored=True)
            if not wanted or wanted in UNCOMPRESSED:
                return Form(in_parts, media.OCTET_STREAM, as_stored=False)
        elif coded and wish.takes(coded) and wanted in {"", media.AS_STORED, syntax}:
            return Form(in_parts, coded, as_stored=True)
    raise NotSupported(
        f"these frames are served as multipart/related of {media.OCTET_STREAM}, uncompressed or "
        f"with transfer-syntax=* as stored in {contexts.name_of(syntax)}"
    )


def _numbers(text: str) -> tuple[int, ...]:
    """Read a list of frame numbers."""
    items = text.split(",")
    if len(items) > MAX_FRAMES:
        raise Malformed(f"more than {MAX_FRAMES} frames in one request")
    if not all(item.isascii() and item.isdigit() and len(item) <= MAX_DIGITS for item in items):
        raise Malformed("the frame list is not made of numbers and commas")
    return tuple(map(int, items))


def source_of(parts: Parts, entry: Entry, wanted: Form) -> Source:
    """Open the frames of an object in the way that the client takes them.

    Raises
    ------
    NotFound
        It has no pixel data.
    NotSupported
        They cannot be decoded.
    """
    syntax = entry.stored.transfer_syntax_uid
    if syntax not in UNCOMPRESSED and not contexts.is_encapsulated(syntax):
        # deflated or big endian, both rare
        syntax, converted = retrieve.dataset_as(
            parts.store, entry.stored, (contexts.EXPLICIT_VR_LITTLE_ENDIAN,)
        )
        index, _, read = _whole(converted, syntax)
        return Source(syntax, index, read)
    index, image, read, check = _opened(parts, entry)
    if lying := syntax_as_it_lies(syntax, wanted):
        return Source(lying, index, read, check=check)
    if image is None or syntax not in contexts.DECODABLE:
        raise NotSupported(f"frames in {contexts.name_of(syntax)} are given as stored only")

    def decode(frame: bytes) -> bytes:
        return decoding.shared().decode(frame, syntax, image).pixels

    native = contexts.EXPLICIT_VR_LITTLE_ENDIAN
    return Source(native, index, read, decode, image.decoded_bytes, check)


def syntax_as_it_lies(syntax: str, wanted: Form) -> str | None:
    """Return what to call frames that go out as they lie, None when they must be changed."""
    if syntax in UNCOMPRESSED:
        return contexts.EXPLICIT_VR_LITTLE_ENDIAN
    return syntax if wanted.as_stored and contexts.is_encapsulated(syntax) else None


_Found = tuple[FrameIndex, ImagePixel | None, frames.Read]
_Opened = tuple[FrameIndex, ImagePixel | None, frames.Read, frames.Check | None]


def _opened(parts: Parts, entry: Entry) -> _Opened:
    """Find the frames; of a series that has settled they are known, with their checksums."""
    if entry.frames is not None:
        return entry.frames, entry.image, _reader(parts, entry.stored), entry.check_frame
    return *_located(parts, entry.stored), None


def _located(parts: Parts, stored: StoredInstance) -> _Found:
    """Find the frames once; afterwards only their own bytes are read."""
    place = stored.object_key, stored.dataset_offset
    if known := parts.frame_indexes.get(place):
        return *known, _reader(parts, stored)
    if stored.dataset_size <= WHOLE:
        dataset = retrieve.read_dataset(parts.store, stored)
        index, image, read = _whole(dataset, stored.transfer_syntax_uid)
    else:
        read = _reader(parts, stored)
        scan = HeaderReader(stored.transfer_syntax_uid)
        for piece in retrieve.stream_dataset(parts.store, stored):
            scan.feed(piece)
        found = scan.finish()
        index, image = frames.locate(found, read), _image(found)
    parts.frame_indexes.put(place, (index, image))
    return index, image, read


def _reader(parts: Parts, stored: StoredInstance) -> frames.Read:
    def read(offset: int, length: int) -> bytes:
        return retrieve.read_range(parts.store, stored, offset, length)

    return read


def _whole(dataset: bytes, syntax: str) -> _Found:
    def read(offset: int, length: int) -> bytes:
        return dataset[offset : offset + length]

    found = header.scan(dataset, syntax)
    return frames.locate(found, read), _image(found), read


def _image(found: Header) -> ImagePixel | None:
    """Return what decoding needs to know, None when the object does not tell."""
    try:
        return frames.image_pixel(found)
    except Malformed:
        return None
