"""What waits is sent, in order, to destinations that are there, away, slow, odd or unwilling."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ris import outbox
from ris.hl7 import destinations, outbound, outgoing
from ris.hl7.conversation import NotReached, Speaks
from ris.hl7.delivery import FIRST_PAUSE_S, LONGEST_PAUSE_S, Lane, Outside
from ris.hl7.destinations import Destination
from ris.hl7.outgoing import Draft, Outgoing, State, Wanted
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Engine, transaction
from tests.fixtures import orders
from tests.fixtures.hl7 import VIETNAM
from tests.fixtures.hl7_receiver import Receiver, receiving

OPTIONS = {"answer_s": 5.0}
Lanes = Callable[..., Lane]


class Clock:
    """Tells the time that a test wants."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(seconds=1)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def clock() -> Clock:
    return Clock()


def register(engine: Engine, port: int, name: str = "his", **options: object) -> None:
    with transaction(engine) as session:
        destinations.add(session, Destination(name, "127.0.0.1", port), {**OPTIONS, **options})


def wait_for(engine: Engine, *numbers: str, name: str = "his") -> None:
    """Let a message for each order number wait; the order's queue has its number."""
    drafts = [
        Draft(
            name,
            f"order:{number.partition('.')[0]}",
            f"ID{number}",
            "ORM^O01 SC IP",
            f"MSH|^~\\&|PACS||HIS||2026||ORM^O01|ID{number}|P|2.4\rORC|SC|{number}\r".encode(),
            [f"order:{number}"],
        )
        for number in numbers
    ]
    with transaction(engine) as session:
        outgoing.enqueue(session, drafts)


@pytest.fixture
def lane(engine: Engine, clock: Clock) -> Iterator[Lanes]:
    """Makes lanes to a destination and hangs up in the end."""
    made: list[Lane] = []

    def make(name: str = "his", holder: str = "node") -> Lane:
        outside = Outside(clock=clock, chance=lambda: 1.0)
        made.append(Lane(engine, name, holder, outside=outside))
        return made[-1]

    yield make
    for one in made:
        one.hang_up()


def drain(one: Lane, clock: Clock, hours: float = 1) -> None:
    """Run a lane, letting time pass whenever it wants to wait, until nothing waits."""
    until = clock.now + timedelta(hours=hours)
    while (when := one.run_once()) is not None and clock.now < until:
        clock.now = max(clock.now, when)


def entries(engine: Engine) -> list[Outgoing]:
    with transaction(engine) as session:
        return [*reversed(outgoing.search(session, Wanted(), 50_000))]


def test_messages_are_sent_in_their_order_over_one_connection(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    numbers = [str(number) for number in range(250)]
    wait_for(engine, *numbers)

    drain(lane(), clock)

    assert receiver.orders() == numbers
    assert receiver.connections == 1
    assert {one.state for one in entries(engine)} == {State.SENT}
    assert all(one.answer and b"MSA|AA" in one.answer for one in entries(engine))


def test_receiver_that_hangs_up_after_each_answer_is_called_again(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    receiver.usual = "once"
    wait_for(engine, "1", "2", "3")

    drain(lane(), clock)

    assert receiver.orders() == ["1", "2", "3"]
    assert len(receiver.got) == 3


@pytest.mark.parametrize("code", ["AE", "AR", "CR"])
def test_refused_message_is_parked_and_holds_up_its_own_order_alone(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes, code: str
) -> None:
    register(engine, receiver.port)
    receiver.behaviour = {"ID1": code}
    wait_for(engine, "1", "2", "1.2", "3")

    drain(lane(), clock)

    assert receiver.orders() == ["2", "3"]
    states = {one.control_id: one.state for one in entries(engine)}
    assert states == {
        "ID1": State.PARKED,
        "ID2": State.SENT,
        "ID1.2": State.WAITING,
        "ID3": State.SENT,
    }
    [parked] = [one for one in entries(engine) if one.state is State.PARKED]
    assert parked.reason == f"{code} 103"


def test_parked_message_goes_on_when_a_person_says_so(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    receiver.behaviour = {"ID1": "AE"}
    wait_for(engine, "1", "1.2")
    one = lane()
    drain(one, clock)
    receiver.behaviour = {}

    with transaction(engine) as session:
        outgoing.resend(session, entries(engine)[0].id)
    drain(one, clock)

    assert receiver.orders() == ["1", "1.2"]
    assert receiver.got[0] == receiver.got[1]


def test_discarded_message_lets_those_behind_it_go(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    receiver.behaviour = {"ID1": "AE"}
    wait_for(engine, "1", "1.2")
    one = lane()
    drain(one, clock)

    with transaction(engine) as session:
        outgoing.discard(session, entries(engine)[0].id)
    drain(one, clock)

    assert receiver.orders() == ["1.2"]
    with transaction(engine) as session, pytest.raises(Conflict, match="was discarded"):
        outgoing.resend(session, entries(engine)[0].id)
    with transaction(engine) as session, pytest.raises(Conflict, match="was sent already"):
        outgoing.discard(session, entries(engine)[1].id)
    with transaction(engine) as session, pytest.raises(NotFound):
        outgoing.resend(session, entries(engine)[1].id + 1)


def test_rejection_may_be_tried_again_where_the_destination_wants_it(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port, reject_tries=3)
    receiver.behaviour = {"ID1": "AR", "ID2": "AE"}
    wait_for(engine, "1", "2")

    drain(lane(), clock)

    assert len([one for one in receiver.got if b"ID1" in one]) == 3
    assert len([one for one in receiver.got if b"ID2" in one]) == 1
    assert [one.state for one in entries(engine)] == [State.PARKED, State.PARKED]


@pytest.mark.parametrize("odd", ["silent", "close", "half", "noise", "late"])
def test_same_bytes_go_out_again_when_no_answer_came(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes, odd: str
) -> None:
    """H08: it may have taken the message; it knows a repetition by its bytes and control id."""
    register(engine, receiver.port, answer_s=0.5)
    receiver.behaviour = {"ID1": odd}
    wait_for(engine, "1", "1.2", "2")
    one = lane()

    one.run_once()
    first = [*receiver.got]
    receiver.behaviour = {}
    drain(one, clock)

    assert [b"ID1|" in got for got in first] == [True, False]
    assert receiver.got.count(first[0]) == 2
    assert receiver.orders() == ["2", "1", "1.2"]
    [waited] = [sent for sent in entries(engine) if sent.control_id == "ID1"]
    assert (waited.state, waited.attempts) == (State.SENT, 2)


@pytest.mark.parametrize("named", ["other", "anonymous"])
def test_answer_that_names_no_or_another_message_is_the_one_that_is_awaited(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes, named: str
) -> None:
    register(engine, receiver.port)
    receiver.usual = named
    wait_for(engine, "1", "2")

    drain(lane(), clock)

    assert [one.state for one in entries(engine)] == [State.SENT, State.SENT]
    assert len(receiver.got) == 2


def test_destination_that_is_away_is_left_alone_longer_and_longer(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    wait_for(engine, "1")
    receiver.stop()
    one = lane()

    waits = []
    for _ in range(12):
        when = one.run_once()
        assert when is not None
        assert one.run_once() == when
        waits.append((when - clock.now).total_seconds())
        clock.now = when

    assert waits[:4] == [FIRST_PAUSE_S * 2**power for power in range(4)]
    assert waits[-1] == LONGEST_PAUSE_S
    [waiting] = entries(engine)
    assert (waiting.state, waiting.attempts) == (State.WAITING, 0)
    receiver.start()
    drain(one, clock)
    assert receiver.orders() == ["1"]
    with transaction(engine) as session:
        assert destinations.get(session, "his").failures == 0


def test_destination_that_never_answers_is_left_alone_after_three(
    engine: Engine, receiver: Receiver, lane: Lanes
) -> None:
    register(engine, receiver.port, answer_s=0.5)
    receiver.usual = "silent"
    wait_for(engine, *map(str, range(20)))

    lane().run_once()

    assert len(receiver.got) == 3
    with transaction(engine) as session:
        assert destinations.get(session, "his").closed_until is not None


def test_one_message_that_gets_no_answer_holds_up_nobody_else(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port, answer_s=0.5)
    receiver.behaviour = {"ID0": "silent"}
    wait_for(engine, *map(str, range(20)))
    one = lane()

    for _ in range(8):
        when = one.run_once()
        assert when is not None
        clock.now = max(clock.now, when)

    assert receiver.orders() == [str(number) for number in range(1, 20)]
    assert entries(engine)[0].attempts >= 4


def test_paused_destination_gets_nothing(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    wait_for(engine, "1")
    one = lane()
    with transaction(engine) as session:
        destinations.pause(session, "his", paused=True)

    one.run_once()
    assert receiver.got == []

    with transaction(engine) as session:
        destinations.pause(session, "his", paused=False)
    drain(one, clock)
    assert receiver.orders() == ["1"]


def test_one_node_at_a_time_sends_to_a_destination(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    first, second = (lane(holder=name) for name in ("first", "second"))
    first.run_once()
    wait_for(engine, "1")

    second.run_once()
    assert receiver.got == []

    clock.pass_(destinations.LEASE_S + 1)
    drain(second, clock)
    assert receiver.orders() == ["1"]
    second.give_back()
    wait_for(engine, "2")
    drain(first, clock)
    assert receiver.orders() == ["1", "2"]


def test_destinations_wait_for_each_other_in_nothing(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, 1, "away")
    register(engine, receiver.port, "his")
    wait_for(engine, "1", "2", name="away")
    wait_for(engine, "1", "2", name="his")

    lane("away").run_once()
    drain(lane(), clock)

    assert receiver.orders() == ["1", "2"]


def test_moved_destination_is_called_at_its_new_address(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    one = lane()
    wait_for(engine, "1")
    drain(one, clock)

    with receiving() as other:
        register(engine, other.port)
        wait_for(engine, "2")
        drain(one, clock)
        assert other.orders() == ["2"]
    assert receiver.orders() == ["1"]


class Script:
    """A destination without a network: away until `back`, then it notes what it gets."""

    def __init__(self, clock: Clock, back: datetime) -> None:
        self.clock, self.back = clock, back
        self.tries = 0
        self.got: list[bytes] = []

    def connect(self, _destination: Destination) -> Speaks:
        self.tries += 1
        if self.clock.now < self.back:
            raise NotReached("away")
        return self

    def ask(self, message: bytes) -> bytes:
        self.got.append(message)
        return b"MSH|^~\\&|HIS||||||ACK|1|P|2.4\rMSA|AA|\r"

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_thousands_of_messages_outlast_a_day_without_the_his(engine: Engine, clock: Clock) -> None:
    """H07: they drain in the order of each order, each is taken once."""
    count = int(os.environ.get("LIENTHONG_TEST_MESSAGES", "2400"))
    register(engine, 1)
    his = Script(clock, clock.now + timedelta(hours=24))
    one = Lane(engine, "his", "node", outside=Outside(his.connect, clock, chance=lambda: 0.5))
    numbers = [f"{number % (count // 4)}.{number}" for number in range(count)]
    hourly = -(-count // 24)
    for hour in range(24):
        share = numbers[hour * hourly : (hour + 1) * hourly]
        wait_for(engine, *share)
        until = clock.now + timedelta(hours=1)
        while clock.now < until:
            clock.now = min(until, one.run_once() or until)

    drain(one, clock)

    assert [got.split(b"ORC|SC|")[1].rstrip(b"\r").decode() for got in his.got] == numbers
    assert 280 < his.tries < 600
    with transaction(engine) as session:
        assert outgoing.backlog(session) == []
    assert {one.attempts for one in entries(engine)} == {1}


def event(engine: Engine, order: int, status: str, control: str = "SC") -> None:
    with transaction(engine) as session:
        outbox.enqueue_status(session, order, status, control=control)


def test_each_destination_is_told_in_its_own_style(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port, "his", application="HIS", plain_names=True)
    register(engine, receiver.port, "ris", version="2.5.1", message="OMG", statuses="CM")
    register(engine, receiver.port, "other", senders="another-his")
    with transaction(engine) as session:
        placed = orders.place(session, 1)
    for status in ("SC", "IP", "CM"):
        event(engine, placed.order, status)

    assert outbound.tell(engine, VIETNAM) == 3
    assert outbound.tell(engine, VIETNAM) == 0
    for name in ("his", "ris", "other"):
        drain(lane(name), clock)

    told = [(one.destination, one.kind, one.state) for one in entries(engine)]
    assert sorted(told) == [
        ("his", "ORM^O01 SC CM", State.SENT),
        ("his", "ORM^O01 SC IP", State.SENT),
        ("his", "ORM^O01 SC SC", State.SENT),
        ("ris", "OMG^O19 SC CM", State.SENT),
    ]
    first = receiver.got[0].decode().split("\r")
    assert first[1] == "PID|||BN-1^^^BVDK^PI||NGUYỄN VĂN AN||19600302|M"
    assert first[2].startswith("ORC|SC|7781001|F1||SC|")
    assert len({one.control_id for one in entries(engine)}) == 4


def test_message_is_found_by_order_patient_and_accession(
    engine: Engine, receiver: Receiver
) -> None:
    register(engine, receiver.port)
    with transaction(engine) as session:
        placed = orders.place(session, 1)
    event(engine, placed.order, "IP")
    outbound.tell(engine, VIETNAM)

    def found(**wanted: str) -> int:
        with transaction(engine) as session:
            return len(outgoing.search(session, Wanted(**wanted), 10))  # type: ignore[arg-type]

    assert found(patient_id="BN-1") == found(order_number="7781001") == 1
    assert found(order_number="F1") == found(accession_number="A1") == 1
    assert found(accession_number="A2") == found(destination="other") == 0
    assert found(destination="his", state="waiting") == 1


def test_without_destinations_nothing_piles_up(engine: Engine) -> None:
    with transaction(engine) as session:
        placed = orders.place(session, 1)
    event(engine, placed.order, "IP")

    assert outbound.tell(engine, VIETNAM) == 1
    assert outbound.tell(engine, VIETNAM) == 0
    assert entries(engine) == []


def test_order_that_is_gone_stops_nobody(engine: Engine, receiver: Receiver) -> None:
    register(engine, receiver.port)
    with transaction(engine) as session:
        placed = orders.place(session, 1)
    event(engine, placed.order + 1000, "IP")
    event(engine, placed.order, "IP")

    assert outbound.tell(engine, VIETNAM) == 2
    assert len(entries(engine)) == 1


def test_what_was_sent_goes_after_its_time_and_what_waits_stays(
    engine: Engine, receiver: Receiver, clock: Clock, lane: Lanes
) -> None:
    register(engine, receiver.port)
    receiver.behaviour = {"ID2": "AE"}
    wait_for(engine, "1", "2")
    drain(lane(), clock)
    wait_for(engine, "3")

    with transaction(engine) as session:
        assert outgoing.purge(session, clock.now + timedelta(days=1)) == 1
    assert [one.control_id for one in entries(engine)] == ["ID2", "ID3"]


@pytest.mark.parametrize("name", ["his", ""], ids=["unknown", "empty"])
def test_destination_that_is_not_there_is_named(engine: Engine, name: str) -> None:
    for change in (destinations.get, destinations.remove):
        with transaction(engine) as session, pytest.raises(NotFound, match="no destination"):
            change(session, name)
    with transaction(engine) as session, pytest.raises(NotFound, match="no destination"):
        destinations.pause(session, name, paused=True)
