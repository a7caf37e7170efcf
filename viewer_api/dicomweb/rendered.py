"""WADO-RS, rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.5, 8.7.4).

A series or a study is represented by the middle one of its images, an object of many
frames by its first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts, decoding, frames, header, retrieve
from pacs.render import looks, options, pictures
from pacs.render.looks import Look
from pacs.render.options import Options, Viewport
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.base.errors import Malformed, NotSupported
from viewer_api import deps, media
from viewer_api.cache import Recent
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents
from viewer_api.dicomweb import frames as stored_frames
from viewer_api.dicomweb.frames import Form

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

THUMBNAIL: Final = Viewport(128, 128)
"""What a thumbnail fits into when its size is not asked for."""
MAX_LOOKS: Final = 256

_STUDY: Final = "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAME: Final = _INSTANCE + "/frames/{frame}"
_AS_STORED: Final = Form(multipart=False, media_type=media.OCTET_STREAM, as_stored=True)
_looks: Final[Recent[tuple[str, int], Look]] = Recent(MAX_LOOKS)
"""By object key and offset: objects never change."""


@router.get(_FRAME + "/rendered")
def render_frame(request: Request, study: str, series: str, instance: str, frame: str) -> Response:
    """Render one frame, counted from 1."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _rendered(request, [entry], _number(frame), _options(request))


@router.get(_FRAME + "/thumbnail")
def thumbnail_of_frame(
    request: Request, study: str, series: str, instance: str, frame: str
) -> Response:
    """Render one frame, counted from 1, as a small picture."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _rendered(request, [entry], _number(frame), _small(request))


@router.get(_INSTANCE + "/rendered")
def render_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Render an instance; of many frames the first."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _rendered(request, [entry], 1, _options(request))


@router.get(_INSTANCE + "/thumbnail")
def thumbnail_of_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Render an instance as a small picture."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _rendered(request, [entry], 1, _small(request))


@router.get(_SERIES + "/rendered")
def render_series(request: Request, study: str, series: str) -> Response:
    """Render the image in the middle of a series."""
    found = deps.parts(request).places.of_series(study, series)
    return _rendered(request, [*_from_the_middle(found.entries)], 1, _options(request))


@router.get(_SERIES + "/thumbnail")
def thumbnail_of_series(request: Request, study: str, series: str) -> Response:
    """Render the image in the middle of a series as a small picture."""
    found = deps.parts(request).places.of_series(study, series)
    return _rendered(request, [*_from_the_middle(found.entries)], 1, _small(request))


@router.get(_STUDY + "/rendered")
def render_study(request: Request, study: str) -> Response:
    """Render the image in the middle of the first series that has images."""
    return _rendered(request, [*_of_study(request, study)], 1, _options(request))


@router.get(_STUDY + "/thumbnail")
def thumbnail_of_study(request: Request, study: str) -> Response:
    """Render a study as a small picture."""
    return _rendered(request, [*_of_study(request, study)], 1, _small(request))


def _of_study(request: Request, study: str) -> Iterator[Entry]:
    for series in deps.parts(request).places.of_study(study):
        yield from _from_the_middle(series.entries)


def _from_the_middle(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the middle one, and the first, which stands in for it when that is no image."""
    if entries:
        yield entries[len(entries) // 2]
        yield entries[0]


def _options(request: Request) -> Options:
    return options.read(request.query_params)


def _small(request: Request) -> Options:
    asked = options.read(request.query_params)
    return asked if asked.viewport else replace(asked, viewport=THUMBNAIL)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= stored_frames.MAX_DIGITS):
        raise Malformed("one frame is rendered at a time, by its number")
    return int(text)


def _rendered(request: Request, entries: list[Entry], number: int, asked: Options) -> Response:
    """Answer the first of `entries` that can be drawn."""
    media_type = _media_type(media.accepted(request))
    fault: NotSupported | None = None
    for entry in entries:
        stored = entry.stored
        facts = (stored.sop_instance_uid, stored.dataset_sha256, number, asked, media_type)
        etag = contents.entity_tag(*facts)
        if unchanged := contents.not_modified(request, etag):
            return unchanged
        try:
            with contents.content_of(stored):
                body = _file(deps.parts(request), entry, number, asked, media_type)
        except NotSupported as reason:
            fault = fault or reason
            continue
        return Response(body, headers=contents.validators(etag), media_type=media_type)
    raise fault or NotSupported("no image to render")


def _media_type(accept: str) -> str:
    for wish in media.wishes(accept):
        for media_type in pictures.FORMATS:
            if wish.multipart is not True and wish.takes(media_type):
                return media_type
    raise NotSupported(f"pictures are rendered as {', '.join(pictures.FORMATS)}")


def _file(parts: Parts, entry: Entry, number: int, asked: Options, media_type: str) -> bytes:
    look = _look(parts, entry)
    source = stored_frames.source_of(parts, entry, _AS_STORED)
    source.require([number])
    pixels, photometric = source.frame(number), look.image.photometric_interpretation
    syntax = source.transfer_syntax_uid
    if contexts.is_encapsulated(syntax):
        decoded = decoding.shared().decode(pixels, syntax, look.image)
        pixels, photometric = decoded.pixels, decoded.photometric_interpretation
        look = replace(look, image=replace(look.image, planar_configuration=0))
    drawn = pictures.picture(look, pixels, photometric, asked)
    return pictures.encode(drawn, media_type, asked.quality)


def _look(parts: Parts, entry: Entry) -> Look:
    place = entry.stored.object_key, entry.stored.dataset_offset
    if known := _looks.get(place):
        return known
    start = retrieve.header_bytes(parts.store, entry.stored)
    found = header.scan(start, entry.stored.transfer_syntax_uid)
    look = looks.look_of(found, frames.image_pixel(found))
    _looks.put(place, look)
    return look
