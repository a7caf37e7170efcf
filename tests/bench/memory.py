"""What a tree of processes holds, each page counted once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

EVERY_S: Final = 0.1


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def held_mb(pid: int, word: str = "") -> float:
    """Return the proportional set size of a tree in MB: a shared page is divided, not repeated.

    Of those processes alone whose command line holds `word`.
    """
    return sum(_held_kb(one) for one in tree(pid) if word in _command(one)) / 1000


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:  # it has ended
        return ""


def _held_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Peak:
    """The most that was held while a block ran: by all, and by those that receive."""

    mb = 0.0
    receiver_mb = 0.0

    @classmethod
    @contextmanager
    def of(cls, pid: int, receiver: str = "") -> Iterator["Peak"]:
        """Watch a tree of processes; those with `receiver` in their command line receive."""
        peak, over = cls(), threading.Event()

        def watch() -> None:
            while True:
                peak.mb = max(peak.mb, held_mb(pid))
                peak.receiver_mb = max(peak.receiver_mb, held_mb(pid, receiver))
                if over.wait(EVERY_S):
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            over.set()
            watcher.join()
