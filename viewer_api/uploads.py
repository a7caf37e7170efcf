"""Request bodies, read in pieces by a route that runs in a thread.

A body has a size limit, a limit for each pause and a slowest average rate, and only so
many are read at a time: a client that sends drop by drop holds one place for a while.
"""

import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from anyio import from_thread
from starlette.requests import ClientDisconnect, Request

from storage.base.errors import Malformed
from viewer_api.problems import Busy, TooLarge, TooSlow

PAUSE_S: Final = 30.0
GRACE_S: Final = 60.0
SLOWEST: Final = 512
"""Bytes per second, on the average after `GRACE_S`."""


class ClientGone(Malformed):
    """The connection was closed inside the body."""


class Uploads:
    """The places for request bodies that are read at the same time."""

    def __init__(self, most: int = 16) -> None:
        self._places = threading.BoundedSemaphore(most)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place.

        Raises
        ------
        Busy
            None is free.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("every place for an upload is taken")
        try:
            yield
        finally:
            self._places.release()


def chunks(request: Request, limit: int) -> Iterator[bytes]:
    """Yield the body in the order of arrival, never more than one piece in memory.

    Raises
    ------
    TooLarge
        The body is, or says that it is, longer than `limit` bytes.
    TooSlow
        It stopped or trickles.
    ClientGone
        The client closed the connection.
    """
    declared = int(request.headers.get("content-length", "0"))
    if declared > limit:
        raise TooLarge(f"a body of {declared} bytes; at most {limit} are taken in one request")
    stream = request.stream()
    started = time.monotonic()
    received = 0
    while piece := from_thread.run(_piece, stream):
        received += len(piece)
        if received > limit:
            raise TooLarge(f"the body exceeds {limit} bytes, the most that one request may bring")
        elapsed = time.monotonic() - started
        if elapsed > GRACE_S and received < elapsed * SLOWEST:
            raise TooSlow(f"less than {SLOWEST} bytes a second on the average")
        yield piece


async def _piece(stream: AsyncGenerator[bytes, None]) -> bytes:
    """Return the next bytes, b'' at the end of the body."""
    try:
        with anyio.fail_after(PAUSE_S):
            return await anext(stream, b"")
    except TimeoutError as error:
        raise TooSlow(f"no byte of the body came for {PAUSE_S:.0f} seconds") from error
    except ClientDisconnect as error:
        raise ClientGone("the connection was closed inside the body") from error
