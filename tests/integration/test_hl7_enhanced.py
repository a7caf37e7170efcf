"""The enhanced mode (HL7 v2.5.1 2.9.3): safe at once, done later, each told where it is wanted."""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ris.hl7 import destinations, ledger, outgoing, repair, senders
from ris.hl7.delivery import Lane
from ris.hl7.destinations import Destination
from ris.hl7.ledger import Search, State
from ris.hl7.listener import Door, Handler, Listener
from ris.hl7.mllp import frame
from ris.hl7.outgoing import Outgoing, Wanted
from ris.hl7.pipeline import Pipeline
from ris.hl7.senders import Sender, SenderBook
from storage.base.errors import StoreUnavailable
from storage.base.settings import UnknownPeers
from storage.db.engine import Engine, create, transaction
from tests.fixtures.hl7 import VIETNAM, RecordingVerbs, acknowledged, order_message, pipeline
from tests.fixtures.hl7_receiver import Receiver, receiving, value
from tests.fixtures.hl7_role import Hl7Role
from tests.fixtures.mllp import MllpPeer
from tests.fixtures.patience import PATIENCE_S

PEER = "10.1.0.5"
CONDITIONS = ("", "AL", "NE", "ER", "SU")
# which of a message that is applied, a dead letter, not for us
GOOD, DEAD, FOREIGN = "4711", "4712", "4713"


def asking(accept: str, application: str, number: str = GOOD, control_id: str = "C1") -> bytes:
    """Return an order that asks for these acknowledgements, and is what its number says."""
    octets = order_message(number, control_id, "ZZ" if number == DEAD else "NW")
    if number == FOREIGN:
        octets = octets.replace(b"ORM^O01", b"MDM^T02")
    return octets.replace(b"|P|2.3.1|||", f"|P|2.3.1|||{accept}|{application}".encode(), 1)


def register(engine: Engine, **changes: object) -> None:
    known = {"enhanced": True, **changes}
    with transaction(engine) as session:
        senders.add(session, Sender("his", application="HIS", changes=known))


@pytest.fixture
def verbs() -> RecordingVerbs:
    return RecordingVerbs()


@pytest.fixture
def taking(engine: Engine, verbs: RecordingVerbs) -> Pipeline:
    return pipeline(engine, verbs)


@pytest.fixture
def port(taking: Pipeline) -> Iterator[int]:
    listener = Listener([Door(("127.0.0.1", 0))], Handler(taking.answers, taking.refuse))
    listener.start()
    yield listener.ports[0]
    listener.stop(5)


@pytest.fixture
def receiver(engine: Engine) -> Iterator[Receiver]:
    """Where the sender listens for what we have to say later."""
    with receiving() as one:
        with transaction(engine) as session:
            destinations.add(session, Destination("his-acks", "127.0.0.1", one.port), {})
        yield one


def waiting(engine: Engine) -> list[Outgoing]:
    with transaction(engine) as session:
        return [*reversed(outgoing.search(session, Wanted(), 100))]


def states(engine: Engine) -> list[State]:
    with transaction(engine) as session:
        return [one.state for one in reversed(ledger.search(session, Search(), 100))]


def deliver(engine: Engine, count: int) -> None:
    """Send what waits, once there are so many messages in all."""
    until(lambda: len(waiting(engine)) == count)
    lane = Lane(engine, "his-acks", "node")
    until(lambda: lane.run_once() is None)
    lane.give_back()
    assert {one.state for one in waiting(engine)} == {outgoing.State.SENT}


def until(reached: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def expected(accept: str, application: str, number: str) -> list[str]:
    """Return what is said, one level after the other, written down by hand for each outcome."""
    first, good = {GOOD: ("CA", True), DEAD: ("CA", True), FOREIGN: ("CR", False)}[number]
    last, well = {GOOD: ("AA", True), DEAD: ("AE", False), FOREIGN: ("AR", False)}[number]
    if not (accept or application):
        return [last]
    said = [first] if accept in {"AL", "SU" if good else "ER"} else []
    if said == ["CR"]:
        return said
    return said + ([last] if application in {"AL", "SU" if well else "ER"} else [])


@pytest.mark.parametrize("number", [GOOD, DEAD, FOREIGN], ids=["good", "dead letter", "not ours"])
def test_connection_hears_what_it_asks_for_and_nothing_else(
    engine: Engine, port: int, number: str
) -> None:
    """Every pair of conditions; an exchange in original mode behind each shows that it was all."""
    register(engine)
    told, wanted = {}, {}

    with MllpPeer(port) as peer:
        for count, pair in enumerate(itertools.product(CONDITIONS, repeat=2)):
            peer.send(frame(asking(*pair, number, f"C{count}")))
            peer.send(frame(order_message("9", "END", extra=f"NTE|{count}\r")))
            said = []
            while (found := acknowledged(peer.receive()))[1] != "END":
                assert found[1] == f"C{count}"
                said.append(found[0])
            told[pair], wanted[pair] = said, expected(*pair, number)

    assert told == wanted


def test_message_is_accepted_before_it_is_done(
    engine: Engine, port: int, verbs: RecordingVerbs
) -> None:
    register(engine)
    gate = threading.Event()
    verbs.before = lambda _verb, _given: gate.wait(10) and None

    with MllpPeer(port) as peer:
        peer.send(frame(asking("AL", "AL")))
        first = peer.receive()
        before, kept = len(verbs.asked), states(engine)
        gate.set()
        second = peer.receive()

    assert acknowledged(first) == ("CA", "C1")
    assert (before, kept) == (0, [State.RECEIVED])
    assert acknowledged(second) == ("AA", "C1")
    assert value(first, b"MSH", 9) != value(second, b"MSH", 9)
    assert (value(second, b"MSH", 14), value(second, b"MSH", 15)) == ("NE", "NE")


def test_sender_that_hangs_up_when_it_is_accepted_is_worked_for_all_the_same(
    engine: Engine, port: int, verbs: RecordingVerbs
) -> None:
    register(engine)
    gone = threading.Event()
    verbs.before = lambda _verb, _given: gone.wait(10) and None

    with MllpPeer(port) as peer:
        peer.send(frame(asking("AL", "AL")))
        peer.receive()
        peer.socket.shutdown(socket.SHUT_RDWR)
    gone.set()
    until(lambda: states(engine) == [State.APPLIED])

    assert len(verbs.asked) == 1


def test_second_copy_hears_both_again(engine: Engine, port: int, verbs: RecordingVerbs) -> None:
    register(engine)

    with MllpPeer(port) as peer:
        answers = []
        for _ in range(2):
            peer.send(frame(asking("AL", "AL")))
            answers.append([peer.receive(), peer.receive()])

    codes = [[acknowledged(one) for one in each] for each in answers]
    assert codes == [[("CA", "C1"), ("AA", "C1")]] * 2
    assert answers[0][1] == answers[1][1]
    assert len(verbs.asked) == 1


def test_acknowledgement_of_an_acknowledgement_is_left_alone(engine: Engine, port: int) -> None:
    """A sender that answers our AA although it says NE: nobody must answer for ever."""
    register(engine)
    theirs = b"MSH|^~\\&|HIS|BV|LIENTHONG||20260101||ACK^O01|X1|P|2.3.1\rMSA|CA|1\r"

    with MllpPeer(port) as peer:
        peer.send(frame(theirs))
        assert acknowledged(peer.ask(order_message())) == ("AA", "C1")
    assert states(engine) == [State.APPLIED]


def test_application_acknowledgement_goes_to_its_destination_as_a_message(
    engine: Engine, port: int, receiver: Receiver
) -> None:
    register(engine, application_ack="his-acks", answer_orders=True)

    with MllpPeer(port) as peer:
        for number, pair in ((GOOD, ("AL", "AL")), (DEAD, ("AL", "ER")), ("5", ("AL", "ER"))):
            found = acknowledged(peer.ask(asking(*pair, number, f"C{number}")))
            assert found == ("CA", f"C{number}")
        assert acknowledged(peer.ask(asking("AL", "AL", GOOD, f"C{GOOD}")))[0] == "CA"  # once more
    deliver(engine, 2)

    assert [acknowledged(one) for one in receiver.got] == [("AA", f"C{GOOD}"), ("AE", f"C{DEAD}")]
    assert b"\rORC|OK|4711|F4711\r" in receiver.got[0]
    assert [value(one, b"MSH", 4) for one in receiver.got] == ["HIS", "HIS"]
    assert {(value(one, b"MSH", 14), value(one, b"MSH", 15)) for one in receiver.got} == {
        ("AL", "NE")
    }
    sent = waiting(engine)
    assert [one.control_id for one in sent] == [value(one, b"MSH", 9) for one in receiver.got]
    assert "order:4711" in sent[0].keys
    assert [one.kind for one in sent] == ["ORR^O02 AA", "ACK^O01 AE"]


def test_destination_that_answers_no_acknowledgements_is_not_waited_for(
    engine: Engine, port: int, receiver: Receiver
) -> None:
    register(engine, application_ack="his-acks", application_ack_answered=False)
    receiver.usual = "silent"

    with MllpPeer(port) as peer:
        for number in range(3):
            peer.ask(asking("AL", "AL", str(number), f"C{number}"))
    deliver(engine, 3)

    until(lambda: len(receiver.got) == 3)
    assert [acknowledged(one) for one in receiver.got] == [("AA", f"C{n}") for n in range(3)]


def test_destination_that_answers_though_it_is_not_asked_gets_the_next_one_too(
    engine: Engine, port: int, receiver: Receiver
) -> None:
    register(engine, application_ack="his-acks", application_ack_answered=False)
    for number in range(3):
        with MllpPeer(port) as peer:
            peer.ask(asking("AL", "AL", str(number), f"C{number}"))
        deliver(engine, number + 1)
        until(lambda most=number: len(receiver.taken) > most)

    assert [acknowledged(one)[1] for one in receiver.taken] == ["C0", "C1", "C2"]


def test_message_that_a_crash_left_is_acknowledged_when_it_is_done(
    engine: Engine, taking: Pipeline, receiver: Receiver
) -> None:
    register(engine, application_ack="his-acks")
    taking.note(taking.read(asking("AL", "AL"), PEER), PEER, "mllp")

    repair.finish_undone(engine, taking, before=repair.utc_now())
    deliver(engine, 1)

    assert [acknowledged(one) for one in receiver.got] == [("AA", "C1")]


def test_dead_letter_that_is_replayed_is_acknowledged_once_more(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs, receiver: Receiver
) -> None:
    register(engine, application_ack="his-acks")
    taking.answer(asking("AL", "AL", DEAD), PEER)
    with transaction(engine) as session:
        [dead] = ledger.search(session, Search(), 1)
    register(engine, application_ack="his-acks", control={"ZZ": "NW"})

    repair.replay(engine, pipeline(engine, verbs), dead.id)
    deliver(engine, 2)

    assert [acknowledged(one)[0] for one in receiver.got] == ["AE", "AA"]


def test_what_passes_is_done_later_without_another_word(
    engine: Engine, port: int, taking: Pipeline, verbs: RecordingVerbs, receiver: Receiver
) -> None:
    """It is safe with us: the sender was told CA, and need not send it again."""
    register(engine, application_ack="his-acks")
    errors = [StoreUnavailable("away")] * 3
    verbs.before = lambda _verb, _given: (_ for _ in ()).throw(errors.pop()) if errors else None

    with MllpPeer(port) as peer:
        assert acknowledged(peer.ask(asking("AL", "AL"))) == ("CA", "C1")
        assert acknowledged(peer.ask(order_message("9", "END"))) == ("AA", "END")
    assert states(engine)[0] is State.RECEIVED
    repair.finish_undone(engine, taking, before=repair.utc_now())
    deliver(engine, 1)

    assert [acknowledged(one) for one in receiver.got] == [("AA", "C1")]


@pytest.mark.parametrize(
    ("pair", "said"),
    [(("AL", "AL"), ["CE"]), (("ER", "NE"), ["CE"]), (("SU", "AL"), ["AR"]), (("NE", "NE"), [])],
)
def test_what_cannot_be_kept_is_never_accepted(
    engine: Engine, verbs: RecordingVerbs, pair: tuple[str, str], said: list[str]
) -> None:
    register(engine)
    away = create("postgresql://lienthong@127.0.0.1:1/none")
    taking = Pipeline(away, SenderBook(engine, UnknownPeers.REJECT), verbs, VIETNAM)
    try:
        answers = [*taking.answers(asking(*pair), PEER)]
    finally:
        away.dispose()

    assert [acknowledged(one)[0] for one in answers] == said
    assert not verbs.asked


def test_role_accepts_and_acknowledges_later(tmp_path: Path, database_url: str) -> None:
    """The process that runs in a hospital, from the order to the message at the other end."""
    engine = create(database_url)
    role = Hl7Role(tmp_path, database_url)
    with receiving() as receiver:
        with transaction(engine) as session:
            destinations.add(session, Destination("acks", "127.0.0.1", receiver.port), {})
        register(engine, application_ack="acks")
        engine.dispose()
        role.start()
        try:
            with MllpPeer(role.port) as peer:
                assert acknowledged(peer.ask(asking("AL", "AL"))) == ("CA", "C1")
            until(lambda: any(value(one, b"MSH", 8) == "ACK" for one in receiver.taken), 30)
        finally:
            role.stop()

    acks = [one for one in receiver.taken if value(one, b"MSH", 8) == "ACK"]
    assert [acknowledged(one) for one in acks] == [("AA", "C1")]
