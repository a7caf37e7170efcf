"""From the spool into the archive: object first, index second, spool last.

    spool record ─ read head, scan header ─┬─ sound   → instance key
                                           └─ faulty  → quarantine key
    put the objects, read them back, compare hashes
    ONE transaction: index rows, counters, incidents, quarantine rows
    release the spool record (folder store) or let it settle (S3)

Whatever dies in between, the record is still in the spool and is done again;
every step gives the same result when repeated.
"""

import logging
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pacs import header, part10
from pacs.part10 import Head
from storage.archive import attributes, instances, quarantine
from storage.archive.model import Outcome, ReceivedInstance, Verdict
from storage.archive.quarantine import Held, Reason
from storage.base.clock import utc_now
from storage.base.errors import Conflict, ImagingError, Malformed, NotFound, StoreUnavailable
from storage.db.engine import Engine, Session, transaction
from storage.objects import keys
from storage.objects.store import ObjectStore
from storage.spool import Spool, SpoolRecord

log = logging.getLogger(__name__)

BATCH: Final = 64
SHOWN_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Examined:
    """A spool record that was read: either `sound` or with a `fault`."""

    record: SpoolRecord
    key: str
    head: Head | None
    dataset_size: int
    sound: ReceivedInstance | None = None
    fault: ImagingError | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a spool record: a verdict, or held in quarantine for `detail`."""

    record: SpoolRecord
    verdict: Verdict | None
    detail: str = ""

    @property
    def held(self) -> bool:
        """Whether the object is in quarantine and not in the archive."""
        return self.verdict in {None, Verdict.CONFLICT}


class Ingest:
    """Moves spool records into the object store and the index."""

    def __init__(self, engine: Engine, store: ObjectStore, spool: Spool) -> None:
        self._engine = engine
        self._store = store
        self._spool = spool

    def run_once(self, limit: int = BATCH) -> int:
        """Take the oldest `limit` records and return how many were taken.

        Raises
        ------
        StoreUnavailable
            The object store or the database did not answer; the records stay.
        """
        return len(self.take(self._spool.sealed(limit)))

    def take(self, records: Sequence[SpoolRecord]) -> list[Ingested]:
        """Ingest `records` together; a record that no attempt can process is parked.

        Raises
        ------
        StoreUnavailable
            As `run_once`.
        """
        try:
            return self._take(records)
        except StoreUnavailable:
            raise
        except Exception as error:
            left = [record for record in records if record.path.exists()]
            if isinstance(error, NotFound) and len(left) < len(records):
                return self.take(left)  # another process was quicker with one of them
            log.exception("ingest_failed", extra={"records": len(records)})
            if len(records) > 1:  # find the one that poisons the batch
                return [done for record in records for done in self.take([record])]
            self._spool.park(records[0])
            return [Ingested(records[0], None, "could not be processed; parked in the spool")]

    def _take(self, records: Sequence[SpoolRecord]) -> list[Ingested]:
        examined = [one for record in records if (one := _examine(record)) is not None]
        self._store_objects(examined)
        with transaction(self._engine) as session:
            ingested = _index(session, examined)
        for one in examined:
            if self._store.settles:
                self._spool.settle(one.record)
            else:
                self._spool.remove(one.record)
        _report(ingested)
        return ingested

    def _store_objects(self, examined: Sequence[Examined]) -> None:
        self._store.put_files([(one.key, one.record.path) for one in examined])
        for one in examined:
            offset = one.head.length if one.head else 0
            if one.head and self._store.sha256(one.key, offset) != one.record.dataset_sha256:
                self._store.delete(one.key)
                raise StoreUnavailable(f"object {one.key} reads back with another hash")

    def settle(self, record: SpoolRecord) -> None:
        """Let go of a record whose settle time is over, if its object is still whole.

        An object that the store lost meanwhile is put again and settles anew.

        Raises
        ------
        StoreUnavailable
            The store does not answer.
        """
        examined = _examine(record)
        if examined is None:
            return
        offset = examined.head.length if examined.head else 0
        try:
            whole = self._store.sha256(examined.key, offset) == record.dataset_sha256
        except NotFound:
            whole = False
        if whole:
            self._spool.remove(record)
            return
        log.error("settled_object_lost", extra={"object_key": examined.key})
        self._store.delete(examined.key)
        self._spool.restore(record)


def _examine(record: SpoolRecord) -> Examined | None:
    """Read a record; None when another process has finished it meanwhile."""
    try:
        with _mapped(record) as content:
            return _read(record, content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"spool record {record.name}: {error.strerror}") from error


@contextmanager
def _mapped(record: SpoolRecord) -> Iterator[memoryview]:
    with record.path.open("rb") as file:
        if record.path.stat().st_size == 0:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            content = memoryview(mapped)
            try:
                yield content
            finally:
                content.release()


def _read(record: SpoolRecord, content: memoryview) -> Examined:
    held_key = keys.quarantine_key(record.dataset_sha256, record.name)
    try:
        head = part10.read_head(content)
    except Malformed as fault:
        return Examined(record, held_key, None, len(content), fault=fault)
    size = len(content) - head.length
    dataset = content[head.length :]
    try:
        found = header.scan(dataset, head.transfer_syntax_uid)
        header.check(found, head.sop_class_uid, head.sop_instance_uid)
        texts = found.attributes(attributes.STORED)
    except (Malformed, Conflict) as fault:
        return Examined(record, held_key, head, size, fault=fault)
    finally:
        dataset.release()
    key = keys.instance_key(
        texts["StudyInstanceUID"], head.transfer_syntax_uid, record.dataset_sha256
    )
    sound = ReceivedInstance(
        attributes=texts,
        transfer_syntax_uid=head.transfer_syntax_uid,
        object_key=key,
        dataset_offset=head.length,
        dataset_size=size,
        dataset_sha256=record.dataset_sha256,
        received_at=record.received_at,
        source_ae_title=head.provenance.source_ae_title if head.provenance else "",
    )
    return Examined(record, key, head, size, sound=sound)


def _index(session: Session, examined: Sequence[Examined]) -> list[Ingested]:
    sound = [one.sound for one in examined if one.sound is not None]
    outcomes = iter(instances.record(session, sound))
    ingested = []
    for one in examined:
        outcome = next(outcomes) if one.sound else None
        if outcome is None or outcome.verdict is Verdict.CONFLICT:
            quarantine.hold(session, _held(one, outcome))
        detail = outcome.detail if outcome else str(one.fault)
        ingested.append(Ingested(one.record, outcome.verdict if outcome else None, detail))
    return ingested


def _held(one: Examined, outcome: Outcome | None) -> Held:
    texts = one.sound.attributes if one.sound else {}
    head = one.head
    provenance = head.provenance if head else None
    return Held(
        received_at=one.record.received_at,
        reason=Reason(outcome.reason) if outcome else _reason(one.fault),
        detail=outcome.detail if outcome else str(one.fault)[:SHOWN_TEXT],
        wire=provenance.wire if provenance else "",
        source_ae_title=provenance.source_ae_title if provenance else "",
        address=provenance.address if provenance else "",
        sop_class_uid=head.sop_class_uid if head else "",
        sop_instance_uid=head.sop_instance_uid if head else "",
        study_instance_uid=texts.get("StudyInstanceUID", ""),
        transfer_syntax_uid=head.transfer_syntax_uid if head else "",
        object_key=one.key,
        dataset_offset=head.length if head else 0,
        dataset_size=one.dataset_size,
        dataset_sha256=one.record.dataset_sha256,
    )


def _reason(fault: ImagingError | None) -> Reason:
    return Reason.UID_MISMATCH if isinstance(fault, Conflict) else Reason.MALFORMED


def _report(ingested: Sequence[Ingested]) -> None:
    if not ingested:
        return
    oldest = min(one.record.received_at for one in ingested)
    log.info(
        "ingested",
        extra={
            "instances": len(ingested),
            "held": sum(one.held for one in ingested),
            "lag_ms": round((utc_now() - oldest).total_seconds() * 1000),
        },
    )
