"""Compresses what lies in the archive by rules, without loss, beside everything else.

    read, whole ─ compress, each frame compared ─ restore: the received bytes ─ announce a key
    put ─ read back ─ adopt (the index shows it) ─ days ─ read again, restore ─ release

Nothing is replaced before every frame was decoded again, the received dataset was made again
of the compressed one, and the store gave that back as it was put. The received object is
deleted only after it was made again a second time, days later, of what the store gives then.
A death at any point leaves the received object, or both.
"""

import hashlib
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from pacs import part10, retrieve, reversible
from pacs.reversible import Compressed
from storage.archive import compressions
from storage.archive.compressions import Candidate, Kept, Place, Rule, State, Terms
from storage.archive.model import StoredInstance
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound, NotSupported, StoreUnavailable
from storage.db.engine import Engine, transaction
from storage.objects import keys
from storage.objects.store import ObjectStore
from storage.objects.writing import put_pieces

log = logging.getLogger(__name__)

BATCH: Final = 256
"""Instances that are looked at before others may have a rule."""
MAX_BYTES: Final = 256 << 20
"""Of a dataset that is compressed; it is in memory several times."""
MAX_HEAD: Final = 1 << 20
RIPE: Final = timedelta(minutes=10)
"""So long after its reception at the earliest: ids may become visible out of order."""
REST: Final = 1.0
"""Of the time that an instance took, we rest so much: others want this machine too."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When what is done, and how fast."""

    keep: timedelta
    """How long the received object is kept after the index shows the compressed one."""
    ripe: timedelta = RIPE
    rest: float = REST


class Compressing:
    """Applies the rules; `run_once` is called again and again by the worker.

    Parameters
    ----------
    folder
        Of this process's own files, on any file system.
    """

    def __init__(self, engine: Engine, store: ObjectStore, folder: Path, pace: Pace) -> None:
        self._engine = engine
        self._store = store
        self._folder = folder
        self._pace = pace
        self._doubtful: set[int] = set()
        """Instances whose received object is kept, since the compressed one did not give it."""

    def run_once(self, stop: threading.Event) -> bool:
        """Release what is due and compress a batch by each rule; return whether there is more.

        Raises
        ------
        StoreUnavailable
            The database or the store does not answer.
        """
        released = self.release(stop)
        with transaction(self._engine) as session:
            active = [one for one in compressions.rules(session) if one.state is State.ACTIVE]
        worked = [self._apply(rule, stop) for rule in active]
        return (released > 0 or any(worked)) and not stop.is_set()

    # Compressing

    def _apply(self, rule: Rule, stop: threading.Event) -> bool:
        now = utc_now()
        age = max(timedelta(days=rule.terms.older_than_days), self._pace.ripe)
        with transaction(self._engine) as session:
            found = compressions.candidates(session, rule, now - age, BATCH)
            if not found or not compressions.claim(session, rule.id, now):
                return False
        try:
            return self._look_at(rule, found, stop)
        finally:
            with suppress(StoreUnavailable), transaction(self._engine) as session:
                compressions.give_back(session, rule.id)

    def _look_at(self, rule: Rule, found: list[Candidate], stop: threading.Event) -> bool:
        for candidate in found:
            if stop.is_set():
                return False
            left = unfit(rule.terms, candidate)
            if left is None and not self._work_on(rule, candidate, stop):
                return False
            if left or candidate is found[-1]:
                with transaction(self._engine) as session:
                    compressions.walked(session, rule.id, candidate.id, left or "")
        return True

    def _work_on(self, rule: Rule, candidate: Candidate, stop: threading.Event) -> bool:
        """Compress an instance, note that, and rest; False when the rule was taken away."""
        begun_s = time.monotonic()
        left = self._compress(rule, candidate)
        with transaction(self._engine) as session:
            compressions.walked(session, rule.id, candidate.id, left)
            kept = compressions.renew(session, rule.id, utc_now())
        stop.wait((time.monotonic() - begun_s) * self._pace.rest)
        return kept

    def _compress(self, rule: Rule, candidate: Candidate) -> str:
        """Compress an instance; return why it is left as it is, '' when it is not."""
        stored, target = candidate.stored, rule.terms.target_transfer_syntax_uid
        try:
            made = self._made(stored, target)
            place = self._put(stored, made, target)
        except (NotSupported, Malformed, NotFound) as fault:
            return str(fault).rpartition(": ")[2][:100]
        except Conflict as fault:
            log.error(  # noqa: TRY400 - what the store did, not what we did
                "compressed_object_wrong", extra=_facts(stored, str(fault))
            )
            return "the store gave back something else"
        with transaction(self._engine) as session:
            adopted = compressions.adopt(session, rule.id, candidate, place, utc_now())
        return "" if adopted else "it changed meanwhile"

    def _made(self, stored: StoredInstance, target: str) -> Compressed:
        try:
            dataset = retrieve.read_dataset(self._store, stored)
        except StoreUnavailable:
            self._store.check()  # it is this object, or others wait as well
            raise NotFound("it cannot be read as it was received") from None
        made = reversible.compress(dataset, stored.transfer_syntax_uid, target)
        if len(made.dataset) + len(made.rest) >= len(dataset):
            raise NotSupported("it would not be smaller")
        return made

    def _put(self, stored: StoredInstance, made: Compressed, target: str) -> Place:
        """Put a compressed object and read it back.

        Raises
        ------
        Conflict
            What is read back is something else.
        """
        place = self._stored(stored, target, self._head(stored, target), made.dataset, made.rest)
        wanted = hashlib.sha256(made.dataset + made.rest).hexdigest()
        if self._store.sha256(place.object_key, place.dataset_offset) != wanted:
            raise Conflict("other bytes than were put")
        return place

    def _head(self, stored: StoredInstance, target: str) -> bytes:
        """Return the head of the object with another transfer syntax: how it came stays told."""
        offset = stored.dataset_offset
        if not 0 < offset <= MAX_HEAD:
            raise NotSupported("an object without a head of its own")
        was = part10.read_head(self._store.read(stored.object_key, 0, offset))
        return part10.head(was.sop_class_uid, was.sop_instance_uid, target, was.provenance)

    def _stored(
        self, stored: StoredInstance, syntax: str, head: bytes, dataset: bytes, rest: bytes
    ) -> Place:
        key = keys.replacement_key(stored.study_instance_uid, uuid4().hex)
        sha256 = hashlib.sha256(dataset).hexdigest()
        with transaction(self._engine) as session:
            compressions.announce(session, key, utc_now())
        put_pieces(self._store, self._folder, key, head, dataset, rest)
        return Place(syntax, key, len(head), len(dataset), sha256)

    def _restored_sha256(self, place: Place) -> str:
        """Return the hash of the received dataset as the object in the store gives it."""
        content = self._store.read(place.object_key, place.dataset_offset)
        dataset, rest = content[: place.dataset_size], content[place.dataset_size :]
        if hashlib.sha256(dataset).hexdigest() != place.dataset_sha256:
            raise Conflict("other bytes than were put")
        restored = reversible.restore(Compressed(dataset, rest), place.transfer_syntax_uid)
        return hashlib.sha256(restored).hexdigest()

    # What was received

    def release(self, stop: threading.Event) -> int:
        """Give up received objects whose time is over, if they can be made again; return how many.

        Raises
        ------
        StoreUnavailable
            The database or the store does not answer.
        """
        with transaction(self._engine) as session:
            limit = BATCH + len(self._doubtful)
            due = compressions.releasable(session, utc_now() - self._pace.keep, limit)
        count = 0
        for kept in due:
            if stop.is_set():
                break
            begun_s = time.monotonic()
            if kept.instance in self._doubtful:
                continue
            if not self.is_whole(kept):
                self._doubtful.add(kept.instance)
                continue
            with transaction(self._engine) as session:
                count += compressions.release(session, kept, utc_now())
            stop.wait((time.monotonic() - begun_s) * self._pace.rest)
        return count

    def is_whole(self, kept: Kept) -> bool:
        """Return whether a compressed object gives what was received; a fault is logged.

        Raises
        ------
        StoreUnavailable
            The store does not answer.
        """
        try:
            whole = self._restored_sha256(_place(kept.stored)) == kept.received.dataset_sha256
            reason = "other bytes than were received"
        except (Conflict, Malformed, NotFound, NotSupported) as fault:
            whole, reason = False, str(fault)
        if not whole:
            log.error("compressed_object_wrong", extra=_facts(kept.stored, reason))
        return whole

    def undo(self, kept: Kept) -> bool:
        """Let the index show the dataset as it was received; False when it changed meanwhile.

        Raises
        ------
        StoreUnavailable
            The database or the store does not answer, or gives other bytes.
        """
        place = kept.received if not kept.released and self._is_there(kept.received) else None
        if place is None:
            received = retrieve.received_dataset(self._store, kept.stored)
            syntax = kept.received.transfer_syntax_uid
            head = self._head(kept.stored, syntax)
            place = self._stored(kept.stored, syntax, head, received, b"")
            sha256 = self._store.sha256(place.object_key, place.dataset_offset, place.dataset_size)
            if sha256 != kept.received.dataset_sha256:
                raise StoreUnavailable(f"object {place.object_key} reads back with another hash")
        with transaction(self._engine) as session:
            return compressions.undo(session, kept, place, utc_now())

    def _is_there(self, place: Place) -> bool:
        try:
            found = self._store.sha256(place.object_key, place.dataset_offset, place.dataset_size)
        except NotFound:
            return False
        return found == place.dataset_sha256


def unfit(terms: Terms, candidate: Candidate) -> str | None:
    """Return why a rule leaves an instance as it is, '' when it is not for it; None: it does not.

    Nothing is read for the answer.
    """
    stored = candidate.stored
    wanted = (
        (terms.modality, candidate.modality),
        (terms.source_ae_title, candidate.source_ae_title),
        (terms.transfer_syntax_uid, stored.transfer_syntax_uid),
    )
    if any(text and text != found for text, found in wanted):
        return ""
    if stored.received_transfer_syntax_uid or stored.transfer_syntax_uid not in reversible.SOURCES:
        return "compressed already"
    if keys.is_pack(stored.object_key):
        return "small: it shares its file with others"
    if stored.dataset_size > MAX_BYTES:
        return f"larger than {MAX_BYTES >> 20} MiB"
    return None


def _place(stored: StoredInstance) -> Place:
    return Place(
        stored.transfer_syntax_uid,
        stored.object_key,
        stored.dataset_offset,
        stored.dataset_size,
        stored.dataset_sha256,
    )


def _facts(stored: StoredInstance, reason: str) -> dict[str, object]:
    return {
        "sop_instance_uid": stored.sop_instance_uid,
        "object_key": stored.object_key,
        "reason": reason,
    }
