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
import errno
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from xxhash import xxh3_128

from storage.base.bell import Bell
from storage.base.errors import StoreFull, StoreUnavailable
from storage.base.files import (
    Buffer,
    make_folder,
    open_part,
    sweep_parts,
    sync_folder,
    write_all,
)
from storage.spool.packs import OPEN, Member, Packs, close_orphan, members

_NAME: Final = re.compile(r"(\d{20})-[0-9a-f]{32}-([0-9a-f]{32})-(\d+)\.dcm")
_PACK_NAME: Final = re.compile(r"(\d{20})-[0-9a-f]{32}-(\d+)-(\d+)\.pack")
_SETTLED: Final = re.compile(r"(\d{20})~(.+)")

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FREE_CHECK_BYTES: Final = 1 << 20
"""Free space is looked at after so many bytes of all objects together."""
_FREE_CHECK_S: Final = 0.05
"""And when an object begins so long after the last look."""
_BACKLOG_CHECK_S: Final = 2.0
_ORPHAN_S: Final = 1.0
"""An open pack is looked at when it is there for so long."""
_RING_GAP_S: Final = 0.005
"""A busy receiver does not ring for each object: whoever woke looks again a little later."""
_SAFETY_POLL_S: Final = 1.0
"""Ingest looks for itself so often, in case a ring was lost."""


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One received object that is durable in the spool."""

    path: Path
    name: str
    """Names this reception, wherever in the spool the file lies."""
    received_at: datetime
    checksum: str
    """Of the dataset, as `checksum_of` makes it; '' of a pack."""
    dataset_size: int
    """Of a pack: of all datasets together."""
    objects: int = 1
    packed: bool = False
    """The file is a pack: `storage.spool.packs.members` finds its objects."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for ingest; `bytes` counts datasets."""

    count: int
    bytes: int
    oldest: datetime | None


def checksum_of(buffer: Buffer) -> str:
    """Return what tells whether bytes are still those that were received (XXH3-128, hex)."""
    return xxh3_128(buffer).hexdigest()


class Incoming:
    """One object while it is received; made by `Spool.incoming`."""

    def __init__(self, spool: "Spool", head: Buffer) -> None:
        self.size = 0
        """Dataset bytes written so far."""
        self._spool = spool
        self._head = head
        self._hash = xxh3_128()
        self._fault: StoreUnavailable | None = None
        self._sealed = ""

    @property
    def record(self) -> SpoolRecord:
        """The record, when the block has ended well."""
        record = _record(self._spool.folder / self._sealed, self._sealed)
        if record is None:
            raise StoreUnavailable(f"spool {self._spool.folder}: nothing was sealed")
        return record

    def __enter__(self) -> Self:
        self._spool.check_room()
        try:
            self._file, self._part = open_part(self._spool.path)
        except OSError as error:
            raise self._spool.unavailable(error) from error
        try:
            write_all(self._file, self._head)
        except OSError as error:
            self._discard()
            raise self._spool.unavailable(error) from error
        return self

    def write(self, buffer: Buffer) -> None:
        """Append dataset bytes, without copying them.

        Raises
        ------
        StoreUnavailable
            The disk is full or broken. The object is lost, whatever the block does now.
        """
        self._hash.update(buffer)
        count = len(buffer)
        try:
            self._spool.count_unlooked(count)
            write_all(self._file, buffer)
        except OSError as error:
            self._fault = self._spool.unavailable(error)
            raise self._fault from error
        self.size += count

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
        elif self._fault is not None:  # the block swallowed it, but bytes are missing
            self._discard()
            raise self._fault
        else:
            self._seal()

    def _seal(self) -> None:
        """The fast path: one flush of the file, one rename, one flush of the folder."""
        spool = self._spool
        name = f"{time.time_ns():020d}-{uuid4().hex}-{self._hash.hexdigest()}-{self.size}.dcm"
        path = f"{spool.path}/{name}"
        try:
            # opened anew each time, and before the rename: so this fsync reports every failure
            # since then, also one that another thread was told of already
            folder = os.open(spool.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fdatasync(self._file)
                os.rename(self._part, path)  # noqa: PTH104 (strings: no Path is built here)
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._discard()
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise spool.unavailable(error) from error
        except BaseException:
            self._discard()
            raise
        os.close(self._file)
        self._sealed = name
        spool.sealed_one(self.size)

    def _discard(self) -> None:
        os.close(self._file)
        with contextlib.suppress(OSError):  # a `.part` is never read, and swept at start
            Path(self._part).unlink()


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
        self._reserve_bytes = reserve_bytes
        self._max_backlog_bytes = max_backlog_bytes
        self._settling = folder / "settling"
        self._parked = folder / "parked"
        self._ahead: dict[str, None] = {}
        self._open_since: dict[str, float] = {}
        self._packs = Packs(self.path, self._pack_closed)
        self._free_checked_s = -_FREE_CHECK_S
        self._unlooked_bytes = 0
        self._backlog_bytes = 0
        self._backlog_checked_s = -_BACKLOG_CHECK_S
        self._newest_seen = ""
        self._rung_s = -_RING_GAP_S
        try:
            for each in (folder, self._settling, self._parked):
                make_folder(each)
            self._bell = Bell(folder / "bell")
        except OSError as error:
            raise self.unavailable(error) from error

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
        return Incoming(self, head)

    def append(self, head: Buffer, dataset: Buffer) -> None:
        """Keep a small object together with others; it is durable on return.

        Raises
        ------
        StoreUnavailable
            The spool has no room or does not work; nothing of the object is left.
        """
        self.check_room()
        try:
            self._packs.append(head, dataset)
        except OSError as error:
            raise self.unavailable(error) from error
        self._backlog_bytes += len(dataset)
        self._unlooked_bytes += len(dataset)

    def _pack_closed(self, _dataset_bytes: int) -> None:
        self._bell.ring()

    def unpack(self, record: SpoolRecord, *, keep: bool = False) -> None:
        """Make every object of a pack a record of its own, and let the pack go.

        Doing it again after an interruption makes the same records.
        """
        try:
            content = record.path.read_bytes()
        except OSError as error:
            raise self.unavailable(error) from error
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
        record = _record(self.folder / name, name)
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
            raise self.unavailable(error) from error
        return record

    def check_room(self) -> None:
        """Raise `StoreUnavailable` when the disk or the backlog has no room for a new object."""
        try:
            now_s = time.monotonic()
            if (
                now_s - self._free_checked_s >= _FREE_CHECK_S
                or self._unlooked_bytes >= _FREE_CHECK_BYTES
            ):
                self.check_free()
                self._free_checked_s, self._unlooked_bytes = now_s, 0
            self._check_backlog(now_s)
        except OSError as error:
            raise self.unavailable(error) from error

    def count_unlooked(self, count: int) -> None:
        """Raise OSError when the disk has less free than the reserve; looks now and then."""
        self._unlooked_bytes += count
        if self._unlooked_bytes >= _FREE_CHECK_BYTES:
            self._unlooked_bytes = 0
            self.check_free()

    def check_free(self) -> None:
        """Raise OSError when the disk has less free than the reserve."""
        if not self._reserve_bytes:
            return
        disk = os.statvfs(self.path)
        if disk.f_bavail * disk.f_frsize < self._reserve_bytes:
            raise OSError(errno.ENOSPC, f"less than the reserve of {self._reserve_bytes} bytes")

    def _check_backlog(self, now_s: float) -> None:
        if self._max_backlog_bytes is None:
            return
        if now_s - self._backlog_checked_s >= _BACKLOG_CHECK_S:
            self._backlog_checked_s = now_s
            self._backlog_bytes = self.backlog().bytes
        if self._backlog_bytes >= self._max_backlog_bytes:
            waiting = f"{self._backlog_bytes} bytes wait for ingest"
            raise OSError(errno.EDQUOT, f"{waiting}, the limit is {self._max_backlog_bytes}")

    def sealed_one(self, size: int) -> None:
        """Count and announce a new record."""
        self._backlog_bytes += size
        now_s = time.monotonic()
        if now_s - self._rung_s >= _RING_GAP_S:
            self._rung_s = now_s
            self._bell.ring()

    def unavailable(self, error: OSError) -> StoreUnavailable:
        """Return what to raise when the disk says `error`."""
        kind = StoreFull if error.errno in _FULL else StoreUnavailable
        return kind(f"spool {self.folder}: {error.strerror or error}")

    def check(self) -> None:
        """Raise `StoreUnavailable` unless an object could be received now."""
        self.check_room()
        try:
            probe, path = open_part(self.path)
            try:
                write_all(probe, b"probe")
                os.fdatasync(probe)
            finally:
                Path(path).unlink(missing_ok=True)
                os.close(probe)
        except OSError as error:
            raise self.unavailable(error) from error

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
            raise self.unavailable(error) from error

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
            record = _record(self.folder / name, name)
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
        names = self._listing(self.folder)
        alone = [match for name in names if (match := _NAME.fullmatch(name))]
        packs = [match for name in names if (match := _PACK_NAME.fullmatch(name))]
        oldest_ns = min((int(match[1]) for match in alone + packs), default=None)
        still_open = sum(name.endswith(OPEN) for name in names)
        return Backlog(
            count=len(alone) + sum(int(match[2]) for match in packs) + still_open,
            bytes=sum(int(match[3]) for match in alone + packs),
            oldest=None if oldest_ns is None else _instant(oldest_ns),
        )

    def remove(self, record: SpoolRecord) -> None:
        """Unlink the record: its object is in the store and in the index for good."""
        self._ahead.pop(record.name, None)
        try:
            record.path.unlink(missing_ok=True)
        except OSError as error:
            raise self.unavailable(error) from error

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
            record = _record(self._settling / name, match[2])
            if record is not None:
                yield record

    def park(self, record: SpoolRecord) -> SpoolRecord:
        """Put aside a record that cannot be processed, so that it does not block the queue."""
        return self._move(record, self._parked / record.name)

    def parked(self) -> list[SpoolRecord]:
        """Return the parked records, oldest first."""
        names = sorted(self._listing(self._parked))
        records = (_record(self._parked / name, name) for name in names)
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
            raise self.unavailable(error) from error
        moved = _record(path, record.name)
        return record if moved is None else moved

    def _look_ahead(self) -> None:
        """Read the folder once for many batches: with 50,000 records that takes 50 ms."""
        listing = self._listing(self.folder)
        self._close_orphans([name for name in listing if name.endswith(OPEN)])
        names = sorted(filter(_is_sealed, listing))
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
                    raise self.unavailable(error) from error

    def _has_newer(self) -> bool:
        before = self._newest_seen
        self._newest_seen = max(filter(_is_sealed, self._listing(self.folder)), default="")
        return self._newest_seen > before

    def _listing(self, folder: Path) -> list[str]:
        try:
            return os.listdir(folder)  # noqa: PTH208 (three times as fast as iterdir)
        except OSError as error:
            raise self.unavailable(error) from error


def _is_sealed(name: str) -> bool:
    return bool(_NAME.fullmatch(name) or _PACK_NAME.fullmatch(name))


def _record(path: Path, name: str) -> SpoolRecord | None:
    if match := _PACK_NAME.fullmatch(name):
        received_at, count = _instant(int(match[1])), int(match[2])
        return SpoolRecord(path, name, received_at, "", int(match[3]), count, packed=True)
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return SpoolRecord(path, name, _instant(int(match[1])), match[2], int(match[3]))


def _instant(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1_000_000_000, UTC)
