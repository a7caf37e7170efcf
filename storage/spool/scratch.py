"""Bytes that are put aside on the spool's disk while one request is received.

They are in a ``.part`` file: locked while its writer lives, swept at the next start when it
died, and never taken for a received object.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from storage.base.files import Buffer, open_part, write_all
from storage.spool.queue import Spool

PIECE: Final = 1 << 20


class Scratch:
    """One run of bytes: written first, then read as often as wanted, gone when closed.

    Raises
    ------
    StoreUnavailable
        On opening: the spool has no room or does not work.
    """

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        """Bytes written so far."""
        self._spool = spool
        spool.room.check()
        try:
            self._file, self._path = open_part(spool.path)
        except OSError as error:
            raise spool.room.unavailable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._file)
        with contextlib.suppress(OSError):  # swept at the next start
            Path(self._path).unlink()

    def write(self, buffer: Buffer) -> None:
        """Append bytes.

        Raises
        ------
        StoreUnavailable
            The disk is full or broken.
        """
        try:
            self._spool.room.begin(len(buffer))
            write_all(self._file, buffer)
        except OSError as error:
            raise self._spool.room.unavailable(error) from error
        self.size += len(buffer)

    def read(self, offset: int, length: int) -> bytes:
        """Return at most `length` bytes from `offset`.

        Raises
        ------
        StoreUnavailable
            The disk is broken.
        """
        try:
            return os.pread(self._file, length, offset)
        except OSError as error:
            raise self._spool.room.unavailable(error) from error

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start`."""
        for at in range(start, self.size, PIECE):
            yield self.read(at, PIECE)
