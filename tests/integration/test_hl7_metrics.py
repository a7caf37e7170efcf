"""What waits on either side of the HL7 wire, as `/metrics` tells it."""

import re
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import update

from ris import outbox
from ris.hl7 import destinations, ledger, outgoing
from ris.hl7.destinations import Destination
from ris.hl7.ledger import Received, Result, State
from ris.hl7.outgoing import Draft
from ris.hl7.tables import MessageRow
from storage.base.clock import utc_now
from storage.db.engine import Engine, transaction
from tests.fixtures.http import HttpNode


def figures(node: HttpNode) -> Mapping[str, float]:
    """Return each HL7 gauge with its labels."""
    text = node.client().get("/metrics").text
    found = re.findall(r"^lienthong_(hl7_\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def receive(engine: Engine, state: State, hours: float) -> float:
    """Note a message of so many hours ago that is in `state` now; return when it came."""
    came = utc_now() - timedelta(hours=hours)
    with transaction(engine) as session:
        noted = ledger.note(session, Received(b"MSH|", "mllp", "10.1.0.5"))
        if state is not State.RECEIVED:
            ledger.settle(session, noted.id, Result(state))
        session.execute(
            update(MessageRow).where(MessageRow.id == noted.id).values(received_at=came)
        )
    return came.timestamp()


def test_idle_node_has_nothing_that_waits(http_node: HttpNode) -> None:
    found = figures(http_node)

    assert found["hl7_unfinished"] == found["hl7_dead_letters"] == found["hl7_untold"] == 0
    assert found["hl7_unfinished_oldest_timestamp_seconds"] == 0
    assert not any("destination=" in name for name in found)


def test_unfinished_messages_and_dead_letters_are_told_with_their_age(
    http_node: HttpNode, engine: Engine
) -> None:
    unfinished = receive(engine, State.RECEIVED, 1)
    dead = [receive(engine, State.DEAD, hours) for hours in (5, 3)]
    receive(engine, State.APPLIED, 9)
    receive(engine, State.REFUSED, 9)

    found = figures(http_node)

    assert (found["hl7_unfinished"], found["hl7_dead_letters"]) == (1, 2)
    assert abs(found["hl7_unfinished_oldest_timestamp_seconds"] - unfinished) < 0.01
    assert abs(found["hl7_dead_letters_oldest_timestamp_seconds"] - dead[0]) < 0.01


def test_what_waits_for_each_destination_is_told_with_its_circuit(
    http_node: HttpNode, engine: Engine
) -> None:
    before, now = utc_now().timestamp(), utc_now()
    with transaction(engine) as session:
        for name in ("away", "idle", "paused"):
            destinations.add(session, Destination(name, "127.0.0.1", 2575), {})
        destinations.pause(session, "paused", paused=True)
        destinations.note(session, "away", 4, now + timedelta(minutes=1))
        destinations.note(session, "idle", 1, now - timedelta(minutes=1))
        drafts = [Draft("away", f"order:{n}", f"C{n}", "ORM^O01", b"MSH|") for n in range(3)]
        outgoing.enqueue(session, [*drafts, Draft("gone", "order:9", "C9", "ORM^O01", b"MSH|")])
        [first, *_] = outgoing.due(session, "away", utc_now(), 1)
        outgoing.park(session, first.id, "AE", b"MSA|AE|")
        outbox.enqueue_report(session, "2.25.1", 1, now - timedelta(hours=2))
        outbox.enqueue_status(session, 1, "IP")

    found = figures(http_node)

    def of(name: str) -> dict[str, float]:
        each = re.compile(rf'hl7_{name}\{{destination="(\w+)"\}}')
        return {match[1]: value for key, value in found.items() if (match := each.fullmatch(key))}

    assert of("outgoing_waiting") == {"away": 2, "gone": 1, "idle": 0, "paused": 0}
    assert of("outgoing_parked") == {"away": 1, "gone": 0, "idle": 0, "paused": 0}
    assert of("outgoing_oldest_timestamp_seconds")["away"] > before - 1
    assert of("outgoing_oldest_timestamp_seconds")["idle"] == 0
    assert of("destination_circuit_open") == {"away": 1, "idle": 0, "paused": 0}
    assert of("destination_paused") == {"away": 0, "idle": 0, "paused": 1}
    assert of("destination_failures") == {"away": 4, "idle": 1, "paused": 0}
    assert found["hl7_untold"] == 2
    untold_since = found["hl7_untold_oldest_timestamp_seconds"]
    assert abs(untold_since - (now - timedelta(hours=2)).timestamp()) < 0.01
