"""What other processes say with NOTIFY, on this machine or another.

One thread holds one connection beside the pool, from the first waiter on. A notice may be
lost, when that connection is: then every waiter is woken, and looks for itself.
"""

import logging
import select
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from storage.base.errors import StoreUnavailable
from storage.db.engine import Engine, database_errors

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0
"""Between a connection that was lost and the next."""
TICK_MS: Final = 500

Wake = Callable[[], None]
"""Called in the thread of the notices; must not block."""


class Notices:
    """The notices of one channel; `stop` ends its thread."""

    def __init__(self, engine: Engine, channel: str, stop: threading.Event) -> None:
        self._engine = engine
        self._channel = channel
        self._stop = stop
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, list[Wake]] = defaultdict(list)
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting(self, payload: str, wake: Wake) -> Iterator[None]:
        """Have `wake` called at every notice with that payload while the block lasts."""
        with self._lock:
            self._waiters[payload].append(wake)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._waiters[payload].remove(wake)
                if not self._waiters[payload]:
                    del self._waiters[payload]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (StoreUnavailable, psycopg.Error, OSError) as error:
                log.warning("notices_wait", extra={"reason": type(error).__name__})
            except Exception:
                log.exception("notices_failed")
            self._wake(None)
            self._stop.wait(PAUSE_S)

    def _listen(self) -> None:
        with database_errors():
            pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()  # the pool opens another in its place
        with closing(connection):
            connection.autocommit = True
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._wake(None)  # for what was said before
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            while not self._stop.is_set():
                if poll.poll(TICK_MS):
                    connection.pgconn.consume_input()
                    while (notice := connection.pgconn.notifies()) is not None:
                        self._wake(notice.extra.decode("utf-8", "replace"))

    def _wake(self, payload: str | None) -> None:
        with self._lock:
            if payload is None:
                wakes = [wake for several in self._waiters.values() for wake in several]
            else:
                wakes = [*self._waiters.get(payload, ())]
        for wake in wakes:
            wake()
