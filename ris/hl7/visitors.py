"""Who is connected to the MLLP port, counted against its limits."""

import contextlib
import logging
import socket
import threading

log = logging.getLogger(__name__)


class Visitors:
    """The connections of one listener.

    Nobody is refused because others only hold connections open: when there are too many, the
    oldest one that never brought a message must go, and only then the oldest of all.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._changed = threading.Condition()
        self._silent: dict[socket.socket, str] = {}
        self._known: dict[socket.socket, str] = {}

    def __len__(self) -> int:
        return len(self._silent) + len(self._known)

    def enter(self, connection: socket.socket, address: str) -> None:
        """Note a new connection; another one may have to go for it."""
        with self._changed:
            if len(self) >= self._most:
                self._dismiss(None)
            elif self._count(address) >= self._most_per_address:
                self._dismiss(address)
            self._silent[connection] = address

    def spoke(self, connection: socket.socket) -> None:
        """Note that a connection brought a message just now."""
        with self._changed:
            address = self._silent.pop(connection, None) or self._known.pop(connection, None)
            if address is not None:
                self._known[connection] = address  # at the end: the last to go

    def leave(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._changed:
            self._silent.pop(connection, None)
            self._known.pop(connection, None)
            self._changed.notify_all()

    def interrupt(self) -> None:
        """Let no connection bring anything more."""
        with self._changed:
            for connection in (*self._silent, *self._known):
                _end(connection, socket.SHUT_RD)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Whether everybody has left within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not len(self), timeout_s)

    def _count(self, address: str) -> int:
        every = (*self._silent.values(), *self._known.values())
        return sum(one == address for one in every)

    def _dismiss(self, address: str | None) -> None:
        """End the connection that is missed least, of one address or of all."""
        for group in (self._silent, self._known):
            for connection, of in group.items():
                if address in (None, of):
                    del group[connection]
                    log.warning("hl7_connection_dismissed", extra={"address": of})
                    _end(connection, socket.SHUT_RDWR)
                    return


def _end(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        # of the socket below: a TLS connection must not go on in plain text
        socket.socket.shutdown(connection, how)
