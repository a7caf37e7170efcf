"""The C-STORE sub-operations of C-MOVE and C-GET, performed and counted (PS3.4 C.4.2, C.4.3)."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pacs import retrieve
from pacs.scp import identifiers, status
from pacs.scp.exchange import Counts, Exchange, Request, Response
from pacs.scp.models import Levels
from pacs.scu.sender import WARNINGS
from pacs.upper_layer.faults import AssociationLost, ProtocolFault
from storage.archive.model import StoredInstance
from storage.base.errors import ImagingError, StoreUnavailable
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

Locate = Callable[[dict[str, str]], Sequence[StoredInstance]]
"""Finds the instances under unique keys, UID lists by backslash."""
Send = Callable[[StoredInstance], int]
"""Performs one sub-operation and returns its status."""

_WHOLE_BYTES: Final = 16 << 20
"""Objects up to this size are read and verified in memory before the first byte is sent."""


@dataclass(slots=True)
class _Progress:
    total: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)
    reason: str = ""

    def counts(self, *, remaining: bool) -> Counts:
        done = self.completed + self.warning + len(self.failed)
        left = self.total - done if remaining else None
        return Counts(self.completed, len(self.failed), self.warning, left)


def wanted(request: Request, levels: Levels) -> dict[str, str]:
    """Return the unique keys of what a retrieval asks for.

    Raises
    ------
    Malformed, Conflict
        The identifier cannot be read, or does not fit the model.
    """
    context = request.context
    identifier = identifiers.read(
        request.identifier(),
        context.transfer_syntax,
        levels,
        relational=context.options.relational,
    )
    return identifiers.unique_keys(identifier, levels)


def perform(
    request: Request, exchange: Exchange, instances: Sequence[StoredInstance], send: Send
) -> Iterator[Response]:
    """Send every instance; yield a pending response after each, and the final one."""
    progress = _Progress(len(instances))
    for instance in instances:
        if exchange.cancelled():
            yield _final(request, progress, status.CANCEL, remaining=True)
            return
        _try(instance, send, progress)
        yield Response(status.PENDING, counts=progress.counts(remaining=True))
    yield _final(request, progress, _outcome(progress))


def _try(instance: StoredInstance, send: Send, progress: _Progress) -> None:
    try:
        answer = send(instance)
    except (AssociationLost, ProtocolFault):
        raise
    except ImagingError as error:
        _failed(instance, progress, str(error))
    except Exception:
        log.exception("suboperation_failed", extra={"sop_instance_uid": instance.sop_instance_uid})
        _failed(instance, progress, "processing failure")
    else:
        if answer == status.SUCCESS:
            progress.completed += 1
        elif answer in WARNINGS:
            progress.warning += 1
        else:
            _failed(instance, progress, f"the receiver answers {answer:04X}")


def _failed(instance: StoredInstance, progress: _Progress, reason: str) -> None:
    facts = {"sop_instance_uid": instance.sop_instance_uid, "reason": reason}
    log.warning("suboperation_failed", extra=facts)
    progress.failed.append(instance.sop_instance_uid)
    progress.reason = reason


def _outcome(progress: _Progress) -> int:
    """PS3.4 Tables C.4-2 and C.4-3."""
    if progress.total and len(progress.failed) == progress.total:
        return status.SUBOPERATIONS_FAILED
    return status.SUBOPERATIONS_WARNING if progress.failed or progress.warning else status.SUCCESS


def _final(
    request: Request, progress: _Progress, outcome: int, *, remaining: bool = False
) -> Response:
    identifier = None
    if progress.failed:
        identifier = identifiers.failed_list(progress.failed, request.context.transfer_syntax)
    return Response(
        outcome,
        progress.reason,
        identifier=identifier,
        counts=progress.counts(remaining=remaining),
    )


def dataset(
    store: ObjectStore, instance: StoredInstance, accepted: Collection[str]
) -> tuple[str, Iterable[bytes]]:
    """Return the transfer syntax and the dataset to send to a peer that takes `accepted`.

    The stored bytes whenever their transfer syntax is taken. A dataset is known to be
    whole before its first byte is sent, since a message cannot be taken back.

    Raises
    ------
    NotSupported
        The peer takes none in which the object can be given without loss.
    StoreUnavailable
        The object cannot be read, or is not what was received.
    """
    stored = instance.transfer_syntax_uid
    if stored not in accepted:
        syntax, converted = retrieve.dataset_as(store, instance, accepted)
        return syntax, (converted,)
    if instance.dataset_size <= _WHOLE_BYTES:
        return stored, (retrieve.outgoing(store, instance),)
    place = instance.object_key, instance.dataset_offset, instance.dataset_size
    if store.sha256(*place) != instance.dataset_sha256:
        raise StoreUnavailable("the stored bytes are not those received")
    return stored, retrieve.outgoing_pieces(store, instance)
