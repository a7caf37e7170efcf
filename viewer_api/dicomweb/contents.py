"""How stored content is answered: conditional headers, in one piece or streamed, its faults."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported
from viewer_api import multipart

AT_ONCE: Final = 8 << 20
"""Up to so many bytes are answered in one piece, which is several times as fast."""
IMMUTABLE: Final = "private, no-cache"
"""What is stored never changes, but who may see it does: keep it and ask every time."""


@contextmanager
def content_of(stored: StoredInstance) -> Iterator[None]:
    """Tell a fault of a stored object from a fault of the request.

    Raises
    ------
    NotSupported
        The block found the object malformed: it cannot be given in this form.
    """
    try:
        yield
    except Malformed as fault:
        raise NotSupported(f"SOP Instance {stored.sop_instance_uid}: {fault}") from fault


def entity_tag(*facts: object) -> str:
    """Return a strong ETag for a representation that follows from `facts` (RFC 9110 8.8.3)."""
    text = "\n".join(map(str, facts))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def not_modified(request: Request, etag: str) -> Response | None:
    """Return 304 if the client has the representation already (RFC 9110 13.1.2)."""
    held = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in held.split(",")}
    if etag in tags or "*" in tags:
        return Response(status_code=304, headers=validators(etag))
    return None


def validators(etag: str) -> Mapping[str, str]:
    """Return the headers by which a representation is kept and asked for again."""
    return {"ETag": etag, "Cache-Control": IMMUTABLE, "Vary": "Accept, Authorization"}


def answer(
    pieces: Iterator[bytes],
    size: int,
    content_type: str,
    headers: Mapping[str, str],
    *,
    exact: bool = False,
) -> Response:
    """Answer a body of about `size` bytes: at once if it is small, else piece by piece.

    With an `exact` size a long answer that was cut shows by its Content-Length.
    """
    if size <= AT_ONCE:
        return Response(b"".join(pieces), headers=headers, media_type=content_type)
    length = {"Content-Length": str(size)} if exact else {}
    return StreamingResponse(
        multipart.gathered(pieces), headers={**headers, **length}, media_type=content_type
    )
