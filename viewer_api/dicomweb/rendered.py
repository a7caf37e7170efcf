"""WADO-RS, rendered resources and thumbnails (PS3.18 10.4.1.1.3, 10.4.1.1.5, 8.7.4).

As a single part, a series or a study is represented by the middle one of its images and an
object of many frames by the frame that it names, or its first. As multipart/related, every
frame of every image is a part of its own. A presentation state stands for the images that it
refers to, and can be named for others to be seen by it (`presenting`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs.render import documents, options
from pacs.render.options import Options, Outside, Viewport
from pacs.render.presentations import Presentation
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.base.errors import NotFound, NotSupported
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents, presenting, representations
from viewer_api.dicomweb import frames as stored_frames
from viewer_api.dicomweb.presenting import Applied
from viewer_api.dicomweb.representations import Category
from viewer_api.media import Offer
from viewer_api.multipart import Part

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

THUMBNAIL: Final = Viewport(128, 128)
"""What a thumbnail fits into when its size is not asked for."""

_STUDY: Final = "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAME: Final = _INSTANCE + "/frames/{frame_list}"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be rendered."""

    entries: Sequence[Entry]
    """All of it, in order."""
    likely: Sequence[Entry]
    """Which of them stands for all, best first."""
    numbers: tuple[int, ...] = ()
    """Of frames; none: whole instances."""
    applied: Applied | None = None
    """The presentation state by which it is seen."""

    @property
    def presentation(self) -> Presentation | None:
        """What that says."""
        return self.applied.presentation if self.applied else None


@router.get(_FRAME + "/rendered")
def render_frames(
    request: Request, study: str, series: str, instance: str, frame_list: str
) -> Response:
    """Render frames by number, counted from 1 and separated by commas."""
    return _rendered(request, _frames(request, study, series, instance, frame_list))


@router.get(_FRAME + "/thumbnail")
def thumbnail_of_frame(
    request: Request, study: str, series: str, instance: str, frame_list: str
) -> Response:
    """Render the first of some frames as a small picture."""
    return _thumbnail(request, _frames(request, study, series, instance, frame_list))


@router.get(_INSTANCE + "/rendered")
def render_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Render an instance."""
    return _rendered(request, _instance(request, study, series, instance))


@router.get(_INSTANCE + "/thumbnail")
def thumbnail_of_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Render an instance as a small picture."""
    return _thumbnail(request, _instance(request, study, series, instance))


@router.get(_SERIES + "/rendered")
def render_series(request: Request, study: str, series: str) -> Response:
    """Render a series."""
    return _rendered(request, _series(request, study, series))


@router.get(_SERIES + "/thumbnail")
def thumbnail_of_series(request: Request, study: str, series: str) -> Response:
    """Render the image in the middle of a series as a small picture."""
    return _thumbnail(request, _series(request, study, series))


@router.get(_STUDY + "/rendered")
def render_study(request: Request, study: str) -> Response:
    """Render a study."""
    return _rendered(request, _study(request, study))


@router.get(_STUDY + "/thumbnail")
def thumbnail_of_study(request: Request, study: str) -> Response:
    """Render the image in the middle of the first series that has images as a small picture."""
    return _thumbnail(request, _study(request, study))


# --- what is asked for


def _frames(request: Request, study: str, series: str, instance: str, frame_list: str) -> Target:
    entry = deps.parts(request).places.of_instance(study, series, instance)
    numbers = stored_frames.frame_numbers(frame_list)
    applied = presenting.asked_for(deps.parts(request), study, request.query_params)
    if applied:
        applied.require(entry, numbers)
    return Target((entry,), (entry,), numbers, applied)


def _instance(request: Request, study: str, series: str, instance: str) -> Target:
    entry = deps.parts(request).places.of_instance(study, series, instance)
    if representations.category(entry) is Category.PRESENTATION:
        return _presented(request, study, entry)
    return _seen_by(request, study, Target((entry,), (entry,)))


def _series(request: Request, study: str, series: str) -> Target:
    entries = deps.parts(request).places.of_series(study, series).entries
    likely = [*_from_the_middle(entries)]
    if representations.category(likely[0]) is Category.PRESENTATION:
        return _presented(request, study, likely[0])
    return _seen_by(request, study, Target(entries, likely))


def _presented(request: Request, study: str, entry: Entry) -> Target:
    """Return the images that a presentation state refers to, as it has them seen."""
    applied = presenting.of(deps.parts(request), entry)
    found = presenting.images(deps.parts(request), study, applied)
    return Target(found, found, applied=applied)


def _seen_by(request: Request, study: str, target: Target) -> Target:
    """Return what of a target the presentation state refers to that is asked for, if one is."""
    applied = presenting.asked_for(deps.parts(request), study, request.query_params)
    if applied is None:
        return target
    uids = {one.sop_instance_uid for one in applied.presentation.references}
    entries = [one for one in target.entries if one.stored.sop_instance_uid in uids]
    for one in entries[:1] or target.entries[:1]:
        applied.require_any(one)
    return Target(entries, entries, applied=applied)


def _study(request: Request, study: str) -> Target:
    found = deps.parts(request).places.of_study(study)
    likely = [entry for series in found for entry in _from_the_middle(series.entries)]
    likely.sort(key=representations.is_read)  # what is looked at comes first
    whole = Target([entry for series in found for entry in series.entries], likely)
    return _seen_by(request, study, whole)


def _from_the_middle(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the middle one, and the first, which stands in for it when that cannot be shown."""
    if entries:
        yield entries[len(entries) // 2]
        yield entries[0]


# --- how it is answered


def _thumbnail(request: Request, target: Target) -> Response:
    asked = options.read(request.query_params)
    if asked.viewport is None:
        asked = replace(asked, viewport=THUMBNAIL)
    if target.applied:
        presenting.require_no_window(asked)
    kinds = [Offer(kind) for kind in representations.STILLS]
    first = replace(target, numbers=target.numbers[:1])
    asked = replace(asked, language=_language(request))
    return _one(request, first, asked, kinds, representations.thumbnails)


def _rendered(request: Request, target: Target) -> Response:
    asked = replace(options.read(request.query_params), language=_language(request))
    if target.applied:
        presenting.require_no_window(asked)
    kinds = [*dict.fromkeys(kind for one in target.entries for kind in representations.offers(one))]
    single = [Offer(kind) for kind in kinds if _in_one(kind, target)]
    several = [Offer(kind, multipart=True) for kind in kinds if kind in representations.STILLS]
    chosen = media.choose(media.accepted(request), [*single, *several])
    if chosen is not None and chosen.multipart:
        return _several(request, target, asked, chosen.media_type)
    return _one(request, target, asked, single)


def _language(request: Request) -> str:
    """Return the language that the client prefers, Vietnamese if it does not say."""
    for wish in request.headers.get("accept-language", "").lower().split(","):
        language = wish.strip()[:2]
        if language in documents.LANGUAGES:
            return language
    return documents.LANGUAGES[0]


def _in_one(kind: str, target: Target) -> bool:
    return len(target.numbers) <= 1 or kind not in representations.STILLS


def _one(
    request: Request,
    target: Target,
    asked: Options,
    kinds: Sequence[Offer],
    offers: Callable[[Entry], Sequence[str]] = representations.offers,
) -> Response:
    """Answer the first of the likely ones that can be rendered."""
    fault: NotSupported | None = None
    accept = media.accepted(request)
    for entry in target.likely:
        known = offers(entry)
        chosen = media.choose(accept, [kind for kind in kinds if kind.media_type in known])
        if chosen is None:
            continue
        facts = _facts(entry, target, asked, chosen.media_type)
        etag = contents.entity_tag(*facts)
        if unchanged := contents.not_modified(request, etag):
            return unchanged
        try:
            body = _made(deps.parts(request), entry, target, asked, chosen.media_type)
        except NotSupported as reason:
            fault = fault or reason
            continue
        headers = {
            **contents.validators(etag),
            **representations.headers(chosen.media_type),
            "Content-Type": representations.content_type(chosen.media_type),
        }
        return Response(body, headers=headers)
    raise fault or _not_rendered(kinds)


def _made(parts: Parts, entry: Entry, target: Target, asked: Options, media_type: str) -> bytes:
    with contents.content_of(entry.stored):
        numbers, presentation = target.numbers, target.presentation
        return representations.make(parts, entry, numbers, asked, media_type, presentation)


def _several(request: Request, target: Target, asked: Options, media_type: str) -> Response:
    """Answer every frame in a part of its own; what cannot be drawn is left out."""
    fitting = [one for one in target.entries if media_type in representations.offers(one)]
    for number in target.numbers:
        if number > max(1, target.entries[0].stored.number_of_frames):
            raise NotFound(f"there is no frame {number}")
    facts = [fact for one in fitting for fact in _facts(one, target, asked, media_type)]
    etag = contents.entity_tag("parts", *facts)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    boundary = etag.strip('"')
    fitted = replace(target, entries=fitting)
    pictures = _each(deps.parts(request), fitted, asked, media_type)
    root = deps.dicomweb_url(request)
    parts = (_part(root, *one, media_type) for one in _at_least_one(pictures))
    return contents.streamed(
        multipart.write(parts, boundary),
        None,
        multipart.content_type(media_type, boundary),
        contents.validators(etag),
    )


def _each(
    parts: Parts, target: Target, asked: Options, media_type: str
) -> Iterator[tuple[Entry, int, bytes]]:
    for entry in target.entries:
        count = max(1, entry.stored.number_of_frames)
        for number in target.numbers or representations.referred(target.presentation, entry, count):
            one = replace(target, numbers=(number,))
            try:
                yield entry, number, _made(parts, entry, one, asked, media_type)
            except (NotSupported, Outside) as reason:
                uid = entry.stored.sop_instance_uid
                log.warning("not_rendered", extra={"sop_instance_uid": uid, "reason": str(reason)})
                break


def _at_least_one(
    pictures: Iterator[tuple[Entry, int, bytes]],
) -> Iterator[tuple[Entry, int, bytes]]:
    found = False
    for one in pictures:
        found = True
        yield one
    if not found:
        raise NotSupported("no image to render")


def _part(root: str, entry: Entry, number: int, picture: bytes, media_type: str) -> Part:
    stored = entry.stored
    place = (
        f"{root}/studies/{stored.study_instance_uid}/series/{stored.series_instance_uid}"
        f"/instances/{stored.sop_instance_uid}/frames/{number}/rendered"
    )
    return Part({"Content-Type": media_type, "Content-Location": place}, iter((picture,)))


def _facts(entry: Entry, target: Target, asked: Options, media_type: str) -> Sequence[object]:
    stored, applied = entry.stored, target.applied
    facts = stored.sop_instance_uid, stored.version, target.numbers, asked, media_type
    return (*facts, applied.version) if applied else facts


def _not_rendered(kinds: Sequence[Offer]) -> NotSupported:
    names = ", ".join(kind.media_type for kind in kinds)
    return NotSupported(f"rendered as {names}" if names else "no image to render")
