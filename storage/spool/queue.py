"""Received objects, durable before anyone is told that they were accepted.

The folder is the queue; a record is one file and its name says all about it:

    <uuid>.open, <time_ns>-…-<bytes>.pack       small objects together (`storage.spool.packs`)
    <uuid>.part                                 being received, or left by a dead process
    <time_ns>-<uuid>-<checksum>-<size>.dcm      sealed: complete, on the disk, waits for ingest
    settling/<settled_ns>~<name>                its object store has it; kept until that is sure
    parked/<name>                               ingest cannot handle it; waits for a person
    bell/                                       wakes ingest

A record is the Part 10 head we made and then the dataset bytes exactly as they came;
checksum (XXH3-128) and size in the name are those of the dataset. Ingest reads the file
back, compares, and takes the SHA-256 by which the archive knows the bytes: so the sender
waits for a hash that costs a thirtieth. No text that a peer chose becomes part of a path,
and nothing here reads DICOM.

Any number of processes may receive into one folder and take from it: a record that
another one moved meanwhile is simply not there any more, which is no error.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from xxhash import xxh3_128

from storage.base.bell import Bell
from storage.base.errors import StoreUnavailable
from storage.base.files import Buffer, make_folder, open_part, sweep_parts, sync_folder, write_all
from storage.spool.incoming import Incoming
from storage.spool.packs import OPEN, Member, Packs, close_orphan, members
from storage.spool.records import Backlog, SpoolRecord, backlog_of, is_sealed, record_of
from storage.spool.room import Room

_SETTLED: Final = re.compile(r"(\d{20})~(.+)")
_ORPHAN_S: Final = 1.0
"""An open pack is looked at when it is there for so long."""
_RING_GAP_S: Final = 0.005
"""A busy receiver does not ring for each object: whoever woke looks again a little later."""
_SAFETY_POLL_S: Final = 1.0
"""Ingest looks for itself so often, in case a ring was lost."""


class Spool:
    """A folder of received objects, in order of arrival.

    Parameters
    ----------
    folder
        Made if it is not there; on a local file system.
    reserve_bytes
        Receiving stops before the disk has less than this free.
    max_backlog_bytes
        Receiving stops while more dataset bytes than this wait for ingest.
    """

    def __init__(
        self, folder: Path, reserve_bytes: int = 0, max_backlog_bytes: int | None = None
    ) -> None:
        self.folder = folder
        self.path = str(folder)
        self.room = Room(folder, reserve_bytes, max_backlog_bytes, lambda: self.backlog().bytes)
        self._settling = folder / "settling"
        self._parked = folder / "parked"
        self._ahead: dict[str, None] = {}
        self._open_since: dict[str, float] = {}
        self._packs = Packs(self.path, self._pack_closed)
        self._newest_seen = ""
        self._rung_s = -_RING_GAP_S
        try:
            for each in (folder, self._settling, self._parked):
                make_folder(each)
            self._bell = Bell(folder / "bell")
        except OSError as error:
            raise self.room.unavailable(error) from error

    # Receiving

    def incoming(self, head: Buffer) -> Incoming:
        """Receive one object: a context manager; it is durable when the block has ended well.

        `head` goes before the dataset and is not part of its SHA-256. When the block or the
        disk fails, nothing is left behind.

        Raises
        ------
        StoreUnavailable
            On entering, writing or leaving: the spool has no room or does not work.
        """
        return Incoming(self.folder, self.room, head, self._announce)

    def append(self, head: Buffer, dataset: Buffer) -> None:
        """Keep a small object together with others; it is durable on return.

        Raises
        ------
        StoreUnavailable
            The spool has no room or does not work; nothing of the object is left.
        """
        self.room.check()
        try:
            self._packs.append(head, dataset)
        except OSError as error:
            raise self.room.unavailable(error) from error
        self.room.taken(len(dataset), looked=False)

    def _pack_closed(self, _dataset_bytes: int) -> None:
        self._bell.ring()

    def unpack(self, record: SpoolRecord, *, keep: bool = False) -> None:
        """Make every object of a pack a record of its own, and let the pack go.

        Doing it again after an interruption makes the same records.
        """
        try:
            content = record.path.read_bytes()
        except OSError as error:
            raise self.room.unavailable(error) from error
        for member in members(memoryview(content))[0]:
            self.take_out(record, member)
        if not keep:
            self.remove(record)
        self._bell.ring()

    def take_out(self, pack: SpoolRecord, member: Member) -> SpoolRecord:
        """Make one object of a pack a record of its own as well, always under the same name."""
        identity = xxh3_128(f"{pack.name}\n{member.offset}".encode()).hexdigest()
        facts = f"{member.checksum}-{member.dataset_size}.dcm"
        name = f"{member.received_ns:020d}-{identity}-{facts}"
        record = record_of(self.folder / name, name)
        if record is None:  # cannot be: we made the name above
            raise StoreUnavailable(f"spool {self.folder}: {name} is no name of a record")
        try:
            part, path = open_part(self.path)
            try:
                with pack.path.open("rb") as file:
                    file.seek(member.offset)
                    write_all(part, file.read(member.end - member.offset))
                os.fdatasync(part)
                Path(path).rename(record.path)
                sync_folder(self.folder)
            finally:
                os.close(part)
        except OSError as error:
            raise self.room.unavailable(error) from error
        return record

    def _announce(self) -> None:
        """Tell ingest that there is a new record."""
        now_s = time.monotonic()
        if now_s - self._rung_s >= _RING_GAP_S:
            self._rung_s = now_s
            self._bell.ring()

    def check(self) -> None:
        """Raise `StoreUnavailable` unless an object could be received now."""
        self.room.check()
        try:
            probe, path = open_part(self.path)
            try:
                write_all(probe, b"probe")
                os.fdatasync(probe)
            finally:
                Path(path).unlink(missing_ok=True)
                os.close(probe)
        except OSError as error:
            raise self.room.unavailable(error) from error

    def recover(self) -> int:
        """Sweep what dead processes left half-received; return how many objects that were.

        Safe at any time: the files of living processes are locked. What they had sealed is
        in the queue already. Nobody was told that a half-received object is safe.
        """
        try:
            for name in self._listing(self.folder):
                if name.endswith(OPEN):
                    close_orphan(self.folder, name)
            return sweep_parts(self.folder)
        except OSError as error:
            raise self.room.unavailable(error) from error

    # Ingest

    def sealed(self, limit: int) -> list[SpoolRecord]:
        """Return the oldest sealed records: `limit` objects, or a pack more.

        Call it from one thread.
        """
        if len(self._ahead) <= limit:
            self._look_ahead()
        found: list[SpoolRecord] = []
        objects = 0
        for name in list(self._ahead):
            if objects >= limit:
                break
            record = record_of(self.folder / name, name)
            if record is not None and record.path.exists():
                found.append(record)
                objects += record.objects
            else:  # another process was quicker
                del self._ahead[name]
        return found

    def wait(self, timeout_s: float) -> bool:
        """Wait until something was sealed; False when nothing was within `timeout_s`.

        May say True early. Nothing is missed between `sealed` and `wait`.
        """
        self._bell.listen()
        until_s = time.monotonic() + timeout_s
        while not self._has_newer():  # sealed before we listened, or its ring was lost
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False
            if self._bell.wait(min(left_s, _SAFETY_POLL_S)):
                return True
        return True

    def backlog(self) -> Backlog:
        """Count what waits for ingest: one reading of the folder, no file is touched.

        A pack that is still open counts as one object.
        """
        return backlog_of(self._listing(self.folder))

    def remove(self, record: SpoolRecord) -> None:
        """Unlink the record: its object is in the store and in the index for good."""
        self._ahead.pop(record.name, None)
        try:
            record.path.unlink(missing_ok=True)
        except OSError as error:
            raise self.room.unavailable(error) from error

    def settle(self, record: SpoolRecord) -> SpoolRecord:
        """Put the record aside until it is sure that the object store keeps its copy."""
        return self._move(record, self._settling / f"{time.time_ns():020d}~{record.name}")

    def settling(self, older_than: datetime) -> Iterator[SpoolRecord]:
        """Yield the records that were settled before `older_than`, the longest first."""
        before_ns = int(older_than.timestamp() * 1_000_000_000)
        for name in sorted(self._listing(self._settling)):
            match = _SETTLED.fullmatch(name)
            if match is None:
                continue
            if int(match[1]) >= before_ns:
                return
            record = record_of(self._settling / name, match[2])
            if record is not None:
                yield record

    def park(self, record: SpoolRecord) -> SpoolRecord:
        """Put aside a record that cannot be processed, so that it does not block the queue."""
        return self._move(record, self._parked / record.name)

    def parked(self) -> list[SpoolRecord]:
        """Return the parked records, oldest first."""
        names = sorted(self._listing(self._parked))
        records = (record_of(self._parked / name, name) for name in names)
        return [record for record in records if record is not None]

    def restore(self, record: SpoolRecord) -> SpoolRecord:
        """Put a settling or parked record back into the queue."""
        restored = self._move(record, self.folder / record.name)
        self._bell.ring()
        return restored

    def _move(self, record: SpoolRecord, path: Path) -> SpoolRecord:
        # not fsynced: a power cut that undoes it leaves the record where it was, to be done again
        self._ahead.pop(record.name, None)
        try:
            with contextlib.suppress(FileNotFoundError):
                record.path.rename(path)
        except OSError as error:
            raise self.room.unavailable(error) from error
        moved = record_of(path, record.name)
        return record if moved is None else moved

    def _look_ahead(self) -> None:
        """Read the folder once for many batches: with 50,000 records that takes 50 ms."""
        listing = self._listing(self.folder)
        self._close_orphans([name for name in listing if name.endswith(OPEN)])
        names = sorted(filter(is_sealed, listing))
        self._ahead = dict.fromkeys(names)

    def _close_orphans(self, names: list[str]) -> None:
        """Close the packs that dead processes left open; the living close theirs at once."""
        now_s = time.monotonic()
        self._open_since = {name: self._open_since.get(name, now_s) for name in names}
        for name, since_s in self._open_since.items():
            if now_s - since_s >= _ORPHAN_S:
                try:
                    close_orphan(self.folder, name)
                except OSError as error:
                    raise self.room.unavailable(error) from error

    def _has_newer(self) -> bool:
        before = self._newest_seen
        self._newest_seen = max(filter(is_sealed, self._listing(self.folder)), default="")
        return self._newest_seen > before

    def _listing(self, folder: Path) -> list[str]:
        try:
            return os.listdir(folder)  # noqa: PTH208 (three times as fast as iterdir)
        except OSError as error:
            raise self.room.unavailable(error) from error
