"""Objects in a folder: the default store of one machine.

    aa/bb/<study>/<object>      an object, by its key
    tmp/<uuid>.part             being copied, or left by a dead process

A file that comes from the same file system becomes the object by a hard link, so its
bytes are written once. `put_files` returns when bytes and names survive a power cut.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from storage.base.errors import NotFound, StoreUnavailable
from storage.base.files import make_folder, open_part, sweep_parts, sync_folder, write_all
from storage.objects.keys import check_key, check_prefix, is_key
from storage.objects.pieces import PIECE_BYTES, Pieces, check_range
from storage.objects.store import ObjectStat

_CANNOT_LINK: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)
"""Another file system, one without hard links, or too many of them: copy instead."""
_ABSENT: Final = (FileNotFoundError, NotADirectoryError)
_KNOWN_FOLDERS: Final = 100_000


class DirectoryStore:
    """Objects as files below `folder`; any number of processes may share it."""

    settles = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tmp = folder / "tmp"
        self._durable: set[Path] = set()
        """Folders whose names are known to survive a power cut, up to the root."""
        try:
            make_folder(self._tmp)
            sweep_parts(self._tmp)
        except OSError as error:
            raise self._unavailable(error) from error

    def put_files(self, items: Sequence[tuple[str, Path]]) -> None:
        """Store each file under its key; all are durable on return, or it raises.

        Every folder is flushed once, after all names are made. Also when an object was there
        already: the process that put it may have died before it flushed the name.
        """
        targets = [(self._path(key), source) for key, source in items]
        made: set[Path] = set()
        unsynced: set[Path] = set()
        try:
            for target, source in targets:
                self._make_folders(target.parent, made, unsynced)
                self._put(target, source)
                unsynced.add(target.parent)
            for folder in unsynced:
                sync_folder(folder)
        except OSError as error:
            self._durable.clear()
            raise self._unavailable(error) from error
        if len(self._durable) > _KNOWN_FOLDERS:
            self._durable.clear()
        self._durable.update(made)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes ``[offset, offset + length)``, to the end when `length` is None."""
        check_range(offset, length)
        descriptor = self._open(key)
        try:
            left = os.fstat(descriptor).st_size - offset
            wanted = left if length is None else min(length, left)
            return self._read(descriptor, offset, wanted) if wanted > 0 else b""
        finally:
            os.close(descriptor)

    def at_hand(self, key: str, offset: int, length: int) -> bytes | None:
        """Return the bytes ``[offset, offset + length)`` if they are in the page cache, else None.

        The first and the last byte are asked for without waiting; what is between them has
        come and goes with them.
        """
        check_range(offset, length)
        check_key(key)
        try:
            descriptor = os.open(f"{self.folder}/{key}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            for at in (offset, offset + length - 1):
                if os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT) != 1:
                    return None
            found = os.pread(descriptor, length, offset)
        except OSError:  # not there now, or a file system that cannot tell
            return None
        finally:
            os.close(descriptor)
        return found if len(found) == length else None

    def stream(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = PIECE_BYTES
    ) -> Iterator[bytes]:
        """Yield the same bytes in pieces of at most `chunk` bytes; the file is open on return."""
        check_range(offset, length)
        descriptor = self._open(key)
        position = offset
        end = os.fstat(descriptor).st_size
        if length is not None:
            end = min(end, offset + length)

        def read() -> bytes:
            nonlocal position
            piece = self._read(descriptor, position, max(0, min(chunk, end - position)))
            position += len(piece)
            return piece

        return Pieces(read, lambda: os.close(descriptor))

    def sha256(self, key: str, offset: int = 0, length: int | None = None) -> str:
        """Re-read bytes ``[offset, offset + length)`` and return their SHA-256 in hex."""
        digest = hashlib.sha256()
        for piece in self.stream(key, offset, length):
            digest.update(piece)
        return digest.hexdigest()

    def is_file(self, key: str, path: Path) -> bool:
        """Whether the object and the file at `path` are one: a second name, no second bytes."""
        try:
            return self._path(key).samefile(path)
        except _ABSENT:
            return False
        except OSError as error:
            raise self._unavailable(error) from error

    def stat(self, key: str) -> ObjectStat:
        """Return the object's size."""
        descriptor = self._open(key)
        try:
            return ObjectStat(key, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def delete(self, key: str) -> None:
        """Remove the object, durably; one that is not there is no error."""
        path = self._path(key)
        try:
            path.unlink()
            sync_folder(path.parent)
        except _ABSENT:
            return
        except OSError as error:
            raise self._unavailable(error) from error

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Yield every object whose key starts with `prefix`, ordered by key."""
        check_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        return self._list(folder, prefix)

    def check(self) -> None:
        """Raise `StoreUnavailable` unless the store takes writes and answers reads now."""
        try:
            probe, path = open_part(str(self._tmp))
            try:
                write_all(probe, b"probe")
                os.fdatasync(probe)
                wrong = os.pread(probe, 16, 0) != b"probe"
            finally:
                Path(path).unlink(missing_ok=True)
                os.close(probe)
        except OSError as error:
            raise self._unavailable(error) from error
        if wrong:
            raise StoreUnavailable(f"objects {self.folder}: a probe did not read as written")

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.folder / key

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"objects {self.folder}: {error.strerror or error}")

    def _open(self, key: str) -> int:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except _ABSENT:
            raise NotFound(f"no object {key}") from None
        except OSError as error:
            raise self._unavailable(error) from error
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise NotFound(f"no object {key}")

    def _read(self, descriptor: int, offset: int, length: int) -> bytes:
        """Read `length` bytes that are there: one call but for pieces beyond 2 GiB."""
        try:
            data = os.pread(descriptor, length, offset)
            while len(data) < length and (
                more := os.pread(descriptor, length - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise self._unavailable(error) from error
        if len(data) < length:
            raise StoreUnavailable(f"objects {self.folder}: an object shrank while it was read")
        return data

    def _make_folders(self, folder: Path, made: set[Path], unsynced: set[Path]) -> None:
        """Make `folder` and its parents; `unsynced` gets those that hold a name that may be new."""
        if folder == self.folder or folder in self._durable or folder in made:
            return
        self._make_folders(folder.parent, made, unsynced)
        folder.mkdir(mode=0o700, exist_ok=True)
        made.add(folder)
        unsynced.add(folder.parent)

    def _put(self, target: Path, source: Path) -> None:
        try:
            try:
                os.link(source, target)
            except FileExistsError:
                if target.stat().st_size != source.stat().st_size:
                    self._copy(target, source)
            except OSError as error:
                if error.errno not in _CANNOT_LINK:
                    raise
                if not target.exists() or target.stat().st_size != source.stat().st_size:
                    self._copy(target, source)
        except FileNotFoundError:
            if source.exists():
                raise
            # the process that stored it first has removed it
            raise NotFound(f"no file {source}") from None

    def _copy(self, target: Path, source: Path) -> None:
        """Put a copy in place of whatever is there; readers see the old or the new, whole."""
        part, path = open_part(str(self._tmp))
        try:
            with source.open("rb", buffering=0) as file:
                while piece := file.read(PIECE_BYTES):
                    write_all(part, piece)
            os.fdatasync(part)
            Path(path).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(path).unlink(missing_ok=True)
            raise
        finally:
            os.close(part)

    def _list(self, folder: str, prefix: str) -> Iterator[ObjectStat]:
        try:
            with os.scandir(self.folder / folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except _ABSENT:
            return
        except OSError as error:
            raise self._unavailable(error) from error
        for entry in ordered:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if not is_key(key):
                continue
            if entry.is_dir(follow_symlinks=False):
                if key.startswith(prefix) or prefix.startswith(f"{key}/"):
                    yield from self._list(key, prefix)
            elif key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    yield ObjectStat(key, entry.stat().st_size)
