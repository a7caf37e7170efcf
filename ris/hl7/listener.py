"""The MLLP port, and one for TLS beside it: listening sockets and a thread per connection.

    accept ─ thread ─ (TLS handshake) ─ message ─ answer ─ message ─ answer …

A thread reads its own socket with a time-out, so a peer that is silent, slow or hostile costs one
sleeping thread. A connection may be idle for ever, a frame may not: what was begun has to end.
Messages of one connection are answered in their order, one after the other; a sender that does
not wait for its answers is read no faster than they are given.
"""

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ris.hl7 import mllp
from ris.hl7.mllp import Deframer, FrameTooLong, NoFrame
from ris.hl7.visitors import Visitors
from storage.base.errors import StoreUnavailable
from storage.base.logs import bound
from storage.base.tls import ServerTls

log = logging.getLogger(__name__)

BACKLOG: Final = 512
_PAUSE_S: Final = 0.1
_PIECE: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of us one peer, and all of them together, may take."""

    max_connections: int = 1024
    max_connections_per_peer: int = 256
    """Per IP address."""
    max_frame: int = mllp.MAX_FRAME
    """Bytes."""
    handshake_s: float = 5.0
    """Until the TLS handshake is over."""
    stall_s: float = 30.0
    """Between two pieces of one frame."""
    frame_s: float = 300.0
    """From the first byte of a frame to its last."""
    idle_s: float | None = None
    """Between two messages; None: for ever, with TCP keep-alive."""
    send_s: float = 30.0
    """Until the peer has taken an answer."""


Answer = Callable[[bytes, str], Iterable[bytes]]
"""Takes a message and the address it came from; gives its acknowledgements, each as soon as it is
due, and works on the message between them; never raises."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What is done with messages, and with frames that are none."""

    answer: Answer
    refuse: Callable[[bytes], bytes]
    """Takes how a frame began that was too long; returns the acknowledgement, b'' for none."""


@dataclass(frozen=True, slots=True)
class Door:
    """An address that is listened on."""

    address: tuple[str, int]
    """Host and port; port 0 takes a free one."""
    tls: ServerTls | None = None
    """When given, every connection begins with a TLS handshake."""


class Listener:
    """Accepts connections on some addresses until it is stopped; the limits hold for all together.

    Parameters
    ----------
    share_port
        Let several processes listen on the same port (``SO_REUSEPORT``).

    Raises
    ------
    StoreUnavailable
        The address cannot be listened on.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        handler: Handler,
        limits: Limits | None = None,
        *,
        share_port: bool = False,
    ) -> None:
        self._handler = handler
        self._limits = limits or Limits()
        self._visitors = Visitors(
            self._limits.max_connections, self._limits.max_connections_per_peer
        )
        self._stopping = threading.Event()
        self._sockets: list[socket.socket] = []
        try:
            for door in doors:
                self._sockets.append(_listen(door.address, share_port=share_port))
        except StoreUnavailable:
            for listening in self._sockets:
                listening.close()
            raise
        self.ports: Sequence[int] = [each.getsockname()[1] for each in self._sockets]
        """The ports that are listened on, in the order of the doors."""
        self._threads = [
            threading.Thread(
                target=self._accept, args=(listening, door.tls), name="hl7-accept", daemon=True
            )
            for listening, door in zip(self._sockets, doors, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._visitors)

    def start(self) -> None:
        """Begin to accept."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Accept nobody any more, answer the messages that are being worked on, then close."""
        self._stopping.set()
        for listening, thread in zip(self._sockets, self._threads, strict=True):
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            if thread.ident is not None:
                thread.join()
            listening.close()
        self._visitors.interrupt()
        if not self._visitors.wait_until_empty(grace_s):
            log.warning("connections_left", extra={"remaining": len(self._visitors)})

    def _accept(self, listening: socket.socket, tls: ServerTls | None) -> None:
        while not self._stopping.is_set():
            try:
                accepted, (address, *_) = listening.accept()
                self._begin(accepted, address, tls)
            except (OSError, RuntimeError) as error:  # no descriptor or no thread is free
                if not self._stopping.is_set():
                    log.warning("accept_failed", extra={"reason": str(error)})
                    time.sleep(_PAUSE_S)

    def _begin(self, accepted: socket.socket, address: str, tls: ServerTls | None) -> None:
        connection = accepted
        try:
            _tune(accepted)
            if tls is not None:  # the handshake itself waits for the thread
                connection = tls.context().wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
            self._visitors.enter(connection, address)
            threading.Thread(
                target=self._converse,
                args=(connection, address),
                name=f"hl7-{address}",
                daemon=True,
            ).start()
        except (OSError, RuntimeError):
            self._visitors.leave(connection)
            connection.close()
            raise

    def _converse(self, connection: socket.socket, address: str) -> None:
        """Hold one connection to its end; never raises."""
        with bound(address=address):
            try:
                if isinstance(connection, ssl.SSLSocket) and not self._greet(connection):
                    return
                self._serve(connection, address)
            except NoFrame as error:
                log.warning("hl7_no_frame", extra={"reason": str(error)})
            except OSError as error:
                log.info("hl7_connection_lost", extra={"reason": error.strerror or str(error)})
            except Exception:
                log.exception("hl7_connection_failed")
            finally:
                self._visitors.leave(connection)
                _close(connection)

    def _greet(self, connection: ssl.SSLSocket) -> bool:
        connection.settimeout(self._limits.handshake_s)
        try:
            connection.do_handshake()
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else type(error).__name__
            log.warning("tls_refused", extra={"reason": str(reason)})
            return False
        return True

    def _serve(self, connection: socket.socket, address: str) -> None:
        deframer = Deframer(self._limits.max_frame)
        begun_at = 0.0
        more = True
        while more and not self._stopping.is_set():
            connection.settimeout(self._patience(deframer, begun_at))
            try:
                data = connection.recv(_PIECE)
                more = data != b""
            except TimeoutError:
                if not deframer.ending:
                    log.info("hl7_timed_out", extra={"stage": "frame" if begun_at else "idle"})
                    return
                data = b""
            messages = self._messages(deframer, data, connection)
            for message in messages:
                if self._stopping.is_set():
                    return  # not answered: the sender sends it again
                self._answer(message, connection, address)
            if messages or not deframer.begun:
                begun_at = time.monotonic() if deframer.begun else 0.0
            elif not begun_at:
                begun_at = time.monotonic()

    def _answer(self, message: bytes, connection: socket.socket, address: str) -> None:
        self._visitors.spoke(connection)
        lost: OSError | None = None
        for answer in self._handler.answer(message, address):  # all of them, whoever still listens
            try:
                if lost is None:
                    self._send(connection, mllp.frame(answer))
            except OSError as error:
                lost = error
        if lost is not None:
            raise lost

    def _messages(self, deframer: Deframer, data: bytes, connection: socket.socket) -> list[bytes]:
        """Return what is complete now; no data means that nothing more will come."""
        restarts = deframer.restarts
        try:
            found = deframer.feed(data) if data else []
        except FrameTooLong as error:
            log.warning("hl7_frame_too_long", extra={"limit": self._limits.max_frame})
            if answer := self._handler.refuse(error.head):
                self._send(connection, mllp.frame(answer))
            raise ConnectionAbortedError(str(error)) from error
        if not data and (last := deframer.finish()) is not None:
            found.append(last)
        if deframer.restarts > restarts:
            log.warning("hl7_frame_resync", extra={"count": deframer.restarts - restarts})
        return found

    def _patience(self, deframer: Deframer, begun_at: float) -> float | None:
        if deframer.ending:
            return mllp.SILENCE_S
        if not deframer.begun:
            return self._limits.idle_s
        left = begun_at + self._limits.frame_s - time.monotonic()
        return max(0.01, min(self._limits.stall_s, left))

    def _send(self, connection: socket.socket, data: bytes) -> None:
        connection.settimeout(self._limits.send_s)
        connection.sendall(data)


def _listen(address: tuple[str, int], *, share_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=share_port)
    except OSError as error:
        raise StoreUnavailable(f"HL7 port {address[0]}:{address[1]}: {error.strerror}") from error


def _tune(accepted: socket.socket) -> None:
    """Answer at once, and notice in minutes when the machine at the other end is gone."""
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _close(connection: socket.socket) -> None:
    """Close so that the last answer arrives: unread bytes would turn it into a reset."""
    with contextlib.suppress(OSError, ValueError):
        connection.settimeout(_PAUSE_S)
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap().close()
            return
        connection.shutdown(socket.SHUT_WR)
        for _ in range(8):
            if not connection.recv(_PIECE):
                break
    connection.close()
