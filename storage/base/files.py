"""Files that survive a power cut: the moves that the spool and the object store share.

    <name>.part     being written; locked (flock) by the living process that writes it
    <name>          complete: its bytes were on the disk before it got this name

A new name survives a power cut only when its folder was fsynced after the name was made.
An fsync that failed is never tried again on the same file: the kernel may have dropped
the dirty pages, and a second call would answer success for bytes that are gone.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from uuid import uuid4

PART = ".part"
Buffer = bytes | bytearray | memoryview


def write_all(descriptor: int, buffer: Buffer) -> None:
    """Write the whole of `buffer`, without copying it."""
    rest = memoryview(buffer)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make `folder` (mode 0700) and its parents, and make their names durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def write_once(path: Path, content: bytes) -> None:
    """Make a file (mode 0600) that is durable; of several who make it at once the first wins."""
    part = path.with_name(f".{uuid4().hex}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()
    sync_folder(path.parent)


def open_part(folder: str) -> tuple[int, str]:
    """Create a file ``<random>.part`` (mode 0600) in `folder`, locked until it is closed."""
    while True:
        path = f"{folder}/{uuid4().hex}{PART}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        if _lock(descriptor):
            return descriptor, path
        os.close(descriptor)  # a sweep came between the two calls and takes the file away


def sweep_parts(folder: Path) -> int:
    """Unlink the ``.part`` files whose writer is dead; return how many there were."""
    return sum(_sweep(path) for path in folder.glob("*" + PART))


def _sweep(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not _lock(descriptor):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock the open file; False when another has it or its name is gone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0
