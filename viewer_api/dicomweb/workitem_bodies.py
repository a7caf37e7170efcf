"""What requests of the worklist service bring: one dataset in JSON or XML (PS3.18 11.1.4)."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import Request

from pacs import composing, contexts, dicom_json, dicom_xml
from storage.base.errors import Malformed
from viewer_api import deps, media, uploads
from viewer_api.problems import UnsupportedCoding, UnsupportedMediaType

Json = Mapping[str, Any]

MAX_BYTES: Final = 4 << 20
TAKEN: Final = (media.DICOM_JSON, media.JSON, media.DICOM_XML)


def read(request: Request) -> Json:
    """Return the dataset of a body, every value as its VR has it.

    Raises
    ------
    UnsupportedMediaType
        It is neither JSON nor XML.
    Malformed
        It is no dataset, or more than one.
    """
    found = read_optional(request)
    if found is None:
        raise Malformed("the body holds no dataset")
    return found


def read_optional(request: Request) -> Json | None:
    """Return the dataset of a body, None when there is no body.

    Raises
    ------
    UnsupportedMediaType, Malformed
        As `read`.
    """
    with deps.parts(request).uploads.place():
        body = b"".join(uploads.chunks(request, MAX_BYTES))
    if not body:
        return None
    found = dicom_xml.decode(body) if _kind(request) == media.DICOM_XML else _object(body)
    return _as_encoded(found)


def _kind(request: Request) -> str:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedCoding("a body with a Content-Encoding; send it as it is")
    taken = f"a workitem is taken as {', '.join(TAKEN)}"
    try:
        kind = media.parse(request.headers.get("content-type", "")).essence
    except Malformed as error:
        raise UnsupportedMediaType(taken) from error
    if kind not in TAKEN:
        raise UnsupportedMediaType(taken)
    return kind


def _object(body: bytes) -> Json:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed("the body is not JSON") from error
    if isinstance(found, list) and len(found) == 1:
        [found] = found
    if not isinstance(found, dict):
        raise Malformed("the body is not one object of the DICOM JSON Model")
    return found


def _as_encoded(found: Json) -> Json:
    """Return what the dataset is once it was encoded: what is no value of its VR is refused."""
    syntax = contexts.EXPLICIT_VR_LITTLE_ENDIAN
    dataset = b"".join(composing.compose(found, {}))
    return dicom_json.dataset_json(dataset, syntax, _no_bulk_data)


def _no_bulk_data(path: str) -> str:
    raise Malformed(f"({path[:8]}): a binary value too long for a workitem")
