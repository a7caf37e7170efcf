"""The listening socket and a thread per connection.

    accept ─ thread ─ A-ASSOCIATE-RQ within 5 s ─┬─ A-ASSOCIATE-RJ
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
from typing import Final

from pacs.scp.acceptor import Acceptance, Acceptor
from pacs.scp.limits import Limits
from pacs.scp.metrics import Metrics
from pacs.scp.roster import Roster
from pacs.upper_layer.connection import Connection
from storage.base.errors import StoreUnavailable

log = logging.getLogger(__name__)

BACKLOG: Final = 512
_PAUSE_S: Final = 0.1
_QUIET_S: Final = 1.0
"""An association that is idle for so long is not in the middle of a series, when we stop."""


class Listener:
    """Accepts associations on one address until it is stopped.

    Parameters
    ----------
    address
        Host and port; port 0 takes a free one.
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
        share_port: bool = False,
    ) -> None:
        self._roster = Roster(limits)
        self._acceptor = Acceptor(acceptance, limits, metrics, self._roster)
        self._timeouts = limits.timeouts
        self._stopping = False
        self._socket = _listen(address, share_port=share_port)
        self.port: int = self._socket.getsockname()[1]
        """The port that is listened on."""
        self._thread = threading.Thread(target=self._accept, name="dicom-accept", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept nobody any more, let associations finish for `grace_s`, then abort them."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            if self._roster.wait_until_empty(_PAUSE_S):
                return
            self._roster.interrupt(_QUIET_S)
        self._roster.interrupt()
        self._roster.wait_until_empty(_QUIET_S)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                accepted, (address, *_) = self._socket.accept()
                self._begin(accepted, address)
            except (OSError, RuntimeError) as error:  # no descriptor or no thread is free
                if not self._stopping:
                    log.warning("accept_failed", extra={"reason": str(error)})
                    time.sleep(_PAUSE_S)

    def _begin(self, accepted: socket.socket, address: str) -> None:
        try:
            connection = Connection(accepted, self._timeouts)
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
