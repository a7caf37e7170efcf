import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.base.bell import Bell

WAIT_AND_TELL = """
import sys, time, pathlib
from storage.base.bell import Bell
bell = Bell(pathlib.Path(sys.argv[1]))
bell.listen()
print("listening", flush=True)
while True:
    if bell.wait(30):
        print(time.monotonic(), flush=True)
"""


class Waiter:
    """Another process that waits for the bell and tells when it was woken."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WAIT_AND_TELL, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "listening"

    def woken_at_s(self) -> float:
        return float(self._line())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bell"


@pytest.fixture
def waiters(folder: Path) -> Iterator[list[Waiter]]:
    many = [Waiter(folder), Waiter(folder)]
    yield many
    for waiter in many:
        waiter.kill()


def delay_s(bell: Bell, waiter: Waiter) -> float:
    rung_s = time.monotonic()
    bell.ring()
    return waiter.woken_at_s() - rung_s


def test_ring_wakes_every_process_within_milliseconds(folder: Path, waiters: list[Waiter]) -> None:
    bell = Bell(folder)
    delays = []
    for _ in range(20):
        rung_s = time.monotonic()
        bell.ring()
        delays += [waiter.woken_at_s() - rung_s for waiter in waiters]

    assert sorted(delays)[len(delays) // 2] < 0.01
    assert max(delays) < 0.5


def test_bell_works_after_the_waiter_was_killed_and_started_again(
    folder: Path, waiters: list[Waiter]
) -> None:
    bell = Bell(folder)
    delay_s(bell, waiters[0])
    waiters[0].kill()
    bell.ring()

    waiters[0] = Waiter(folder)

    assert delay_s(bell, waiters[0]) < 0.5
    assert delay_s(bell, waiters[0]) < 0.5


def test_bell_of_a_dead_waiter_is_taken_away_by_the_next_one(
    folder: Path, waiters: list[Waiter]
) -> None:
    assert len(list(folder.iterdir())) == 2
    waiters[0].kill()

    waiters[0] = Waiter(folder)

    assert len(list(folder.iterdir())) == 2


def test_ringing_never_blocks_when_the_waiter_does_not_listen(
    folder: Path, waiters: list[Waiter]
) -> None:
    bell = Bell(folder)
    waiters[0].process.send_signal(signal.SIGSTOP)
    started_s = time.monotonic()

    for _ in range(100_000):  # more than a fifo holds
        bell.ring()

    assert time.monotonic() - started_s < 30
    waiters[0].process.send_signal(signal.SIGCONT)
    waiters[0].woken_at_s()


def test_bell_works_in_a_folder_with_a_very_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 200) / ("d" * 200) / "bell"
    bell = Bell(folder)
    bell.listen()

    Bell(folder).ring()

    assert bell.wait(0)


def test_ring_before_the_wait_is_heard_once(folder: Path) -> None:
    bell, other = Bell(folder), Bell(folder)
    bell.listen()
    other.ring()
    other.ring()

    assert bell.wait(0)
    assert not bell.wait(0.05)


def test_ring_never_fails_not_even_without_the_folder(folder: Path) -> None:
    bell = Bell(folder)
    folder.rmdir()

    bell.ring()


def test_wait_without_a_fifo_ends_after_its_time(folder: Path) -> None:
    bell = Bell(folder)
    folder.rmdir()
    started_s = time.monotonic()

    assert not bell.wait(0.1)
    assert 0.09 <= time.monotonic() - started_s < 1


def test_bell_works_above_1024_open_files(folder: Path) -> None:
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        bell = Bell(folder)
        bell.listen()
        Bell(folder).ring()
        heard = bell.wait(1)
    finally:
        for descriptor in held:
            os.close(descriptor)

    assert heard


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_dropped_bell_leaves_no_file_and_no_descriptor(folder: Path) -> None:
    Bell(folder)
    before = open_files()

    for _ in range(5):
        bell = Bell(folder)
        bell.listen()
        bell.ring()
        del bell

    assert list(folder.iterdir()) == []
    assert open_files() == before


def test_threads_may_ring_together(folder: Path) -> None:
    bell, ear = Bell(folder), Bell(folder)
    ear.listen()
    threads = [threading.Thread(target=bell.ring) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ear.wait(0)
