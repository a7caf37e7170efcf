"""Settings change what the service of the `hl7` role does, as the node builds it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from ris import orders, patients, service
from ris.hl7 import ledger, senders
from ris.hl7.ledger import State
from ris.hl7.pipeline import Pipeline
from ris.hl7.senders import Sender
from ris.hl7.tables import MessageRow
from storage.base.clock import utc_now
from storage.base.settings import Settings
from storage.db.engine import Engine, transaction
from tests.fixtures.hl7 import acknowledged, order_message

HERE = "127.0.0.1"
ELSEWHERE = "10.1.0.5"


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, **given)


def built(engine: Engine, folder: Path, **given: Any) -> Pipeline:
    """Return what receives messages, by the construction of the service."""
    return service.pipeline(settings(folder, **given), engine)


def take(pipeline: Pipeline, message: bytes, peer: str = HERE) -> str:
    return acknowledged(pipeline.answer(message, peer))[0]


@pytest.mark.parametrize(("ignored", "people"), [(False, 2), (True, 1)])
def test_leading_zeros_are_ignored_where_it_is_set(
    engine: Engine, tmp_path: Path, ignored: bool, people: int
) -> None:
    pipeline = built(engine, tmp_path, hl7_ignore_leading_zeros=ignored)

    for number, patient in (("1", "0000123"), ("2", "123")):
        assert take(pipeline, order_message(number, f"C{number}", patient=patient)) == "AA"

    with transaction(engine) as session:
        assert len(patients.known_as(session, ["0000123", "123"])) == people


@pytest.mark.parametrize(
    ("time_zone", "hour"), [("Asia/Ho_Chi_Minh", 15), ("Europe/Berlin", 9), ("UTC", 8)]
)
def test_times_with_a_zone_are_kept_as_the_clock_of_the_hospital(
    engine: Engine, tmp_path: Path, time_zone: str, hour: int
) -> None:
    pipeline = built(engine, tmp_path, time_zone=time_zone)

    assert take(pipeline, order_message("1", sent="20260101080000+0000")) == "AA"

    with transaction(engine) as session:
        [order] = orders.find_by_placer_number(session, "1")
    assert order.issued_at == datetime(2026, 1, 1, hour)


@pytest.mark.parametrize(
    ("time_zone", "offset"), [("Asia/Ho_Chi_Minh", b"+0700"), ("UTC", b"+0000")]
)
def test_answers_are_dated_by_the_clock_of_the_hospital(
    engine: Engine, tmp_path: Path, time_zone: str, offset: bytes
) -> None:
    answer = built(engine, tmp_path, time_zone=time_zone).answer(order_message(), HERE)

    assert answer.split(b"|")[6].endswith(offset)


@pytest.mark.parametrize(
    ("unknown_peers", "peer", "code"),
    [
        ("loopback", HERE, "AA"),
        ("loopback", ELSEWHERE, "AR"),
        ("accept", ELSEWHERE, "AA"),
        ("reject", HERE, "AR"),
    ],
)
def test_senders_that_nobody_registered_are_taken_where_it_is_set(
    engine: Engine, tmp_path: Path, unknown_peers: str, peer: str, code: str
) -> None:
    pipeline = built(engine, tmp_path, unknown_peers=unknown_peers)

    assert take(pipeline, order_message(), peer) == code


def test_repair_works_by_the_same_rules_and_for_every_sender(
    engine: Engine, tmp_path: Path
) -> None:
    given = {"hl7_ignore_leading_zeros": True, "unknown_peers": "reject"}
    with transaction(engine) as session:
        senders.add(session, Sender("his", application="HIS"))
    receiving = built(engine, tmp_path, **given)
    repairing = service.repairing(settings(tmp_path, **given), engine)

    take(receiving, order_message("1", "C1", patient="0000123"))
    reading = repairing.read(order_message("2", "C2", patient="123"), ELSEWHERE)
    repairing.process(reading, repairing.note(reading, ELSEWHERE, "mllp").id)

    with transaction(engine) as session:
        assert ledger.count(session, State.APPLIED) == 2
        assert len(patients.known_as(session, ["0000123", "123"])) == 1


@pytest.mark.parametrize(("days", "left"), [(0, 1), (30, 0), (400, 1)])
def test_messages_are_kept_as_long_as_it_is_set(
    engine: Engine, tmp_path: Path, days: int, left: int
) -> None:
    given = settings(tmp_path, hl7_keep_days=days)
    take(service.pipeline(given, engine), order_message())
    with transaction(engine) as session:
        session.execute(update(MessageRow).values(received_at=utc_now() - timedelta(days=100)))

    service.purge(given, engine)

    with transaction(engine) as session:
        assert ledger.count(session, State.APPLIED) == left
