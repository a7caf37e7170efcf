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


def held_mb(pid: int) -> float:
    """Return the proportional set size of a tree in MB: a shared page is divided, not repeated."""
    return sum(map(_held_kb, tree(pid))) / 1000


def _held_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Peak:
    """The most that was held while a block ran."""

    mb = 0.0

    @classmethod
    @contextmanager
    def of(cls, pid: int) -> Iterator["Peak"]:
        """Watch a tree of processes."""
        peak, over = cls(), threading.Event()

        def watch() -> None:
            while True:
                peak.mb = max(peak.mb, held_mb(pid))
                if over.wait(EVERY_S):
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield peak
        finally:
            over.set()
            watcher.join()
