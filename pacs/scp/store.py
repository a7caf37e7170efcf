"""C-STORE SCP (PS3.4 Annex B): one SOP Instance in, safe on disk, answered."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pacs import header, part10
from pacs.header import HeaderReader
from pacs.part10 import Provenance
from pacs.scp import status
from pacs.scp.exchange import Exchange, Request, Response
from pacs.upper_layer.connection import MAX_PDU_BYTES
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed
from storage.spool import Spool

log = logging.getLogger(__name__)

PACKED_BYTES: Final = 64 << 10
"""Larger objects are files of their own: what a flush costs no longer counts there."""


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
    fragments = iter(request.dataset)
    small = _begin(fragments, inspection)
    if small.whole and inspection.fault() is None:
        spool.append(head, small.content)
        return (Response(status.SUCCESS),)
    with spool.incoming(head) as incoming:
        incoming.write(small.content)
        for fragment in fragments:
            incoming.write(fragment)
            inspection.feed(fragment)
        fault = inspection.fault()
    if fault is None:
        return (Response(status.SUCCESS),)
    log.warning("store_faulty", extra={"record": incoming.record.name, "reason": str(fault)})
    return (Response(status.status_of(fault, status.STORE), str(fault)),)


class _Memory(threading.local):
    """Of this thread, into which every object begins; kept, so that no page is touched anew."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(PACKED_BYTES + MAX_PDU_BYTES))


_memory: Final = _Memory()


@dataclass(frozen=True, slots=True)
class _Beginning:
    content: memoryview
    """Valid until this thread begins another object."""
    whole: bool


def _begin(fragments: Iterator[memoryview], inspection: "_Inspection") -> _Beginning:
    """Receive a small object whole, or the beginning of a larger one."""
    view, size = _memory.view, 0
    for fragment in fragments:
        inspection.feed(fragment)
        view[size : size + len(fragment)] = fragment
        size += len(fragment)
        if size > PACKED_BYTES:
            return _Beginning(view[:size], whole=False)
    return _Beginning(view[:size], whole=True)


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
