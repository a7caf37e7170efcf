"""From the spool into the archive: object first, index second, spool last.

    spool record ─ read back, compare ─┬─ other bytes than received → parked
                                       ├─ header sound   → instance key
                                       └─ header faulty  → quarantine key
    put the objects; what is not the same file is read back, hashes are compared
    ONE transaction: index rows, counters, incidents, quarantine rows
    release the spool record (folder store) or let it settle (S3)

Whatever dies in between, the record is still in the spool and is done again;
every step gives the same result when repeated.
"""

import hashlib
import logging
import mmap
import os
import threading
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
from storage.spool import Spool, SpoolRecord, checksum_of

log = logging.getLogger(__name__)

BATCH: Final = 256
READ_AT_ONCE: Final = 8 << 20
"""Bytes up to which a record is read and not mapped: fresh pages cost more than a copy."""
SHOWN_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Examined:
    """A spool record that was read: either `sound` or with a `fault`."""

    record: SpoolRecord
    key: str
    dataset_offset: int
    dataset_sha256: str
    head: Head | None
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


class _Pages(threading.local):
    """Memory of this thread into which small records are read, again and again."""

    def __init__(self) -> None:
        self.buffer = bytearray(READ_AT_ONCE)


_pages: Final = _Pages()


class _Rotten(Exception):
    """The bytes of a spool record are not those that were received."""


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
        read = [self._examine(record) for record in records]
        examined = [one for one in read if isinstance(one, Examined)]
        self._store_objects(examined)
        with transaction(self._engine) as session:
            ingested = _index(session, examined)
        for one in examined:
            if self._store.settles:
                self._spool.settle(one.record)
            else:
                self._spool.remove(one.record)
        _report(ingested)
        return ingested + [one for one in read if isinstance(one, Ingested)]

    def _examine(self, record: SpoolRecord) -> Examined | Ingested | None:
        """Read a record; None when another process has finished it meanwhile."""
        try:
            with _content(record) as content:
                return _read(record, content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"spool record {record.name}: {error.strerror}") from error
        except _Rotten:
            log.error("spool_record_rotten", extra={"record": record.name})  # noqa: TRY400
            self._spool.park(record)
            return Ingested(record, None, "reads back with other bytes than were received; parked")

    def _store_objects(self, examined: Sequence[Examined]) -> None:
        self._store.put_files([(one.key, one.record.path) for one in examined])
        for one in examined:
            if not self._store.is_file(one.key, one.record.path) and not self._is_whole(one):
                self._store.delete(one.key)
                raise StoreUnavailable(f"object {one.key} reads back with another hash")

    def _is_whole(self, one: Examined) -> bool:
        return self._store.sha256(one.key, one.dataset_offset) == one.dataset_sha256

    def settle(self, record: SpoolRecord) -> None:
        """Let go of a record whose settle time is over, if its object is still whole.

        An object that the store lost meanwhile is put again and settles anew.

        Raises
        ------
        StoreUnavailable
            The store does not answer.
        """
        examined = self._examine(record)
        if not isinstance(examined, Examined):
            return
        try:
            whole = self._is_whole(examined)
        except NotFound:
            whole = False
        if whole:
            self._spool.remove(record)
            return
        log.error("settled_object_lost", extra={"object_key": examined.key})
        self._store.delete(examined.key)
        self._spool.restore(record)


@contextmanager
def _content(record: SpoolRecord) -> Iterator[memoryview]:
    with record.path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= READ_AT_ONCE:
            yield memoryview(_pages.buffer)[: file.readinto(_pages.buffer)]
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            content = memoryview(mapped)
            try:
                yield content
            finally:
                content.release()


def _read(record: SpoolRecord, content: memoryview) -> Examined:
    offset = len(content) - record.dataset_size
    if offset < 0:
        raise _Rotten
    dataset = content[offset:]
    try:
        if checksum_of(dataset) != record.checksum:
            raise _Rotten
        sha256 = hashlib.sha256(dataset).hexdigest()
        return _judged(record, bytes(content[:offset]), dataset, sha256)
    finally:
        dataset.release()


def _judged(record: SpoolRecord, start: bytes, dataset: memoryview, sha256: str) -> Examined:
    """Read the header of a record whose bytes are those that were received."""
    held_key = keys.quarantine_key(sha256, record.name)
    head = None
    try:
        head = part10.read_head(start)
        found = header.scan(dataset, head.transfer_syntax_uid)
        header.check(found, head.sop_class_uid, head.sop_instance_uid)
        texts = found.attributes(attributes.STORED)
    except (Malformed, Conflict) as fault:
        return Examined(record, held_key, len(start), sha256, head, fault=fault)
    key = keys.instance_key(texts["StudyInstanceUID"], head.transfer_syntax_uid, sha256)
    sound = ReceivedInstance(
        attributes=texts,
        transfer_syntax_uid=head.transfer_syntax_uid,
        object_key=key,
        dataset_offset=len(start),
        dataset_size=record.dataset_size,
        dataset_sha256=sha256,
        received_at=record.received_at,
        source_ae_title=head.provenance.source_ae_title if head.provenance else "",
    )
    return Examined(record, key, len(start), sha256, head, sound=sound)


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
        dataset_offset=one.dataset_offset,
        dataset_size=one.record.dataset_size,
        dataset_sha256=one.dataset_sha256,
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
