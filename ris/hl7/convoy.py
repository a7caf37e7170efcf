"""Work of many threads done together: who comes while others are at work goes along with the next.

    thread ─ ride ─┐                    ┌─ free lane: its oldest rider drives what waits
    thread ─ ride ─┼─ waiting, in order ┤
    thread ─ ride ─┘                    └─ none: the next who gets off hands the lane over

A rider that comes alone drives at once and waits for nobody. Riders that share a key never ride
together, nor at the same time in two lanes, and none overtakes another of its key.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MOST: Final = 32
LANES: Final = 1
"""One trip of four costs less than two of two, and the next one has more to carry."""
PATIENCE_S: Final = 0.005
"""So long those who were there a moment ago are waited for: they have an answer now, and most
send their next message at once."""


class Rider(Generic[T]):
    """One thread's piece of work."""

    __slots__ = ("_gate", "drives", "keys", "load")

    def __init__(self, load: T, keys: Collection[str]) -> None:
        self.load = load
        self.keys = frozenset(keys)
        self.drives: Sequence[Rider[T]] = ()
        """Whom it carries, once it is its turn to drive."""
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self) -> None:
        """Wait until it has arrived, or has to drive."""
        self._gate.acquire()

    def call(self) -> None:
        """Wake its thread."""
        self._gate.release()


class Convoy(Generic[T]):
    """Carries the loads of many threads, several at once.

    Parameters
    ----------
    carry
        Does the work of some loads at once; never raises. What comes of each it leaves in the load.
    most
        Loads that are carried at once.
    lanes
        So many times at the same time.
    patience_s
        How long whoever drives waits for as many as there were at the end of the last trip. Who was
        alone then is not waited for.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[T]], None],
        most: int = MOST,
        lanes: int = LANES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._carry = carry
        self._most = most
        self._free_lanes = lanes
        self._lock = threading.Lock()
        self._waiting: list[Rider[T]] = []
        self._under_way: set[str] = set()
        self._count = 0
        self._patience_s = patience_s
        self._expected = 0
        """Who was there when the last trip ended."""
        self._came = threading.Condition(self._lock)

    def __len__(self) -> int:
        """How many wait or are under way."""
        return self._count

    def ride(self, load: T, keys: Collection[str]) -> None:
        """Let a load be carried with others; return when that is done."""
        rider = Rider(load, keys)
        with self._lock:
            self._waiting.append(rider)
            self._count += 1
            self._came.notify()
            self._start()
        rider.wait()
        if rider.drives:
            self._drive(rider)

    def _drive(self, driver: Rider[T]) -> None:
        try:
            self._wait_for_company(driver)
            self._carry([one.load for one in driver.drives])
        finally:
            riders, driver.drives = driver.drives, ()  # it carried itself, too: no load is kept
            with self._lock:
                self._free_lanes += 1
                self._expected = self._count
                self._count -= len(riders)
                for one in riders:
                    self._under_way -= one.keys
                self._start()
            for one in riders:
                if one is not driver:
                    one.call()

    def _wait_for_company(self, driver: Rider[T]) -> None:
        """Take along those who came meanwhile, and those who come back in a moment."""
        with self._lock:
            expected = min(self._expected, self._most)
            until = time.monotonic() + self._patience_s
            while len(driver.drives) + len(self._waiting) < expected:
                if not self._came.wait(until - time.monotonic()):
                    break
            self._under_way -= {key for one in driver.drives for key in one.keys}
            self._waiting = [*driver.drives, *self._waiting]
            driver.drives = self._boarding()
            for one in driver.drives:
                self._under_way |= one.keys

    def _start(self) -> None:
        """Send off those who can go, while there is a lane; the lock is held."""
        while self._free_lanes and (riders := self._boarding()):
            self._free_lanes -= 1
            for one in riders:
                self._under_way |= one.keys
            riders[0].drives = riders
            riders[0].call()

    def _boarding(self) -> list[Rider[T]]:
        """Take the oldest riders that share no key with each other, nor with who is under way."""
        taken = set(self._under_way)
        boarding: list[Rider[T]] = []
        left: list[Rider[T]] = []
        for one in self._waiting:
            if len(boarding) < self._most and taken.isdisjoint(one.keys):
                boarding.append(one)
            else:
                left.append(one)
            taken |= one.keys
        self._waiting = left
        return boarding
