"""Objects of the DICOM JSON Model as answers, in JSON or in XML (PS3.18 8.7.3.4, 8.7.3.5).

JSON is one array. XML is a Native DICOM Model (PS3.19 A.1) for each object, in a part of its
own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import imagecodecs
import msgspec
from fastapi import Request
from fastapi.responses import Response

from pacs import dicom_xml
from storage.base.errors import NotSupported
from viewer_api import media, multipart
from viewer_api.media import Offer
from viewer_api.multipart import Part

Json = Mapping[str, Any]

OFFERS: Final = (
    Offer(media.DICOM_JSON),
    Offer(media.JSON),
    Offer(media.DICOM_XML, multipart=True),
)
ALONE: Final = (*OFFERS, Offer(media.DICOM_XML))
"""Of what is one object."""
GZIP_LEVEL: Final = 1
SMALL: Final = 1400
"""Bytes that fit in one packet: smaller ones would travel no faster."""

_SAID: Final = f'{media.DICOM_JSON} or multipart/related; type="{media.DICOM_XML}"'


def offer(request: Request, what: str, offers: Sequence[Offer] = OFFERS) -> Offer:
    """Return the model and shape that the client likes most.

    Raises
    ------
    NotSupported
        It takes none of them.
    """
    chosen = media.choose(media.accepted(request), offers)
    if chosen is None:
        raise NotSupported(f"{what} served as {_SAID}")
    return chosen


def answer(
    request: Request, chosen: Offer, objects: Sequence[Json], headers: Mapping[str, str]
) -> Response:
    """Answer objects that are at hand."""
    content_type = chosen.media_type
    if chosen.multipart:
        boundary = uuid4().hex
        body = b"".join(xml_parts(objects, boundary))
        content_type = multipart.content_type(media.DICOM_XML, boundary)
    elif chosen.media_type == media.DICOM_XML:
        [alone] = objects
        body = dicom_xml.encode(alone)
    else:
        body = msgspec.json.encode(objects)
    given = {"Vary": "Accept, Accept-Encoding", **headers}
    if len(body) > SMALL and media.takes_gzip(request.headers.get("accept-encoding", "")):
        body, given["Content-Encoding"] = zipped(body), "gzip"
    return Response(body, 200, given, content_type)


def xml_parts(objects: Iterable[Json], boundary: str) -> Iterator[bytes]:
    """Yield a multipart body with an XML document for each object."""
    typed = {"Content-Type": media.DICOM_XML}
    parts = (Part(typed, iter((dicom_xml.encode(one),))) for one in objects)
    return multipart.write(parts, boundary)


def zipped(body: bytes) -> bytes:
    """Return a gzip stream, in a third of the time of zlib."""
    return bytes(imagecodecs.gzip_encode(body, GZIP_LEVEL))
