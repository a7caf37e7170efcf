import threading
import time
from collections.abc import Callable

import pytest

from storage.base.errors import StoreUnavailable
from viewer_api.health import STOPPING, Health


def fails() -> None:
    raise StoreUnavailable("the disk is gone")


def defect() -> None:
    raise RuntimeError("a secret")


def well() -> None:
    pass


def health(probes: dict[str, Callable[[], None]], **limits: float) -> Health:
    return Health(probes, threading.Event(), **limits)


def test_every_part_is_told_apart() -> None:
    reasons = health({"database": well, "spool": fails}).reasons()

    assert reasons == {"database": "", "spool": "the disk is gone"}


def test_broken_probe_tells_no_secrets() -> None:
    assert "secret" not in health({"database": defect}).reasons()["database"]


def test_hanging_part_is_down_in_time_and_does_not_hide_the_others() -> None:
    release = threading.Event()
    tried = health({"hangs": lambda: bool(release.wait(30)), "spool": well}, timeout_s=0.1)

    started = time.monotonic()
    reasons = tried.reasons()
    release.set()

    assert time.monotonic() - started < 1
    assert reasons == {"hangs": "no answer in time", "spool": ""}


def test_hanging_probe_is_not_started_twice() -> None:
    release, starts = threading.Event(), []

    def hangs() -> None:
        starts.append(1)
        release.wait(30)

    tried = health({"hangs": hangs}, timeout_s=0.01, keep_s=0)
    for _ in range(3):
        tried.reasons()
    release.set()

    assert len(starts) == 1


def test_answer_is_kept_for_a_moment() -> None:
    tries: list[int] = []
    tried = health({"spool": lambda: tries.append(1)}, keep_s=60)

    for _ in range(5):
        tried.reasons()

    assert len(tries) == 1


def test_answer_is_asked_again_after_that() -> None:
    outcomes = [fails, well]

    def changes() -> None:
        outcomes.pop(0)()

    tried = health({"spool": changes}, keep_s=0)

    first, second = tried.reasons(), tried.reasons()

    assert (first["spool"], second["spool"]) == ("the disk is gone", "")


@pytest.mark.parametrize("keep_s", [0, 60])
def test_stopping_node_is_not_ready_at_once(keep_s: float) -> None:
    stopping = threading.Event()
    tried = Health({"spool": well}, stopping, keep_s=keep_s)
    before = tried.reasons()

    stopping.set()

    assert not any(before.values())
    assert tried.reasons()["node"] == STOPPING
