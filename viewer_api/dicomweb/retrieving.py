"""WADO-RS, DICOM objects (PS3.18 10.4.1, 8.7.3): studies, series and instances as Part 10 files.

As stored wherever the client takes that; else in the first transfer syntax that it
takes and to which the object can be converted. Object keys are resolved first; what is
then streamed holds no session, and memory does not grow with the study.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from pacs import contexts, part10, retrieve
from storage.access.tokens import Action
from storage.archive.model import StoredInstance
from storage.base.errors import NotSupported
from storage.objects.store import ObjectStore
from viewer_api import deps, media, multipart
from viewer_api.dicomweb import contents
from viewer_api.multipart import Part

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

_CONVERTIBLE: Final = contexts.NATIVE | contexts.DECODABLE


@router.get("/studies/{study}")
def retrieve_study(request: Request, study: str) -> Response:
    """Retrieve every instance of a study."""
    return _several(request, deps.parts(request).places.under(study))


@router.get("/studies/{study}/series/{series}")
def retrieve_series(request: Request, study: str, series: str) -> Response:
    """Retrieve every instance of a series."""
    return _several(request, deps.parts(request).places.of_series(study, series))


@router.get("/studies/{study}/series/{series}/instances/{instance}")
def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Retrieve one instance."""
    stored = deps.parts(request).places.of_instance(study, series, instance)
    form = _form(media.accepted(request), single=True)
    _require_possible(form, [stored])
    etag = contents.entity_tag(stored.sop_instance_uid, stored.dataset_sha256, form)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    sent = _object(deps.parts(request).store, stored, form)
    headers = {**contents.validators(etag), **_attachment(f"{stored.sop_instance_uid}.dcm")}
    if not form.multipart:
        return contents.answer(
            sent.body, sent.size, sent.headers["Content-Type"], headers, exact=True
        )
    boundary = etag.strip('"')
    frame = b"".join(multipart.write([Part(sent.headers, iter(()))], boundary))
    return contents.answer(
        multipart.write([sent], boundary),
        sent.size + len(frame),
        multipart.content_type(media.DICOM, boundary),
        headers,
        exact=True,
    )


@dataclass(frozen=True, slots=True)
class Sized(Part):
    """A part that knows how long its body is, in bytes."""

    size: int


def _attachment(name: str) -> Mapping[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


@dataclass(frozen=True, slots=True)
class Form:
    """How the client takes objects."""

    multipart: bool
    syntaxes: tuple[str, ...]
    """Transfer syntaxes that it takes; `media.AS_STORED` for any."""

    def takes(self, syntax: str) -> bool:
        """Whether an object stored in `syntax` can go out as it is."""
        return media.AS_STORED in self.syntaxes or syntax in self.syntaxes


def _form(accept: str, *, single: bool) -> Form:
    """Read an Accept value; `single` when one part alone will do.

    Without a transfer-syntax, ``application/dicom`` means Explicit VR Little Endian
    (PS3.18 8.7.3.5.2), while ``*/*`` takes what is stored.

    Raises
    ------
    NotSupported
        Nothing in it is a DICOM object.
    """
    fitting = [
        wish
        for wish in media.wishes(accept)
        if wish.takes(media.DICOM) and (single or wish.multipart is not False)
    ]
    if not fitting:
        raise NotSupported(f'DICOM objects are served as multipart/related; type="{media.DICOM}"')
    in_parts = fitting[0].multipart is not False
    syntaxes = tuple(_syntax(wish) for wish in fitting if wish.multipart in {None, in_parts})
    return Form(in_parts, tuple(dict.fromkeys(syntaxes)))


def _syntax(wish: media.Wish) -> str:
    if wish.transfer_syntax:
        return wish.transfer_syntax
    return media.AS_STORED if wish.media_type == media.ANY else contexts.EXPLICIT_VR_LITTLE_ENDIAN


def _require_possible(form: Form, found: Sequence[StoredInstance]) -> None:
    """Find what certainly cannot be converted before the answer begins.

    Raises
    ------
    NotSupported
        Some instance can neither go out as stored nor be converted.
    """
    targets = set(form.syntaxes).intersection(contexts.TRANSCODE_TARGETS)
    stuck = {one.transfer_syntax_uid for one in found if not form.takes(one.transfer_syntax_uid)}
    if targets:
        stuck -= _CONVERTIBLE
    if stuck:
        names = ", ".join(sorted(map(contexts.name_of, stuck)))
        raise NotSupported(
            f"stored in {names}, which cannot be converted to what is accepted; "
            "transfer-syntax=* takes it as stored"
        )


def _several(request: Request, found: Sequence[StoredInstance]) -> Response:
    form = _form(media.accepted(request), single=False)
    _require_possible(form, found)
    store = deps.parts(request).store
    boundary = multipart.new_boundary()
    parts = (_lenient_object(store, stored, form) for stored in found)
    return StreamingResponse(
        multipart.gathered(multipart.write(parts, boundary)),
        headers=_attachment(f"{found[0].study_instance_uid}.multipart"),
        media_type=multipart.content_type(media.DICOM, boundary),
    )


def _lenient_object(store: ObjectStore, stored: StoredInstance, form: Form) -> Part:
    """Return one of many parts: one that cannot be decoded goes out as stored and says so.

    The status is long sent, and an archive that keeps back a study for one broken
    picture serves nobody.
    """
    try:
        return _object(store, stored, form)
    except NotSupported as error:
        uid, reason = stored.sop_instance_uid, str(error)
        log.warning("not_converted", extra={"sop_instance_uid": uid, "reason": reason})
        return _object(store, stored, Form(form.multipart, (media.AS_STORED,)))


def _object(store: ObjectStore, stored: StoredInstance, form: Form) -> Sized:
    """Return a Part 10 file with a fresh head: zero preamble, nothing of how it came to us."""
    syntax, size = stored.transfer_syntax_uid, stored.dataset_size
    if not form.takes(syntax):
        with contents.content_of(stored):
            syntax, converted = retrieve.dataset_as(store, stored, form.syntaxes)
        size, dataset = len(converted), iter((converted,))
    elif size <= contents.AT_ONCE:
        dataset = iter((retrieve.read_dataset(store, stored),))
    else:
        dataset = retrieve.stream_dataset(store, stored)
    head = part10.head(stored.sop_class_uid, stored.sop_instance_uid, syntax)
    headers = {"Content-Type": f"{media.DICOM}; transfer-syntax={syntax}"}
    return Sized(headers, chain((head,), dataset), len(head) + size)
