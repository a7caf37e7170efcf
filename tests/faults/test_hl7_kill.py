"""H01: `kill -9` of the `hl7` role at random moments; what was answered is kept and done once.

``LIENTHONG_TEST_KILLS`` sets how often (the suite's default is small; 100 for a release).
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from ris.hl7 import ledger
from ris.hl7.ledger import State
from ris.hl7.tables import MessageRow
from ris.outbox import OrderEventRow
from ris.tables import OrderRow, PatientChangeRow
from storage.db.engine import Engine, create, transaction
from tests.fixtures.hl7 import acknowledged
from tests.fixtures.hl7_role import Hl7Role
from tests.fixtures.hl7_sender import StubbornSender

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("LIENTHONG_TEST_KILLS", "8"))
SENDERS = 4
AFTER_AN_ANSWER = 0.7
"""So often the role lives until it has answered, however slow the machine: what is at hand at ten
deaths in a row is given up as their cause."""
PATIENTS = 3
"""Of each sender."""


@dataclass
class Diary:
    """What one sender tried and what it was answered."""

    tried: dict[str, bytes] = field(default_factory=dict)
    answered: dict[str, bytes] = field(default_factory=dict)


def order_of(sender: int, number: int) -> tuple[str, bytes]:
    """Return an order with a telephone number that the patient did not have before."""
    name = f"{sender}-{number}"
    second = f"2026010108{number // 60 % 60:02}{number % 60:02}"
    text = (
        f"MSH|^~\\&|HIS{sender}|BV|RIS|BV|{second}||ORM^O01|C{name}|P|2.5\r"
        f"PID|||P{sender}.{number % PATIENTS}^^^BV||NGUYỄN VĂN MẪU||19800101|M|||||T{name}\r"
        f"ORC|NW|{name}\r"
        f"OBR|1|{name}||XQ1^X-quang|||20260101090000|||||||||||{name}||||||DX\r"
    )
    return f"C{name}", text.encode()


def send(port: int, sender: int, diary: Diary, stop: threading.Event) -> None:
    line = StubbornSender(port, random.Random(sender))
    number = 0
    while not stop.is_set():
        number += 1
        control_id, octets = order_of(sender, number)
        diary.tried[control_id] = octets
        diary.answered[control_id] = line.deliver(octets)
    line.hang_up()


@pytest.fixture
def opened(database_url: str) -> Iterator[Engine]:
    engine = create(database_url)
    yield engine
    engine.dispose()


def test_what_was_answered_survives_the_death_of_the_role_and_is_done_once(
    tmp_path: Path, database_url: str, opened: Engine
) -> None:
    role = Hl7Role(tmp_path, database_url)
    moments, diaries = random.Random(20261126), [Diary() for _ in range(SENDERS)]
    stop, restarts = threading.Event(), [role.start()]
    threads = [
        threading.Thread(target=send, args=(role.port, number, diary, stop))
        for number, diary in enumerate(diaries)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            if moments.random() < AFTER_AN_ANSWER:
                one_more_is_answered(diaries)
            time.sleep(moments.uniform(0, 1.0))
            role.kill()
            restarts.append(role.start())
        stop.set()
        for thread in threads:
            thread.join(120)
        nothing_is_left(opened)
    finally:
        stop.set()
        role.stop()

    tried = {key: octets for diary in diaries for key, octets in diary.tried.items()}
    answered = {key: octets for diary in diaries for key, octets in diary.answered.items()}
    kept = check(opened, tried, answered)
    print(
        f"kills {KILLS}, tried {len(tried)}, answered {len(answered)}, kept {kept}, "
        f"resent {repeats(opened)}, ready again after at most {max(restarts):.2f} s"
    )
    assert len(answered) > KILLS
    assert not any("hl7_defect" in line or "hl7_verb_failed" in line for line in role.events())


def one_more_is_answered(diaries: list[Diary]) -> None:
    before, until = sum(len(one.answered) for one in diaries), time.monotonic() + 60
    while sum(len(one.answered) for one in diaries) == before:
        assert time.monotonic() < until, "the senders get no answers"
        time.sleep(0.01)


def nothing_is_left(engine: Engine) -> None:
    """Wait until the role has taken up what it had received and not finished."""
    until = time.monotonic() + 90
    while True:
        with transaction(engine) as session:
            if not ledger.count(session, State.RECEIVED):
                return
        assert time.monotonic() < until, "something was received and never finished"
        time.sleep(0.1)


def check(engine: Engine, tried: dict[str, bytes], answered: dict[str, bytes]) -> int:
    """Check the ledger and the domain; return how many messages are kept."""
    with transaction(engine) as session:
        rows = session.scalars(select(MessageRow)).all()
        kept = {row.control_id: row for row in rows}
        placed = Counter(session.scalars(select(OrderRow.placer_order_number)))
        events = Counter(session.scalars(select(OrderEventRow.order_id)))
        changes = Counter(
            telephone
            for changed in session.scalars(select(PatientChangeRow.changed))
            if (telephone := changed.get("patient_telephone"))
        )

        assert len(rows) == len(kept), "one message stands twice in the ledger"
        assert answered.keys() <= kept.keys() <= tried.keys()
        assert {acknowledged(octets)[0] for octets in answered.values()} == {"AA"}
        assert all(kept[key].answer == octets for key, octets in answered.items())
        assert {row.state for row in rows} == {State.APPLIED}
        assert {row.outcome for row in rows} == {"created"}
        assert all(row.raw == tried[row.control_id] for row in rows)
    numbers = {key.removeprefix("C") for key in kept}
    assert placed == Counter(numbers)
    assert changes == Counter(f"T{number}" for number in numbers)
    assert set(events.values()) == {1}
    assert len(events) == len(numbers)
    return len(kept)


def repeats(engine: Engine) -> int:
    with transaction(engine) as session:
        return sum(session.scalars(select(MessageRow.repeats)))
