"""A bell between processes: whoever waits is woken within milliseconds.

Each waiting process owns one fifo in a folder; ringing writes one byte into each of them
and never blocks. A fifo and not a socket, because a socket's path may have only 107 bytes.
A ring may be lost (a ringer that dies, a file system without fifos): a waiter looks for
itself once in a while, and `wait` may return early.
"""

import contextlib
import os
import select
import threading
import time
import weakref
from pathlib import Path
from uuid import uuid4

from storage.base.files import make_folder

_DRAIN = 65536  # the capacity of a fifo
_TICK_NS = 50_000_000


class Bell:
    """The bell of one folder; each process has its own object."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen_ns = -1
        self._waiters: dict[str, int] = {}
        self._ear: int | None = None
        make_folder(folder)
        weakref.finalize(self, _close_all, self._waiters)

    def ring(self) -> None:
        """Wake every process that waits; never blocks and never fails."""
        with self._lock, contextlib.suppress(OSError):
            changed_ns = self._folder.stat().st_mtime_ns
            if changed_ns != self._seen_ns:
                self._look_for_waiters()
                # a clock tick may see two changes: believe the time only when it is old
                settled = time.time_ns() - changed_ns > _TICK_NS
                self._seen_ns = changed_ns if settled else -1
            for name in list(self._waiters):
                self._ring_one(name)

    def listen(self) -> None:
        """Hear every ring from now on; `wait` does it too."""
        if self._ear is None:
            with contextlib.suppress(OSError):
                self._ear = self._open_ear()

    def wait(self, timeout_s: float) -> bool:
        """Return True when the bell was rung since the last call, False after `timeout_s`."""
        self.listen()
        poll = select.poll()
        if self._ear is not None:
            poll.register(self._ear, select.POLLIN)
        ready = poll.poll(max(timeout_s, 0) * 1000)
        for descriptor, _ in ready:
            with contextlib.suppress(BlockingIOError):  # several threads may wait
                os.read(descriptor, _DRAIN)
        return bool(ready)

    def _look_for_waiters(self) -> None:
        present = {entry.name for entry in self._folder.iterdir() if entry.suffix == ".bell"}
        for name in self._waiters.keys() - present:
            os.close(self._waiters.pop(name))
        for name in present - self._waiters.keys():
            # ENXIO: nobody listens there any more
            with contextlib.suppress(OSError):
                self._waiters[name] = _open_to_ring(self._folder / name)

    def _ring_one(self, name: str) -> None:
        try:
            os.write(self._waiters[name], b"!")
        except BlockingIOError:
            pass  # full of rings that were not heard yet
        except OSError:  # its listener died
            os.close(self._waiters.pop(name))

    def _open_ear(self) -> int:
        self._sweep()
        hidden, path = (self._folder / f"{uuid4().hex}{end}" for end in (".new", ".bell"))
        os.mkfifo(hidden, 0o600)
        # read and write: with no writer left a fifo would be readable for ever
        ear = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        hidden.rename(path)  # so a bell without a reader is always a dead one
        weakref.finalize(self, _forget, ear, path, os.getpid())
        return ear

    def _sweep(self) -> None:
        for path in self._folder.glob("*.bell"):
            try:
                os.close(_open_to_ring(path))
            except OSError:
                path.unlink(missing_ok=True)


def _open_to_ring(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _forget(ear: int, path: Path, owner: int) -> None:
    os.close(ear)
    if os.getpid() == owner:  # and not a child that was forked from it
        with contextlib.suppress(OSError):
            path.unlink()


def _close_all(waiters: dict[str, int]) -> None:
    while waiters:
        os.close(waiters.popitem()[1])
