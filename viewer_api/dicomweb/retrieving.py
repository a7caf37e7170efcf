"""WADO-RS, DICOM objects (PS3.18 10.4.1, 8.7.3): studies, series and instances as Part 10 files.

As stored wherever the client takes that; else in the first transfer syntax that it
takes and to which the object can be converted. Object keys are resolved first; what is
then streamed holds no session, and memory does not grow with the study.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts, part10, retrieve, transcode
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.base.errors import NotSupported
from storage.objects.store import ObjectStore
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import archive, contents
from viewer_api.media import Offer
from viewer_api.multipart import Part
from viewer_api.places import Series

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

_CONVERTIBLE: Final = contexts.NATIVE | contexts.DECODABLE


@router.get("/studies/{study}")
def retrieve_study(request: Request, study: str) -> Response:
    """Retrieve every instance of a study."""
    found = deps.parts(request).places.of_study(study)
    return archive.answer(request, found, study) if _zip(request) else _several(request, found)


@router.get("/studies/{study}/series/{series}")
def retrieve_series(request: Request, study: str, series: str) -> Response:
    """Retrieve every instance of a series."""
    found = [deps.parts(request).places.of_series(study, series)]
    return archive.answer(request, found, series) if _zip(request) else _several(request, found)


def _zip(request: Request) -> bool:
    """Return whether the client likes a ZIP file best (PS3.18 8.7.3.7)."""
    known = [Offer(media.DICOM, multipart=True), Offer(media.DICOM), Offer(archive.ZIP)]
    chosen = media.choose(media.accepted(request), known)
    return chosen is not None and chosen.media_type == archive.ZIP


@router.get("/studies/{study}/series/{series}/instances/{instance}")
def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Retrieve one instance; as one part and as stored, also a range of its bytes."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return answer(request, entry, _form(media.accepted(request), single=True))


def answer(request: Request, entry: Entry, form: "Form") -> Response:
    """Answer one instance in the form that the client takes."""
    parts, stored = deps.parts(request), entry.stored
    _require_possible(form, [entry])
    etag = contents.entity_tag(stored.sop_instance_uid, stored.version, form)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    headers = {**contents.validators(etag), **_attachment(f"{stored.sop_instance_uid}.dcm")}
    if not form.multipart:
        if form.takes(stored.transfer_syntax_uid):
            return _file(request, entry, headers)
        sent = _object(parts.store, entry, form)
        return contents.answer(
            sent.body, sent.size, sent.headers["Content-Type"], headers, exact=True
        )
    sent = _object(parts.store, entry, form)
    boundary = etag.strip('"')
    size = sent.size + multipart.size_of(sent.headers, boundary) + len(multipart.end_of(boundary))
    return contents.answer(
        multipart.write([sent], boundary),
        size - len("\r\n"),  # no part stands before it
        multipart.content_type(media.DICOM, boundary),
        headers,
        exact=True,
    )


def _file(request: Request, entry: Entry, headers: Mapping[str, str]) -> Response:
    """Answer with the file, or a range of its bytes.

    Bytes of a part cannot be told to be right, so the whole is compared first: once, and
    then remembered.
    """
    parts, stored = deps.parts(request), entry.stored
    head = part10.head(stored.sop_class_uid, stored.sop_instance_uid, stored.transfer_syntax_uid)
    size = len(head) + retrieve.outgoing_size(parts.store, stored)
    part = contents.wanted_range(request, headers["ETag"], size)
    headers = {**headers, "Accept-Ranges": "bytes"}
    content_type = f"{media.DICOM}; transfer-syntax={stored.transfer_syntax_uid}"
    if part is None:
        body = chain((head,), _dataset(parts.store, entry))
        return contents.answer(body, size, content_type, headers, exact=True)
    if not part:
        return contents.not_satisfiable(size)
    _require_whole(parts, entry)
    pieces = chain((head[part.start : part.stop],), _bytes_of(parts.store, entry, part, len(head)))
    return contents.streamed(
        pieces, len(part), content_type, contents.partial(part, size, headers), 206
    )


def _require_whole(parts: Parts, entry: Entry) -> None:
    place = entry.stored.object_key, entry.stored.dataset_offset
    if parts.compared.get(place) is None:
        pieces = retrieve.stream_dataset(parts.store, entry.stored, entry.checksum)
        parts.compared.put(place, sum(map(len, pieces)))


def _bytes_of(store: ObjectStore, entry: Entry, part: range, before: int) -> Iterator[bytes]:
    """Yield the bytes of the dataset that lie in `part` of a file with `before` bytes of head."""
    end = part.stop - before
    for at in range(max(0, part.start - before), end, retrieve.CHUNK):
        yield retrieve.outgoing_range(store, entry.stored, at, min(retrieve.CHUNK, end - at))


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


def _require_possible(form: Form, found: Sequence[Entry]) -> None:
    """Find what certainly cannot be converted before the answer begins.

    Raises
    ------
    NotSupported
        Some instance can neither go out as stored nor be converted.
    """
    targets = set(form.syntaxes).intersection(contexts.TRANSCODE_TARGETS)
    syntaxes = {entry.stored.transfer_syntax_uid for entry in found}
    stuck = {syntax for syntax in syntaxes if not form.takes(syntax)}
    if targets:
        stuck -= _CONVERTIBLE
    if stuck:
        names = ", ".join(sorted(map(contexts.name_of, stuck)))
        raise NotSupported(
            f"stored in {names}, which cannot be converted to what is accepted; "
            "transfer-syntax=* takes it as stored"
        )


def _several(request: Request, found: Sequence[Series]) -> Response:
    form = _form(media.accepted(request), single=False)
    entries = [entry for series in found for entry in series.entries]
    _require_possible(form, entries)
    etag = contents.entity_tag("objects", form, *(series.fingerprint for series in found))
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    store = deps.parts(request).store
    boundary = etag.strip('"')
    parts = (_lenient_object(store, entry, form) for entry in entries)
    study = entries[0].stored.study_instance_uid
    return contents.streamed(
        multipart.write(parts, boundary),
        _size(entries, form, boundary),
        multipart.content_type(media.DICOM, boundary),
        {**contents.validators(etag), **_attachment(f"{study}.multipart")},
    )


def _size(entries: Sequence[Entry], form: Form, boundary: str) -> int | None:
    """Return how long a body of many parts will be, None when something is written anew."""
    total = len(multipart.end_of(boundary)) - len("\r\n")
    for entry in entries:
        stored = entry.stored
        if stored.correction or not form.takes(stored.transfer_syntax_uid):
            return None
        # a UID is padded to an even length (PS3.5 9.1)
        uid_bytes = (len(stored.sop_instance_uid) + 1) // 2 * 2
        kind = stored.sop_class_uid, stored.transfer_syntax_uid
        total += _frame_size(*kind, uid_bytes, boundary) + stored.dataset_size
    return total


@lru_cache(maxsize=512)
def _frame_size(sop_class: str, syntax: str, uid_bytes: int, boundary: str) -> int:
    """Return how many bytes go out for an instance beside its dataset."""
    headers = multipart.size_of(_part_headers(syntax), boundary)
    return headers + len(part10.head(sop_class, "0" * uid_bytes, syntax))


def _lenient_object(store: ObjectStore, entry: Entry, form: Form) -> Part:
    """Return one of many parts: one that cannot be decoded goes out as stored and says so.

    The status is long sent, and an archive that keeps back a study for one broken
    picture serves nobody.
    """
    try:
        return _object(store, entry, form)
    except NotSupported as error:
        uid, reason = entry.stored.sop_instance_uid, str(error)
        log.warning("not_converted", extra={"sop_instance_uid": uid, "reason": reason})
        return _object(store, entry, Form(form.multipart, (media.AS_STORED,)))


def _object(store: ObjectStore, entry: Entry, form: Form) -> Sized:
    """Return a Part 10 file with a fresh head: zero preamble, nothing of how it came to us."""
    stored = entry.stored
    syntax = stored.transfer_syntax_uid
    if form.takes(syntax):
        size, dataset = retrieve.outgoing_size(store, stored), _dataset(store, entry)
    else:
        with contents.content_of(stored):
            syntax, converted = retrieve.dataset_as(store, stored, form.syntaxes, lossy=True)
        size, dataset = len(converted), iter((converted,))
    uid = stored.sop_instance_uid
    if transcode.is_derived(stored.transfer_syntax_uid, syntax):
        uid = transcode.derived_uid(uid, syntax)
    head = part10.head(stored.sop_class_uid, uid, syntax)
    return Sized(_part_headers(syntax), chain((head,), dataset), len(head) + size)


def _dataset(store: ObjectStore, entry: Entry) -> Iterator[bytes]:
    """Yield the dataset in its own transfer syntax; the last piece only when the whole is right."""
    if entry.stored.dataset_size <= contents.AT_ONCE:
        return iter((retrieve.outgoing(store, entry.stored, entry.checksum),))
    return retrieve.outgoing_pieces(store, entry.stored, entry.checksum)


def _part_headers(syntax: str) -> Mapping[str, str]:
    return {"Content-Type": f"{media.DICOM}; transfer-syntax={syntax}"}
