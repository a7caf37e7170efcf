"""WADO-RS, bulk data (PS3.18 10.4.1.1.5): the binary values that metadata point to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import contexts, dicom_json, retrieve
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.archive.model import StoredInstance
from storage.base.errors import NotSupported
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents, frames
from viewer_api.dicomweb.frames import Form, Source
from viewer_api.multipart import Part

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

PIXEL_DATA: Final = "7FE00010"
PIECE: Final = 1 << 20
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


@router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path:path}")
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
        return _answer(bulk, form, etag)


def _answer(bulk: Bulk, form: Form, etag: str) -> Response:
    headers = contents.validators(etag)
    if not form.multipart:
        return contents.answer(next(bulk.values), bulk.size, bulk.part_type, headers)
    boundary = etag.strip('"')
    typed = {"Content-Type": bulk.part_type}
    body = multipart.write((Part(typed, one) for one in bulk.values), boundary)
    content_type = multipart.content_type(form.media_type, boundary)
    return contents.answer(body, bulk.size, content_type, headers)


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
