"""New orders placed many at once leave what they leave when each is applied by itself."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, Table, event, select
from sqlalchemy.exc import OperationalError

from ris import placing, registration
from ris.hl7 import ledger
from ris.hl7.ack import code_in
from ris.hl7.express import Express, Parcel, parcel_of
from ris.hl7.pipeline import Pipeline
from ris.hl7.senders import SenderBook
from ris.hl7.tables import MessageRow
from ris.model import Rules
from ris.outbox import OrderEventRow
from ris.placing import Asked, Placed
from ris.requests import (
    Context,
    Identifier,
    OrderRequest,
    PatientRequest,
    StepRequest,
    VisitRequest,
)
from ris.tables import (
    IdentifierRow,
    OrderRow,
    PatientChangeRow,
    PatientRow,
    ProcedureRow,
    StepRow,
    VisitRow,
)
from ris.verbs import Domain
from storage.archive import incidents
from storage.base.errors import Malformed
from storage.base.settings import UnknownPeers
from storage.db import together
from storage.db.columns import Base
from storage.db.engine import Engine, Session, transaction
from storage.db.together import Question
from tests.fixtures.database import empty
from tests.fixtures.his import ZONE, His, now, order, pid

PEER = "10.1.0.5"
KINDS = (
    PatientRow,
    IdentifierRow,
    PatientChangeRow,
    VisitRow,
    OrderRow,
    ProcedureRow,
    StepRow,
    OrderEventRow,
    MessageRow,
)
OURS = {
    *("created_at", "changed_at", "made_at", "happened_at", "received_at", "settled_at"),
    *("identity", "applied_no"),
}
"""Instants and numbers of ours, which differ from run to run."""
_REFERRED = {"order_id": {"orders"}, "message_id": {"hl7_messages"}}
GIVEN_OUT = re.compile(r"LT\d{10}|2\.25\.\d+")


@dataclass(frozen=True)
class Watched(Domain):
    """The verbs of the RIS; `placed` are the orders that were placed with others, if any are."""

    together: bool = True
    placed: list[str] = field(default_factory=list)

    def place(self, session: Session, asked: Sequence[Asked]) -> Placed:
        if not self.together:
            return Placed([None] * len(asked))
        made = super().place(session, asked)
        self.placed.extend(one.placer_order_number for one in made.done if one is not None)
        return made


def his_with(engine: Engine, verbs: Watched, name: str = "his", **changes: Any) -> His:
    his = His(engine, name, **changes)
    his.pipeline = Pipeline(engine, SenderBook(engine, UnknownPeers.REJECT), verbs, ZONE)
    return his


def rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Return every row of an order's tables; numbers that are given out by their rank."""
    with transaction(engine) as session:
        held = {
            kind.__tablename__: [
                dict(row) for row in session.execute(select(table).order_by("id")).mappings()
            ]
            for kind in KINDS
            if isinstance(table := kind.__table__, Table)
        }
    ranks = {name: {row["id"]: rank for rank, row in enumerate(own)} for name, own in held.items()}
    return {name: [_plain(name, row, ranks) for row in own] for name, own in held.items()}


def _plain(table: str, row: dict[str, Any], ranks: dict[str, dict[int, int]]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for column in Base.metadata.tables[table].columns:
        value = row[column.name]
        referred = _REFERRED.get(
            column.name, {key.column.table.name for key in column.foreign_keys}
        )
        if column.name == "id":
            referred = {table}
        if column.name in OURS:
            value = value is not None
        elif referred and value:
            value = ranks[min(referred)][value]
        plain[column.name] = _text(value)
    return plain


def _text(value: object) -> object:
    """Return a text without numbers of ours; of an answer what stands behind its MSH."""
    if isinstance(value, bytes):
        return GIVEN_OUT.sub("OURS", value.partition(b"\r")[2].decode())
    return GIVEN_OUT.sub("OURS", value) if isinstance(value, str) else value


def both(
    engine: Engine, send: Callable[[His], object], rules: Rules | None = None, **changes: Any
) -> tuple[Watched, Watched]:
    """Do the same placed with others and one by one, and compare what is there then."""
    found, verbs = [], []
    for with_others in (True, False):
        empty(engine)
        watched = Watched(ZONE, rules or Rules(), with_others)
        his = his_with(engine, watched, **changes)
        send(his)
        found.append((rows(engine), his.notices()))
        verbs.append(watched)
    assert found[0] == found[1]
    return verbs[0], verbs[1]


def visited(number: str, *more: str) -> list[str]:
    person, *rest = order("NW", *more[:2]) if more else order("NW", "1", number)
    return [person, f"PV1|1|O|K01^P101^01||||DR1^LÊ^BÌNH{'|' * 11}V{number}", *rest]


def with_others(number: str, patient: str, citizen: str) -> list[str]:
    """Return an order that tells of a citizen number and a health card, too."""
    numbers = f"{patient}~{citizen}^^^CA^NI~GD4{citizen}^^^BHXH^HC"
    return order("NW", number, person=f"PID|||{numbers}||NGUYỄN VĂN MẪU||19800101|M")


def numbered(*numbers: str) -> str:
    return f"PID|||{'~'.join(numbers)}||NGUYỄN VĂN MẪU||19800101|M"


def appointment(number: str) -> list[str]:
    return [f"SCH|{number}||||||||||^^^20260305100000", pid("1"), "AIS|1||CT|20260305100000"]


# What is sent, and which orders are placed with others; None: whichever
CASES: dict[str, tuple[Callable[[His], object], list[str] | None]] = {
    "new patient": (lambda his: his.order("NW", "1", "1"), ["1"]),
    "new patient with a visit": (lambda his: his.send("ORM^O01", *visited("1")), ["1"]),
    "known patient, nothing new": (
        lambda his: [his.order("NW", number, "1") for number in "123"],
        ["1", "2", "3"],
    ),
    "known patient, the same visit": (
        lambda his: [his.send("ORM^O01", *visited("1", n, "1")) for n in "12"],
        ["1", "2"],
    ),
    "known patient, a first visit": (
        lambda his: [his.order("NW", "1", "1"), his.send("ORM^O01", *visited("1", "2", "1"))],
        ["1", "2"],
    ),
    "known patient, another name": (
        lambda his: [
            his.order("NW", "1", "1"),
            his.order("NW", "2", person=pid("1", "TRẦN VĂN KHÁC")),
        ],
        ["1"],
    ),
    "known patient, older news": (
        lambda his: [his.order("NW", "1", "1"), his.order("NW", "2", "1", at="20260101080001")],
        ["1"],
    ),
    "known patient, the number alone": (
        lambda his: [
            his.order("NW", "1", "1"),
            his.order("NW", "2", person=pid("1", "", "", "")),
        ],
        ["1"],
    ),
    "number alone": (lambda his: his.order("NW", "1", person=pid("1", "", "", "")), ["1"]),
    "partial birth date": (
        lambda his: his.order("NW", "1", person=pid("1", born="1980")),
        ["1"],
    ),
    "further numbers": (
        lambda his: [his.send("ORM^O01", *with_others(n, "1", "012345678901")) for n in "12"],
        ["1", "2"],
    ),
    "further number of another patient": (
        lambda his: [his.send("ORM^O01", *with_others(n, n, "012345678901")) for n in "12"],
        ["1"],
    ),
    "number that differs by leading zeros": (
        lambda his: [his.order("NW", "1", "0012"), his.order("NW", "2", "12")],
        ["1"],
    ),
    "order that is known": (lambda his: [his.order("NW", "1"), his.order("NW", "1")], ["1"]),
    "change of what is not known": (lambda his: his.order("XO", "1"), []),
    "cancelled before it came": (
        lambda his: [his.order("CA", "1"), his.order("NW", "1", at="20260101080001")],
        [],
    ),
    "appointment before the order": (
        lambda his: [his.send("SIU^S12", *appointment("1")), his.order("NW", "1")],
        [],
    ),
    "study of another order": (
        lambda his: [his.order("NW", number, "1", study="1.2.3") for number in "12"],
        ["1"],
    ),
    "study of another patient": (
        lambda his: [his.order("NW", number, number, study="1.2.3") for number in "12"],
        ["1"],
    ),
    "further number twice, written in two ways": (
        lambda his: his.order(
            "NW", "1", person=numbered("1", "0 12^^^CA^NI", "012^^^BHXH^NI", "1^^^X^PI")
        ),
        ["1"],
    ),
    "its own number once more, of another issuer": (
        lambda his: [
            his.order("NW", "1", person=pid("1")),
            his.order("NW", "2", person=numbered("1^^^BVDK^PI", "1^^^X^PI")),
        ],
        ["1"],
    ),
    "visit that is over": (
        lambda his: [
            his.send("ADT^A01", *visited("1")[:2]),
            his.send("ADT^A03", *visited("1")[:2]),
            his.send("ORM^O01", *visited("1", "1", "1")),
            his.order("NW", "2", "1"),
        ],
        ["1", "2"],
    ),
    "visit that goes on, of which nothing is told": (
        lambda his: [
            his.send("ADT^A01", *visited("1")[:2]),
            his.order("NW", "1", "1"),
            his.send("ORM^O01", *visited("7", "2", "1")),
            his.order("NW", "3", "1"),
        ],
        ["1", "2", "3"],
    ),
    "what is deleted": (
        lambda his: [
            his.order("NW", "1", "1", reason='""', doctor='""', group='""'),
            his.order("NW", "2", person='PID|||1||""||""|""'),
            his.order("NW", "3", person='PID|||2||""||""|""'),
        ],
        ["1", "3"],
    ),
    "time with a zone": (
        lambda his: his.order(
            "NW", "1", start="20260301090000.123456+0900", at="20260301080000.5+0000"
        ),
        ["1"],
    ),
    "no time": (
        lambda his: [his.order("NW", n, "1", at="", start="") for n in "12"],
        ["1", "2"],
    ),
    "other words for a new order": (
        lambda his: [his.order(word, word, word) for word in ("NW", "SN", "CH", "HD", "SC")],
        ["NW", "SN", "CH"],
    ),
    "held, then sent once more": (
        lambda his: [his.order("HD", "1"), his.order("NW", "1"), his.order("RL", "1")],
        [],
    ),
    "two steps under one number": (
        lambda his: his.send("ORM^O01", *order("NW", "1"), *order("NW", "1")[2:]),
        None,
    ),
    "number that is too long": (lambda his: his.order("NW", "9" * 201), []),
    "patient by another spelling": (
        lambda his: [his.order("NW", "1", "bn 01"), his.order("NW", "2", "BN01")],
        ["1", "2"],
    ),
    "patient with a new number": (
        lambda his: [
            his.order("NW", "1", "1"),
            his.merge("2", "1", event="A47"),
            his.order("NW", "2", "1"),
            his.order("NW", "3", "2"),
        ],
        ["1", "3"],
    ),
    "merge undone": (
        lambda his: [
            his.order("NW", "1", "1"),
            his.order("NW", "2", "2"),
            his.merge("1", "2"),
            his.send("ADT^A37", pid("1"), pid("2")),
            his.order("NW", "3", "1"),
            his.order("NW", "4", "2"),
        ],
        None,
    ),
    "words that mean something in JSON or SQL": (
        lambda his: his.order("NW", "1", reason="{\"a\":[1]}\\u0000 %s %(x)s \x01\x7f 'null'"),
        ["1"],
    ),
    "letter that is a half": (lambda his: his.order("NW", "1", reason="a\\XEDA080\\b"), None),
    "no modality": (lambda his: his.order("NW", "1", modality=""), []),
    "merged patient": (
        lambda his: [
            his.order("NW", "1", "1"),
            his.order("NW", "2", "2"),
            his.merge("1", "2"),
            his.order("NW", "3", "1"),
            his.order("NW", "4", "2"),
        ],
        ["1", "2"],
    ),
    "reason, group, doctor and start": (
        lambda his: his.order("NW", "1", reason="đau đầu", group="G1", doctor="BS1^LÊ"),
        ["1"],
    ),
    "text that PostgreSQL cannot hold in JSON": (
        lambda his: his.order("NW", "1", reason="đau\0đầu"),
        [],
    ),
    "letters outside the first plane": (
        lambda his: his.order("NW", "1", person=pid("1", 'NGUYỄN 𠀋 "ẨN" \\E\\')),
        ["1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_placed_orders_leave_what_applied_ones_leave(engine: Engine, case: str) -> None:
    send, placed = CASES[case]

    watched, alone = both(engine, send)

    assert alone.placed == []
    assert placed is None or watched.placed == placed


@pytest.mark.parametrize(
    "changes",
    [{"answer_orders": True}, {"on_error": "aa_and_queue"}, {"issuer": ""}],
    ids=["ORR", "never AE", "no issuer"],
)
def test_senders_of_other_ways_are_answered_alike(engine: Engine, changes: dict[str, Any]) -> None:
    def send(his: His) -> None:
        for number, patient in (("1", "1"), ("2", "1"), ("3", "2")):
            his.order("NW", number, patient)
            his.order("SN", f"{number}-2", patient)

    watched, _ = both(engine, send, **changes)

    assert watched.placed == ["1", "1-2", "2", "2-2", "3", "3-2"]


def test_number_that_is_known_without_its_zeros_is_left(engine: Engine) -> None:
    def send(his: His) -> None:
        for number, patient in (("1", "0012"), ("2", "12"), ("3", "12"), ("4", "0012")):
            his.order("NW", number, patient)

    watched, _ = both(engine, send, Rules(ignore_leading_zeros=True))

    assert watched.placed == ["1", "3", "4"]


def test_orders_that_come_at_once_are_all_placed_and_kept_once(engine: Engine) -> None:
    watched = Watched(ZONE)
    his = his_with(engine, watched)
    sent = [his.message("ORM^O01", *order("NW", str(n), str(n % 40))) for n in range(160)]
    left, answers, lock = iter(sent), [], threading.Lock()

    def go() -> None:
        while True:
            with lock:
                octets = next(left, None)
            if octets is None:
                return
            answers.append(his.pipeline.answer(octets, PEER))

    threads = [threading.Thread(target=go) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(b"MSA|AA|" in answer for answer in answers)
    held = rows(engine)
    assert len(held["orders"]) == len(held["scheduled_steps"]) == len(sent)
    assert len(held["ris_patients"]) == 40
    assert {row["state"] for row in held["hl7_messages"]} == {"applied"}
    assert len(watched.placed) > len(sent) / 2


def parcels_of(his: His, sent: Iterable[bytes]) -> list[Parcel]:
    found = [parcel_of(his.pipeline.read(octets, PEER), PEER, "mllp") for octets in sent]
    return [one for one in found if one is not None]


def three(his: His, reason: str = "") -> list[Parcel]:
    """Return three orders, the second for this reason."""
    lines = [order("NW", n, n, reason=reason if n == "2" else "") for n in "123"]
    return parcels_of(his, [his.message("ORM^O01", *one) for one in lines])


def test_one_that_cannot_be_written_leaves_its_company_unharmed(engine: Engine) -> None:
    his, verbs = His(engine), Watched(ZONE)
    parcels = three(his, "đau\0đầu")

    Express(engine, verbs, now).carry(parcels)

    assert verbs.placed == []
    assert [one.answer for one in parcels] == [None] * 3
    kept = [row["state"] for row in rows(engine)["hl7_messages"]]
    assert kept == ["received"] * 3
    said = [his.pipeline.process(one.reading, one.noted.id) for one in parcels if one.noted]
    assert [code_in(one) for one in said] == ["AA", "AE", "AA"]


@dataclass(frozen=True)
class Failing(Watched):
    """Something goes wrong after the rows of a company were written."""

    fault: Sequence[str] = ()

    def place(self, session: Session, asked: Sequence[Asked]) -> Placed:
        made = super().place(session, asked)
        return Placed(made.done, [*made.writes, *map(Question, self.fault)])


def raising(state: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{state}'; END $$"


FAULTS: dict[str, tuple[str, ...]] = {
    "deadlock": (raising("40P01"),),
    "serialization": (raising("40001"),),
    "unique": (raising("23505"),),
    "overflow": ("SELECT 2147483647 + 1::int",),
    "no room": (raising("53100"),),
    "internal": (raising("XX000"),),
    "time-out": ("SET LOCAL statement_timeout = 20", "SELECT pg_sleep(60)"),
    "connection": ("SELECT pg_terminate_backend(pg_backend_pid())",),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_company_that_fails_is_worked_on_one_by_one(engine: Engine, fault: str) -> None:
    his, verbs = His(engine), Failing(ZONE, fault=FAULTS[fault])
    parcels = three(his)

    Express(engine, verbs, now).carry(parcels)

    assert verbs.placed == ["1", "2", "3"]
    assert [(one.answer, one.error) for one in parcels] == [(None, None)] * 3
    assert rows(engine)["orders"] == []
    said = [his.pipeline.process(one.reading, one.noted.id) for one in parcels if one.noted]
    assert [code_in(one) for one in said] == ["AA"] * 3
    assert len(rows(engine)["orders"]) == 3


@pytest.mark.parametrize(("lost", "first"), [(1, "AR"), (2, "AA")], ids=["ledger", "order"])
def test_commit_whose_end_nobody_heard_of_counts_once(
    engine: Engine, lost: int, first: str
) -> None:
    """The database has committed, and the connection is lost before it can say so."""
    his, commits = his_with(engine, Watched(ZONE)), []
    octets = his.message("ORM^O01", *order("NW", "1"))
    his.pipeline.read(octets, PEER)  # the senders are known

    def lose(connection: Connection) -> None:
        commits.append(1)
        if len(commits) == lost:
            connection.connection.commit()
            raise OperationalError(None, None, ConnectionError("gone"))

    event.listen(engine, "commit", lose)
    try:
        said = code_in(his.pipeline.answer(octets, PEER))
    finally:
        event.remove(engine, "commit", lose)
    again = code_in(his.pipeline.answer(octets, PEER))

    assert (said, again) == (first, "AA")
    held = rows(engine)
    assert len(held["orders"]) == len(held["order_events"]) == 1
    assert [row["state"] for row in held["hl7_messages"]] == ["applied"]


def test_messages_are_written_down_in_one_order_whoever_brings_them(engine: Engine) -> None:
    his = His(engine)
    received = [one.received for one in three(his)]
    ids = []

    for some in (received, received[::-1]):
        with transaction(engine) as session:
            noted = ledger.note_all(session, some)
        known = {one.identity: its for one, its in zip(some, noted, strict=True)}
        ids.append([its.id for _, its in sorted(known.items()) if its is not None])
        empty(engine)

    assert [len(one) for one in ids] == [3, 3]
    assert [sorted(one) for one in ids] == ids


def test_two_processes_with_the_same_messages_apply_each_once(engine: Engine) -> None:
    """Patients are merged meanwhile; every message comes to both, in another order."""
    verbs = Watched(ZONE)
    his = his_with(engine, verbs)
    processes = [his.pipeline, his_with(engine, Watched(ZONE), "other").pipeline]
    sent = [his.message("ORM^O01", *order("NW", f"{n}", f"{n % 20 + 1}")) for n in range(60)]
    merges = [his.message("ADT^A40", pid(f"{n}"), f"MRG|{n + 10}") for n in range(1, 11)]
    said: list[tuple[bytes, bytes]] = []

    def go(process: Pipeline, messages: Sequence[bytes]) -> None:
        said.extend((octets, process.answer(octets, PEER)) for octets in messages)

    threads = [
        threading.Thread(target=go, args=(process, part))
        for step, process in zip((1, -1), processes, strict=True)
        for part in (*(sent[n::4][::step] for n in range(4)), merges[::step])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    answers: dict[bytes, set[bytes]] = {}
    for octets, answer in said:
        answers.setdefault(octets, set()).add(answer)
    assert {code_in(one) for both in answers.values() for one in both} == {"AA"}
    assert {len(both) for both in answers.values()} == {1}  # who comes later hears the same
    held = rows(engine)
    assert len(held["orders"]) == len(sent)
    assert Counter(row["state"] for row in held["hl7_messages"]) == {"applied": 70}
    assert {row["repeats"] for row in held["hl7_messages"]} == {1}
    of_patient = {row["patient_ref"]: row["value"] for row in held["ris_patient_identifiers"]}
    assert {
        row["placer_order_number"]: of_patient[row["patient_ref"]] for row in held["orders"]
    } == {f"{n}": f"{n % 20 + 1}" for n in range(60)}


def asked(number: str, *others: str) -> Asked:
    """Return an order as it is asked for, of a patient of its own."""
    more = tuple(Identifier(one, "BVDK") for one in others)
    return Asked(
        Context(sender="his", sent_at=None, message_id=0),
        PatientRequest(identifier=Identifier(f"P{number}", "BVDK"), other_identifiers=more),
        VisitRequest(),
        OrderRequest(control="NW", placer_order_number=number, steps=(StepRequest(modality="CT"),)),
    )


def test_what_somebody_else_holds_is_left(engine: Engine) -> None:
    one = asked("1")
    with transaction(engine) as others, transaction(engine) as session:
        registration.lock(others, [], ["order\nhis\n1"])

        assert placing.place(session, [one]).done == [None]


def test_nothing_is_placed_while_patients_are_merged(engine: Engine) -> None:
    with transaction(engine) as others, transaction(engine) as session:
        registration.take_turns(others)

        assert placing.place(session, [asked("1")]).done == [None]


def test_message_that_was_taken_up_meanwhile_is_not_applied_twice(engine: Engine) -> None:
    """The ledger counts only those of which nobody else wrote down what became of them."""

    class Slow(Watched):
        def place(self, session: Session, asked: Sequence[Asked]) -> Placed:
            with transaction(engine) as other:
                done = ledger.Result(ledger.State.APPLIED, b"MSH|\rMSA|AA|first\r", "AA")
                for one in asked:
                    ledger.settle(other, one.context.message_id, done)
            return super().place(session, asked)

    his = his_with(engine, Slow(ZONE))

    answer = his.pipeline.answer(his.message("ORM^O01", *order("NW", "1")), PEER)

    assert b"MSA|AA|first" in answer
    assert rows(engine)["orders"] == []


def test_notices_of_orders_that_were_left_are_told(engine: Engine) -> None:
    his = his_with(engine, Watched(ZONE))

    his.order("NW", "1", modality="")

    with transaction(engine) as session:
        assert [one.kind for one in incidents.list_open(session)] == [incidents.Kind.NO_MODALITY]


@pytest.mark.parametrize(
    ("one", "other"),
    [(("1", "C9"), ("2", "C9")), (("1",), ("2", "P1")), (("1", "p 2"), ("2",))],
    ids=["both", "the second", "the first"],
)
def test_patients_who_may_be_one_by_a_further_number_are_not_made_together(
    engine: Engine, one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    with transaction(engine) as session:
        done = placing.place(session, [asked(*one), asked(*other)]).done

    assert [each is not None for each in done] == [True, False]


def test_nul_is_refused_before_the_database_can_quote_what_stands_beside_it() -> None:
    with pytest.raises(Malformed):
        together.as_json([{"name": "NGUYỄN\\\0"}])

    assert together.as_json([{"name": "\\u0000"}]) == r'[{"name":"\\u0000"}]'
