"""DIMSE messages over P-DATA-TF (PS3.8 9.3.5 and Annex E): commands and streams of fragments."""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from pacs.upper_layer import dimse, pdu
from pacs.upper_layer.connection import Connection
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.faults import (
    UNEXPECTED_PDU,
    AssociationLost,
    ProtocolFault,
    Released,
)

Fragment = bytes | memoryview

# Message control header, PS3.8 E.2
COMMAND: Final = 0x01
LAST: Final = 0x02

MAX_FRAGMENT_BYTES: Final = 128 * 1024
_COUNTED: Final = 2
"""Context ID and control header belong to the length of a PDV (PS3.8 Table 9-23)."""
_PDV: Final = struct.Struct(">IBB")
_DATA: Final = struct.Struct(">BxIIBB")
_OVERHEAD: Final = 6
"""Length, context ID and control header of the one PDV in each PDU that we send."""


class Messages:
    """The messages of one established association."""

    def __init__(self, connection: Connection, peer_max_length: int) -> None:
        self._connection = connection
        self._fragment_bytes = (
            min(peer_max_length or MAX_FRAGMENT_BYTES, MAX_FRAGMENT_BYTES) - _OVERHEAD
        )
        self._body = memoryview(b"")
        self._position = 0
        connection.expect_data()

    def read_command(self, wait_s: float) -> tuple[int, Command]:
        """Return the presentation context ID and the command set of the next message.

        Raises
        ------
        ProtocolFault
            A data fragment, a mixed one, or something that is not a command set comes.
        Released, AssociationLost
            The peer asks for release, aborts or goes.
        """
        context_id, control, view = self._next_pdv(wait_s)
        parts = [bytes(view)]
        size = len(view)
        while not control & LAST and control & COMMAND:
            other, control, view = self._next_pdv(self._connection.timeouts.dataset_s)
            size += len(view)
            if other != context_id or size > dimse.MAX_COMMAND_BYTES:
                raise ProtocolFault("command set: mixed contexts, or longer than 64 KiB")
            parts.append(bytes(view))
        if not control & COMMAND:
            raise ProtocolFault("a data set fragment where a command is due")
        return context_id, dimse.decode(b"".join(parts))

    def read_dataset(self, context_id: int) -> Iterator[memoryview]:
        """Yield the fragments of the data set that follows; each is valid until the next."""
        while True:
            other, control, view = self._next_pdv(self._connection.timeouts.dataset_s)
            if other != context_id or control & COMMAND:
                raise ProtocolFault("another message begins inside a data set")
            yield view
            if control & LAST:
                return

    def waiting(self) -> bool:
        """Whether a message has begun to arrive; never blocks."""
        return self._position < len(self._body) or self._connection.has_pdu()

    def send(
        self, context_id: int, command: Command, dataset: Iterable[Fragment] | None = None
    ) -> None:
        """Send one message; a `dataset` in any number of pieces."""
        self._connection.send(self.encode(context_id, command, dataset))

    def send_encoded(self, parts: Iterable[Fragment]) -> None:
        """Send what `encode` gave, perhaps of several messages at once."""
        self._connection.send(parts)

    def encode(
        self, context_id: int, command: Command, dataset: Iterable[Fragment] | None = None
    ) -> Iterator[Fragment]:
        """Yield the PDUs of one message, in pieces that only need to be joined."""
        yield from self._fragments(context_id, dimse.encode(command), COMMAND | LAST)
        if dataset is None:
            return
        pieces = iter(dataset)
        piece = next(pieces, b"")
        for following in pieces:
            yield from self._fragments(context_id, piece, 0)
            piece = following
        yield from self._fragments(context_id, piece, LAST)

    def _fragments(self, context_id: int, piece: Fragment, control: int) -> Iterator[Fragment]:
        """Yield `piece` as PDUs of one PDV; only the final one carries ``LAST``."""
        step, size = self._fragment_bytes, len(piece)
        view = memoryview(piece)
        for begin in range(0, max(size, 1), step):
            part = view[begin : begin + step]
            flags = control if begin + step >= size else control & ~LAST
            length = len(part)
            yield _DATA.pack(pdu.P_DATA, length + _OVERHEAD, length + _COUNTED, context_id, flags)
            yield part

    def _next_pdv(self, wait_s: float) -> tuple[int, int, memoryview]:
        if self._position >= len(self._body):
            self._next_pdata(wait_s)
        left = len(self._body) - self._position
        if left < _PDV.size:
            raise ProtocolFault("P-DATA-TF: a PDV is cut short")
        length, context_id, control = _PDV.unpack_from(self._body, self._position)
        begin = self._position + _PDV.size
        self._position = begin + length - _COUNTED
        if length < _COUNTED or self._position > len(self._body):
            raise ProtocolFault(f"P-DATA-TF: a PDV of {length} bytes where {left} are left")
        return context_id, control, self._body[begin : self._position]

    def _next_pdata(self, wait_s: float) -> None:
        kind, body = self._connection.read_pdu(wait_s)
        if kind == pdu.RELEASE_RQ:
            raise Released("the peer releases the association")
        if kind == pdu.ABORT:
            raise AssociationLost("the peer aborted the association")
        if kind != pdu.P_DATA:
            raise ProtocolFault(f"PDU type {kind:02X}H inside an association", UNEXPECTED_PDU)
        self._body, self._position = body, 0
