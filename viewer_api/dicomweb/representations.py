"""What an instance can be shown as, and how that is made (PS3.18 8.7.2, 8.7.4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from pacs import contexts, drawing, frames, header, retrieve
from pacs.drawing import Drawing
from pacs.header import Header
from pacs.render import films, groups, looks, pictures
from pacs.render.groups import Looks
from pacs.render.options import Options, Viewport
from pacs.series_metadata import Entry
from storage.base.errors import NotSupported
from viewer_api import media
from viewer_api.cache import Recent
from viewer_api.deps import Parts
from viewer_api.dicomweb import frames as stored_frames
from viewer_api.dicomweb.frames import Form, Source

MAX_KNOWN: Final = 256
MAX_FILM_SIDE: Final = 1024
"""Pixels; of a film whose size was not asked for."""
DEFAULT_FRAME_MS: Final = 100
_MS: Final = 1000

STILLS: Final = tuple(pictures.FORMATS)
FILMS: Final = tuple(kind for kind in films.FORMATS if kind not in pictures.FORMATS)
_AS_STORED: Final = Form(multipart=False, media_type=media.OCTET_STREAM, as_stored=True)


class Category(Enum):
    """Resource categories (PS3.18 8.7.2)."""

    IMAGE = auto()
    MULTI_FRAME = auto()


OFFERS: Final = {
    Category.IMAGE: STILLS,
    Category.MULTI_FRAME: (*STILLS, *FILMS),
}
"""Rendered media types, the default first."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is read once of an object that is drawn."""

    looks: Looks
    representative: int
    durations_ms: Sequence[int]


_seen: Final[Recent[tuple[str, int], _Seen]] = Recent(MAX_KNOWN)
"""By object key and offset: objects never change."""


def category(entry: Entry) -> Category:
    """Return what kind of thing an instance is, as far as the index knows."""
    return Category.MULTI_FRAME if entry.stored.number_of_frames > 1 else Category.IMAGE


def offers(entry: Entry) -> Sequence[str]:
    """Return the media types in which an instance can be rendered, the default first."""
    return OFFERS[category(entry)]


def make(
    parts: Parts, entry: Entry, numbers: Sequence[int], asked: Options, media_type: str
) -> bytes:
    """Return an instance, or the frames with these `numbers`, rendered as `media_type`.

    Raises
    ------
    NotFound
        There is no such frame, or no pixel data.
    NotSupported
        It cannot be drawn.
    """
    seen = _look(parts, entry)
    source = stored_frames.source_of(parts, entry, _AS_STORED)
    film = media_type in FILMS
    if not numbers:
        numbers = range(1, source.index.count + 1) if film else (seen.representative,)
    source.require(numbers)
    if not film:
        return _drawn(seen, source, numbers[:1], asked, media_type, ())
    image = seen.looks.distinct[0].image
    if asked.viewport is None and max(image.rows, image.columns) > MAX_FILM_SIDE:
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
        lasting,
    )
    return drawing.draw(order, coded)


def _lasting(durations_ms: Sequence[int], number: int) -> int:
    """Return how long a frame is shown; with one duration, that of all."""
    return durations_ms[min(number, len(durations_ms)) - 1]


def _look(parts: Parts, entry: Entry) -> _Seen:
    place = entry.stored.object_key, entry.stored.dataset_offset
    if known := _seen.get(place):
        return known
    if contexts.is_video(entry.stored.transfer_syntax_uid):
        raise NotSupported(
            f"frames in {contexts.name_of(entry.stored.transfer_syntax_uid)} are not drawn"
        )
    start = retrieve.header_bytes(parts.store, entry.stored)
    found = header.scan(start, entry.stored.transfer_syntax_uid)
    base = looks.look_of(found, frames.image_pixel(found))
    seen = _Seen(groups.looks_of(found, start, base), _representative(found), _durations_ms(found))
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
