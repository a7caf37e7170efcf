"""The journal of who saw what: appended to by many, changed by nobody."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage.audit import chain, journal
from storage.audit.model import Entry, Head, Kind, Outcome, Search
from storage.db.engine import Engine, Session, create, transaction
from tests.integration.test_command_line import lienthong

SEEN = Entry(
    kind=Kind.VIEW,
    actor="lan",
    actor_name="Nguyễn Thị Lan",
    station="68001",
    patient_id=7,
    report_uid="r1",
    report_version=2,
    basis="referral",
    evidence="b1",
    size=1200,
    request_id="q1",
    details={"lang": "vi"},
)


def append(engine: Engine, *entries: Entry) -> None:
    with transaction(engine) as session:
        journal.append(session, *entries)


def verdict(engine: Engine, known: Head | None = None) -> chain.Verdict:
    with transaction(engine) as session:
        return chain.verify(session, known)


def tamper(engine: Engine, statement: str) -> None:
    """Do what only the owner of the tables can: without the triggers."""
    with transaction(engine) as session:
        for table in ("audit_events", "audit_chain"):
            session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        session.execute(text(statement))
        for table in ("audit_events", "audit_chain"):
            session.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def test_entries_are_found_by_what_they_tell_of(engine: Engine) -> None:
    denied = Entry(kind=Kind.LOOK_UP, outcome=Outcome.EMPTY, station="68002", actor="token:ab")
    append(engine, SEEN, denied)

    with transaction(engine) as session:
        [found] = journal.find(session, Search(patient_id=7))
        [empty] = journal.find(session, Search(outcomes=(Outcome.EMPTY,), station="68002"))
        both = journal.find(session, Search(until=found.recorded_at.replace(year=2100)))
        older = journal.find(session, Search(), before=both[0].id)

    assert (found.actor_name, found.report_version, found.details) == (
        "Nguyễn Thị Lan",
        2,
        {"lang": "vi"},
    )
    assert (found.position, empty.position) == (1, 2)
    assert [one.id for one in older] == [found.id]


@pytest.mark.parametrize("table", ["audit_events", "audit_chain"])
@pytest.mark.parametrize("what", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_nothing_is_changed_or_taken_away(engine: Engine, table: str, what: str) -> None:
    append(engine, SEEN)
    column = {"audit_events": "station", "audit_chain": "digest"}[table]

    with pytest.raises(DBAPIError, match="only appended to"), transaction(engine) as session:
        session.execute(text(what.format(table, column, column)))

    assert verdict(engine).entries == 1


def test_what_was_rolled_back_leaves_no_gap(engine: Engine) -> None:
    append(engine, SEEN)
    with Session(engine) as session:
        journal.append(session, SEEN)
        session.rollback()
    append(engine, SEEN)

    assert verdict(engine) == chain.Verdict(2, verdict(engine).head)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit_events SET station = '68009' WHERE actor = '3'", "entry 3 was changed"),
        (
            "DELETE FROM audit_chain WHERE position = 2;DELETE FROM audit_events WHERE actor = '2'",
            "entry 2 is missing",
        ),
        ("DELETE FROM audit_chain WHERE position = 5", "1 entries stand outside the chain"),
        (
            "UPDATE audit_events SET content_sha256 = sha256('x') WHERE actor = '4'",
            "entry 4 was changed",
        ),
    ],
)
def test_what_the_owner_of_the_database_does_is_found(
    engine: Engine, statement: str, fault: str
) -> None:
    append(engine, *(Entry(kind=Kind.LIST, actor=str(number)) for number in range(1, 6)))
    for one in statement.split(";"):
        tamper(engine, one)

    assert verdict(engine).fault.startswith(fault)


def test_a_tail_that_was_cut_off_is_found_by_a_noted_head(engine: Engine) -> None:
    append(engine, SEEN, SEEN, SEEN)
    noted = verdict(engine).head
    tamper(engine, "DELETE FROM audit_chain WHERE position = 3")
    tamper(engine, "DELETE FROM audit_events WHERE id = (SELECT max(id) FROM audit_events)")

    assert not verdict(engine).fault
    assert verdict(engine, noted).fault == "the chain ends at 2; 3 entries were noted"

    append(engine, SEEN)
    assert verdict(engine, noted).fault == "entry 3 is not the one that was noted"


def test_open_transactions_keep_nobody_waiting(engine: Engine) -> None:
    with transaction(engine) as long:
        journal.append(long, Entry(kind=Kind.LIST, actor="long"))
        long.flush()
        append(engine, Entry(kind=Kind.LIST, actor="short"))
        assert verdict(engine).entries == 1

    with transaction(engine) as session:
        found = journal.find(session, Search())
    assert {one.actor: one.position for one in found} == {"short": 1, "long": 2}
    assert not verdict(engine).fault


def test_many_at_once_make_one_whole_chain(database_url: str) -> None:
    each, writers = 25, 8
    engines = [create(database_url) for _ in range(2)]
    failures: list[BaseException] = []

    def write(name: str, engine: Engine) -> None:
        try:
            for number in range(each):
                append(engine, *[Entry(kind=Kind.VIEW, actor=name)] * (1 + number % 3))
        except BaseException as error:  # noqa: BLE001 - the thread hands it to the test
            failures.append(error)

    threads = [
        threading.Thread(target=write, args=[str(number), engines[number % 2]])
        for number in range(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    found = verdict(engines[0])
    assert (found.fault, found.entries) == ("", writers * sum(1 + n % 3 for n in range(each)))
    for engine in engines:
        engine.dispose()


def test_command_prints_the_head_and_tells_of_a_break(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "data").mkdir()
    settings = {
        "LIENTHONG_DATABASE_URL": database_url,
        "LIENTHONG_DATA_DIR": str(tmp_path / "data"),
    }
    engine = create(database_url)
    append(engine, SEEN, SEEN)

    whole = lienthong(tmp_path, "audit", "verify", **settings)
    head = whole.stdout.strip()
    again = lienthong(tmp_path, "audit", "verify", "--head", head, **settings)
    tamper(engine, "UPDATE audit_events SET actor = 'nobody'")
    broken = lienthong(tmp_path, "audit", "verify", **settings)
    engine.dispose()

    assert (whole.returncode, head.partition(":")[0]) == (0, "2")
    assert (again.returncode, again.stdout.strip()) == (0, head)
    assert broken.returncode == 1
    assert "entry 1 was changed" in broken.stderr
