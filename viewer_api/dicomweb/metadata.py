"""WADO-RS, metadata (PS3.18 10.4.1.1.2): everything of an object but its pixels.

A series that has settled has its metadata in one object; of others each instance is read.
Either text has a token in place of the root of its URLs, which depends on who asks; with
the root in it, it is kept for the next one who asks from there. XML is made of
the JSON. Corrections that live in the index set ``changed_at`` of the series; they are in the
text where it is made (`pacs.series_metadata.instance_json`).
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from pacs import dicom_json, dicom_xml, retrieve, series_metadata
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents, models
from viewer_api.media import Offer
from viewer_api.places import Series

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

AT_ONCE: Final = 1000
"""Up to so many objects are read before the answer begins, so that trouble has a status."""
GZIP_WINDOW: Final = 31
"""15 bits, and 16 for the gzip format (zlib manual, deflateInit2)."""

_TOKEN: Final = series_metadata.new_token()
"""In texts that this process made itself."""


@router.get("/studies/{study}/metadata")
def metadata_of_study(request: Request, study: str) -> Response:
    """Retrieve the metadata of every instance of a study."""
    return _answer(request, deps.parts(request).places.of_study(study))


@router.get("/studies/{study}/series/{series}/metadata")
def metadata_of_series(request: Request, study: str, series: str) -> Response:
    """Retrieve the metadata of every instance of a series."""
    return _answer(request, [deps.parts(request).places.of_series(study, series)])


@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def metadata_of_instance(request: Request, study: str, series: str, instance: str) -> Response:
    """Retrieve the metadata of one instance."""
    entry = deps.parts(request).places.of_instance(study, series, instance)
    return _answer(request, [Series([entry])])


def _answer(request: Request, found: Sequence[Series]) -> Response:
    alone = sum(len(series.entries) for series in found) == 1
    chosen = models.offer(request, "metadata are", models.ALONE if alone else models.OFFERS)
    zipped = media.takes_gzip(request.headers.get("accept-encoding", ""))
    url = deps.dicomweb_url(request)
    prints = (series.fingerprint for series in found)
    etag = contents.entity_tag("metadata", url, zipped, chosen, *prints)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    headers = dict(contents.validators(etag))
    headers["Vary"] += ", Accept-Encoding"
    if zipped:
        headers["Content-Encoding"] = "gzip"
    parts = deps.parts(request)
    if chosen.media_type == media.DICOM_XML:
        content_type, pieces = _xml(parts, found, url, chosen, etag.strip('"'))
    elif all(series.metadata for series in found):
        body = _settled(parts, found, url, zipped=zipped)
        return Response(body, 200, headers, chosen.media_type)
    else:
        content_type, pieces = chosen.media_type, _array(_objects(parts, found, url))
    if zipped:
        pieces = _gzipped(pieces)
    if sum(len(series.entries) for series in found) <= AT_ONCE:
        return Response(b"".join(pieces), headers=headers, media_type=content_type)
    return StreamingResponse(multipart.gathered(pieces), headers=headers, media_type=content_type)


# XML is made of the JSON


def _xml(
    parts: Parts, found: Sequence[Series], url: str, chosen: Offer, boundary: str
) -> tuple[str, Iterator[bytes]]:
    """Return the Content-Type and the body: a document for each instance."""
    objects = decoded(parts, found, url)
    if not chosen.multipart:
        return media.DICOM_XML, map(dicom_xml.encode, objects)
    content_type = multipart.content_type(media.DICOM_XML, boundary)
    return content_type, models.xml_parts(objects, boundary)


def decoded(parts: Parts, found: Sequence[Series], url: str) -> Iterator[dict[str, Any]]:
    """Yield the DICOM JSON Model object of each instance."""
    root = dicom_json.encode(url)[1:-1]
    for series in found:
        if series.metadata:
            yield from msgspec.json.decode(_text(series, root))
        else:
            yield from (msgspec.json.decode(text) for text in _objects(parts, [series], url))


# Series that have settled


def _settled(parts: Parts, found: Sequence[Series], url: str, *, zipped: bool) -> bytes:
    """Return the answer of series that all have their metadata object."""
    asked = (*(series.key for series in found), url, zipped)
    answer = parts.metadata.get(asked)
    if answer is None:
        texts = (_text(series, dicom_json.encode(url)[1:-1]) for series in found)
        answer = b"[" + b",".join(text[1:-1] for text in texts) + b"]"
        if zipped:
            answer = models.zipped(answer)
        parts.metadata.put(asked, answer)
    return answer


def _text(series: Series, root: bytes) -> bytes:
    metadata = series.metadata
    return metadata.text().replace(metadata.token.encode(), root) if metadata else b"[]"


# Instances of others


def _objects(parts: Parts, found: Sequence[Series], url: str) -> Iterator[bytes]:
    root = dicom_json.encode(url)[1:-1]
    for series in found:
        for entry in series.entries:
            yield _object(parts, entry).replace(_TOKEN.encode(), root)


def _object(parts: Parts, entry: Entry) -> bytes:
    """Return the JSON of one instance with our token in place of the root."""
    stored = entry.stored
    place = stored.object_key, stored.dataset_offset, stored.correction
    text = parts.metadata.get(place)
    if text is None:
        start = retrieve.header_bytes(parts.store, stored)
        text = series_metadata.instance_json(start, stored, _TOKEN)
        parts.metadata.put(place, text)
    return text


def _array(objects: Iterator[bytes]) -> Iterator[bytes]:
    yield b"["
    yield next(objects, b"")
    for text in objects:
        yield b","
        yield text
    yield b"]"


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(models.GZIP_LEVEL, wbits=GZIP_WINDOW)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()
