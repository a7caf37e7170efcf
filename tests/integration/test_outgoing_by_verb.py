"""What a destination is told of each message that comes in, and of what happens here."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ris import orders
from ris.hl7 import destinations, outbound, outgoing
from ris.hl7.destinations import Destination
from ris.hl7.outgoing import Wanted
from ris.model import StepStatus
from storage.db.engine import Engine, transaction
from tests.fixtures.his import EIGHT, ZONE, His, pid
from tests.fixtures.his import order as order_segments

NUMBER = "7781"
Told = Sequence[tuple[str, str]]

# What comes for an order that is scheduled → ORC-1 and ORC-5 of what a destination is told that
# wants to hear the echo of its messages; without it nobody is told anything.
EFFECTS: dict[str, Told] = {
    "NW": [],  # the same once more
    "XO": [],
    "RP": [],
    "CA": [("SC", "CA")],
    "OC": [("SC", "CA")],
    "DC": [("SC", "DC")],
    "HD": [("SC", "HD")],
    "RL": [],
    "NA": [],
    "SR": [],
}
# ORC-5 of a status change (SC) that comes in
STATUSES: dict[str, Told] = {
    "SC": [],
    "IP": [("SC", "IP")],
    "CM": [("SC", "CM")],
    "A": [("SC", "CM")],
    "HD": [("SC", "HD")],
    "CA": [("SC", "CA")],
}
PATIENTS = {
    "A08": ["ADT^A08", pid("1", "NGUYỄN VĂN MẪN"), "PV1||O"],
    "A10": ["ADT^A10", pid("1"), "PV1||O"],
    "A40": ["ADT^A40", pid("1"), "MRG|2"],
    "A47": ["ADT^A47", pid("99"), "MRG|1"],
}


@pytest.fixture
def scheduled(his: His) -> His:
    """A sender whose order everybody was told of who is told of it."""
    register(his.engine, "quiet")
    register(his.engine, "echoing", echo=True)
    his.order("NW", NUMBER)
    tell(his.engine)
    return his


def register(engine: Engine, name: str, **options: object) -> None:
    with transaction(engine) as session:
        destinations.add(session, Destination(name, "127.0.0.1", 9), options)


def tell(engine: Engine) -> None:
    while outbound.tell(engine, ZONE):
        pass


def told(engine: Engine, name: str) -> Told:
    """Return ORC-1 and ORC-5 of what waits for a destination, oldest first."""
    with transaction(engine) as session:
        waiting = outgoing.search(session, Wanted(destination=name), 100)
        kinds = [one.kind.split() for one in reversed(waiting)]
    return [(control, status) for _, control, status in kinds]


def forget(engine: Engine) -> None:
    """Take away what was told so far."""
    with transaction(engine) as session:
        for one in outgoing.search(session, Wanted(), 100):
            outgoing.discard(session, one.id)
        outgoing.purge(session, datetime.now(UTC) + timedelta(days=1))


def test_new_order_is_not_told_to_who_sent_it(scheduled: His) -> None:
    assert told(scheduled.engine, "quiet") == []


def test_new_order_is_told_to_who_wants_the_echo(scheduled: His) -> None:
    assert told(scheduled.engine, "echoing") == [("SC", "SC")]


@pytest.mark.parametrize("control", EFFECTS)
def test_message_of_an_order_is_told_as_an_echo_alone(scheduled: His, control: str) -> None:
    forget(scheduled.engine)

    scheduled.order(control, NUMBER)
    tell(scheduled.engine)

    assert told(scheduled.engine, "quiet") == []
    assert told(scheduled.engine, "echoing") == EFFECTS[control]


@pytest.mark.parametrize("status", STATUSES)
def test_status_that_comes_in_is_told_as_an_echo_alone(scheduled: His, status: str) -> None:
    forget(scheduled.engine)

    scheduled.order("SC", NUMBER, status=status)
    tell(scheduled.engine)

    assert told(scheduled.engine, "quiet") == []
    assert told(scheduled.engine, "echoing") == STATUSES[status]


@pytest.mark.parametrize("event", PATIENTS)
def test_message_of_a_patient_is_told_to_nobody(scheduled: His, event: str) -> None:
    forget(scheduled.engine)

    kind, *segments = PATIENTS[event]
    assert scheduled.send(kind, *segments) == "AA"
    tell(scheduled.engine)

    assert (told(scheduled.engine, "quiet"), told(scheduled.engine, "echoing")) == ([], [])


def test_what_is_performed_is_told_to_everybody(scheduled: His) -> None:
    forget(scheduled.engine)

    for status in (StepStatus.STARTED, StepStatus.COMPLETED):
        with transaction(scheduled.engine) as session:
            for step in scheduled.steps(NUMBER):
                orders.step_became(session, step.id, status)
    tell(scheduled.engine)

    assert told(scheduled.engine, "quiet") == [("SC", "IP"), ("SC", "CM")]
    assert told(scheduled.engine, "echoing") == [("SC", "IP"), ("SC", "CM")]


def test_cancellation_that_is_refused_is_told_to_who_asked(scheduled: His) -> None:
    with transaction(scheduled.engine) as session:
        orders.mark_reported(session, scheduled.only_order(NUMBER).id, datetime.now(UTC))
    tell(scheduled.engine)
    forget(scheduled.engine)

    scheduled.order("CA", NUMBER)
    tell(scheduled.engine)

    assert told(scheduled.engine, "quiet") == [("UC", "CM")]


def test_cancellation_before_its_order_is_told_to_nobody(scheduled: His) -> None:
    forget(scheduled.engine)

    scheduled.order("CA", "7782", at=EIGHT + timedelta(hours=2))
    scheduled.order("NW", "7782", at=EIGHT + timedelta(hours=1))
    tell(scheduled.engine)

    assert (told(scheduled.engine, "quiet"), told(scheduled.engine, "echoing")) == ([], [])


def test_only_statuses_that_are_wanted_are_told(his: His) -> None:
    register(his.engine, "cancelled", echo=True, statuses=["CA"])
    his.order("NW", NUMBER)
    his.order("CA", NUMBER)
    tell(his.engine)

    assert told(his.engine, "cancelled") == [("SC", "CA")]


def test_orders_of_others_are_told_to_who_follows_them(his: His) -> None:
    register(his.engine, "billing", echo=True, senders=["his"])
    register(his.engine, "elsewhere", echo=True, senders=["other"])

    his.send("ORM^O01", *order_segments("NW", NUMBER))
    tell(his.engine)

    assert told(his.engine, "billing") == [("SC", "SC")]
    assert told(his.engine, "elsewhere") == []
