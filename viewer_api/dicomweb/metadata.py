"""WADO-RS, metadata (PS3.18 10.4.1.1.2, Annex F): everything of an object but its pixels.

The JSON of an object never changes, so it is made once and kept, with a token in
place of the root of its URLs: that one depends on who asks.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from pacs import contexts, dicom_json, retrieve
from storage.access.tokens import Action
from storage.archive.model import StoredInstance
from storage.base.errors import NotSupported
from viewer_api import deps, media, multipart
from viewer_api.deps import Parts
from viewer_api.dicomweb import contents

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

OFFERS: Final = (media.DICOM_JSON, media.JSON)
AT_ONCE: Final = 1000
"""Up to so many objects are read before the answer begins, so that trouble has a status."""
GZIP_LEVEL: Final = 1
GZIP_WINDOW: Final = 31
"""15 bits, and 16 for the gzip format (zlib manual, deflateInit2)."""

_ROOT: Final = f"root-{uuid4().hex}"
_PIXEL_DATA: Final = "7FE00010"
_BITS_STORED: Final = "00280101"
"""There with integer pixels only (PS3.3 C.7.6.3, C.7.6.24)."""


@router.get("/studies/{study}/metadata")
def study_metadata(request: Request, study: str) -> Response:
    """Retrieve the metadata of every instance of a study."""
    return _answer(request, deps.parts(request).places.under(study))


@router.get("/studies/{study}/series/{series}/metadata")
def series_metadata(request: Request, study: str, series: str) -> Response:
    """Retrieve the metadata of every instance of a series."""
    return _answer(request, deps.parts(request).places.of_series(study, series))


@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def instance_metadata(request: Request, study: str, series: str, instance: str) -> Response:
    """Retrieve the metadata of one instance."""
    return _answer(request, [deps.parts(request).places.of_instance(study, series, instance)])


def _answer(request: Request, found: Sequence[StoredInstance]) -> Response:
    media_type = media.best(media.accepted(request), OFFERS)
    if media_type is None:
        raise NotSupported(f"metadata are served as {' or '.join(OFFERS)}")
    zipped = media.takes_gzip(request.headers.get("accept-encoding", ""))
    hashes = (stored.dataset_sha256 for stored in found)
    url = deps.dicomweb_url(request)
    etag = contents.entity_tag("metadata", url, zipped, media_type, *hashes)
    if unchanged := contents.not_modified(request, etag):
        return unchanged
    headers = dict(contents.validators(etag))
    headers["Vary"] += ", Accept-Encoding"
    pieces: Iterable[bytes] = _array(_objects(deps.parts(request), found, url))
    if zipped:
        headers["Content-Encoding"] = "gzip"
        pieces = _gzipped(pieces)
    if len(found) <= AT_ONCE:
        return Response(b"".join(pieces), headers=headers, media_type=media_type)
    return StreamingResponse(multipart.gathered(pieces), headers=headers, media_type=media_type)


def _objects(parts: Parts, found: Sequence[StoredInstance], url: str) -> Iterator[bytes]:
    token = _ROOT.encode()
    root = dicom_json.encode(url)[1:-1]
    for stored in found:
        text = parts.metadata.get(stored.object_key)
        if text is None:
            text = _text(parts, stored)
            parts.metadata.put(stored.object_key, text)
        yield text.replace(token, root)


def _text(parts: Parts, stored: StoredInstance) -> bytes:
    start = retrieve.header_bytes(parts.store, stored)
    uids = stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    base = "{}/studies/{}/series/{}/instances/{}/bulkdata".format(_ROOT, *uids)
    made = dicom_json.dataset_json(start, stored.transfer_syntax_uid, lambda path: f"{base}/{path}")
    made["00083002"] = {"vr": "UI", "Value": [stored.transfer_syntax_uid]}
    if len(start) < stored.dataset_size and _BITS_STORED in made and _PIXEL_DATA not in made:
        vr = "OB" if contexts.is_encapsulated(stored.transfer_syntax_uid) else "OW"
        made[_PIXEL_DATA] = {"vr": vr, "BulkDataURI": f"{base}/{_PIXEL_DATA}"}
    return dicom_json.encode(dict(sorted(made.items())))


def _array(objects: Iterator[bytes]) -> Iterator[bytes]:
    yield b"["
    yield next(objects, b"")
    for text in objects:
        yield b","
        yield text
    yield b"]"


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_WINDOW)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()
