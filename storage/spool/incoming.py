"""One object on its way into the spool."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from xxhash import xxh3_128

from storage.base.errors import StoreUnavailable
from storage.base.files import Buffer, open_part, write_all
from storage.spool.records import SpoolRecord, record_of
from storage.spool.room import Room


class Incoming:
    """One object while it is received; made by `Spool.incoming`."""

    def __init__(
        self, folder: Path, room: Room, head: Buffer, announce: Callable[[], None]
    ) -> None:
        self.size = 0
        """Dataset bytes written so far."""
        self._folder = folder
        self._path = str(folder)
        self._room = room
        self._head = head
        self._announce = announce
        self._hash = xxh3_128()
        self._fault: StoreUnavailable | None = None
        self._sealed = ""

    @property
    def record(self) -> SpoolRecord:
        """The record, when the block has ended well."""
        record = record_of(self._folder / self._sealed, self._sealed)
        if record is None:
            raise StoreUnavailable(f"spool {self._folder}: nothing was sealed")
        return record

    def __enter__(self) -> Self:
        self._room.check()
        try:
            self._file, self._part = open_part(self._path)
        except OSError as error:
            raise self._room.unavailable(error) from error
        try:
            write_all(self._file, self._head)
        except OSError as error:
            self._discard()
            raise self._room.unavailable(error) from error
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
            self._room.begin(count)
            write_all(self._file, buffer)
        except OSError as error:
            self._fault = self._room.unavailable(error)
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
        name = f"{time.time_ns():020d}-{uuid4().hex}-{self._hash.hexdigest()}-{self.size}.dcm"
        path = f"{self._path}/{name}"
        try:
            # opened anew each time, and before the rename: so this fsync reports every failure
            # since then, also one that another thread was told of already
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
            raise self._room.unavailable(error) from error
        except BaseException:
            self._discard()
            raise
        os.close(self._file)
        self._sealed = name
        self._room.taken(self.size, looked=True)
        self._announce()

    def _discard(self) -> None:
        os.close(self._file)
        with contextlib.suppress(OSError):  # a `.part` is never read, and swept at start
            Path(self._part).unlink()
