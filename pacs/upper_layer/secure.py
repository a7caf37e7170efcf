"""The same connection inside TLS; the handshake is made by the thread that reads."""

import contextlib
import socket
import ssl
from typing import Final

from pacs.upper_layer.connection import TICK_S, Connection, Timeouts
from pacs.upper_layer.faults import AssociationLost, HandshakeFailed, TimedOut

_GONE: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)
"""The peer went away in the handshake: a port scan, a look of a load balancer."""


class TlsConnection(Connection):
    """PDUs in and out of TLS (PS3.15 B.12).

    OpenSSL reads by itself and does not know the time-outs of the kernel, so here
    Python waits (by `poll`, for any descriptor), over all records of one read.
    """

    def __init__(self, sock: socket.socket, timeouts: Timeouts, context: ssl.SSLContext) -> None:
        super().__init__(sock, timeouts)
        self._context = context
        self._timeout_s: float | None = None
        self._ended = False

    def open(self) -> None:
        """Make the handshake, within ``timeouts.handshake_s`` in all.

        Raises
        ------
        HandshakeFailed
            The peer does not talk TLS, or not as we do, or has no certificate that we trust.
        TimedOut, AssociationLost
            It is silent, or gone.
        """
        try:
            self._socket = tls = self._context.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._wait_in_python(self.timeouts.handshake_s)
            if self._interrupted:  # while the socket changed hands
                raise AssociationLost("we ended it")
            tls.do_handshake()
        except TimeoutError as error:
            raise TimedOut("the TLS handshake takes too long") from error
        except _GONE as error:
            raise AssociationLost("the peer went away in the TLS handshake") from error
        except OSError as error:
            self._ended = True
            self._drain()  # so that the peer reads the alert
            raise HandshakeFailed(f"TLS handshake: {_reason(error)}") from error

    @property
    def protection(self) -> str:
        """How the connection is protected: version and suite of TLS."""
        tls = self._socket
        suite = tls.cipher() if isinstance(tls, ssl.SSLSocket) else None
        return f"{suite[1]} {suite[0]}" if suite else ""

    def _read(self, view: memoryview, flags: int) -> int:
        if flags & socket.MSG_DONTWAIT:
            self._wait_in_python(0.0)
        else:
            self._wait_in_python(self._receive_s)
        try:
            if self._ended:  # what the peer still sends is not even deciphered
                return socket.socket.recv_into(self._socket, view)
            return self._socket.recv_into(view)
        except (ssl.SSLWantReadError, TimeoutError) as error:
            raise BlockingIOError from error

    def _write(self, data: bytes) -> None:
        self._wait_in_python(self.timeouts.send_s)
        self._socket.sendall(data)

    def _wait_at_most(self, left_s: float) -> None:
        self._receive_s = min(left_s, TICK_S)

    def _end_sending(self) -> None:
        if not self._ended and isinstance(self._socket, ssl.SSLSocket):
            self._ended = True
            self._wait_in_python(0.0)
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()  # sends the close_notify; nobody waits for the peer's
        super()._end_sending()

    def _wait_in_python(self, timeout_s: float) -> None:
        if timeout_s != self._timeout_s:
            self._timeout_s = timeout_s
            self._socket.settimeout(timeout_s)


def _reason(error: OSError) -> str:
    """Return what OpenSSL says, in its own constant words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate of the peer: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "failed").lower().replace("_", " ")
    return error.strerror or str(error)
