"""The listening sockets and a thread per connection.

    accept ─ thread ─ (TLS) ─ A-ASSOCIATE-RQ within 5 s ─┬─ A-ASSOCIATE-RJ
                                                         └─ A-ASSOCIATE-AC ─ requests … ─ release

Every thread reads its own blocking socket with a time-out, so a peer that is
silent, slow or hostile costs one sleeping thread. There is no reactor, no
polling and no `select`: idle associations take no time, and descriptors may have any number.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pacs.scp.acceptor import Acceptance, Acceptor
from pacs.scp.limits import Limits
from pacs.scp.metrics import Metrics
from pacs.scp.roster import Roster
from pacs.upper_layer.connection import Connection, Timeouts
from pacs.upper_layer.secure import TlsConnection
from storage.base.errors import StoreUnavailable
from storage.base.tls import ServerTls

log = logging.getLogger(__name__)

BACKLOG: Final = 512
_PAUSE_S: Final = 0.1
_QUIET_S: Final = 1.0
"""An association that is idle for so long is not in the middle of a series, when we stop."""


_Connect = Callable[[socket.socket, Timeouts], Connection]


@dataclass(frozen=True, slots=True)
class TlsPort:
    """Where associations come in TLS."""

    address: tuple[str, int]
    """Host and port; port 0 takes a free one."""
    tls: ServerTls


class Listener:
    """Accepts associations on one address, and inside TLS on another, until it is stopped.

    Parameters
    ----------
    address
        Host and port; port 0 takes a free one.
    tls
        The second address, if any; the limits hold for both together.
    share_port
        Let several processes listen on the same port (``SO_REUSEPORT``).

    Raises
    ------
    StoreUnavailable
        The address cannot be listened on.
    """

    def __init__(
        self,
        address: tuple[str, int],
        acceptance: Acceptance,
        limits: Limits,
        metrics: Metrics,
        *,
        tls: TlsPort | None = None,
        share_port: bool = False,
    ) -> None:
        self._roster = Roster(limits)
        self._acceptor = Acceptor(acceptance, limits, metrics, self._roster)
        self._timeouts = limits.timeouts
        self._stopping = False
        doors: list[tuple[socket.socket, _Connect]] = []
        try:
            doors.append((_listen(address, share_port=share_port), Connection))
            if tls is not None:
                doors.append((_listen(tls.address, share_port=share_port), _inside(tls.tls)))
        except StoreUnavailable:
            for listening, _ in doors:
                listening.close()
            raise
        self._sockets = [listening for listening, _ in doors]
        self.port, *tls_port = (int(each.getsockname()[1]) for each in self._sockets)
        """The port that is listened on."""
        self.tls_port = tls_port[0] if tls_port else None
        """The port for TLS, None when there is none."""
        self._threads = [
            threading.Thread(target=self._accept, args=door, name="dicom-accept", daemon=True)
            for door in doors
        ]

    def start(self) -> None:
        """Begin to accept."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept nobody any more, let associations finish for `grace_s`, then abort them."""
        self._stopping = True
        for listening, thread in zip(self._sockets, self._threads, strict=True):
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            listening.close()
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            if self._roster.wait_until_empty(_PAUSE_S):
                return
            self._roster.interrupt(_QUIET_S)
        self._roster.interrupt()
        self._roster.wait_until_empty(_QUIET_S)

    def _accept(self, listening: socket.socket, connect: _Connect) -> None:
        while not self._stopping:
            try:
                accepted, (address, *_) = listening.accept()
                self._begin(accepted, address, connect)
            except (OSError, RuntimeError) as error:  # no descriptor or no thread is free
                if not self._stopping:
                    log.warning("accept_failed", extra={"reason": str(error)})
                    time.sleep(_PAUSE_S)

    def _begin(self, accepted: socket.socket, address: str, connect: _Connect) -> None:
        try:
            connection = connect(accepted, self._timeouts)
            thread = threading.Thread(
                target=self._acceptor.converse,
                args=(connection, address),
                name=f"dicom-{address}",
                daemon=True,
            )
            self._roster.enter(connection)
            thread.start()
        except (OSError, RuntimeError):
            accepted.close()
            raise


def _inside(tls: ServerTls) -> _Connect:
    return lambda accepted, timeouts: TlsConnection(accepted, timeouts, tls.context())


def _listen(address: tuple[str, int], *, share_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StoreUnavailable(f"DICOM port {address[0]}:{address[1]}: {error.strerror}") from error
    return listening
