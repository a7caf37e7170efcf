"""Small objects, many to a file, so that each costs one write and one flush.

    <uuid>.open                               being filled by a living process (flock),
                                              or left by a dead one
    <time_ns>-<uuid>-<count>-<bytes>.pack     closed; waits for ingest like any record

An object in a pack is a frame (what it is made of, and a checksum of that), its head and its
dataset. A pack is closed when it is large or a tenth of a second old, so nobody waits for
more objects to come; one that a dead process left is closed by whoever looks for work.
"""

import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from xxhash import xxh3_64_intdigest, xxh3_128

from storage.base.files import Buffer, sync_folder

OPEN: Final = ".open"
MAX_BYTES: Final = 4 << 20
"""A pack that has as many is closed."""
MAX_AGE_S: Final = 0.1

_FRAME: Final = struct.Struct("<4sIQQ16s")
"""Magic, bytes of the head, bytes of the dataset, time in ns, XXH3-128 of the dataset."""
_SEAL: Final = struct.Struct("<Q")
"""XXH3-64 of the frame."""
_MAGIC: Final = b"LTP1"
FRAME_BYTES: Final = _FRAME.size + _SEAL.size


@dataclass(frozen=True, slots=True)
class Member:
    """One object of a pack."""

    offset: int
    """Where its head begins."""
    head_size: int
    dataset_size: int
    received_ns: int
    checksum: str

    @property
    def dataset_offset(self) -> int:
        """Where its dataset begins."""
        return self.offset + self.head_size

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.dataset_offset + self.dataset_size

    @property
    def received_at(self) -> datetime:
        """When it was received."""
        return datetime.fromtimestamp(self.received_ns / 1_000_000_000, UTC)


def frame(head: Buffer, dataset: Buffer) -> bytes:
    """Return what stands before an object in a pack."""
    checksum = xxh3_128(dataset).digest()
    facts = _FRAME.pack(_MAGIC, len(head), len(dataset), time.time_ns(), checksum)
    return facts + _SEAL.pack(xxh3_64_intdigest(facts))


def members(content: memoryview) -> tuple[list[Member], int]:
    """Return the objects of a pack, and where the last whole one ends.

    What follows that place was cut off while it was written, or has rotted.
    """
    found: list[Member] = []
    end = 0
    while (at := end) + FRAME_BYTES <= len(content):
        facts = content[at : at + _FRAME.size]
        magic, head_size, dataset_size, received_ns, checksum = _FRAME.unpack(facts)
        (seal,) = _SEAL.unpack_from(content, at + _FRAME.size)
        one = Member(at + FRAME_BYTES, head_size, dataset_size, received_ns, checksum.hex())
        if magic != _MAGIC or seal != xxh3_64_intdigest(facts) or one.end > len(content):
            break
        found.append(one)
        end = one.end
    return found, end


class _Pack:
    """One open pack; used by one thread at a time."""

    def __init__(self, folder: str) -> None:
        self.id = uuid4().hex
        self.path = f"{folder}/{self.id}{OPEN}"
        self.opened_s = time.monotonic()
        self.count = self.size = self.dataset_bytes = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self.file = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_folder(Path(folder))
        except BaseException:
            os.close(self.file)
            with contextlib.suppress(OSError):
                Path(self.path).unlink()
            raise

    @property
    def due(self) -> bool:
        return self.size >= MAX_BYTES or time.monotonic() - self.opened_s >= MAX_AGE_S

    def append(self, parts: Sequence[Buffer], dataset_size: int) -> None:
        """The fast path: one write, one flush."""
        length = sum(map(len, parts))
        if os.writev(self.file, parts) < length:
            raise OSError(28, "the disk took a part of the object")
        os.fdatasync(self.file)
        self.size += length
        self.count += 1
        self.dataset_bytes += dataset_size

    def close(self, folder: str) -> None:
        """Give the pack the name under which ingest finds it, or unlink one without objects."""
        try:
            if self.count:
                os.rename(self.path, f"{folder}/{name_of(self)}")  # noqa: PTH104 - no Path here
            else:
                Path(self.path).unlink()
        finally:
            os.close(self.file)


def name_of(pack: _Pack) -> str:
    """Return the name of a closed pack."""
    return f"{time.time_ns():020d}-{pack.id}-{pack.count}-{pack.dataset_bytes}.pack"


class Packs:
    """The open packs of one process: as many as there are threads that write at once."""

    def __init__(self, folder: str, closed: Callable[[int], None]) -> None:
        self._folder = folder
        self._closed = closed
        self._idle: list[_Pack] = []
        self._changed = threading.Condition()
        self._closer: threading.Thread | None = None

    def append(self, head: Buffer, dataset: Buffer) -> None:
        """Keep one object; it is durable on return.

        Raises
        ------
        OSError
            The disk is full or broken; nothing of the object is left.
        """
        pack = self._take()
        try:
            pack.append((frame(head, dataset), head, dataset), len(dataset))
        except BaseException:
            # Never flushed again: what was durable stays, the rest goes.
            with contextlib.suppress(OSError):
                os.ftruncate(pack.file, pack.size)
            self._close(pack)
            raise
        if pack.due:
            self._close(pack)
            return
        with self._changed:
            self._idle.append(pack)
            if self._closer is None or not self._closer.is_alive():
                self._closer = threading.Thread(target=self._close_due, name="packs", daemon=True)
                self._closer.start()
            self._changed.notify()

    def _take(self) -> _Pack:
        with self._changed:
            if self._idle:
                return self._idle.pop()
        return _Pack(self._folder)

    def _close(self, pack: _Pack) -> None:
        with contextlib.suppress(OSError):  # the folder went away: found when it is back
            pack.close(self._folder)
        self._closed(pack.dataset_bytes)

    def _close_due(self) -> None:
        """Close what nobody writes to any more."""
        while True:
            with self._changed:
                while not self._idle:
                    self._changed.wait()
                due = [pack for pack in self._idle if pack.due]
                self._idle = [pack for pack in self._idle if pack not in due]
            for pack in due:
                self._close(pack)
            time.sleep(MAX_AGE_S / 4)


def close_orphan(folder: Path, name: str) -> bool:
    """Close an open pack if its writer is dead; tell whether it was."""
    try:
        file = os.open(folder / name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = memoryview(os.pread(file, os.fstat(file).st_size, 0))
        found, _ = members(content)
        size = sum(one.dataset_size for one in found)
        closed = f"{time.time_ns():020d}-{name.removesuffix(OPEN)}-{len(found)}-{size}.pack"
        if content:
            os.fsync(file)  # its writer may have died between a write and the flush
            (folder / name).rename(folder / closed)
        else:
            (folder / name).unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(file)
    return True
