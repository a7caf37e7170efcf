"""The other end of an MLLP connection: we send, a destination answers."""

import contextlib
import socket
import ssl
import time
from pathlib import Path
from typing import Final, Protocol

from ris.hl7 import mllp
from ris.hl7.destinations import Destination
from ris.hl7.mllp import Deframer
from storage.base import tls
from storage.base.errors import Malformed, PeerUnavailable

CONNECT_S: Final = 10.0
MAX_ANSWER: Final = 1 << 20
_PIECE: Final = 64 << 10


class NotReached(PeerUnavailable):
    """Nothing of the message was sent."""


class NoAnswer(PeerUnavailable):
    """The message was sent, at least in part, and nobody knows what became of it."""


class Speaks(Protocol):
    """A connection over which messages are answered one after the other."""

    def ask(self, message: bytes) -> bytes:
        """Send a message and return what was answered."""
        ...

    def tell(self, message: bytes) -> None:
        """Send a message that is not answered."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Conversation:
    """One MLLP connection to a destination.

    Raises
    ------
    NotReached
        It cannot be opened.
    """

    def __init__(self, destination: Destination) -> None:
        self._timeout_s = destination.style.answer_s
        self._socket = _connect(destination)

    def ask(self, message: bytes) -> bytes:
        """Send a message and return what was answered.

        Raises
        ------
        NotReached
            The other side had closed the connection before.
        NoAnswer
            It did not answer in time, or not with one frame.
        """
        if self._was_closed():
            raise NotReached("the connection was closed")
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(mllp.frame(message))
            return self._receive(deadline)
        except TimeoutError as error:
            raise NoAnswer(f"no answer in {self._timeout_s:g} seconds") from error
        except OSError as error:
            raise NoAnswer(f"connection lost: {_reason(error)}") from error
        except Malformed as error:
            raise NoAnswer(f"not an answer: {error}") from error

    def tell(self, message: bytes) -> None:
        """Send a message that is not answered.

        Raises
        ------
        NotReached
            The other side had closed the connection before.
        NoAnswer
            The connection broke meanwhile.
        """
        if self._was_closed():
            raise NotReached("the connection was closed")
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(mllp.frame(message))
        except OSError as error:
            raise NoAnswer(f"connection lost: {_reason(error)}") from error

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _receive(self, deadline: float) -> bytes:
        deframer = Deframer(MAX_ANSWER)
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(min(left, mllp.SILENCE_S) if deframer.ending else left)
            try:
                data = self._socket.recv(_PIECE)
            except TimeoutError:
                data = b""
                if not deframer.ending:
                    raise
            found = deframer.feed(data) if data else [deframer.finish()]
            if found and (answer := found[0]) is not None:
                return answer
            if not data:
                raise ConnectionAbortedError("closed without an answer")
        raise TimeoutError

    def _was_closed(self) -> bool:
        """Whether the other side has hung up, or said something that nobody asked for."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True


def _connect(destination: Destination) -> socket.socket:
    style = destination.style
    try:
        plain = socket.create_connection((destination.host, destination.port), CONNECT_S)
    except (OSError, UnicodeError) as error:
        raise NotReached(f"{destination.host}:{destination.port}: {_reason(error)}") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not style.tls:
            return plain
        context = tls.client_context(Path(style.tls_ca) if style.tls_ca else None)
        return context.wrap_socket(plain, server_hostname=style.tls_name or destination.host)
    except (OSError, ValueError, Malformed) as error:
        plain.close()
        raise NotReached(
            f"TLS with {destination.host}:{destination.port}: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
