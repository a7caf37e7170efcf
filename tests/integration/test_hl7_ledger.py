"""The ledger of messages on PostgreSQL."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from ris.hl7 import ledger, message
from ris.hl7.ledger import Received, Result, Search, State
from ris.hl7.tables import MessageRow
from storage.base.clock import utc_now
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Engine, transaction

RAW = b"MSH|^~\\&|HIS|BV|||20260101||ORM^O01|7|P|2.3.1\rPID|||1\r"


def received(raw: bytes = RAW, **values: object) -> Received:
    read = message.read(raw)
    given = Received(
        raw,
        "mllp",
        "10.0.0.1",
        sender="his",
        control_id=read.control_id,
        kind="ORM^O01",
        identity=ledger.identity_of("his", read, raw),
        keys=["patient:1", "order:2", "accession:3"],
    )
    return replace(given, **values)  # type: ignore[arg-type]


def note(engine: Engine, one: Received) -> ledger.Noted:
    with transaction(engine) as session:
        return ledger.note(session, one)


def settle(engine: Engine, number: int, state: State = State.APPLIED) -> bool:
    with transaction(engine) as session:
        return ledger.settle(session, number, Result(state, b"MSA|AA|7", "AA"))


def test_bytes_are_kept_as_they_came(engine: Engine) -> None:
    octets = RAW + bytes(range(256))

    noted = note(engine, received(octets))

    with transaction(engine) as session:
        assert ledger.get(session, noted.id).raw == octets


def test_second_copy_gets_the_answer_of_the_first(engine: Engine) -> None:
    first = note(engine, received())
    settle(engine, first.id)

    again = note(engine, received())

    with transaction(engine) as session:
        kept = ledger.get(session, first.id)
    assert (again.id, again.answer) == (first.id, b"MSA|AA|7")
    assert kept.repeats == 1


def test_second_copy_of_what_was_not_answered_is_still_to_be_done(engine: Engine) -> None:
    first = note(engine, received())

    assert note(engine, received()) == ledger.Noted(first.id)


def test_time_of_the_try_makes_no_other_message(engine: Engine) -> None:
    first = note(engine, received())

    later = note(engine, received(RAW.replace(b"20260101", b"20260102")))

    assert later.id == first.id


def test_without_control_id_the_time_tells_news_from_a_resend(engine: Engine) -> None:
    anonymous = RAW.replace(b"|7|", b"||")
    first = note(engine, received(anonymous))

    assert note(engine, received(anonymous)).id == first.id
    assert note(engine, received(anonymous.replace(b"20260101", b"20260102"))).id != first.id


def test_control_id_with_another_body_is_another_message_and_noticed(engine: Engine) -> None:
    first = note(engine, received())

    other = note(engine, received(RAW.replace(b"PID|||1", b"PID|||2")))

    assert other.id != first.id
    assert other.reused_control_id
    assert not first.reused_control_id


def test_same_bytes_count_as_new_after_a_month(engine: Engine) -> None:
    first = note(engine, received())
    old = utc_now() - ledger.SAME_FOR - timedelta(minutes=1)
    with transaction(engine) as session:
        session.execute(update(MessageRow).values(received_at=old))

    assert note(engine, received()).id != first.id


def test_copies_that_come_at_once_are_one_message(engine: Engine) -> None:
    ids: list[int] = []

    def come() -> None:
        ids.append(note(engine, received()).id)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_message_is_settled_once(engine: Engine) -> None:
    noted = note(engine, received())

    assert settle(engine, noted.id)
    assert not settle(engine, noted.id, State.DEAD)


def test_applied_messages_are_numbered_in_their_order(engine: Engine) -> None:
    ids = [note(engine, received(RAW + b"NTE|%d\r" % number)).id for number in range(3)]
    for number in reversed(ids):
        settle(engine, number)

    with transaction(engine) as session:
        numbers = [ledger.get(session, number).applied_no or 0 for number in ids]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Search(), 2),
        (Search(patient_id="1"), 1),
        (Search(order_number="2"), 1),
        (Search(accession_number="3"), 1),
        (Search(patient_id="1", accession_number="4"), 0),
        (Search(sender="his", kind="ORM^O01", control_id="7"), 2),
        (Search(sender="other"), 0),
        (Search(state=State.RECEIVED), 1),
        (Search(since=utc_now() + timedelta(days=1)), 0),
        (Search(until=utc_now() - timedelta(days=1)), 0),
    ],
    ids=[
        "all",
        "patient",
        "order",
        "accession",
        "patient and another accession",
        "sender, kind and control id",
        "another sender",
        "state",
        "from tomorrow",
        "until yesterday",
    ],
)
def test_messages_are_found_by_what_people_know(engine: Engine, wanted: Search, found: int) -> None:
    note(engine, received())
    other = note(engine, received(RAW + b"NTE|1\r", keys=["patient:9"]))
    settle(engine, other.id, State.DEAD)

    with transaction(engine) as session:
        assert len(ledger.search(session, wanted, 10)) == found


def test_older_page_follows(engine: Engine) -> None:
    ids = [note(engine, received(RAW + b"NTE|%d\r" % number)).id for number in range(3)]

    with transaction(engine) as session:
        page = ledger.search(session, Search(), 2)
        rest = ledger.search(session, Search(), 2, before=page[-1].id)

    assert [one.id for one in (*page, *rest)] == ids[::-1]


def test_only_what_failed_is_taken_up_again(engine: Engine) -> None:
    dead, applied = (note(engine, received(RAW + b"NTE|%d\r" % number)).id for number in (1, 2))
    settle(engine, dead, State.DEAD)
    settle(engine, applied)

    with transaction(engine) as session:
        assert ledger.reopen(session, dead).state is State.DEAD
        assert ledger.get(session, dead).state is State.RECEIVED
        with pytest.raises(Conflict, match=f"message {applied} is applied"):
            ledger.reopen(session, applied)
        with pytest.raises(NotFound):
            ledger.reopen(session, applied + 1000)


def test_old_messages_go_and_dead_ones_stay(engine: Engine) -> None:
    ids = [note(engine, received(RAW + b"NTE|%d\r" % number)).id for number in range(3)]
    settle(engine, ids[0])
    settle(engine, ids[1], State.DEAD)

    with transaction(engine) as session:
        assert ledger.purge(session, utc_now() + timedelta(seconds=1)) == 1
        assert {one.id for one in ledger.search(session, Search(), 9)} == {*ids[1:]}


def test_those_who_share_a_key_wait_for_each_other(engine: Engine) -> None:
    order: list[str] = []
    held = threading.Event()

    def second() -> None:
        assert held.wait(5)
        with transaction(engine) as session:
            ledger.lock(session, ["patient:2", "patient:1"])
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with transaction(engine) as session:
        ledger.lock(session, ["patient:1", "patient:3"])
        held.set()
        thread.join(0.3)
        order.append("first")
    thread.join(5)

    assert order == ["first", "second"]
