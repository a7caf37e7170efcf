"""One association that we accepted: requests to services, responses back (PS3.7 Clause 8)."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pacs.scp import models, status
from pacs.scp.exchange import (
    Caller,
    Context,
    Offers,
    Request,
    Response,
    Service,
    services_of,
)
from pacs.scp.limits import Limits
from pacs.scp.metrics import Metrics
from pacs.upper_layer import dimse
from pacs.upper_layer.dimse import Command
from pacs.upper_layer.faults import NOT_SPECIFIED, AssociationLost, ProtocolFault
from pacs.upper_layer.messages import Fragment, Messages
from storage.base import values
from storage.base.errors import ImagingError, StoreUnavailable

log = logging.getLogger(__name__)

_TABLES: Final[Mapping[int, status.Table]] = {
    dimse.C_STORE_RQ: status.STORE,
    dimse.C_FIND_RQ: status.FIND,
    dimse.C_MOVE_RQ: status.RETRIEVE,
    dimse.C_GET_RQ: status.RETRIEVE,
    dimse.N_CREATE_RQ: status.N_CREATE,
    dimse.N_SET_RQ: status.N_SET,
    dimse.N_GET_RQ: status.N_GET,
    dimse.N_ACTION_RQ: status.N_ACTION,
}
_REQUESTED: Final = frozenset(
    {dimse.N_GET_RQ, dimse.N_SET_RQ, dimse.N_ACTION_RQ, dimse.N_DELETE_RQ}
)
"""What names its SOP Instance as requested, and gets it back as affected (PS3.7 10.1)."""
_NAMES_INSTANCE: Final = _REQUESTED | {
    dimse.C_STORE_RQ,
    dimse.N_CREATE_RQ,
    dimse.N_EVENT_REPORT_RQ,
}
_BATCH_BYTES: Final = 16 * 1024
_BATCH_S: Final = 0.05
"""Pending responses wait for each other so long, or until so many bytes are together."""


class Association:
    """Serves one peer until it releases, goes, or breaks the rules; implements `Exchange`."""

    def __init__(
        self,
        messages: Messages,
        contexts: Iterable[Context],
        caller: Caller,
        offers: Offers,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self.idle_since: float | None = time.monotonic()
        """When it began to wait for a request (monotonic clock); None while it serves one."""
        self._messages = messages
        self._contexts = {context.context_id: context for context in contexts}
        self._caller = caller
        self._offers = offers
        self._metrics = metrics
        self._limits = limits
        self._request = Command(command_field=0)
        self._received = 0
        self._suboperation = 0
        self._cancelled = False
        self._unsent: list[Fragment] = []
        self._unsent_since = 0.0

    def serve(self) -> None:
        """Answer requests, one after the other, until the association ends.

        Raises
        ------
        Released, AssociationLost
            The peer released the association, or is gone.
        ProtocolFault
            The peer broke the rules.
        """
        while True:
            self.idle_since = time.monotonic()
            context_id, command = self._messages.read_command(self._limits.timeouts.idle_s)
            self.idle_since = None
            context = self._contexts.get(context_id)
            if context is None:
                raise ProtocolFault(f"presentation context {context_id} was not accepted")
            if command.command_field != dimse.C_CANCEL_RQ:  # it came too late: nothing to cancel
                self._answer(context, command)

    # Exchange

    def cancelled(self) -> bool:
        """Whether the peer has sent C-CANCEL for this request; never blocks."""
        while not self._cancelled and self._messages.waiting():
            _, command = self._messages.read_command(self._limits.timeouts.response_s)
            self._note_cancel(command)
        return self._cancelled

    def accepted(self, sop_class_uid: str) -> dict[str, int]:
        """Return transfer syntax → context ID in which the peer takes this class (C-GET)."""
        return {
            context.transfer_syntax: context.context_id
            for context in self._contexts.values()
            if context.peer_stores and context.abstract_syntax == sop_class_uid
        }

    def store(self, context_id: int, command: Command, dataset: Iterable[bytes]) -> Command:
        """Send a C-STORE sub-operation over this association and return its response."""
        self._flush()
        self._suboperation = self._suboperation % 0xFFFF + 1
        command.message_id = self._suboperation
        try:
            self._messages.send(context_id, command, dataset)
        except StoreUnavailable as error:  # a message that was begun cannot be taken back
            raise ProtocolFault(f"sub-operation cut off: {error}", NOT_SPECIFIED) from error
        while True:
            _, response = self._messages.read_command(self._limits.timeouts.response_s)
            if not response.is_response:
                self._note_cancel(response)
            elif (
                response.command_field == dimse.C_STORE_RQ | dimse.RESPONSE
                and response.message_id_being_responded_to == self._suboperation
            ):
                return response
            else:
                raise ProtocolFault("a response that answers no sub-operation of ours")

    def _note_cancel(self, command: Command) -> None:
        if command.command_field != dimse.C_CANCEL_RQ:
            raise ProtocolFault("a second request, asynchronous operations are not negotiated")
        if command.message_id_being_responded_to == self._request.message_id:
            self._cancelled = True

    # Requests

    def _answer(self, context: Context, command: Command) -> None:
        if command.is_response or command.message_id is None:
            raise ProtocolFault(
                f"command field {command.command_field:04X}H where a request is due"
            )
        begun = time.monotonic()
        self._request, self._cancelled, self._received = command, False, 0
        dataset = self._dataset(context) if command.has_data_set else iter(())
        request = Request(command, context, self._caller, dataset)
        final = status.PROCESSING_FAILURE
        for response in self._responses(request):
            if not status.is_pending(response.status):
                for _ in dataset:  # what the service did not want of it
                    pass
            self._send(context, response)
            final = response.status
        self._flush()
        seconds = time.monotonic() - begun
        self._metrics.served(command.command_field, final, seconds, self._received)

    def _responses(self, request: Request) -> Iterator[Response]:
        """Yield what the service answers, at least one final response whatever goes wrong."""
        command = request.command
        final: Response | None
        try:
            final = self._refusal(request)
            if final is None:
                yield from self._services(request)[command.command_field](request, self)
        except (AssociationLost, ProtocolFault):
            raise
        except ImagingError as error:
            table = _TABLES.get(command.command_field, {})
            final = Response(status.status_of(error, table), str(error))
            facts = {**_facts(command), "status": f"{final.status:04X}", "reason": final.comment}
            log.warning("request_failed", extra=facts)
        except Exception:
            log.exception("service_failed", extra=_facts(command))
            final = Response(status.PROCESSING_FAILURE, "processing failure")
        if final is not None:
            yield final

    def _refusal(self, request: Request) -> Response | None:
        """PS3.7 C.5: what no service is asked."""
        command, syntax = request.command, request.context.abstract_syntax
        kind = command.command_field
        if kind not in self._services(request):
            return Response(status.UNRECOGNIZED_OPERATION, "not a service of this SOP class")
        if kind in _REQUESTED:
            if not models.may_name(syntax, command.requested_sop_class_uid):
                return Response(status.NO_SUCH_SOP_CLASS, "not that of the presentation context")
        elif not models.may_name(syntax, command.affected_sop_class_uid):
            return Response(
                status.SOP_CLASS_NOT_SUPPORTED,
                "Affected SOP Class UID is not that of the presentation context",
                (0x00000002,),
            )
        return None

    def _services(self, request: Request) -> Mapping[int, Service]:
        return services_of(self._offers, request.context.abstract_syntax)

    def _dataset(self, context: Context) -> Iterator[memoryview]:
        for fragment in self._messages.read_dataset(context.context_id):
            self._received += len(fragment)
            if self._received > self._limits.max_object_bytes:
                raise ProtocolFault(
                    f"data set of more than {self._limits.max_object_bytes} bytes", NOT_SPECIFIED
                )
            yield fragment

    # Responses

    def _send(self, context: Context, response: Response) -> None:
        """Send, or keep a pending response for a moment to send it with the next ones."""
        if not self._unsent:
            self._unsent_since = time.monotonic()
        command = self._response(response)
        identifier = None if response.identifier is None else (response.identifier,)
        self._unsent.extend(self._messages.encode(context.context_id, command, identifier))
        if (
            not status.is_pending(response.status)
            or sum(map(len, self._unsent)) >= _BATCH_BYTES
            or time.monotonic() - self._unsent_since >= _BATCH_S
        ):
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._messages.send_encoded(unsent)

    def _response(self, response: Response) -> Command:
        request = self._request
        kind, counts = request.command_field, response.counts
        requested = kind in _REQUESTED
        command = Command(
            command_field=kind | dimse.RESPONSE,
            affected_sop_class_uid=_echoed(
                request.requested_sop_class_uid if requested else request.affected_sop_class_uid
            ),
            message_id_being_responded_to=request.message_id,
            command_data_set_type=dimse.NO_DATA_SET
            if response.identifier is None
            else dimse.DATA_SET,
            status=response.status,
            offending_element=response.offending or None,
            error_comment=response.comment or None,
            error_id=response.error_id,
            attribute_identifier_list=response.attributes or None,
            action_type_id=request.action_type_id,
        )
        if kind in _NAMES_INSTANCE:
            command.affected_sop_instance_uid = response.sop_instance_uid or _echoed(
                request.requested_sop_instance_uid
                if requested
                else request.affected_sop_instance_uid
            )
        if counts is not None:
            command.number_of_remaining_suboperations = counts.remaining
            command.number_of_completed_suboperations = counts.completed
            command.number_of_failed_suboperations = counts.failed
            command.number_of_warning_suboperations = counts.warning
        return command


def _echoed(uid: str | None) -> str | None:
    """Return a UID of the request for the response; what is no UID is not sent back."""
    return uid if uid is not None and values.is_uid(uid) else None


def _facts(command: Command) -> dict[str, object]:
    return {"operation": f"{command.command_field:04X}", "message_id": command.message_id}
