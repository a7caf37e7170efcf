"""Whether the spool may take one more object: the disk's reserve and the backlog's limit."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.base.errors import StoreFull, StoreUnavailable

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FREE_CHECK_BYTES: Final = 1 << 20
"""Free space is looked at after so many bytes of all objects together."""
_FREE_CHECK_S: Final = 0.05
"""And when an object begins so long after the last look."""
_BACKLOG_CHECK_S: Final = 2.0


class Room:
    """What is free, looked at now and then; each process counts what itself receives meanwhile.

    Parameters
    ----------
    folder
        Of the spool.
    reserve_bytes
        The disk must have so much free.
    max_backlog_bytes
        So many dataset bytes may wait for ingest; None: any number.
    backlog_bytes
        Counts how many wait, of all processes.
    """

    def __init__(
        self,
        folder: Path,
        reserve_bytes: int,
        max_backlog_bytes: int | None,
        backlog_bytes: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._path = str(folder)
        self.reserve_bytes = reserve_bytes
        self._max_backlog_bytes = max_backlog_bytes
        self._count_backlog = backlog_bytes
        self._free_checked_s = -_FREE_CHECK_S
        self._unlooked_bytes = 0
        self._backlog_bytes = 0
        self._backlog_checked_s = -_BACKLOG_CHECK_S

    def check(self) -> None:
        """Raise `StoreUnavailable` when the disk or the backlog has no room for a new object."""
        try:
            now_s = time.monotonic()
            if (
                now_s - self._free_checked_s >= _FREE_CHECK_S
                or self._unlooked_bytes >= _FREE_CHECK_BYTES
            ):
                self._check_free()
                self._free_checked_s, self._unlooked_bytes = now_s, 0
            self._check_backlog(now_s)
        except OSError as error:
            raise self.unavailable(error) from error

    def begin(self, count: int) -> None:
        """Count bytes before they are written; raise OSError when the disk has no room for them."""
        self._unlooked_bytes += count
        if self._unlooked_bytes >= _FREE_CHECK_BYTES:
            self._unlooked_bytes = 0
            self._check_free()

    def taken(self, dataset_bytes: int, *, looked: bool) -> None:
        """Count an object that waits for ingest now; `looked` when `begin` counted its bytes."""
        self._backlog_bytes += dataset_bytes
        if not looked:
            self._unlooked_bytes += dataset_bytes

    def unavailable(self, error: OSError) -> StoreUnavailable:
        """Return what to raise when the disk says `error`."""
        kind = StoreFull if error.errno in _FULL else StoreUnavailable
        return kind(f"spool {self._folder}: {error.strerror or error}")

    def _check_free(self) -> None:
        if not self.reserve_bytes:
            return
        disk = os.statvfs(self._path)
        if disk.f_bavail * disk.f_frsize < self.reserve_bytes:
            raise OSError(errno.ENOSPC, f"less than the reserve of {self.reserve_bytes} bytes")

    def _check_backlog(self, now_s: float) -> None:
        if self._max_backlog_bytes is None:
            return
        if now_s - self._backlog_checked_s >= _BACKLOG_CHECK_S:
            self._backlog_checked_s = now_s
            self._backlog_bytes = self._count_backlog()
        if self._backlog_bytes >= self._max_backlog_bytes:
            waiting = f"{self._backlog_bytes} bytes wait for ingest"
            raise OSError(errno.EDQUOT, f"{waiting}, the limit is {self._max_backlog_bytes}")
