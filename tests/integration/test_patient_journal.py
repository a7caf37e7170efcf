"""Any sequence of news, merges and un-merges leaves what a replay of the journal makes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from ris import merges, patients, registration, telling
from ris.model import MergeKind, Patient, Rules
from ris.requests import Context, Identifier, MergeRequest, PatientRequest
from ris.tables import MergeRow, PatientRow
from ris.verbs import Domain
from storage.base.errors import Rejected
from storage.db.engine import Engine, Session
from tests.fixtures.his import ZONE

PEOPLE = range(5)
DOMAIN = Domain(ZONE)
NOON = datetime(2026, 3, 1, 12, 0, 1)

person = st.sampled_from(PEOPLE)
tell = st.tuples(st.just("tell"), person, st.sampled_from("ABCD"))
merge = st.tuples(st.just("merge"), person, person)
unlink = st.tuples(st.just("unlink"), person, person)
Operation = tuple[str, int, "int | str"]


@contextmanager
def undone(engine: Engine) -> Iterator[Session]:
    """Yield a session that leaves nothing behind."""
    with Session(engine, expire_on_commit=False) as session, session.begin() as begun:
        yield session
        begun.rollback()


class World:
    """A hospital in a session, its patients' numbers of one issuer."""

    def __init__(self, session: Session, issuer: str) -> None:
        self.session, self.issuer, self.clock = session, issuer, NOON
        self.done: list[tuple[int, Operation]] = []
        """What was told, and after how many entries of the journal."""

    def identifier(self, number: int) -> Identifier:
        return Identifier(f"P{number}", self.issuer)

    def request(self, number: int, name: str | None = None) -> PatientRequest:
        return PatientRequest(identifier=self.identifier(number), patient_name=name)

    def do(self, operation: Operation) -> None:
        self.clock += timedelta(seconds=1)
        context = Context(sender="his", sent_at=self.clock)
        verb, one, other = operation
        try:
            with self.session.begin_nested():
                if verb == "tell":
                    registration.know(self.session, context, Rules(), self.request(one, str(other)))
                    self.done.append((self.entries(), operation))
                    return
                assert isinstance(other, int)
                if verb == "merge":
                    pair = MergeRequest(self.request(one), self.identifier(other))
                    DOMAIN.merge(self.session, context, [pair])
                else:
                    ids = self.identifier(one), self.identifier(other)
                    DOMAIN.unlink(self.session, context, *ids)
        except Rejected:
            pass

    def entries(self) -> int:
        return max((row.id for row in self.session.scalars(select(MergeRow))), default=0)

    def journal(self) -> Sequence[MergeRow]:
        statement = select(MergeRow).where(MergeRow.kind == MergeKind.MERGE).order_by(MergeRow.id)
        return self.session.scalars(statement).all()

    def patients(self) -> dict[int, Patient]:
        found = {}
        for number in PEOPLE:
            row = registration.find(self.session, self.identifier(number), "his", Rules())
            if row is not None:
                found[number] = patients.get(self.session, row.patient_ref)
        return found

    def picture(self) -> dict[int, tuple[int, str, str]]:
        """Return for each number who stands for it, and the names of both."""
        people = self.patients()
        numbers = {one.id: number for number, one in people.items()}
        return {
            number: (
                numbers[one.root],
                one.patient_name,
                people[numbers[one.root]].patient_name,
            )
            for number, one in people.items()
        }


def replayed(world: World) -> World:
    """Return a world in which only what stands in the journal was ever done."""
    numbers = {one.id: number for number, one in world.patients().items()}
    standing = [
        (row.id, ("merge", numbers[row.survivor_ref], numbers[row.prior_ref]))
        for row in world.journal()
        if row.undone_at is None
    ]
    # what was told after entry n of the journal comes behind it
    told = [(after + 0.5, operation) for after, operation in world.done]
    again = World(world.session, f"{world.issuer}-again")
    for _, operation in sorted([*standing, *told], key=lambda one: one[0]):
        again.do(operation)
    return again


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=st.lists(st.one_of(tell, merge, unlink), max_size=12))
def test_any_sequence_leaves_what_a_replay_of_the_journal_makes(
    engine: Engine, operations: list[Operation]
) -> None:
    with undone(engine) as session:
        world = World(session, "BV")
        for operation in operations:
            world.do(operation)
        before = world.picture()

        again = replayed(world)

        assert {n: again.picture().get(n, (n, "", "")) for n in before} == before


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.sampled_from("ABCD"), min_size=5, max_size=5),
    merged=st.lists(st.tuples(person, person), max_size=6),
    news=st.lists(st.tuples(person, st.sampled_from("XYZ")), max_size=4),
)
def test_undoing_every_merge_leaves_what_was_told_of_each(
    engine: Engine, names: list[str], merged: list[tuple[int, int]], news: list[tuple[int, str]]
) -> None:
    with undone(engine) as session:
        world = World(session, "BV")
        expected = dict(enumerate(names))
        for number, name in enumerate(names):
            world.do(("tell", number, name))
        for survivor, prior in merged:
            world.do(("merge", survivor, prior))
        for number, name in news:
            world.do(("tell", number, name))
            expected[number] = name

        for row in reversed(world.journal()):
            merges.undo(session, Context(sender="", sent_at=None), row.id)

        assert {n: one.patient_name for n, one in world.patients().items()} == expected
        assert all(one.root == one.id for one in world.patients().values())


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(merged=st.lists(st.tuples(person, person), max_size=10))
def test_who_stands_for_whom_is_always_the_end_of_the_chain(
    engine: Engine, merged: list[tuple[int, int]]
) -> None:
    with undone(engine) as session:
        world = World(session, "BV")
        for survivor, prior in merged:
            world.do(("merge", survivor, prior))

        for one in world.patients().values():
            end = session.get_one(PatientRow, one.id)
            for _ in PEOPLE:
                if end.merged_into is not None:
                    end = session.get_one(PatientRow, end.merged_into)
            assert one.root == end.id
            assert end.merged_into is None


# What is told, without a database


@pytest.mark.parametrize("count", [0, 1, 3])
def test_total_is_the_newest_of_each(count: int) -> None:
    changes = [{"patient_name": str(number)} for number in range(count)]

    total = telling.total(changes)

    assert total["patient_name"] == (str(count - 1) if count else "")
    assert total["patient_birth_date"] is None


def test_blanks_are_filled_by_the_first_who_knows() -> None:
    facts = {**telling.BLANK, "patient_name": "A"}
    children = [
        {**telling.BLANK, "patient_name": "B", "patient_sex": "F"},
        {**telling.BLANK, "patient_sex": "M", "patient_birth_date": "1980-01-01"},
    ]

    whole = telling.filled(facts, children)

    assert (whole["patient_name"], whole["patient_sex"], whole["patient_birth_date"]) == (
        "A",
        "F",
        "1980-01-01",
    )


def test_birth_date_without_a_day_is_told_as_it_was_sent() -> None:
    request = PatientRequest(
        identifier=Identifier("1"), patient_birth_date=None, patient_birth_date_sent="1951"
    )

    assert telling.told(request) == {
        "patient_birth_date": None,
        "patient_birth_date_sent": "1951",
    }
    assert telling.told(PatientRequest(identifier=Identifier("1"))) == {}


def test_deleted_birth_date_is_deleted() -> None:
    held = {**telling.BLANK, "patient_birth_date": "1951-02-03"}
    request = PatientRequest(
        identifier=Identifier("1"), patient_birth_date=None, patient_birth_date_sent=""
    )

    taken, notes = telling.judged(telling.told(request), held)

    assert taken == {"patient_birth_date": None, "patient_birth_date_sent": ""}
    assert notes == []
