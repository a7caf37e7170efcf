"""An association that we ask for: the requestor's side of PS3.8 9.2."""

import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pacs.upper_layer import dimse, pdu
from pacs.upper_layer.connection import MAX_PDU_BYTES, Connection, Timeouts
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.faults import AssociationLost, ProtocolFault
from pacs.upper_layer.messages import Fragment, Messages
from pacs.upper_layer.pdu import (
    AssociateAccept,
    AssociateRequest,
    ProposedContext,
    Roles,
    UserInformation,
)
from storage.base.errors import PeerUnavailable

CONNECT_S: Final = 10.0
RELEASE_S: Final = 5.0
_USER: Final = 0
"""A-ABORT source: DICOM UL service-user (PS3.8 Table 9-26)."""


class Refused(PeerUnavailable):
    """The peer talks DICOM and rejected the association."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an application entity listens."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        """For people, and for messages."""
        return f"{self.ae_title} at {self.host}:{self.port}"


class Association:
    """An established association; released at the end of its block.

    Parameters
    ----------
    roles
        The roles to take for SOP classes, where we are not their SCU (PS3.7 D.3.3.4).

    Raises
    ------
    Refused
        The peer rejected it; the text says why.
    PeerUnavailable
        The peer cannot be reached, or does not talk DICOM.
    """

    def __init__(
        self,
        called: Address,
        calling_ae_title: str,
        proposed: Sequence[ProposedContext],
        timeouts: Timeouts | None = None,
        roles: Mapping[str, Roles] | None = None,
    ) -> None:
        self._called = called
        self._timeouts = timeouts or Timeouts()
        self._connection = _connect(called, self._timeouts)
        self._message_id = 0
        user = UserInformation(MAX_PDU_BYTES, roles=roles or {})
        request = AssociateRequest(called.ae_title, calling_ae_title, tuple(proposed), user)
        try:
            accept = self._negotiate(request)
        except (ProtocolFault, PeerUnavailable) as error:
            self._connection.close()
            if isinstance(error, Refused):
                raise
            raise PeerUnavailable(f"{called}: {error}") from error
        self._messages = Messages(self._connection, accept.user.max_length)
        self._accepted = _accepted(proposed, accept)

    def accepted(self, abstract_syntax: str) -> Mapping[str, int]:
        """Return transfer syntax → context ID for an abstract syntax."""
        return self._accepted.get(abstract_syntax, {})

    def request(
        self, context_id: int, command: Command, dataset: Iterable[Fragment] | None = None
    ) -> Command:
        """Send a request and return its response, which must be the only one.

        Raises
        ------
        PeerUnavailable
            The peer is gone, silent or answers what cannot be; the association is over.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        command.message_id = self._message_id
        try:
            self._messages.send(context_id, command, dataset)
            return self._response(command)
        except (ProtocolFault, AssociationLost) as error:
            self.abort()
            raise PeerUnavailable(f"{self._called}: {error}") from error
        except BaseException:
            self.abort()
            raise

    def _response(self, request: Command) -> Command:
        _, response = self._messages.read_command(self._timeouts.response_s)
        if (
            response.command_field != request.command_field | dimse.RESPONSE
            or response.message_id_being_responded_to != request.message_id
            or response.status is None
        ):
            raise ProtocolFault("a response that answers no request of ours")
        return response

    def release(self) -> None:
        """Release the association, and close whatever comes of it."""
        with contextlib.suppress(AssociationLost, ProtocolFault):
            self._connection.send((pdu.RELEASE_REQUEST,))
            self._connection.read_pdu(RELEASE_S)
        self._connection.close()

    def abort(self) -> None:
        """End it at once."""
        with contextlib.suppress(AssociationLost):
            self._connection.send((pdu.encode_abort(_USER, 0),))
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _negotiate(self, request: AssociateRequest) -> AssociateAccept:
        self._connection.send((pdu.encode_request(request),))
        kind, body = self._connection.read_pdu(self._timeouts.dataset_s)
        if kind == pdu.ASSOCIATE_AC:
            return pdu.decode_accept(body)
        if kind == pdu.ASSOCIATE_RJ:
            raise Refused(f"{self._called} rejects us: {pdu.decode_reject(body).text}")
        if kind == pdu.ABORT:
            raise AssociationLost("the peer aborted the association")
        raise ProtocolFault(f"PDU type {kind:02X}H instead of an answer to A-ASSOCIATE-RQ")


def _connect(called: Address, timeouts: Timeouts) -> Connection:
    try:
        return Connection(socket.create_connection((called.host, called.port), CONNECT_S), timeouts)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PeerUnavailable(f"{called}: {reason}") from error


def _accepted(
    proposed: Sequence[ProposedContext], accept: AssociateAccept
) -> dict[str, dict[str, int]]:
    """Return what was accepted of what we proposed, the first context of each kind."""
    by_id = {context.context_id: context for context in proposed}
    found: dict[str, dict[str, int]] = {}
    for result in accept.contexts:
        asked = by_id.get(result.context_id)
        if asked and not result.result and result.transfer_syntax in asked.transfer_syntaxes:
            syntaxes = found.setdefault(asked.abstract_syntax, {})
            syntaxes.setdefault(result.transfer_syntax, result.context_id)
    return found
