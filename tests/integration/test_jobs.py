"""The queue of jobs on the real database."""

import threading
from datetime import timedelta

import pytest

from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound, PeerUnavailable
from storage.db.engine import Engine, transaction
from storage.jobs import queue
from storage.jobs.queue import Job, State
from storage.jobs.runner import Runner


def enqueue(engine: Engine, name: str = "test.do_it", **arguments: object) -> None:
    with transaction(engine) as session:
        queue.enqueue(session, name, **arguments)


def left(engine: Engine) -> list[Job]:
    with transaction(engine) as session:
        return [*queue.list_open(session)]


def test_job_is_done_once_with_its_arguments(engine: Engine) -> None:
    did: list[object] = []
    runner = Runner(engine, {"test.do_it": lambda **given: did.append(given)})
    enqueue(engine, report="a", revision=7)

    assert runner.run_once()
    assert not runner.run_once()

    assert did == [{"report": "a", "revision": 7}]
    assert left(engine) == []


def test_job_of_a_transaction_that_fails_was_never_there(engine: Engine) -> None:
    def fail() -> None:
        with transaction(engine) as session:
            queue.enqueue(session, "test.do_it")
            raise Malformed("x")

    with pytest.raises(Malformed):
        fail()

    assert left(engine) == []


def test_job_waits_while_something_is_away_and_longer_each_time(engine: Engine) -> None:
    def away() -> None:
        raise PeerUnavailable("the provider does not answer")

    enqueue(engine)
    runner = Runner(engine, {"test.do_it": away})
    assert runner.run_once()
    [first] = left(engine)
    assert (first.state, first.attempts) == (State.WAITING, 1)
    assert first.reason == "the provider does not answer"
    assert first.due_at > utc_now() + timedelta(seconds=1)
    assert not runner.run_once(), "it is not due"

    with transaction(engine) as session:
        queue.retry(session, first.id)
    assert runner.run_once()
    [second] = left(engine)
    assert second.attempts == 2
    assert second.due_at > utc_now() + timedelta(seconds=2.5)


@pytest.mark.parametrize(
    ("error", "reason"), [(Malformed("no"), "no"), (ZeroDivisionError(), "a defect: ZeroDiv")]
)
def test_what_no_later_try_can_mend_is_parked(
    engine: Engine, error: Exception, reason: str
) -> None:
    def fail() -> None:
        raise error

    enqueue(engine)
    Runner(engine, {"test.do_it": fail}).run_once()

    [job] = left(engine)
    assert job.state is State.PARKED
    assert job.reason.startswith(reason)
    assert not Runner(engine, {"test.do_it": fail}).run_once()
    with transaction(engine) as session:
        queue.discard(session, job.id)
        with pytest.raises(NotFound):
            queue.discard(session, job.id)
        with pytest.raises(NotFound):
            queue.retry(session, job.id)


def test_two_runners_share_the_work(engine: Engine) -> None:
    did: list[int] = []
    for number in range(20):
        enqueue(engine, number=number)

    def note(number: int) -> None:
        did.append(number)

    def work() -> None:
        runner = Runner(engine, {"test.do_it": note})
        while runner.run_once():
            pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(did) == [*range(20)]
    assert left(engine) == []


def test_job_without_a_handler_here_is_left_to_others(engine: Engine) -> None:
    enqueue(engine, "other.do_that")

    assert not Runner(engine, {"test.do_it": print}).run_once()
    assert len(left(engine)) == 1


def test_job_whose_doer_died_is_due_again_after_its_lease(engine: Engine) -> None:
    enqueue(engine)
    with transaction(engine) as session:
        taken = queue.take(session, ["test.do_it"])
    assert taken is not None

    [job] = left(engine)
    assert utc_now() < job.due_at <= utc_now() + queue.LEASE
