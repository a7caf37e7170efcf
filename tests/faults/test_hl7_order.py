"""H04: messages of one patient overtake each other on four connections; what was sent last counts.

Each round is a hospital of its own: news of two people, orders that are changed and cancelled, a
merge. The model knows only when each was sent. ``LIENTHONG_TEST_ROUNDS`` sets how many.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

import pytest

from ris import orders
from ris.hl7.listener import Door, Handler, Listener
from ris.model import OrderState
from storage.db.engine import Engine, transaction
from tests.fixtures.his import EIGHT, His, order, pid
from tests.fixtures.hl7 import acknowledged
from tests.fixtures.mllp import MllpPeer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("LIENTHONG_TEST_ROUNDS", "12"))
CONNECTIONS = 4
NAMES = ("AN", "BÌNH", "CƯỜNG", "DUNG", "ĐỨC", "EM", "GIANG", "HÀ")
MODALITIES = ("CT", "MR", "DX", "US")


@dataclass
class Round:
    """What was sent of two people, in the order in which it was, and what must come of it."""

    survivor: str
    prior: str
    clock: Iterator[datetime]
    messages: list[bytes] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    orders: dict[str, tuple[OrderState, str]] = field(default_factory=dict)
    merged: bool = False


def clock() -> Iterator[datetime]:
    """Yield a time for each message; a full minute may mean all of it, so there is none."""
    return (EIGHT + timedelta(seconds=second) for second in count(1) if second % 60)


def made(his: His, number: int, dice: random.Random, times: Iterator[datetime]) -> Round:
    """Return a round; every message is sent a second after the one before."""
    one = Round(f"S{number}", f"P{number}", times)
    left = [
        *[(news_of, person) for person in (one.survivor, one.prior) for _ in range(4)],
        *[(order_of, f"{number}.{line}") for line in range(3)],
    ]
    dice.shuffle(left)
    for make, what in left:
        make(his, one, what, dice)
    if dice.random() < 0.7:
        one.merged = True
        merge = his.message("ADT^A40", pid(one.survivor, "", "", ""), f"MRG|{one.prior}")
        one.messages.insert(dice.randrange(len(one.messages)), merge)
    return one


def news_of(his: His, one: Round, person: str, dice: random.Random) -> None:
    event = dice.choice(("A01", "A08", "A08", "A31"))
    one.names[person] = f"NGUYỄN VĂN {dice.choice(NAMES)}"
    segments = pid(person, one.names[person]), "PV1||O"
    one.messages.append(his.message(f"ADT^{event}", *segments, at=next(one.clock)))


def order_of(his: His, one: Round, number: str, dice: random.Random) -> None:
    """Place an order, change it some times, and cancel it perhaps."""
    person = pid(dice.choice((one.survivor, one.prior)), "", "", "")
    modality = ""
    for control in ("NW", *["XO"] * dice.randrange(3)):
        modality = dice.choice(MODALITIES)
        segments = order(control, number, person=person, modality=modality)
        one.messages.append(his.message("ORM^O01", *segments, at=next(one.clock)))
    state = OrderState.SCHEDULED
    if dice.random() < 0.4:
        state = OrderState.CANCELED
        segments = order("CA", number, person=person)
        one.messages.append(his.message("ORM^O01", *segments, at=next(one.clock)))
    one.orders[number] = state, modality


@pytest.fixture
def his(engine: Engine) -> His:
    return His(engine)


@pytest.fixture
def port(his: His) -> Iterator[int]:
    taking = Handler(his.pipeline.answers, his.pipeline.refuse)
    listener = Listener([Door(("127.0.0.1", 0))], taking)
    listener.start()
    yield listener.ports[0]
    listener.stop(5)


def send_shuffled(port: int, messages: list[bytes], dice: random.Random) -> list[str]:
    """Send everything over four connections, in any order, with small delays."""
    dice.shuffle(messages)
    codes: list[str] = []

    def send(part: list[tuple[float, bytes]]) -> None:
        with MllpPeer(port, 60) as peer:
            for delay_s, octets in part:
                time.sleep(delay_s)
                codes.append(acknowledged(peer.ask(octets))[0])

    timed = [(dice.choice((0, 0, 0.002, 0.01)), octets) for octets in messages]
    threads = [
        threading.Thread(target=send, args=(timed[n::CONNECTIONS],)) for n in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def test_what_was_sent_last_counts_whatever_came_first(his: His, port: int) -> None:
    dice, times, wrong = random.Random(4), clock(), []

    for number in range(ROUNDS):
        one = made(his, number, dice, times)
        codes = send_shuffled(port, one.messages, dice)
        assert codes == ["AA"] * len(one.messages), number
        wrong += [f"round {number}: {said}" for said in faults(his, one)]

    assert wrong == []


def faults(his: His, one: Round) -> Iterator[str]:
    """Yield where the state is not that of the messages in the order of their times."""
    for person, name in one.names.items():
        found = his.patient(person).patient_name
        if found != name and not one.merged:
            yield f"{person} is called {found}, not {name}"
    if one.merged and his.shown(one.prior).id != his.patient(one.survivor).id:
        yield "the merge was lost"
    for number, (state, modality) in one.orders.items():
        found_order = his.only_order(number)
        if found_order.state is not state:
            yield f"order {number} is {found_order.state}, not {state}"
        modalities = [step.modality for step in his.steps(number)]
        if state is OrderState.SCHEDULED and modalities != [modality]:
            yield f"order {number} is for {modalities}, not {modality}"
    with transaction(his.engine) as session:
        shown = {
            each.placer_order_number
            for person in (one.survivor, one.prior)
            for each in orders.of_patient(session, his.shown(person).id)
        }
    if shown != one.orders.keys():
        yield f"orders {shown} are shown, not {set(one.orders)}"
