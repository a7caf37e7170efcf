"""From the spool into the archive: object first, index second, spool last.

    spool record ─ read back, compare ─┬─ other bytes than received → parked
                                       ├─ header sound   → instance key
                                       └─ header faulty  → quarantine key
    put the objects; what is not the same file is read back, hashes are compared
    (a pack becomes one object; what of it belongs in quarantine becomes a record of its own)
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pacs import charsets, header, part10, rejecting
from pacs.part10 import Head, Provenance
from ris import news
from storage.archive import attributes, compressions, custom, incidents, instances, quarantine
from storage.archive.incidents import Incident
from storage.archive.incidents import Kind as Noticed
from storage.archive.model import Custom, Outcome, ReceivedInstance, Verdict
from storage.archive.quarantine import Held, Reason
from storage.archive.rejection_rules import Note
from storage.audit import journal
from storage.audit.model import Entry, Kind
from storage.base.clock import utc_now
from storage.base.errors import Conflict, ImagingError, Malformed, NotFound, StoreUnavailable
from storage.db.engine import Engine, Session, transaction
from storage.objects import keys
from storage.objects.store import ObjectStore
from storage.spool import Member, Spool, SpoolRecord, checksum_of, members

log = logging.getLogger(__name__)

BATCH: Final = 256
READ_AT_ONCE: Final = 8 << 20
"""Bytes up to which a record is read and not mapped: fresh pages cost more than a copy."""
SHOWN_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Placed:
    """Where bytes go in the object store, and how to tell that they are there."""

    key: str
    dataset_offset: int
    checked_from: int
    """From here to its end the object has this hash: the dataset, or the whole pack."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found in an object: `sound` is what the index keeps, else it has a `fault`."""

    head: Head | None
    sound: Mapping[str, str] | None = None
    fault: ImagingError | None = None
    warnings: Sequence[str] = ()
    """What was odd in its texts."""
    custom: Mapping[Custom, str] = field(default_factory=dict)
    """Texts of attributes that an operator added."""
    note: Note | None = None
    """What it says, when it is a rejection note."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A received object that was read."""

    record: SpoolRecord
    placed: Placed
    dataset_size: int
    dataset_sha256: str
    received_at: datetime
    judged: Judged
    member: Member | None = None
    """Which object of the record it is, when that is a pack."""

    @property
    def head(self) -> Head | None:
        """What stands before the dataset, if it could be read."""
        return self.judged.head

    @property
    def sound(self) -> Mapping[str, str] | None:
        """What the index keeps, None of an object with a fault."""
        return self.judged.sound

    @property
    def provenance(self) -> Provenance | None:
        """How it came."""
        return self.head.provenance if self.head else None


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


class _Outdated(Exception):
    """Objects were examined for other attributes than the index has by now."""


class _Rotten(Exception):
    """The bytes of a spool record are not those that were received."""


class Ingest:
    """Moves spool records into the object store and the index.

    Parameters
    ----------
    follow
        The studies may have orders, and are being made: they are looked after (`ris.following`).
    """

    def __init__(
        self, engine: Engine, store: ObjectStore, spool: Spool, *, follow: bool = True
    ) -> None:
        self._engine = engine
        self._follow = follow
        self._store = store
        self._spool = spool
        self._custom: tuple[Custom, ...] = ()
        """Attributes that an operator added, as the last batch found them."""

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
            if records[0].packed:  # and which of its objects
                self._spool.unpack(records[0])
                return [Ingested(records[0], None, "could not be processed; unpacked")]
            self._spool.park(records[0])
            return [Ingested(records[0], None, "could not be processed; parked in the spool")]

    def _take(self, records: Sequence[SpoolRecord]) -> list[Ingested]:
        read = [one for record in records for one in self._examine(record)]
        examined = [one for one in read if isinstance(one, Examined)]
        aside = [one for one in read if isinstance(one, Ingested)]
        taken = [*{one.record.name: one.record for one in examined}.values()]
        self._store_objects(examined)
        try:
            with transaction(self._engine) as session:
                self._require_current(session)
                if self._follow:
                    # before the archive's rows: who follows takes them in this order
                    sound = {one.sound["StudyInstanceUID"] for one in examined if one.sound}
                    news.arrived(session, sound, utc_now())
                    news.notice(session, _rejected_studies(examined), utc_now())
                ingested = _index(session, examined)
        except _Outdated:
            return self._take(taken) + aside
        self._take_out(examined, ingested)
        for record in taken:
            if self._store.settles:
                self._spool.settle(record)
            else:
                self._spool.remove(record)
        _report(ingested)
        return ingested + aside

    def _require_current(self, session: Session) -> None:
        """Raise `_Outdated` when an operator has added or removed an attribute meanwhile."""
        current = tuple(replace(one, whole=True) for one in custom.current(session))
        if current != self._custom:
            self._custom = current
            raise _Outdated

    def _examine(self, record: SpoolRecord) -> list[Examined | Ingested]:
        """Read a record; nothing when another process has finished it meanwhile."""
        try:
            with _content(record) as content:
                return (
                    [*_read_pack(record, content, self._custom)]
                    if record.packed
                    else [_read(record, content, self._custom)]
                )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreUnavailable(f"spool record {record.name}: {error.strerror}") from error
        except _Rotten as rotten:
            log.error(  # noqa: TRY400
                "spool_record_rotten", extra={"record": record.name, "reason": str(rotten)}
            )
            return self._set_aside(record)

    def _set_aside(self, record: SpoolRecord) -> list[Examined | Ingested]:
        """Park a record for a person; of a pack, first make its sound objects records."""
        detail = "reads back with other bytes than were received; parked"
        if record.packed:
            self._spool.unpack(record, keep=True)
        self._spool.park(record)
        return [Ingested(record, None, detail)]

    def _take_out(self, examined: Sequence[Examined], ingested: Sequence[Ingested]) -> None:
        """Let what a pack holds for the quarantine be a record, before the pack is released."""
        aside = [
            one
            for one, done in zip(examined, ingested, strict=True)
            if one.member is not None and done.held
        ]
        for one in aside:
            if one.member is not None:
                self._spool.take_out(one.record, one.member)

    def _store_objects(self, examined: Sequence[Examined]) -> None:
        placed = {one.placed.key: (one.placed, one.record.path) for one in examined}
        self._store.put_files([(key, path) for key, (_, path) in placed.items()])
        for key, (place, path) in placed.items():
            if not self._store.is_file(key, path) and not self._is_whole(place):
                self._store.delete(key)
                raise StoreUnavailable(f"object {key} reads back with another hash")

    def _is_whole(self, place: Placed) -> bool:
        return self._store.sha256(place.key, place.checked_from) == place.sha256

    def settle(self, record: SpoolRecord) -> None:
        """Let go of a record whose settle time is over, if its object is still whole.

        An object that the store lost meanwhile is put again and settles anew.

        Raises
        ------
        StoreUnavailable
            The store does not answer.
        """
        examined = next((one for one in self._examine(record) if isinstance(one, Examined)), None)
        if examined is None:
            return
        place = examined.placed
        try:
            whole = self._is_whole(place)
        except NotFound:
            whole = False
        if whole:
            self._spool.remove(record)
            return
        log.error("settled_object_lost", extra={"object_key": place.key})
        self._store.delete(place.key)
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


def _read(record: SpoolRecord, content: memoryview, wanted: Sequence[Custom]) -> Examined:
    offset = len(content) - record.dataset_size
    if offset < 0:
        raise _Rotten("cut short")
    start, dataset = bytes(content[:offset]), content[offset:]
    try:
        sha256 = _checked(dataset, record.checksum)
        judged = _judged(start, dataset, wanted)
    finally:
        dataset.release()
    head, sound = judged.head, judged.sound
    if head is not None and sound:
        key = keys.instance_key(sound["StudyInstanceUID"], head.transfer_syntax_uid, sha256)
    else:
        key = keys.quarantine_key(sha256, record.name)
    placed = Placed(key, offset, offset, sha256)
    return Examined(record, placed, record.dataset_size, sha256, record.received_at, judged)


def _read_pack(
    record: SpoolRecord, content: memoryview, wanted: Sequence[Custom]
) -> Iterator[Examined]:
    found, end = members(content)
    if end < len(content) or len(found) < record.objects:
        raise _Rotten(f"{len(content) - end} bytes of a pack are of no object")
    whole = hashlib.sha256(content).hexdigest()
    key = keys.pack_key(whole)
    for member in found:
        start = bytes(content[member.offset : member.dataset_offset])
        dataset = content[member.dataset_offset : member.end]
        try:
            sha256 = _checked(dataset, member.checksum)
            judged = _judged(start, dataset, wanted)
        finally:
            dataset.release()
        placed = Placed(key, member.dataset_offset, 0, whole)
        size, received_at = member.dataset_size, member.received_at
        yield Examined(record, placed, size, sha256, received_at, judged, member)


def _checked(dataset: memoryview, checksum: str) -> str:
    """Return the SHA-256 of bytes that are those that were received."""
    if checksum_of(dataset) != checksum:
        raise _Rotten("other bytes than were received")
    return hashlib.sha256(dataset).hexdigest()


def _judged(start: bytes, dataset: memoryview, wanted: Sequence[Custom]) -> Judged:
    """Read the header of an object, also for what an operator `wanted`."""
    head = None
    try:
        head = part10.read_head(start)
        found = header.scan(dataset, head.transfer_syntax_uid)
        header.check(found, head.sop_class_uid, head.sop_instance_uid)
        kept = found.attributes(attributes.STORED)
    except (Malformed, Conflict) as fault:
        return Judged(head, fault=fault)
    custom_texts = {one: found.text_at(one.path, one.creator, one.vr) for one in wanted}
    note = None
    if head.sop_class_uid == rejecting.KEY_OBJECT_SELECTION:
        note = rejecting.read_if_sound(dataset, head.transfer_syntax_uid)
    return Judged(head, kept, None, found.warnings, custom_texts, note)


def _rejected_studies(examined: Sequence[Examined]) -> set[str]:
    """Return the studies of which rejection notes name objects."""
    notes = (one.judged.note for one in examined)
    return {each.study_instance_uid for note in notes if note for each in note.named}


def _index(session: Session, examined: Sequence[Examined]) -> list[Ingested]:
    sound = [_received(one, one.sound) for one in examined if one.sound is not None]
    outcomes = iter(instances.record(session, sound))
    ingested = []
    for one in examined:
        outcome = next(outcomes) if one.sound is not None else None
        done = Ingested(
            one.record,
            outcome.verdict if outcome else None,
            outcome.detail if outcome else str(one.judged.fault),
        )
        if done.held and one.member is None:
            quarantine.hold(session, _held(one, outcome))
        ingested.append(done)
    pairs = [*zip(examined, ingested, strict=True)]
    incidents.note(session, _unread(pairs))
    compressions.came_again(session, dict(_again(pairs)), utc_now())
    journal.append_all(session, _rejected(pairs))
    return ingested


def _rejected(done: Sequence[tuple[Examined, Ingested]]) -> Iterator[Entry]:
    """Yield what the journal of accesses tells of new rejection notes."""
    for one, became in done:
        note, provenance = one.judged.note, one.provenance
        if note is None or one.sound is None or became.verdict is not Verdict.STORED:
            continue
        yield Entry(
            kind=Kind.REJECT,
            actor=provenance.source_ae_title if provenance else "",
            actor_name=note.author,
            address=provenance.address if provenance else "",
            study_instance_uid=one.sound["StudyInstanceUID"],
            details={
                "note": one.sound["SOPInstanceUID"],
                "title": note.title,
                "named": len(note.named),
            },
        )


def _again(done: Sequence[tuple[Examined, Ingested]]) -> Iterator[tuple[str, str]]:
    """Yield SOP Instance UID and key of objects that are held already."""
    for one, became in done:
        if became.verdict is Verdict.DUPLICATE and one.sound is not None:
            yield one.sound["SOPInstanceUID"], one.placed.key


def _unread(done: Sequence[tuple[Examined, Ingested]]) -> list[Incident]:
    """Return an incident for each study whose texts could only be guessed."""
    noticed: dict[str, Incident] = {}
    for one, became in done:
        unknown = [text for text in one.judged.warnings if charsets.UNKNOWN in text]
        if not unknown or one.sound is None or became.verdict is not Verdict.STORED:
            continue
        study, patient = (one.sound.get(key, "") for key in ("StudyInstanceUID", "PatientID"))
        noticed.setdefault(
            study,
            Incident(Noticed.CHARACTER_SET, study, patient, "", charsets.UNKNOWN, one.received_at),
        )
    return [*noticed.values()]


def _received(one: Examined, attributes: Mapping[str, str]) -> ReceivedInstance:
    return ReceivedInstance(
        attributes=attributes,
        transfer_syntax_uid=one.head.transfer_syntax_uid if one.head else "",
        object_key=one.placed.key,
        dataset_offset=one.placed.dataset_offset,
        dataset_size=one.dataset_size,
        dataset_sha256=one.dataset_sha256,
        received_at=one.received_at,
        source_ae_title=one.provenance.source_ae_title if one.provenance else "",
        custom=one.judged.custom,
        note=one.judged.note,
    )


def _held(one: Examined, outcome: Outcome | None) -> Held:
    head, provenance = one.head, one.provenance
    return Held(
        received_at=one.received_at,
        reason=Reason(outcome.reason) if outcome else _reason(one.judged.fault),
        detail=outcome.detail if outcome else str(one.judged.fault)[:SHOWN_TEXT],
        wire=provenance.wire if provenance else "",
        source_ae_title=provenance.source_ae_title if provenance else "",
        address=provenance.address if provenance else "",
        sop_class_uid=head.sop_class_uid if head else "",
        sop_instance_uid=head.sop_instance_uid if head else "",
        study_instance_uid=one.sound.get("StudyInstanceUID", "") if one.sound else "",
        transfer_syntax_uid=head.transfer_syntax_uid if head else "",
        object_key=one.placed.key,
        dataset_offset=one.placed.dataset_offset,
        dataset_size=one.dataset_size,
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
