"""Five senders at once, with duplicates and lines that break: as if one had sent it all.

What the ledger says was applied, done again one after the other in that order, gives the same
patients, orders and steps. ``LIENTHONG_TEST_MESSAGES`` sets how many (20,000 for a release).
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, select, text

from ris.hl7 import senders
from ris.hl7.ledger import State
from ris.hl7.pipeline import Pipeline
from ris.hl7.senders import Sender, SenderBook
from ris.hl7.tables import MessageRow
from ris.model import Rules
from ris.verbs import Domain
from storage.base.settings import UnknownPeers
from storage.db.engine import Engine, create, transaction
from tests.fixtures import domain_state, hl7_traffic
from tests.fixtures.database import temporary_database
from tests.fixtures.hl7 import VIETNAM, acknowledged
from tests.fixtures.hl7_role import Hl7Role
from tests.fixtures.hl7_sender import Mischief, StubbornSender
from tests.fixtures.hl7_traffic import Hospital, Told

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

MESSAGES = int(os.environ.get("LIENTHONG_TEST_MESSAGES", "400"))
SENDERS = 5
SEED = int(os.environ.get("LIENTHONG_TEST_SEED", "20261126"))


@pytest.fixture
def opened(database_url: str) -> Iterator[Engine]:
    engine = create(database_url)
    register(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def other(database_server: URL, empty_database_template: URL) -> Iterator[Engine]:
    """A second database, for the replay."""
    with temporary_database(database_server, str(empty_database_template.database)) as url:
        engine = create(url)
        register(engine)
        yield engine
        engine.dispose()


def register(engine: Engine) -> None:
    with transaction(engine) as session:
        for name in hl7_traffic.SENDERS:
            changes = {"issuer": "BV", "role": "placer"}
            senders.add(session, Sender(name.lower(), application=name, changes=changes))


def send(line: StubbornSender, messages: list[Told], answers: dict[str, bytes]) -> None:
    for one in messages:
        answers[one.control_id] = line.deliver(one.octets)
    line.hang_up()


def test_five_senders_leave_what_one_would_have_left(
    tmp_path: Path, database_url: str, opened: Engine, other: Engine
) -> None:
    told = Hospital(SEED, patients=max(20, MESSAGES // 50)).messages(MESSAGES)
    answers: list[dict[str, bytes]] = [{} for _ in range(SENDERS)]
    role = Hl7Role(tmp_path, database_url)
    role.start()
    mischief = Mischief(cut=0.02, deaf=0.02, twice=0.05)
    lines = [StubbornSender(role.port, random.Random(n), mischief) for n in range(SENDERS)]
    hands = hl7_traffic.dealt(told, SENDERS, SEED)
    threads = [
        threading.Thread(target=send, args=given)
        for given in zip(lines, hands, answers, strict=True)
    ]
    begun = time.monotonic()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        assert role.alive()
    finally:
        role.stop()

    rows = applied(opened)
    codes = Counter(acknowledged(one)[0] for each in answers for one in each.values())
    counted = sum((Counter(line.counted) for line in lines), Counter[str]())
    print(f"{MESSAGES} messages in {took:.0f} s, {dict(codes)}, {dict(counted)}")
    assert codes.total() == MESSAGES
    assert codes["AA"] == len(rows) > MESSAGES * 0.8
    assert min(counted["twice"], counted["broken"]) > MESSAGES // 100
    assert not [line for line in role.events() if "hl7_defect" in line or "verb_failed" in line]
    replay(other, rows)
    assert len(applied(other)) == len(rows)
    assert domain_state.of(opened) == domain_state.of(other)


def applied(engine: Engine) -> list[bytes]:
    """Return the messages that were applied, in the order in which they were."""
    with transaction(engine) as session:
        rows = session.execute(
            select(MessageRow.state, MessageRow.raw).order_by(MessageRow.applied_no)
        ).all()
    assert State.RECEIVED not in {state for state, _ in rows}
    return [raw for state, raw in rows if state == State.APPLIED]


def replay(engine: Engine, messages: list[bytes]) -> None:
    """Do it once more, one after the other; no disk is waited for."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = engine.url.database
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    engine.dispose()
    book = SenderBook(engine, UnknownPeers.REJECT)
    pipeline = Pipeline(engine, book, Domain(VIETNAM, Rules()), VIETNAM)
    for octets in messages:
        pipeline.answer(octets, "127.0.0.1")


def test_order_of_messages_shows_in_the_state(opened: Engine, other: Engine) -> None:
    """The comparison above would notice that one message took the place of another."""
    messages = [one.octets for one in Hospital(7, patients=4).messages(60)]

    replay(opened, messages)
    replay(other, [*messages[:20], *reversed(messages[20:])])

    one, another = domain_state.of(opened), domain_state.of(other)
    assert {name for name in one if one[name] != another[name]} >= {"changes", "steps", "events"}
