"""Work of many threads done together."""

import gc
import threading
import weakref
from collections.abc import Callable, Sequence

import pytest

from ris.hl7.convoy import Convoy

WAIT_S = 10.0


class Road:
    """Notes who was carried with whom; whoever is carried waits until the road is open."""

    def __init__(self, lanes: int = 1, most: int = 32, patience_s: float = 0.0) -> None:
        self.trips: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.convoy = Convoy(self._carry, most, lanes, patience_s)
        self.threads: list[threading.Thread] = []

    def _carry(self, loads: Sequence[str]) -> None:
        self.trips.append([*loads])
        self.begun.release()
        assert self.open.wait(WAIT_S)

    def come(self, load: str, *keys: str) -> None:
        """Let a thread come with a load, and be under way or waiting."""
        thread = threading.Thread(target=self.convoy.ride, args=(load, keys or (load,)))
        before = len(self.convoy)
        thread.start()
        _until(lambda: len(self.convoy) > before or not thread.is_alive())  # it may be there by now
        self.threads.append(thread)

    def begin(self, load: str, *keys: str) -> None:
        """Let a thread come that goes at once."""
        self.come(load, *keys)
        assert self.begun.acquire(timeout=WAIT_S)

    def end(self) -> list[list[str]]:
        """Let all arrive; return who went with whom."""
        self.open.set()
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        return self.trips


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S * 1000)):
        if condition():
            return
        threading.Event().wait(0.001)
    pytest.fail("it did not come so far")


def test_who_comes_alone_goes_at_once() -> None:
    road = Road()
    road.begin("a")

    assert road.end() == [["a"]]


def test_who_comes_meanwhile_goes_together_in_the_order_of_coming() -> None:
    road = Road()
    road.begin("a")
    for load in "bcd":
        road.come(load)

    assert road.end() == [["a"], ["b", "c", "d"]]


def test_second_lane_is_taken_while_the_first_is_at_work() -> None:
    road = Road(lanes=2)
    road.begin("a")
    road.begin("b")
    road.come("c")

    assert road.end() == [["a"], ["b"], ["c"]]


def test_no_more_go_together_than_may() -> None:
    road = Road(most=2)
    road.begin("a")
    for load in "bcd":
        road.come(load)

    assert road.end() == [["a"], ["b", "c"], ["d"]]


def test_those_that_share_a_key_go_one_after_the_other() -> None:
    road = Road()
    road.begin("a")
    road.come("b1", "b", "x")
    road.come("b2", "b", "y")
    road.come("c")

    assert road.end() == [["a"], ["b1", "c"], ["b2"]]


def test_nobody_overtakes_another_of_a_key() -> None:
    road = Road()
    road.begin("a", "x")
    road.come("b", "y")
    road.come("c", "y", "z")
    road.come("d", "z")

    assert road.end() == [["a"], ["b"], ["c"], ["d"]]


def test_key_under_way_in_one_lane_keeps_others_out_of_the_next() -> None:
    road = Road(lanes=2)
    road.begin("a1", "a")
    road.come("a2", "a")
    road.begin("b")

    assert road.end() == [["a1"], ["b"], ["a2"]]


def test_those_who_were_there_are_waited_for() -> None:
    road = Road(patience_s=WAIT_S)
    road.begin("a")
    road.come("b")
    road.open.set()  # two were there when the first trip ended: the second goes with two
    _until(lambda: len(road.convoy) == 1)
    road.convoy.ride("c", "c")

    assert road.end() == [["a"], ["b", "c"]]


def test_who_does_not_come_back_is_waited_for_no_longer_than_a_moment() -> None:
    road = Road(patience_s=0.001)
    road.begin("a")
    road.come("b")

    assert road.end() == [["a"], ["b"]]


def test_who_rides_with_one_that_fails_comes_back_and_the_lane_is_free() -> None:
    begun, going = threading.Semaphore(0), threading.Event()
    carried: list[str] = []
    failed: list[str] = []

    def carry(loads: Sequence[str]) -> None:
        begun.release()
        assert going.wait(WAIT_S)
        carried.extend(loads)
        if "b" in loads:
            raise MemoryError

    convoy: Convoy[str] = Convoy(carry, lanes=1)

    def ride(load: str) -> None:
        try:
            convoy.ride(load, load)
        except MemoryError:
            failed.append(load)

    threads = [threading.Thread(target=ride, args=(load,)) for load in "abcd"]
    for number, thread in enumerate(threads, 1):
        thread.start()
        _until(lambda number=number: len(convoy) == number)  # type: ignore[misc]
    going.set()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    ride("e")

    assert carried == ["a", "b", "c", "d", "e"]
    assert failed == ["b"]
    assert len(convoy) == 0


def test_no_load_is_kept_once_it_has_arrived() -> None:
    class Load:
        pass

    convoy: Convoy[Load] = Convoy(lambda _: None)
    load = Load()
    seen = weakref.ref(load)
    gc.disable()
    try:
        convoy.ride(load, "k")
        del load

        assert seen() is None
    finally:
        gc.enable()


def test_hundreds_at_once_are_carried_once_each() -> None:
    carried: list[int] = []
    convoy: Convoy[int] = Convoy(carried.extend, most=5, lanes=2)
    threads = [
        threading.Thread(target=convoy.ride, args=(number, (str(number % 7),)))
        for number in range(300)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)

    assert sorted(carried) == [*range(300)]
    assert len(convoy) == 0
