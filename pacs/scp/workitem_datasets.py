"""Data sets of workitems between DIMSE and the DICOM JSON Model, in which they are held."""

from collections.abc import Mapping
from typing import Any, Final

from pacs import composing, contexts, dicom_json, transcode
from pacs.scp.exchange import Request
from storage.base.errors import Malformed

Json = Mapping[str, Any]

MAX_BYTES: Final = 4 << 20


def read(request: Request) -> Json:
    """Return the data set of a request.

    Raises
    ------
    Malformed
        There is none, it cannot be read or is too long.
    """
    data = request.identifier(MAX_BYTES)
    return dicom_json.dataset_json(data, request.context.transfer_syntax, _no_bulk_data)


def write(dataset: Json, transfer_syntax: str) -> bytes:
    """Return the encoded data set, in UTF-8."""
    encoded = b"".join(composing.compose(dataset, {}))
    return transcode.transcode(encoded, contexts.EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax)


def _no_bulk_data(path: str) -> str:
    raise Malformed(f"({path[:8]}): a binary value too long for a workitem")
