"""STOW-RS, the Store Transaction (PS3.18 10.5).

DICOM objects (`objects`), or metadata in JSON or XML with bulk data in parts of their own
(`assembling`); a single object also as the whole body. Either way success promises what
C-STORE promises (`receiving`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from storage.access.tokens import Action
from storage.base import values
from storage.base.errors import Malformed, NotSupported
from viewer_api import deps, media, multipart, uploads
from viewer_api.dicomweb import assembling, objects, receipts
from viewer_api.dicomweb.receipts import Receipt
from viewer_api.dicomweb.receiving import Receiving
from viewer_api.media import MediaType
from viewer_api.multipart import Part
from viewer_api.problems import UnsupportedCoding, UnsupportedMediaType

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.STORE))]
)

TAKERS: Final[Mapping[str, Callable[[Receiving, Iterator[Part]], Receipt]]] = {
    media.DICOM: objects.take,
    media.DICOM_JSON: assembling.take,
    media.DICOM_XML: assembling.take,
}
TAKEN: Final = f"multipart/related; type= one of {', '.join(TAKERS)}"


@router.post("/studies")
def store(request: Request) -> Response:
    """Store instances of any studies."""
    return _store(request, "")


@router.post("/studies/{study}")
def store_study(request: Request, study: str) -> Response:
    """Store instances of one study; those of another are refused."""
    return _store(request, values.uid(study))


def _store(request: Request, study: str) -> Response:
    chosen = media.choose(media.accepted(request), receipts.OFFERS)
    if chosen is None:
        raise NotSupported(
            f"the result of storing is served as {media.DICOM_JSON} or {media.DICOM_XML}"
        )
    kind, content_type = _content_type(request)
    parts = deps.parts(request)
    if request.headers.get("expect", "").lower() == "100-continue":
        parts.spool.room.check()  # the client waits for our word before it sends
    settings = parts.settings
    source, address = deps.caller_of(request).label, deps.address_of(request)
    receiving = Receiving(parts.spool, study, source, address, settings.max_object_bytes)
    with parts.uploads.place():
        body = uploads.chunks(request, settings.max_upload_bytes)
        receipt = TAKERS[kind](receiving, _parts(content_type, body))
    if not receipt.stored and not receipt.failed:
        raise Malformed("the body holds nothing to store")
    return receipts.answer(receipt, deps.dicomweb_url(request), chosen)


def _content_type(request: Request) -> tuple[str, MediaType]:
    """Return what the body is made of, and its Content-Type."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedCoding("a body with a Content-Encoding; send it as it is")
    try:
        content_type = media.parse(request.headers.get("content-type", ""))
    except Malformed as error:
        raise UnsupportedMediaType(f"{error}; {TAKEN} is taken") from error
    kind = content_type.essence
    if kind == media.MULTIPART_RELATED:
        kind = media.parse(content_type.parameters.get("type", media.DICOM)).essence
    if kind not in TAKERS:
        raise UnsupportedMediaType(f"{TAKEN} is taken")
    return kind, content_type


def _parts(content_type: MediaType, body: Iterator[bytes]) -> Iterator[Part]:
    if content_type.essence == media.MULTIPART_RELATED:
        boundary = multipart.boundary_of(content_type)
        return multipart.Reader(body, boundary).parts()
    return iter((Part({"content-type": content_type.essence}, body),))
