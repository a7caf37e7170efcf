"""WADO-URI, the URI service (PS3.18 Section 9): one instance by the parameters of a query."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts
from pacs.render import options, showing
from pacs.render.options import Options, Viewport, Window
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.base import values
from storage.base.errors import Malformed, NotSupported
from viewer_api import deps, media
from viewer_api.dicomweb import contents, metadata, presenting, representations, retrieving
from viewer_api.dicomweb.presenting import Applied
from viewer_api.dicomweb.retrieving import Form
from viewer_api.media import Offer
from viewer_api.places import Series

router = APIRouter(tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))])

_WINDOW: Final = ("windowCenter", "windowWidth")
_REGION: Final = 4
_MAX_DIGITS: Final = 9


@router.get("/wado")
def retrieve(request: Request) -> Response:
    """Retrieve one instance, as an object or rendered."""
    asked = request.query_params
    if asked.get("requestType") != "WADO":
        raise Malformed("requestType is WADO")
    uids = [values.uid(asked.get(name, "")) for name in ("studyUID", "seriesUID", "objectUID")]
    study, series, instance = uids
    if asked.get("anonymize", "no").lower() != "no":
        raise NotSupported("objects are not given without the names in them")
    entry = deps.parts(request).places.of_instance(study, series, instance)
    chosen = _chosen(request, entry)
    if chosen == media.DICOM:
        return retrieving.answer(request, entry, _form(asked.get("transferSyntax", ""), entry))
    return _rendered(request, entry, chosen)


def _chosen(request: Request, entry: Entry) -> str:
    """Return the media type to give: of contentType, else of Accept, else the default (9.3).

    Raises
    ------
    NotSupported
        It is none of those that the instance has.
    """
    rendered = [one for one in representations.offers(entry) if one != media.DICOM]
    # an image is drawn by default, what is read and not looked at is an object
    default = [] if representations.is_read(entry) else rendered[:1]
    kinds = [*default, media.DICOM, *(one for one in rendered if one not in default)]
    accept = request.query_params.get("contentType") or request.headers.get("accept", "")
    chosen = media.choose(accept, [Offer(kind) for kind in kinds])
    if chosen is None:
        raise NotSupported(f"served as {', '.join(kinds)}")
    return chosen.media_type


def _form(named: str, entry: Entry) -> Form:
    """Return how an object is given: Explicit VR Little Endian if nothing is named (8.7.3.5.2)."""
    if named:
        if named != media.AS_STORED:
            values.uid(named)  # PS3.18 9.4.2.4: what is none is a bad request
        return Form(multipart=False, syntaxes=(named,))
    syntax = entry.stored.transfer_syntax_uid
    native = contexts.EXPLICIT_VR_LITTLE_ENDIAN
    # what has only a coded form is given in that
    known = syntax in contexts.NATIVE or syntax in contexts.DECODABLE
    return Form(multipart=False, syntaxes=(native,) if known else (native, syntax))


def _rendered(request: Request, entry: Entry, media_type: str) -> Response:
    asked = request.query_params
    stored = entry.stored
    numbers = _frame(asked.get("frameNumber", ""), max(1, stored.number_of_frames))
    applied = presenting.asked_for(deps.parts(request), stored.study_instance_uid, asked)
    look = _options(asked, lambda: _size(request, entry, applied, (*numbers, 1)[0]))
    if applied:
        presenting.require_no_window(look)
        applied.require(entry, numbers) if numbers else applied.require_any(entry)
    facts = stored.sop_instance_uid, stored.version, numbers, look, media_type
    etag = contents.entity_tag("wado", *facts, *((applied.version,) if applied else ()))
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    presentation = applied.presentation if applied else None
    with contents.content_of(stored):
        body = representations.make(
            deps.parts(request), entry, numbers, look, media_type, presentation
        )
    headers = {**contents.validators(etag), **representations.headers(media_type)}
    return Response(body, 200, headers, representations.content_type(media_type))


def _frame(text: str, count: int) -> tuple[int, ...]:
    """Return the frame that is asked for, none when it is not given.

    Raises
    ------
    Malformed
        It is none of the `count` frames (PS3.18 9.5.2.1).
    """
    if not text:
        return ()
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:_MAX_DIGITS]) <= count):
        raise Malformed(f"frameNumber: one frame of 1 to {count} is rendered")
    return (int(text),)


def _size(request: Request, entry: Entry, applied: Applied | None, number: int) -> tuple[int, int]:
    """Return columns and rows of an image, or of what a presentation state shows of it."""
    [told] = metadata.decoded(deps.parts(request), [Series([entry])], "")
    try:
        columns, rows = (int(told[name]["Value"][0]) for name in ("00280011", "00280010"))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise NotSupported("a region of what is no image") from error
    if applied is None:
        return columns, rows
    seen = applied.presentation.showing(entry.stored.sop_instance_uid, number, {})
    return showing.size_of(seen, columns, rows)


def _options(asked: Mapping[str, str], image: Callable[[], tuple[int, int]]) -> Options:
    """Read the parameters of PS3.18 9.1.2.2 into those of the RESTful services."""
    size = [_whole(asked, name) for name in ("columns", "rows")]
    region = _region(asked.get("region", ""))
    viewport = None
    width, height = (one or options.MAX_SIDE for one in size)
    if region:
        part = _pixels(region, *image())
        if not any(size):  # in its original size
            width, height = (min(one, options.MAX_SIDE) for one in options.cut(part))
        viewport = Viewport(width, height, part)
    elif any(size):
        viewport = Viewport(width, height)
    quality = _whole(asked, "imageQuality") or options.DEFAULT_QUALITY
    if quality > options.BEST_QUALITY:
        raise Malformed(f"imageQuality: 1 to {options.BEST_QUALITY}")
    annotation = options.read({"annotation": asked.get("annotation", "")}).annotation
    return Options(_window(asked), viewport, quality, annotation)


def _window(asked: Mapping[str, str]) -> Window | None:
    given = [asked[name] for name in _WINDOW if asked.get(name)]
    if not given:
        return None
    if len(given) < len(_WINDOW):
        raise Malformed("windowCenter and windowWidth go together")
    return options.read({"window": ",".join(given)}).window


def _whole(asked: Mapping[str, str], name: str) -> int:
    """Return a positive number, 0 when it is not given."""
    text = asked.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) > 0):
        raise Malformed(f"{name} is not a positive number")
    if name != "imageQuality" and int(text) > options.MAX_SIDE:
        raise Malformed(f"{name}: sides of 1 to {options.MAX_SIDE} pixels are drawn")
    return int(text)


def _region(text: str) -> Sequence[float]:
    """Return left, top, right and bottom as parts of the image, nothing when not given."""
    if not text:
        return ()
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise Malformed("region: four numbers from 0 to 1") from error
    fits = len(found) == _REGION and all(0 <= one <= 1 for one in found)
    if not fits or found[0] >= found[2] or found[1] >= found[3]:
        raise Malformed("region: xmin,ymin,xmax,ymax, each from 0 to 1")
    return found


def _pixels(region: Sequence[float], columns: int, rows: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = region
    across, down = (right - left) * columns, (bottom - top) * rows
    return left * columns, top * rows, across, down
