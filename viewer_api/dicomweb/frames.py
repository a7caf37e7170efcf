"""WADO-RS, frames (PS3.18 10.4.1.1.6, 8.7.3.3): pixels as stored, uncompressed, or recoded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts, decoding, frames, header, retrieve, targets, transcode
from pacs.frames import FrameIndex, ImagePixel
from pacs.header import Header, HeaderReader
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotFound, NotSupported
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


_PICTURES: Final = "image/*"

# PS3.18 Table 8.7.3-2: what a media type means without a transfer-syntax
DEFAULTS: Final[Mapping[str, str]] = {
    "image/jpeg": contexts.JPEG_LOSSLESS_SV1,
    "image/jls": contexts.JPEG_LS_LOSSLESS,
    "image/jp2": contexts.JPEG_2000_LOSSLESS,
    "image/jphc": contexts.HTJ2K_LOSSLESS,
    "image/dicom-rle": contexts.RLE_LOSSLESS,
}


@dataclass(frozen=True, slots=True)
class Form:
    """How the client takes frames."""

    multipart: bool
    media_type: str
    as_stored: bool
    target: str = ""
    """The transfer syntax in which they are to be encoded; '' as stored or native."""


@dataclass(frozen=True, slots=True)
class Source:
    """The frames of one object and where their bytes come from."""

    transfer_syntax_uid: str
    """Of the frames as they are given."""
    index: FrameIndex
    read: frames.Read
    convert: Callable[[bytes], bytes] | None = None
    """From the frame as it lies to what is given, None to give it so."""
    decoded_bytes: int = 0
    """Of a frame that is decoded."""
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
        return self.convert(lying) if self.convert else lying


@router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{frame_list}")
def retrieve_frames(
    request: Request, study: str, series: str, instance: str, frame_list: str
) -> Response:
    """Retrieve frames by number, counted from 1 and separated by commas."""
    numbers = frame_numbers(frame_list)
    entry = deps.parts(request).places.of_instance(study, series, instance)
    stored = entry.stored
    refusal: NotSupported | None = None
    for wanted in forms(media.accepted(request), stored.transfer_syntax_uid, len(numbers)):
        etag = entity_tag(stored, numbers, wanted)
        if unchanged := contents.not_modified(request, etag):
            return unchanged
        try:
            with contents.content_of(stored):
                source = source_of(deps.parts(request), entry, wanted)
                source.require(numbers)
                return answer(source, numbers, wanted, etag)
        except NotSupported as reason:
            refusal = refusal or reason
    raise refusal or _not_served(stored.transfer_syntax_uid)


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
    """Return the best way in which frames can be given; see `forms`.

    Raises
    ------
    NotSupported
        Nothing in the Accept value is a way in which these frames can be given.
    """
    for wanted in forms(accept, syntax, count):
        return wanted
    raise _not_served(syntax)


def forms(accept: str, syntax: str, count: int) -> Iterator[Form]:
    """Yield what an Accept value means for frames stored in the transfer syntax `syntax`.

    Without a transfer-syntax, ``application/octet-stream`` means uncompressed (PS3.18
    8.7.3.5.2), while ``*/*`` takes what is stored.
    """
    for wish in media.wishes(accept):
        in_parts = wish.multipart is not False
        if count > 1 and not in_parts:
            continue
        if wanted := _form(wish, syntax, in_parts=in_parts):
            yield wanted


def _form(wish: media.Wish, syntax: str, *, in_parts: bool) -> Form | None:
    wanted, coded = wish.transfer_syntax, CODED_AS.get(syntax)
    if wish.takes(media.OCTET_STREAM):
        if wanted in {media.AS_STORED, syntax} or (not wanted and wish.media_type == media.ANY):
            return Form(in_parts, media.OCTET_STREAM, as_stored=True)
        if not wanted or wanted in UNCOMPRESSED:
            return Form(in_parts, media.OCTET_STREAM, as_stored=False)
    elif coded and wish.takes(coded) and wanted in {"", media.AS_STORED, syntax}:
        return Form(in_parts, coded, as_stored=True)
    return _recoding(wish, in_parts=in_parts)


def _recoding(wish: media.Wish, *, in_parts: bool) -> Form | None:
    """Return how frames are encoded anew for a client that asks for just that."""
    target = wish.transfer_syntax or DEFAULTS.get(wish.media_type, "")
    if target in {"", media.AS_STORED} and wish.media_type == _PICTURES:
        target = DEFAULTS["image/jpeg"]
    if target not in contexts.TRANSCODE_TARGETS or target in contexts.NATIVE:
        return None
    for media_type in (CODED_AS.get(target), media.OCTET_STREAM):
        if media_type and wish.takes(media_type):
            return Form(in_parts, media_type, as_stored=False, target=target)
    return None


def _not_served(syntax: str) -> NotSupported:
    return NotSupported(
        f"these frames are served as multipart/related of {media.OCTET_STREAM}, uncompressed or "
        f"with transfer-syntax=* as stored in {contexts.name_of(syntax)}, or encoded as "
        f"{', '.join(DEFAULTS)} with a transfer-syntax that is written here"
    )


def frame_numbers(text: str) -> tuple[int, ...]:
    """Read a list of frame numbers."""
    items = text.split(",")
    if len(items) > MAX_FRAMES:
        raise Malformed(f"more than {MAX_FRAMES} frames in one request")
    if not all(item.isascii() and item.isdigit() for item in items):
        raise Malformed("the frame list is not made of numbers and commas")
    if any(len(item) > MAX_DIGITS for item in items):
        raise NotFound("a frame number beyond those of any object")
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
        index, image, read = _whole(converted, syntax)
        check = None
    else:
        index, image, read, check = _opened(parts, entry)
    if lying := syntax_as_it_lies(syntax, wanted):
        return Source(lying, index, read, check=check)
    if image is None or syntax not in contexts.DECODABLE | contexts.NATIVE:
        raise NotSupported(f"frames in {contexts.name_of(syntax)} are given as stored only")
    if wanted.target:
        convert = _encoding(parts, entry, image, wanted.target)
        return Source(wanted.target, index, read, convert, check=check)

    def decode(frame: bytes) -> bytes:
        return decoding.shared().decode(frame, syntax, image).pixels

    native = contexts.EXPLICIT_VR_LITTLE_ENDIAN
    return Source(native, index, read, decode, image.decoded_bytes, check)


def _encoding(
    parts: Parts, entry: Entry, image: ImagePixel, target: str
) -> Callable[[bytes], bytes]:
    """Return what encodes frames of an object."""
    syntax = entry.stored.transfer_syntax_uid
    if reason := targets.obstacle(target, image):
        raise NotSupported(f"{contexts.name_of(target)}: {reason}")
    if image.bits_allocated in targets.FLOAT_BITS and not contexts.is_encapsulated(syntax):
        found = header.scan(retrieve.header_bytes(parts.store, entry.stored), syntax)
        if not found.text(frames.PIXEL_REPRESENTATION):
            raise NotSupported("float pixel data is never encapsulated (PS3.5 8.2)")

    def encode(frame: bytes) -> bytes:
        coded = decoding.shared().recode(frame, syntax, image, target, transcode.QUALITY)
        return coded.codestream

    return encode


def syntax_as_it_lies(syntax: str, wanted: Form) -> str | None:
    """Return what to call frames that go out as they lie, None when they must be changed."""
    if wanted.target:
        return None
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
