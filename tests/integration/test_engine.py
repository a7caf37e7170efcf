"""What a caller sees when the database refuses, waits, freezes or goes away."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from storage.base.errors import Malformed, StoreUnavailable
from storage.db.engine import Engine, Session, check, create, transaction

QUICK_S = 0.4
"""A statement limit that a test can wait for."""


@pytest.fixture
def notes(database_url: str) -> Iterator[Engine]:
    """An engine of few connections and short patience, with one small table."""
    made = create(database_url, pool_size=1, statement_timeout_s=QUICK_S)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id int PRIMARY KEY, said text)"))
    yield made
    made.dispose()


def note(engine: Engine, number: int, said: str = "") -> None:
    with transaction(engine) as session:
        session.execute(text("INSERT INTO notes VALUES (:id, :said)"), {"id": number, "said": said})


def count(engine: Engine) -> int:
    with transaction(engine) as session:
        return int(session.execute(text("SELECT count(*) FROM notes")).scalar_one())


def test_block_that_ends_well_is_committed(notes: Engine) -> None:
    note(notes, 1)

    assert count(notes) == 1


def test_block_that_fails_leaves_nothing(notes: Engine) -> None:
    def fail() -> None:
        with transaction(notes) as session:
            session.execute(text("INSERT INTO notes VALUES (1, '')"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert count(notes) == 0


def test_settings_of_a_session_are_ours(notes: Engine) -> None:
    with transaction(notes) as session:
        found = [
            session.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("statement_timeout", "plan_cache_mode", "application_name")
        ]

    assert found == ["400ms", "force_custom_plan", "lienthong"]


def test_durable_server_is_healthy(engine: Engine) -> None:
    check(engine)


@pytest.mark.parametrize("hostile", ["a\0b", "\ud800"])
def test_text_that_cannot_be_kept_is_malformed_and_not_repeated(
    notes: Engine, hostile: str
) -> None:
    with pytest.raises(Malformed) as refused:
        note(notes, 1, f"NGUYEN{hostile}")

    assert "NGUYEN" not in str(refused.value)
    assert count(notes) == 0


def test_defects_stay_defects_and_hide_their_values(notes: Engine) -> None:
    note(notes, 1)

    with pytest.raises(IntegrityError) as twice:
        note(notes, 1, "NGUYEN")
    with pytest.raises(ProgrammingError), transaction(notes) as session:
        session.execute(text("SELECT nonsense"))

    assert "NGUYEN" not in str(twice.value)


def test_statement_that_takes_too_long_is_unavailable(notes: Engine) -> None:
    with (
        pytest.raises(StoreUnavailable, match="statement timeout"),
        transaction(notes) as session,
    ):
        session.execute(text("SELECT pg_sleep(30)"))

    assert count(notes) == 0


def test_deadlock_is_unavailable_for_one_and_the_other_goes_on(database_url: str) -> None:
    patient = create(database_url, statement_timeout_s=20)
    with patient.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id int PRIMARY KEY, said text)"))
    note(patient, 1)
    note(patient, 2)
    both_hold_one = threading.Barrier(2)
    results: list[str] = []

    def update(first: int, second: int) -> None:
        change = text("UPDATE notes SET said = 'x' WHERE id = :id")
        try:
            with transaction(patient) as session:
                session.execute(change, {"id": first})
                both_hold_one.wait(10)
                session.execute(change, {"id": second})
            results.append("done")
        except StoreUnavailable as error:
            results.append("deadlock" if "deadlock" in str(error) else str(error))

    threads = [threading.Thread(target=update, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    patient.dispose()

    assert sorted(results) == ["deadlock", "done"]


def test_connection_that_was_ended_meanwhile_is_replaced_unnoticed(
    notes: Engine, database_url: str
) -> None:
    with transaction(notes) as session:
        pid = backend(session)
    end(database_url, pid)

    assert count(notes) == 0


def test_connection_that_is_ended_in_use_is_unavailable(notes: Engine, database_url: str) -> None:
    with pytest.raises(StoreUnavailable):
        ask_twice(notes, lambda pid: end(database_url, pid))

    assert count(notes) == 0


def test_pool_that_is_used_up_is_unavailable(notes: Engine) -> None:
    with notes.connect(), notes.connect(), pytest.raises(StoreUnavailable, match="is busy"):
        count(notes)


@pytest.mark.skipif(
    "LIENTHONG_TEST_DATABASE_URL" in os.environ, reason="the server's processes are elsewhere"
)
def test_frozen_server_does_not_hang_the_caller(notes: Engine) -> None:
    frozen: list[int] = []

    def freeze(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        frozen.append(pid)

    started = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):  # between two statements
            ask_twice(notes, freeze)
        with transaction(notes) as session:  # and while it waits in the pool
            pid = backend(session)
        freeze(pid)
        found = count(notes)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)

    assert found == 0
    assert time.monotonic() - started < 5


def ask_twice(engine: Engine, between: Callable[[int], None]) -> None:
    """Let something happen to the server's process of a transaction, in the middle of it."""
    with transaction(engine) as session:
        between(backend(session))
        session.execute(text("SELECT 1"))


def backend(session: Session) -> int:
    return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def end(url: str, pid: int) -> None:
    other = create(url, pool_size=1)
    with other.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": pid})
    other.dispose()
