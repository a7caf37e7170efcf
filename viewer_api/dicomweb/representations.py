"""What an instance can be shown as, and how that is made (PS3.18 8.7.2, 8.7.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from pacs import contexts, correcting, dicom_xml, drawing, frames, header, retrieve, wrapping
from pacs.drawing import Drawing
from pacs.header import Header
from pacs.render import (
    captions,
    documents,
    films,
    groups,
    looks,
    options,
    pictures,
    presentations,
    transport,
    waveforms,
)
from pacs.render.captions import Captions
from pacs.render.groups import Looks
from pacs.render.looks import Look
from pacs.render.options import KEYWORDS, Options, Viewport
from pacs.render.presentations import Presentation
from pacs.render.showing import Plane, Showing
from pacs.series_metadata import Entry
from storage.base.errors import NotFound, NotSupported
from viewer_api import media
from viewer_api.cache import Recent
from viewer_api.deps import Parts
from viewer_api.dicomweb import frames as stored_frames
from viewer_api.dicomweb import metadata, papers
from viewer_api.dicomweb.frames import Form, Source
from viewer_api.places import Series

MAX_KNOWN: Final = 256
MAX_FILM_SIDE: Final = 1024
"""Pixels; of a film whose size was not asked for."""
DEFAULT_FRAME_MS: Final = 100
_MS: Final = 1000

STILLS: Final = tuple(pictures.FORMATS)
FILMS: Final = tuple(kind for kind in films.FORMATS if kind not in pictures.FORMATS)
GIF: Final = "image/gif"
"""Of one picture a film of one frame (PS3.18 Table 8.7.4-1 has it for single frames)."""
XML: Final = "text/xml"
"""A report as the Native DICOM Model (PS3.19 A.1), for who reads its content items."""
MP4: Final = "video/mp4"
_ANNOTATIONS: Final = ((), *((one,) for one in KEYWORDS), KEYWORDS)
_AS_STORED: Final = Form(multipart=False, media_type=media.OCTET_STREAM, as_stored=True)


class Category(Enum):
    """Resource categories (PS3.18 8.7.2)."""

    IMAGE = auto()
    MULTI_FRAME = auto()
    WAVEFORM = auto()
    REPORT = auto()
    ENCAPSULATED = auto()
    PRESENTATION = auto()
    VIDEO = auto()


OFFERS: Final[Mapping[Category, Sequence[str]]] = {
    Category.IMAGE: (*STILLS, GIF),
    Category.MULTI_FRAME: (*STILLS, *FILMS),
    Category.WAVEFORM: STILLS,
    Category.REPORT: (*documents.FORMATS, XML),
    Category.PRESENTATION: (),
    Category.VIDEO: (MP4,),
}
"""Rendered media types, the default first; encapsulated documents are given as they are.

Of a presentation state, what is rendered are the images that it refers to.
"""
_WITH_FRAMES: Final = frozenset({Category.IMAGE, Category.MULTI_FRAME, Category.VIDEO})
_DOCUMENTS: Final = {uid: media_type for media_type, uid in wrapping.DOCUMENTS.items()}
_PDF: Final = "application/pdf"
_CHARSET: Final = "; charset=utf-8"
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_IN_BROWSER: Final = frozenset({"application/pdf", *documents.FORMATS, *STILLS, *FILMS})


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is read once of an object that is drawn."""

    looks: Looks
    representative: int
    captions: Mapping[tuple[str, ...], Captions]
    """By what is asked to be written."""
    durations_ms: Sequence[int]
    showings: Mapping[int, Showing] = field(default_factory=dict)
    """By the number of the frame, where a presentation state says how it is to be seen."""


_seen: Final[Recent[tuple[str, int, str], _Seen]] = Recent(MAX_KNOWN)
"""By object key and offset, for objects never change, and what is corrected of them."""


def category(entry: Entry) -> Category:
    """Return what kind of thing an instance is, as far as the index knows."""
    uid = entry.stored.sop_class_uid
    if uid in _DOCUMENTS:
        return Category.ENCAPSULATED
    if documents.is_report(uid):
        return Category.REPORT
    if waveforms.is_waveform(uid):
        return Category.WAVEFORM
    if presentations.is_presentation(uid):
        return Category.PRESENTATION
    if contexts.is_video(entry.stored.transfer_syntax_uid):
        return Category.VIDEO
    return Category.MULTI_FRAME if entry.stored.number_of_frames > 1 else Category.IMAGE


def is_read(entry: Entry) -> bool:
    """Return whether an instance is something to read and not to look at."""
    return category(entry) in {Category.REPORT, Category.ENCAPSULATED}


def offers(entry: Entry) -> Sequence[str]:
    """Return the media types in which an instance can be rendered, the default first."""
    document = _DOCUMENTS.get(entry.stored.sop_class_uid)
    return (document,) if document else OFFERS[category(entry)]


def thumbnails(entry: Entry) -> Sequence[str]:
    """Return the media types in which an instance has a thumbnail, the default first."""
    if category(entry) is Category.REPORT or _DOCUMENTS.get(entry.stored.sop_class_uid) == _PDF:
        return STILLS
    return offers(entry)


def content_type(media_type: str) -> str:
    """Return the Content-Type of a representation."""
    return media_type + _CHARSET if media_type in documents.FORMATS else media_type


def headers(media_type: str) -> Mapping[str, str]:
    """Return what browsers must know of a document: it may be framed, and runs nothing."""
    if media_type in STILLS or media_type in FILMS:
        return {}
    disposition = "inline" if media_type in _IN_BROWSER else "attachment"
    return {"Content-Security-Policy": _POLICY, "Content-Disposition": disposition}


def make(
    parts: Parts,
    entry: Entry,
    numbers: Sequence[int],
    asked: Options,
    media_type: str,
    presentation: Presentation | None = None,
) -> bytes:
    """Return an instance, or the frames with these `numbers`, rendered as `media_type`.

    With a presentation state, it is one that refers to them.

    Raises
    ------
    NotFound
        There is no such frame, or no pixel data.
    NotSupported
        It cannot be drawn.
    """
    kind = category(entry)
    if numbers and kind not in _WITH_FRAMES:
        raise NotFound("the object has no frames")
    if kind is Category.WAVEFORM:
        return papers.waveform(parts, entry, asked, media_type)
    if kind is Category.PRESENTATION:
        raise NotSupported("a presentation state has no picture of its own")
    if kind is Category.VIDEO:
        return _video(parts, entry, numbers)
    if kind in _WITH_FRAMES:
        return _image(parts, entry, numbers, asked, media_type, presentation)
    return _paper(parts, entry, asked, media_type)


def _paper(parts: Parts, entry: Entry, asked: Options, media_type: str) -> bytes:
    """Return what is read as it is, or the picture of its first page for a thumbnail."""
    report = category(entry) is Category.REPORT
    if media_type in STILLS:
        page = papers.page_of_report if report else papers.page_of_pdf
        return page(parts, entry, asked, media_type)
    if report and media_type == XML:
        [told] = metadata.decoded(parts, [Series([entry])], "")
        return dicom_xml.encode(told)
    if report:
        return papers.report(parts, entry, asked, media_type)
    return papers.encapsulated(parts, entry)


def _video(parts: Parts, entry: Entry, numbers: Sequence[int]) -> bytes:
    """Return a film in MP4 (PS3.5 8.2.7): as it lies, or out of its transport stream."""
    syntax = entry.stored.transfer_syntax_uid
    if numbers:
        raise NotSupported(f"frames in {contexts.name_of(syntax)} are not drawn one by one")
    if entry.stored.dataset_size > drawing.MAX_FILE_BYTES:
        raise NotSupported(f"a film of more than {drawing.MAX_FILE_BYTES} bytes")
    source = stored_frames.source_of(parts, entry, _AS_STORED)
    stream = source.frame(1)
    if transport.is_mp4(stream):
        return stream
    if not transport.is_transport_stream(stream):
        raise NotSupported(f"{contexts.name_of(syntax)} that lies in no MP4 or transport stream")
    found = header.scan(retrieve.header_bytes(parts.store, entry.stored), syntax)
    image = frames.image_pixel(found)
    return drawing.rewrap(stream, image.columns, image.rows)


def _image(
    parts: Parts,
    entry: Entry,
    numbers: Sequence[int],
    asked: Options,
    media_type: str,
    presentation: Presentation | None,
) -> bytes:
    seen = _look(parts, entry)
    source = stored_frames.source_of(parts, entry, _AS_STORED)
    film = media_type in FILMS
    if not numbers:
        known = referred(presentation, entry, source.index.count)
        still = seen.representative if seen.representative in known else next(iter(known), 1)
        numbers = known if film else (still,)
    source.require(numbers)
    if not film:
        numbers = numbers[:1]
    image = seen.looks.distinct[0].image
    if presentation is not None:
        seen = _presented(parts, entry, seen, presentation, numbers)
    else:
        options.require_inside(asked.viewport, image.columns, image.rows)
    if not film:
        return _drawn(seen, source, numbers, asked, media_type, ())
    large = len(numbers) > 1 and max(image.rows, image.columns) > MAX_FILM_SIDE
    if large and asked.viewport is None:
        asked = replace(asked, viewport=Viewport(MAX_FILM_SIDE, MAX_FILM_SIDE))
    lasting = [_lasting(seen.durations_ms, number) for number in numbers]
    return _drawn(seen, source, numbers, asked, media_type, lasting)


def _drawn(
    seen: _Seen,
    source: Source,
    numbers: Sequence[int],
    asked: Options,
    media_type: str,
    lasting: Sequence[int],
) -> bytes:
    coded = [source.frame(number) for number in numbers]
    distinct = [*dict.fromkeys(seen.looks.of_frame(number) for number in numbers)]
    order = Drawing(
        source.transfer_syntax_uid,
        distinct,
        [distinct.index(seen.looks.of_frame(number)) for number in numbers],
        [*map(len, coded)],
        asked,
        media_type,
        seen.captions.get(asked.annotation, Captions()),
        lasting,
        [seen.showings[number] for number in numbers] if seen.showings else (),
    )
    return drawing.draw(order, coded)


def referred(presentation: Presentation | None, entry: Entry, count: int) -> Sequence[int]:
    """Return which of `count` frames a presentation state refers to; all without one."""
    if presentation is None:
        return range(1, count + 1)
    uid = entry.stored.sop_instance_uid
    return [number for number in range(1, count + 1) if presentation.refers_to(uid, number)]


def _presented(
    parts: Parts, entry: Entry, seen: _Seen, presentation: Presentation, numbers: Sequence[int]
) -> _Seen:
    """Return how some frames are to be seen by a presentation state that refers to them."""
    uid = entry.stored.sop_instance_uid
    planes: Mapping[int, tuple[Plane, ...]] = {}
    if presentation.activations.keys() - presentation.planes.keys():
        start = retrieve.header_bytes(parts.store, entry.stored)
        planes = presentations.overlays(header.scan(start, entry.stored.transfer_syntax_uid))
    distinct: dict[Look, int] = {}
    places, showings = [0] * max(numbers), {}
    for number in numbers:
        look = presentation.look(seen.looks.of_frame(number), uid, number)
        places[number - 1] = distinct.setdefault(look, len(distinct))
        showings[number] = presentation.showing(uid, number, planes)
    looks = Looks(tuple(distinct), tuple(places))
    return replace(seen, looks=looks, showings=showings)


def _lasting(durations_ms: Sequence[int], number: int) -> int:
    """Return how long a frame is shown; with one duration, that of all."""
    return durations_ms[min(number, len(durations_ms)) - 1]


def _look(parts: Parts, entry: Entry) -> _Seen:
    correction = entry.stored.correction
    place = entry.stored.object_key, entry.stored.dataset_offset, correction
    if known := _seen.get(place):
        return known
    start = retrieve.header_bytes(parts.store, entry.stored)
    found = header.scan(start, entry.stored.transfer_syntax_uid)
    base = looks.look_of(found, frames.image_pixel(found))
    seen = _Seen(
        groups.looks_of(found, start, base),
        _representative(found),
        {asked: captions.of(found, asked, correcting.read(correction)) for asked in _ANNOTATIONS},
        _durations_ms(found),
    )
    _seen.put(place, seen)
    return seen


def _representative(found: Header) -> int:
    """Return Representative Frame Number (PS3.3 C.7.6.6.1.2), else the first."""
    number = found.number("RepresentativeFrameNumber", 1)
    return number if 1 <= number <= found.number("NumberOfFrames", 1) else 1


def _durations_ms(found: Header) -> Sequence[int]:
    """Return how long each frame is shown, or one duration for all (PS3.3 C.7.6.5)."""
    vector = [_duration(text) for text in found.text("FrameTimeVector").split("\\")]
    if len(vector) > 1:
        return [*vector[1:], vector[-1]]  # each is the time since the frame before
    if found.text("FrameTime"):
        return (_duration(found.text("FrameTime")),)
    for rate in ("CineRate", "RecommendedDisplayFrameRate"):
        if found.text(rate) and (frames_s := found.number(rate)) > 0:
            return (max(1, _MS // frames_s),)
    return (DEFAULT_FRAME_MS,)


def _duration(text: str) -> int:
    try:
        milliseconds = float(text)
    except ValueError:
        return DEFAULT_FRAME_MS
    usable = 1 <= milliseconds <= 60 * _MS
    return round(milliseconds) if usable else DEFAULT_FRAME_MS
