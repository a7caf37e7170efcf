"""Runs the HTTP interface in this process: uvicorn on a socket for each of our two origins.

stop is set ─ not ready ─ no new connections ─ open requests finish ─ return
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pacs import decoding, drawing
from storage.access import station_users
from storage.access.sealing import seal_of
from storage.base.errors import StoreUnavailable, Unavailable
from storage.base.settings import Settings
from storage.db.engine import Engine, transaction
from storage.objects.store import ObjectStore
from storage.spool import Spool
from viewer_api import app as http_app

log = logging.getLogger(__name__)

DRAIN_S: Final = 15
"""How long open requests may take to finish after a stop; below the supervisor's patience."""
NOTICE_S: Final = 0.2
"""Between "not ready" and the end of new connections, for balancers to notice."""
KEEP_ALIVE_S: Final = 20
HEAD_S: Final = 15.0
"""Within this a request must have sent its headers."""
PING_S: Final = 20.0
"""A WebSocket whose client does not answer a ping in that time is gone."""
MAX_HEAD: Final = 64 << 10
MAX_CONNECTIONS: Final = 2000
BACKLOG: Final = 2048


def serve(
    settings: Settings,
    engine: Engine,
    store: ObjectStore,
    spool: Spool,
    probes: Mapping[str, Callable[[], None]],
    stop: threading.Event,
) -> None:
    """Answer HTTP on the address of `settings` until `stop` is set.

    Raises
    ------
    StoreUnavailable
        The address cannot be bound.
    """
    _seal_secrets(settings, engine)
    pages = http_app.create(settings, engine, store, spool, probes, stop)
    apps: dict[int, ASGIApp] = {settings.http_port: pages}
    if settings.viewer_port:
        apps[settings.viewer_port] = http_app.create_viewer(pages)
    shared = settings.http_processes != 1
    with ExitStack() as opened:
        opened.callback(decoding.close_shared)
        opened.callback(drawing.close_shared)
        listeners = [
            opened.enter_context(listen(settings.bind, port, share_port=shared)) for port in apps
        ]
        run(http_app.ByPort(apps), listeners, stop)


def _seal_secrets(settings: Settings, engine: Engine) -> None:
    """Seal the secrets that lie open in the database, from before they were sealed."""
    try:
        with transaction(engine) as session:
            count = station_users.count_unsealed(session)
            if count:
                key = settings.sealing_key.get_secret_value()
                station_users.seal_all(session, seal_of(settings.secrets_dir, key))
                log.info("secrets_sealed", extra={"count": count})
    except Unavailable as error:
        log.warning("secrets_not_sealed", extra={"reason": str(error)})


def listen(host: str, port: int, *, share_port: bool = False) -> socket.socket:
    """Return a listening socket; `port` 0 takes any free one.

    With `share_port` the kernel spreads connections over all processes that listen so.

    Raises
    ------
    StoreUnavailable
        The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=BACKLOG, reuse_port=share_port
        )
    except OSError as error:
        raise StoreUnavailable(f"HTTP at {host} port {port}: {error.strerror}") from error


def run(app: ASGIApp, listeners: Sequence[socket.socket], stop: threading.Event) -> None:
    """Answer on `listeners` until `stop` is set and open requests are finished."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_Protocol,
        ws=_Channel,
        ws_max_size=MAX_HEAD,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        proxy_headers=False,  # read where URLs are made; the peer's address stays what it is
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config)
    ended = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(server, stop, ended), name="http-stop", daemon=True
    )
    watcher.start()
    for listener in listeners:
        host, port, *_ = listener.getsockname()
        log.info("http_listening", extra={"address": host, "port": port})
    try:
        server.run([*listeners])
    finally:
        ended.set()
        watcher.join()
    log.info("http_stopped")


def _watch(server: uvicorn.Server, stop: threading.Event, ended: threading.Event) -> None:
    while not stop.wait(0.5):
        if ended.is_set():
            return
    ended.wait(NOTICE_S)
    server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves the signals to those who made `stop`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Channel(WebSocketsSansIOProtocol):
    """Keeps query strings out of the log, and ends a client that stopped reading."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the parent has it
        super().__init__(*args, **kwargs)
        self.logger = logging.getLogger("uvicorn.access")

    def keepalive_timeout(self) -> None:
        """Drop what the client did not read: to wait for it would take for ever."""
        super().keepalive_timeout()
        self.transport.abort()


class _Protocol(HttpToolsProtocol):
    """Bounds what a client may send before its request is complete enough to be judged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the parent has it
        super().__init__(*args, **kwargs)
        self.access_log = False  # ours has no query strings
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._head_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a head that does not end."""
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD + len(data):
                self.send_400_response("The headers are too long.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the clock of the next request."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Stop the clock: the rest is for the app to judge."""
        self._head_complete()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _head_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
