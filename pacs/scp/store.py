"""C-STORE SCP (PS3.4 Annex B): one SOP Instance in, safe on disk, answered."""

import logging

from pacs import header, part10
from pacs.header import HeaderReader
from pacs.part10 import Provenance
from pacs.scp import status
from pacs.scp.exchange import Exchange, Request, Response
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed
from storage.spool import Spool

log = logging.getLogger(__name__)


def store(request: Request, exchange: Exchange, *, spool: Spool) -> tuple[Response]:  # noqa: ARG001
    """Spool the received SOP Instance exactly as it was encoded.

    The modality waits for a disk and a scan of the header, never for the index or
    the object store. Success means that the object is durable. An object that cannot be
    read or is not what the command says is kept too, for the quarantine, but
    its sender is told.

    Raises
    ------
    Malformed
        No data set came.
    StoreUnavailable
        The spool is full or broken; nothing is left behind.
    """
    command, context, caller = request.command, request.context, request.caller
    if not command.has_data_set:
        raise Malformed("C-STORE without a data set")
    head = part10.head(
        command.affected_sop_class_uid or "",
        command.affected_sop_instance_uid or "",
        context.transfer_syntax,
        Provenance(
            utc_now(), "c-store", caller.calling_ae_title, caller.called_ae_title, caller.address
        ),
    )
    inspection = _Inspection(request)
    with spool.incoming(head) as incoming:
        for fragment in request.dataset:
            incoming.write(fragment)
            inspection.feed(fragment)
        fault = inspection.fault()
    if fault is None:
        return (Response(status.SUCCESS),)
    log.warning("store_faulty", extra={"record": incoming.record.name, "reason": str(fault)})
    return (Response(status.status_of(fault, status.STORE), str(fault)),)


class _Inspection:
    """Reads the header while the object arrives; what is wrong waits until it is complete."""

    def __init__(self, request: Request) -> None:
        self._command = request.command
        self._reader = HeaderReader(request.context.transfer_syntax)
        self._fault: Malformed | Conflict | None = None

    def feed(self, fragment: memoryview) -> None:
        if self._fault is None:
            try:
                self._reader.feed(fragment)
            except Malformed as fault:
                self._fault = fault

    def fault(self) -> Malformed | Conflict | None:
        """Return what is wrong with the complete object, if anything."""
        if self._fault is None:
            try:
                header.check(
                    self._reader.finish(),
                    self._command.affected_sop_class_uid or "",
                    self._command.affected_sop_instance_uid or "",
                )
            except (Malformed, Conflict) as fault:
                self._fault = fault
        return self._fault
