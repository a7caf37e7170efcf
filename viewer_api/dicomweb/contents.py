"""How stored content is answered: conditional headers, ranges, in one go or piece by piece."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Final

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from pacs.render.options import Outside
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported
from viewer_api import media, multipart, problems

AT_ONCE: Final = 8 << 20
"""Up to so many bytes are read before the answer begins, so that trouble has a status."""
IMMUTABLE: Final = "private, no-cache"
"""What is stored never changes, but who may see it does: keep it and ask every time."""

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


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
    except Outside:
        raise
    except Malformed as fault:
        raise NotSupported(f"SOP Instance {stored.sop_instance_uid}: {fault}") from fault


def entity_tag(*facts: object) -> str:
    """Return a strong ETag for a representation that follows from `facts` (RFC 9110 8.8.3)."""
    text = "\n".join(map(str, facts))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def not_modified(request: Request, etag: str) -> Response | None:
    """Return 304 if the client has the representation already (RFC 9110 13.1.2)."""
    held = request.headers.get("if-none-match", "")
    return Response(status_code=304, headers=validators(etag)) if media.names(held, etag) else None


def validators(etag: str) -> Mapping[str, str]:
    """Return the headers by which a representation is kept and asked for again."""
    return {"ETag": etag, "Cache-Control": IMMUTABLE, "Vary": "Accept, Authorization"}


def wanted_range(request: Request, etag: str, size: int) -> range | None:
    """Return which bytes of `size` the client asks for, None for all (RFC 9110 14.2).

    Several ranges, and one of another representation (If-Range), mean all. An empty range
    is one that cannot be satisfied.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not match or not any(match.groups()) or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < int(first):
        return None
    return range(int(first), end)


def partial(part: range, size: int, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return `headers` with those of an answer of some bytes."""
    return {**headers, "Content-Range": f"bytes {part.start}-{part.stop - 1}/{size}"}


def not_satisfiable(size: int) -> Response:
    """Answer a range that lies behind the end (RFC 9110 15.5.17)."""
    headers = {"Content-Range": f"bytes */{size}"}
    return problems.problem(416, "RangeNotSatisfiable", f"there are {size} bytes", headers)


class Assembled(Response):
    """A body of several pieces that are at hand: they go out as they are, never joined."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        content_type: str,
        headers: Mapping[str, str],
        status_code: int = 200,
    ) -> None:
        self._pieces = pieces
        length = {"Content-Length": str(sum(map(len, pieces)))}
        super().__init__(None, status_code, {**headers, **length}, content_type)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


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
        return Assembled([*pieces], content_type, headers)
    return streamed(pieces, size if exact else None, content_type, headers)


def streamed(
    pieces: Iterator[bytes],
    size: int | None,
    content_type: str,
    headers: Mapping[str, str],
    status_code: int = 200,
) -> Response:
    """Answer piece by piece with constant memory; trouble with the first ones has a status."""
    groups = multipart.grouped(pieces)
    first = next(groups, ())
    length = {} if size is None else {"Content-Length": str(size)}
    body = _ahead(chain((first,), groups))
    return StreamingResponse(body, status_code, {**headers, **length}, content_type)


async def _ahead(groups: Iterator[Sequence[bytes]]) -> AsyncIterator[bytes]:
    """Yield the pieces of all groups; while one is sent, a thread reads the next."""
    coming = asyncio.ensure_future(run_in_threadpool(next, groups, None))
    try:
        while (group := await coming) is not None:
            coming = asyncio.ensure_future(run_in_threadpool(next, groups, None))
            for piece in group:
                yield piece
    finally:
        coming.add_done_callback(_forget)


def _forget(coming: asyncio.Future[Sequence[bytes] | None]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not coming.cancelled():
        coming.exception()
