"""Work that goes on beside other work outlives its troubles and ends when told."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from storage.base.attending import attend
from storage.base.errors import StoreUnavailable


def _raiser(error: Exception) -> Callable[[], bool]:
    def fail() -> bool:
        raise error

    return fail


def _in_turn(stop: threading.Event, *steps: Callable[[], object]) -> Callable[[], object]:
    """Return work that does one step after the other, and then says that it is enough."""
    left: Iterator[Callable[[], object]] = iter(steps)

    def work() -> object:
        step = next(left, None)
        if step is None:
            stop.set()
            return True
        return step()

    return work


def test_it_goes_on_at_once_while_there_is_more_and_rests_when_there_is_not() -> None:
    stop, rests = threading.Event(), list[float]()
    work = _in_turn(stop, lambda: True, lambda: 7, lambda: False, lambda: 0, lambda: None)
    attend("sweeping", work, stop, idle_s=9.0, wait=rests.append)
    assert rests == [9.0, 9.0, 9.0]


def test_trouble_is_logged_by_its_kind_and_passes(caplog: pytest.LogCaptureFixture) -> None:
    stop, rests = threading.Event(), list[float]()
    work = _in_turn(
        stop, _raiser(StoreUnavailable("no answer")), _raiser(ValueError("odd")), lambda: False
    )
    with caplog.at_level(logging.WARNING):
        attend("sweeping", work, stop, trouble_s=0.0, wait=rests.append)
    assert [record.message for record in caplog.records] == ["sweeping_waits", "sweeping_failed"]
    assert len(rests) == 1


def test_it_does_nothing_once_it_was_stopped() -> None:
    stop = threading.Event()
    stop.set()
    attend("sweeping", _raiser(AssertionError("called")), stop)
