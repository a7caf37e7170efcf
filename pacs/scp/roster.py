"""Who is connected: counted against the limits, and found again when we stop."""

import threading
import time
from collections import Counter
from collections.abc import Callable

from pacs.scp.limits import Limits
from pacs.upper_layer.connection import Connection

IdleSince = Callable[[], float | None]
"""When an association began to wait for a request (monotonic clock); None while it serves one."""


class Roster:
    """The connections of one listener: those that wait for an association, and those that have one.

    Connections that only wait are no reason to refuse anybody: when there are too
    many, the oldest one must go.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._waiting: dict[Connection, None] = {}
        self._open: dict[Connection, tuple[str, IdleSince]] = {}
        self._by_address: Counter[str] = Counter()

    def enter(self, connection: Connection) -> None:
        """Note a new connection."""
        with self._changed:
            self._waiting[connection] = None
            if len(self._waiting) > self._limits.max_waiting:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                oldest.interrupt()

    def establish(self, connection: Connection, address: str, idle_since: IdleSince) -> bool:
        """Count an association; False when a limit is reached."""
        with self._changed:
            if (
                len(self._open) >= self._limits.max_associations
                or self._by_address[address] >= self._limits.max_associations_per_peer
            ):
                return False
            self._waiting.pop(connection, None)
            self._open[connection] = address, idle_since
            self._by_address[address] += 1
            return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection and give back what it counted for."""
        with self._changed:
            self._waiting.pop(connection, None)
            address, _ = self._open.pop(connection, ("", None))
            self._by_address[address] -= 1
            if self._by_address[address] <= 0:
                del self._by_address[address]
            self._changed.notify_all()

    def interrupt(self, quiet_s: float = 0.0) -> None:
        """End what waits; of the associations those that were idle for `quiet_s`, or all at 0."""
        now = time.monotonic()
        with self._changed:
            for connection in self._waiting:
                connection.interrupt()
            for connection, (_, idle_since) in self._open.items():
                since = idle_since()
                if not quiet_s or (since is not None and now - since >= quiet_s):
                    connection.interrupt()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Whether everybody has left within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._open or self._waiting), timeout_s)
