"""WADO-RS, bulk data (PS3.18 10.4.1.1.5): the binary values that metadata point to."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts, dicom_json, retrieve
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents, frames, metadata
from viewer_api.dicomweb.frames import Form, Source
from viewer_api.multipart import Part
from viewer_api.places import Series

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

PIXEL_DATA: Final = "7FE00010"
PIXELS: Final = frozenset({PIXEL_DATA, "7FE00008", "7FE00009"})
PIECE: Final = 1 << 20
_AS_STORED: Final = Form(multipart=True, media_type=media.OCTET_STREAM, as_stored=True)
_AS_IT_LIES: Final = frozenset(contexts.TRANSFER_SYNTAXES) - {
    contexts.EXPLICIT_VR_BIG_ENDIAN,
    contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
}
"""Binary values can be cut out of the dataset as they are; the others are converted first."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """One binary value in one or more parts, each to be read before the next."""

    values: Iterator[Iterator[bytes]]
    size: int
    """In bytes, about."""
    part_type: str


_STUDY: Final = "/studies/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"


@router.get(_STUDY + "/bulkdata")
def bulk_data_of_study(request: Request, study: str) -> Response:
    """Retrieve every binary value of a study."""
    return _every(request, deps.parts(request).places.of_study(study))


@router.get(_SERIES + "/bulkdata")
def bulk_data_of_series(request: Request, study: str, series: str) -> Response:
    """Retrieve every binary value of a series."""
    return _every(request, [deps.parts(request).places.of_series(study, series)])


@router.get(_INSTANCE + "/bulkdata")
def bulk_data_of_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Retrieve every binary value of an instance."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _every(request, [Series([entry])])


@router.get(_STUDY + "/pixeldata")
def pixel_data_of_study(request: Request, study: str) -> Response:
    """Retrieve the pixel data of a study."""
    return _every(request, deps.parts(request).places.of_study(study), PIXELS)


@router.get(_SERIES + "/pixeldata")
def pixel_data_of_series(request: Request, study: str, series: str) -> Response:
    """Retrieve the pixel data of a series."""
    return _every(request, [deps.parts(request).places.of_series(study, series)], PIXELS)


@router.get(_INSTANCE + "/pixeldata")
def pixel_data_of_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Retrieve the pixel data of an instance."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _every(request, [Series([entry])], PIXELS)


@router.get(_INSTANCE + "/bulkdata/{path:path}")
def retrieve_bulk_data(
    request: Request, study: str, series: str, instance: str, path: str
) -> Response:
    """Retrieve one binary value; compressed pixel data has a part for each frame."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    stored = entry.stored
    form = frames.form(media.accepted(request), stored.transfer_syntax_uid, 1)
    etag = contents.entity_tag(stored.sop_instance_uid, stored.dataset_sha256, path, form)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    with contents.content_of(stored):
        bulk = _bulk(deps.parts(request), entry, path.upper(), form)
        return _answer(request, bulk, form, etag)


def _answer(request: Request, bulk: Bulk, form: Form, etag: str) -> Response:
    headers = contents.validators(etag)
    if not form.multipart:
        if "range" in request.headers and bulk.size <= contents.AT_ONCE:
            return _range(request, b"".join(next(bulk.values)), bulk.part_type, etag)
        return contents.answer(next(bulk.values), bulk.size, bulk.part_type, headers)
    boundary = etag.strip('"')
    typed = {"Content-Type": bulk.part_type}
    body = multipart.write((Part(typed, one) for one in bulk.values), boundary)
    content_type = multipart.content_type(form.media_type, boundary)
    return contents.answer(body, bulk.size, content_type, headers)


def _range(request: Request, value: bytes, part_type: str, etag: str) -> Response:
    """Answer some bytes of a value (PS3.18 10.4.1.2, RFC 9110 14.2)."""
    headers = {**contents.validators(etag), "Accept-Ranges": "bytes"}
    part = contents.wanted_range(request, etag, len(value))
    if part is None:
        return Response(value, 200, headers, part_type)
    if not part:
        return contents.not_satisfiable(len(value))
    partial = contents.partial(part, len(value), headers)
    return Response(value[part.start : part.stop], 206, partial, part_type)


def _every(
    request: Request, found: Sequence[Series], tags: Collection[str] | None = None
) -> Response:
    """Answer every binary value of some instances, each with the URI that metadata have for it.

    The status is sent with the first: what cannot be given as asked goes out as stored.
    """
    accept, url = media.accepted(request), deps.dicomweb_url(request)
    entries = [entry for series in found for entry in series.entries]
    first = next(_forms(accept, entries[0]), None)
    if first is None:
        raise NotSupported(f"bulk data are served as multipart/related of {media.OCTET_STREAM}")
    prints = (series.fingerprint for series in found)
    etag = contents.entity_tag("bulk", url, accept, tags, *prints)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    boundary = etag.strip('"')
    node = deps.parts(request)
    parts = _at_least_one(_values(node, entries, url, accept, tags))
    return contents.streamed(
        multipart.write(parts, boundary),
        None,
        multipart.content_type(first.media_type, boundary),
        contents.validators(etag),
    )


def _forms(accept: str, entry: Entry) -> Iterator[Form]:
    forms = frames.forms(accept, entry.stored.transfer_syntax_uid, 1)
    return (form for form in forms if form.multipart)


def _values(
    parts: Parts, entries: Sequence[Entry], url: str, accept: str, tags: Collection[str] | None
) -> Iterator[Part | NotSupported]:
    """Yield a part for each value, or why there is none: a broken object keeps no other away."""
    for entry in entries:
        form = next(_forms(accept, entry), _AS_STORED)
        [told] = metadata.decoded(parts, [Series([entry])], url)
        for uri in _uris(told):
            path = uri.partition("/bulkdata/")[2]
            if tags is not None and path not in tags:
                continue
            try:
                with contents.content_of(entry.stored):
                    bulk = _given(parts, entry, path, form)
            except NotSupported as reason:
                yield reason
                continue
            headers = {"Content-Type": bulk.part_type, "Content-Location": uri}
            for value in bulk.values:
                yield Part(headers, value)


def _given(parts: Parts, entry: Entry, path: str, form: Form) -> Bulk:
    try:
        return _bulk(parts, entry, path, form)
    except (NotSupported, Malformed):
        return _bulk(parts, entry, path, _AS_STORED)


def _at_least_one(values: Iterator[Part | NotSupported]) -> Iterator[Part]:
    """Yield the parts; when there are none, raise why."""
    found, refusal = False, None
    for one in values:
        if isinstance(one, Part):
            found = True
            yield one
        else:
            log.warning("bulk_data_left_out", extra={"reason": str(one)})
            refusal = refusal or one
    if refusal is not None and not found:
        raise refusal


def _uris(dataset: Mapping[str, Any]) -> Iterator[str]:
    for attribute in dataset.values():
        if "BulkDataURI" in attribute:
            yield attribute["BulkDataURI"]
        elif attribute["vr"] == "SQ":
            for item in attribute.get("Value", ()):
                yield from _uris(item)


def _bulk(parts: Parts, entry: Entry, path: str, form: Form) -> Bulk:
    if path != PIXEL_DATA:
        return _value(parts, entry.stored, path, form.media_type)
    source = frames.source_of(parts, entry, form)
    part_type = f"{form.media_type}; transfer-syntax={source.transfer_syntax_uid}"
    return Bulk(_pixels(source, form), source.total, part_type)


def _pixels(source: Source, form: Form) -> Iterator[Iterator[bytes]]:
    index = source.index
    if not index.encapsulated and source.convert is None:
        return iter((_in_pieces(source),))
    if index.count > 1 and not form.multipart:
        raise NotSupported(f"{index.count} frames are served as {media.MULTIPART_RELATED} only")
    return (iter((source.frame(number),)) for number in range(1, index.count + 1))


def _in_pieces(source: Source) -> Iterator[bytes]:
    start, end = source.index.start, source.index.start + source.total
    for at in range(start, end, PIECE):
        yield source.read(at, min(PIECE, end - at))


def _value(parts: Parts, stored: StoredInstance, path: str, media_type: str) -> Bulk:
    syntax = stored.transfer_syntax_uid
    if syntax in _AS_IT_LIES:
        dataset = retrieve.header_bytes(parts.store, stored)
    else:
        syntax, dataset = retrieve.dataset_as(
            parts.store, stored, (contexts.EXPLICIT_VR_LITTLE_ENDIAN,)
        )
    found = dicom_json.bulk_data(dataset, syntax, path)
    values = [dataset[start : start + length] for start, length in found.pieces]
    return Bulk(iter((iter(values),)), sum(map(len, values)), media_type)
