"""One TCP connection that carries PDUs: bounded, timed, and read into one buffer.

Every read has a time-out and no PDU is longer than what was advertised, so a
peer that is silent, slow or lying holds its own thread and nothing else.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pacs.upper_layer import pdu
from pacs.upper_layer.faults import UNRECOGNIZED_PDU, AssociationLost, ProtocolFault, TimedOut

MAX_PDU_BYTES: Final = 65_536
"""What we advertise as maximum length, and the largest PDU before an association.

Larger ones bring nothing with this reader, and with 128 KiB some senders fall
into stalls of Nagle's algorithm.
"""
_ROOMY: Final = 4 * MAX_PDU_BYTES
_TIGHT: Final = 8 * 1024
_SEND_BYTES: Final = 256 * 1024
TICK_S: Final = 5.0
"""The longest single wait in the kernel, so that its time-out seldom needs to be set."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may be silent, in seconds."""

    handshake_s: float = 5.0
    """From the connection to the end of the TLS handshake, if there is one."""
    request_s: float = 5.0
    """From then to the complete A-ASSOCIATE-RQ."""
    pdu_s: float = 10.0
    """From the first byte of a PDU to its last."""
    idle_s: float = 600.0
    """Between two messages."""
    dataset_s: float = 30.0
    """Between two PDUs of one message."""
    response_s: float = 120.0
    """Until the response to a request of ours comes."""
    send_s: float = 60.0
    """Until the peer has taken what we send (256 KiB at most at a time)."""
    artim_s: float = 2.0
    """Until the peer has closed the connection after A-ASSOCIATE-RJ, A-RELEASE-RP or A-ABORT."""


class Connection:
    """PDUs in and out of one connected socket; used by one thread.

    The socket blocks, and the kernel keeps the time (``SO_RCVTIMEO``): a read is
    one system call, works for any descriptor, and an idle thread costs nothing.
    """

    def __init__(self, sock: socket.socket, timeouts: Timeouts) -> None:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeouts.send_s))
        self.timeouts = timeouts
        self._socket = sock
        self._receive_s = 0.0
        self._view = memoryview(bytearray(_TIGHT))
        self._start = self._end = 0
        self._growth = _TIGHT
        self._interrupted = False

    @property
    def protection(self) -> str:
        """How the connection is protected; empty: it is not."""
        return ""

    def open(self) -> None:
        """Do what comes before the first PDU: nothing, without TLS."""

    def read_pdu(self, wait_s: float, finish_s: float | None = None) -> tuple[int, memoryview]:
        """Return the type and variable field of the next PDU; it is valid until the next call.

        The first byte must come within `wait_s`, the last one `finish_s` later
        (``timeouts.pdu_s`` when None; 0: all of it within `wait_s`).

        Raises
        ------
        ProtocolFault
            The type is none of PS3.8, or the PDU is longer than we receive.
        TimedOut, AssociationLost
            It does not come in time, or never will.
        """
        if self._missing():
            self._fill(wait_s, self.timeouts.pdu_s if finish_s is None else finish_s)
        kind, length = pdu.HEADER.unpack_from(self._view, self._start)
        body = self._start + pdu.HEADER.size
        self._start = body + length
        return kind, self._view[body : self._start]

    def has_pdu(self) -> bool:
        """Whether a complete PDU has arrived; never blocks."""
        if missing := self._missing():
            self._make_room(missing)
            self._receive(socket.MSG_DONTWAIT)
        return not self._missing()

    def expect_data(self) -> None:
        """Let the buffer grow for P-DATA; until then a connection costs few kilobytes."""
        self._growth = _ROOMY
        if self._start == self._end and len(self._view) > _TIGHT:
            self._view = memoryview(bytearray(_TIGHT))
            self._start = self._end = 0

    def send(self, parts: Iterable[bytes | memoryview]) -> None:
        """Send `parts` in as few segments as can be.

        Raises
        ------
        AssociationLost
            The peer is gone, or takes nothing.
        """
        waiting: list[bytes | memoryview] = []
        size = 0
        for part in parts:
            waiting.append(part)
            size += len(part)
            if size >= _SEND_BYTES:
                self._send(b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            self._send(b"".join(waiting))

    def hang_up(self) -> None:
        """Wait a little for the peer to close, so that it reads our last PDU, then close."""
        self._drain()
        self.close()

    def interrupt(self) -> None:
        """Wake the thread that reads, from another one: its read ends with `AssociationLost`."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)  # an SSLSocket would forget TLS

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def _drain(self) -> None:
        """End what we send and pass over what comes until the peer ends, or the ARTIM timer."""
        deadline = time.monotonic() + self.timeouts.artim_s
        self._start = self._end = 0
        with contextlib.suppress(OSError, AssociationLost):
            self._end_sending()
            while (left := deadline - time.monotonic()) > 0:
                self._wait_at_most(left)
                self._receive()
                self._end = 0

    def _end_sending(self) -> None:
        socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def _missing(self) -> int:
        """Return how many bytes are missing until the next thing can be read: header, then PDU."""
        held = self._end - self._start
        if held < pdu.HEADER.size:
            return pdu.HEADER.size - held
        kind, length = pdu.HEADER.unpack_from(self._view, self._start)
        if not pdu.ASSOCIATE_RQ <= kind <= pdu.ABORT:
            raise ProtocolFault(f"PDU type {kind:02X}H", UNRECOGNIZED_PDU)
        if length > MAX_PDU_BYTES + pdu.HEADER.size:  # some senders count the header too
            raise ProtocolFault(f"PDU of {length} bytes, {MAX_PDU_BYTES} is the most")
        return max(0, int(length) + pdu.HEADER.size - held)

    def _fill(self, wait_s: float, finish_s: float) -> None:
        """Receive until a whole PDU is held."""
        begun = self._end > self._start
        deadline = time.monotonic() + ((finish_s or wait_s) if begun else wait_s)
        while missing := self._missing():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut("the peer is silent")
            self._make_room(missing)
            self._wait_at_most(left)
            self._receive()
            if not begun and self._end > self._start:
                begun = True
                deadline = time.monotonic() + finish_s if finish_s else deadline

    def _receive(self, flags: int = 0) -> None:
        """Receive what is there, or nothing when the time-out of the socket is over."""
        try:
            got = self._read(self._view[self._end :], flags)
        except BlockingIOError:
            return
        except OSError as error:
            raise AssociationLost(f"connection lost: {error.strerror or error}") from error
        if not got:
            who = "we ended it" if self._interrupted else "the peer closed the connection"
            raise AssociationLost(who)
        self._end += got

    def _read(self, view: memoryview, flags: int) -> int:
        return self._socket.recv_into(view, 0, flags)

    def _write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _wait_at_most(self, left_s: float) -> None:
        receive_s = min(left_s, TICK_S)
        if receive_s != self._receive_s:
            self._receive_s = receive_s
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(receive_s))

    def _make_room(self, missing: int) -> None:
        """See that `missing` more bytes fit, in a larger buffer if need be."""
        held = self._end - self._start
        if not held:
            self._start = self._end = 0
        if self._end + missing <= len(self._view):
            return
        rest = bytes(self._view[self._start : self._end])
        if held + missing > len(self._view):
            self._view = memoryview(bytearray(max(held + missing, self._growth)))
        self._view[:held] = rest
        self._start, self._end = 0, held

    def _send(self, data: bytes) -> None:
        try:
            self._write(data)
        except (BlockingIOError, TimeoutError) as error:
            raise TimedOut("the peer does not take what we send") from error
        except OSError as error:
            raise AssociationLost(f"connection lost: {error.strerror or error}") from error


def _timeval(seconds: float) -> bytes:
    """``struct timeval``; a zero would mean to wait for ever."""
    microseconds = max(1, int(seconds * 1_000_000))
    return struct.pack("ll", *divmod(microseconds, 1_000_000))
