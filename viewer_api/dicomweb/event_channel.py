"""The event channel of UPS-RS: a WebSocket on which events come (PS3.18 8.10.4, 8.10.5, 11.13).

An event is sent when it happened after the channel was opened; what a watcher missed while it
had no channel is not sent again. Each channel reads the rows of its own AE title when a notice
comes, and once in a while without one, so nobody waits for a client that is slow.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ris.workitems import events, records
from ris.workitems.events import Event
from storage.access.tokens import Action
from storage.base import values
from storage.base.errors import ImagingError, NotPermitted, Unavailable
from storage.db.engine import Engine, transaction
from viewer_api import deps, problems
from viewer_api.problems import Busy

log = logging.getLogger(__name__)

PAGE: Final = 100
LOOK_S: Final = 10.0
"""So often a channel looks for events, and whether its token is still valid, without a notice."""
MOST: Final = 256
"""Channels of one process."""
PATHS: Final = (
    f"{deps.DICOMWEB}/subscribers/{{ae_title}}",
    f"{deps.DICOMWEB}/ws/subscribers/{{ae_title}}",
)
POLICY: Final = 1008
"""Close code of a client that is not permitted any more (RFC 6455 7.4.1)."""


class Channels:
    """The channels of one process."""

    def __init__(self) -> None:
        self._open: set[WebSocket] = set()

    async def serve(self, socket: WebSocket) -> None:
        """Send the events of an AE title until the client goes."""
        try:
            await deps.socket_caller(socket, Action.QUERY)
            title = values.ae_title(socket.path_params["ae_title"])
            if len(self._open) >= MOST:
                raise Busy("every event channel is taken")
            last = await run_in_threadpool(_newest, _engine(socket))
        except ImagingError as error:
            await socket.send_denial_response(problems.answer(error))
            return
        self._open.add(socket)
        try:
            await socket.accept()
            log.info("event_channel_opened", extra={"ae_title": title})
            await _until_one_ends(_listen(socket), _tell(socket, title, last))
        finally:
            self._open.discard(socket)
            log.info("event_channel_closed", extra={"ae_title": title})


def routes() -> Sequence[WebSocketRoute]:
    """Return the routes of the channels of one app."""
    channels = Channels()
    return [WebSocketRoute(path, channels.serve) for path in PATHS]


def report(event: Event, message_id: int) -> dict[str, Any]:
    """Return an event as the dataset of a frame (PS3.18 11.13, PS3.7 Table 10.1-1)."""
    command = {
        "00000002": {"vr": "UI", "Value": [records.SOP_CLASS]},
        "00000110": {"vr": "US", "Value": [message_id]},
        "00001000": {"vr": "UI", "Value": [event.sop_instance_uid]},
        "00001002": {"vr": "US", "Value": [event.event_type_id]},
    }
    return {**command, **event.content}


async def _until_one_ends(*coroutines: Any) -> None:  # noqa: ANN401
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with contextlib.suppress(WebSocketDisconnect):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(socket: WebSocket) -> None:
    """Read until the client goes; what it says means nothing."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return


async def _tell(socket: WebSocket, title: str, last: int) -> None:
    """Send what happens, from the event after number `last` on."""
    news = asyncio.Event()
    message_id = 0
    look_at = time.monotonic() + LOOK_S
    with socket.app.state.parts.notices.waiting(title, _waker(news)):
        while True:
            news.clear()
            found = await _after(_engine(socket), title, last)
            for event in found:
                message_id = message_id % 0xFFFF + 1
                await socket.send_text(msgspec.json.encode(report(event, message_id)).decode())
                last = event.id
            if not found:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), max(look_at - time.monotonic(), 0))
            if time.monotonic() >= look_at:
                if not await _is_permitted(socket):
                    await socket.close(POLICY)
                    return
                look_at = time.monotonic() + LOOK_S


def _waker(news: asyncio.Event) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(news.set)

    return wake


async def _is_permitted(socket: WebSocket) -> bool:
    try:
        await deps.socket_caller(socket, Action.QUERY)
    except NotPermitted:
        return False
    except Unavailable:  # nobody knows at the moment
        return True
    return True


async def _after(engine: Engine, title: str, last: int) -> list[Event]:
    try:
        return await run_in_threadpool(_read, engine, title, last)
    except Unavailable as error:
        log.warning("event_channel_waits", extra={"reason": str(error)})
        return []


def _read(engine: Engine, title: str, last: int) -> list[Event]:
    with transaction(engine) as session:
        return events.after(session, title, last, PAGE)


def _newest(engine: Engine) -> int:
    with transaction(engine) as session:
        return events.newest(session)


def _engine(socket: WebSocket) -> Engine:
    engine: Engine = socket.app.state.parts.engine
    return engine
