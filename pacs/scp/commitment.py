"""Storage Commitment Push Model SCP (PS3.4 Annex J): asked for now, vouched for later.

N-ACTION ─ noted, answered ─ verified ─ N-EVENT-REPORT on an association of ours ─ done
                                 └── what is still being ingested is waited for
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pacs import commitment
from pacs.commitment import Locate
from pacs.scp import datasets, models, status
from pacs.scp.datasets import Attributes
from pacs.scp.exchange import Exchange, Request, Response
from pacs.scu.association import Address
from pacs.scu.event_reports import Event, EventReports
from storage.archive import commitments
from storage.archive.commitments import Commitment, Reference
from storage.base import values
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotSupported, PeerUnavailable
from storage.db.engine import Engine, transaction
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

MAX_ACTION_BYTES: Final = 32 << 20
REQUEST_COMMITMENT: Final = 1
"""Action Type ID (PS3.4 Table J.3-1)."""
SUCCESSFUL: Final = 1
FAILURES_EXIST: Final = 2
"""Event Type IDs (PS3.4 Table J.3-3)."""

LEASE: Final = timedelta(minutes=10)
PATIENCE: Final = timedelta(seconds=60)
"""So long is waited for instances that are not in the archive yet."""
LOOK_AGAIN: Final = timedelta(seconds=2)
FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=1)
GIVE_UP: Final = timedelta(days=3)
KEPT: Final = timedelta(days=30)

Resolve = Callable[[str], Address | None]
Note = Callable[[Commitment], None]


def act(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    resolve: Resolve,
    note: Note,
) -> tuple[Response]:
    """Take a request for storage commitment: N-ACTION (PS3.4 J.3.2).

    Raises
    ------
    Malformed
        The data set cannot be read, or lacks what the table requires.
    Conflict
        The Transaction UID was used for other instances.
    StoreUnavailable
        The request cannot be kept now.
    """
    command, caller = request.command, request.caller
    if command.requested_sop_instance_uid != models.STORAGE_COMMITMENT_INSTANCE:
        return (Response(status.NO_SUCH_SOP_INSTANCE, "not the well-known SOP Instance"),)
    if command.action_type_id != REQUEST_COMMITMENT:
        return (Response(status.NO_SUCH_ACTION, "Action Type ID is not 1"),)
    if resolve(caller.calling_ae_title) is None:
        return (Response(status.PROCESSING_FAILURE, "no address is known to report to"),)
    data = request.identifier(MAX_ACTION_BYTES)
    asked = datasets.read(data, request.context.transfer_syntax)
    transaction_uid = datasets.text(asked, "TransactionUID")
    references = tuple(map(_reference, datasets.items(asked, "ReferencedSOPSequence")))
    if not values.is_uid(transaction_uid) or not references:
        raise Malformed("Transaction UID or Referenced SOP Sequence is missing")
    note(
        Commitment(
            transaction_uid,
            caller.calling_ae_title,
            caller.called_ae_title,
            references,
            utc_now(),
        )
    )
    return (Response(status.SUCCESS),)


def _reference(item: Attributes) -> Reference:
    uids = [datasets.text(item, f"ReferencedSOP{what}UID") for what in ("Class", "Instance")]
    if not all(map(values.is_uid, uids)):
        raise Malformed("Referenced SOP Sequence: an item without its UIDs")
    return Reference(*uids)


def result(asked: Commitment, failures: Mapping[str, int], ae_title: str) -> Attributes:
    """Return the data set of the report (PS3.4 Table J.3-4); `ae_title` retrieves: ours."""
    committed = [_item(one) for one in asked.references if one.sop_instance_uid not in failures]
    failed = [
        {**_item(one), "FailureReason": str(failures[one.sop_instance_uid])}
        for one in asked.references
        if one.sop_instance_uid in failures
    ]
    report: dict[str, str | list[dict[str, str]]] = {"TransactionUID": asked.transaction_uid}
    if committed:
        report |= {"RetrieveAETitle": ae_title, "ReferencedSOPSequence": committed}
    if failed:
        report["FailedSOPSequence"] = failed
    return report


def _item(reference: Reference) -> dict[str, str]:
    return {
        "ReferencedSOPClassUID": reference.sop_class_uid,
        "ReferencedSOPInstanceUID": reference.sop_instance_uid,
    }


@dataclass(frozen=True, slots=True)
class Reporter:
    """Verifies and reports what was asked for; any number of them may run."""

    engine: Engine
    store: ObjectStore
    locate: Locate
    resolve: Resolve
    ae_title: str

    def run_once(self, now: datetime | None = None) -> bool:
        """Bring one commitment a step further; False when none is due.

        Raises
        ------
        StoreUnavailable
            The database or the object store does not answer; it is tried again.
        """
        moment = now or utc_now()
        with transaction(self.engine) as session:
            asked = commitments.claim(session, moment, LEASE)
        if asked is None:
            return False
        failures = asked.failures
        if failures is None:
            failures = commitment.verify(self.locate, self.store, asked.references)
            missing = commitment.NO_SUCH_OBJECT in failures.values()
            if missing and moment < asked.requested_at + PATIENCE:
                self._put_off(asked, moment + LOOK_AGAIN, asked.attempts)
                return True
            with transaction(self.engine) as session:
                commitments.note_verified(session, asked.id, failures)
        self._report(asked, failures, moment)
        return True

    def _report(self, asked: Commitment, failures: Mapping[str, int], now: datetime) -> None:
        facts = {"peer": asked.calling_ae_title, "transaction_uid": asked.transaction_uid}
        try:
            answer = self._send(asked, failures)
        except (PeerUnavailable, NotSupported) as error:
            self._not_taken(asked, now, {**facts, "reason": str(error)})
            return
        if answer != status.SUCCESS:
            self._not_taken(asked, now, {**facts, "status": f"{answer:04X}"})
            return
        with transaction(self.engine) as session:
            commitments.finish(session, asked.id, commitments.REPORTED)
            commitments.forget(session, now - KEPT)
        counts = {"total": len(asked.references), "failed": len(failures)}
        log.info("commitment_reported", extra={**facts, **counts})

    def _send(self, asked: Commitment, failures: Mapping[str, int]) -> int:
        address = self.resolve(asked.calling_ae_title)
        if address is None:
            raise PeerUnavailable("no address is known any more")
        event = Event(
            models.STORAGE_COMMITMENT,
            models.STORAGE_COMMITMENT_INSTANCE,
            FAILURES_EXIST if failures else SUCCESSFUL,
        )
        report = result(asked, failures, self.ae_title)
        with EventReports(address, asked.called_ae_title, models.STORAGE_COMMITMENT) as reports:
            return reports.send(event, datasets.write(report, reports.transfer_syntax))

    def _not_taken(self, asked: Commitment, now: datetime, facts: Mapping[str, object]) -> None:
        if now - asked.requested_at > GIVE_UP:
            log.error("commitment_parked", extra=dict(facts))
            with transaction(self.engine) as session:
                commitments.finish(session, asked.id, commitments.PARKED)
            return
        pause = min(FIRST_PAUSE * 2 ** min(asked.attempts, 10), LONGEST_PAUSE)
        log.warning("commitment_report_waits", extra={**facts, "retry_in_s": pause.total_seconds()})
        self._put_off(asked, now + pause, asked.attempts + 1)

    def _put_off(self, asked: Commitment, due_at: datetime, attempts: int) -> None:
        with transaction(self.engine) as session:
            commitments.put_off(session, asked.id, due_at, attempts=attempts)
