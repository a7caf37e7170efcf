"""New orders placed many at once leave what they leave when each is applied by itself."""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Table, select

from ris import placing, registration
from ris.hl7 import ledger
from ris.hl7.ack import code_in
from ris.hl7.express import Express, parcel_of
from ris.hl7.pipeline import Pipeline
from ris.hl7.senders import SenderBook
from ris.hl7.tables import MessageRow
from ris.model import Rules
from ris.outbox import OrderEventRow
from ris.placing import Asked, Placed
from ris.requests import Context, Identifier, OrderRequest, PatientRequest, VisitRequest
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
from storage.base.settings import UnknownPeers
from storage.db.columns import Base
from storage.db.engine import Engine, Session, transaction
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
OURS = {"created_at", "changed_at", "made_at", "happened_at", "received_at", "settled_at"}
"""Instants of ours, which differ from run to run."""
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


def his_with(engine: Engine, verbs: Watched) -> His:
    his = His(engine)
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
        referred = {key.column.table.name for key in column.foreign_keys}
        if column.name == "id":
            referred = {table}
        elif column.name == "order_id":
            referred = {"orders"}
        elif column.name in {"message_id", "applied_no"}:
            referred = {"hl7_messages"} if column.name == "message_id" else set()
        if column.name in OURS | {"answer", "applied_no"}:
            value = value is not None
        elif referred and value:
            value = ranks[referred.pop()][value]
        elif isinstance(value, str):
            value = GIVEN_OUT.sub("OURS", value)
        plain[column.name] = value
    return plain


def both(engine: Engine, send: Callable[[His], object]) -> tuple[Watched, Watched]:
    """Do the same placed with others and one by one, and compare what is there then."""
    found, verbs = [], []
    for together in (True, False):
        empty(engine)
        watched = Watched(ZONE, Rules(), together)
        his = his_with(engine, watched)
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


def appointment(number: str) -> list[str]:
    return [f"SCH|{number}||||||||||^^^20260305100000", pid("1"), "AIS|1||CT|20260305100000"]


# What is sent, and which orders are placed with others
CASES: dict[str, tuple[Callable[[His], object], list[str]]] = {
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
        ["1"],  # drawn up, and not written
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

    assert (watched.placed, alone.placed) == (placed, [])


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


def test_one_that_cannot_be_written_leaves_its_company_unharmed(engine: Engine) -> None:
    his, verbs = His(engine), Watched(ZONE)
    parcels = []
    for number, reason in (("1", ""), ("2", "đau\0đầu"), ("3", "")):
        octets = his.message("ORM^O01", *order("NW", number, number, reason=reason))
        parcel = parcel_of(his.pipeline.read(octets, PEER), PEER, "mllp")
        assert parcel is not None
        parcels.append(parcel)

    Express(engine, verbs, now).carry(parcels)

    assert verbs.placed == ["1", "2", "3"]  # drawn up, and none of them written
    assert [one.answer for one in parcels] == [None] * 3
    kept = [row["state"] for row in rows(engine)["hl7_messages"]]
    assert kept == ["received"] * 3
    said = [his.pipeline.process(one.reading, one.noted.id) for one in parcels if one.noted]
    assert [code_in(one) for one in said] == ["AA", "AE", "AA"]


def asked(number: str) -> Asked:
    """Return an order as it is asked for, of a patient of its own."""
    return Asked(
        Context(sender="his", sent_at=None, message_id=0),
        PatientRequest(identifier=Identifier(f"P{number}", "BVDK")),
        VisitRequest(),
        OrderRequest(control="NW", placer_order_number=number),
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
