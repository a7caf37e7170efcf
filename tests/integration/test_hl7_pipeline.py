"""Messages through the pipeline: what is answered, what is kept, what is done."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from ris.hl7 import ack, ledger, message, repair, senders
from ris.hl7.ledger import Entry, Search, State
from ris.hl7.pipeline import MAX_TRIES, Pipeline
from ris.hl7.senders import Sender
from ris.hl7.tables import MessageRow
from ris.requests import OrderRequest
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound, StoreUnavailable
from storage.base.settings import UnknownPeers
from storage.db.engine import Engine, create, transaction
from tests.fixtures.hl7 import RecordingVerbs, acknowledged, order_message, pipeline

PEER = "10.0.0.7"


@pytest.fixture
def verbs() -> RecordingVerbs:
    return RecordingVerbs()


@pytest.fixture
def taking(engine: Engine, verbs: RecordingVerbs) -> Pipeline:
    return pipeline(engine, verbs)


def entries(engine: Engine) -> list[Entry]:
    """Return the ledger, oldest first."""
    with transaction(engine) as session:
        return [*reversed(ledger.search(session, Search(), 1000))]


def register(engine: Engine, sender: Sender) -> None:
    with transaction(engine) as session:
        senders.add(session, sender)


def fail(*errors: Exception) -> object:
    """Return what raises each of `errors` once and nothing afterwards."""
    left = [*errors]

    def before(_verb: str, _given: object) -> None:
        if left:
            raise left.pop(0)

    return before


def test_order_is_applied_kept_and_accepted(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    octets = order_message("4711")

    answer = taking.answer(octets, PEER)

    assert acknowledged(answer) == ("AA", "C1")
    [(verb, order)] = verbs.asked
    assert isinstance(order, OrderRequest)
    assert (verb, order.placer_order_number) == ("order NW", "4711")
    [entry] = entries(engine)
    assert (entry.raw, entry.answer, entry.answer_code) == (octets, answer, "AA")
    assert (entry.state, entry.outcome, entry.applied_no is not None) == (
        State.APPLIED,
        "created",
        True,
    )
    assert (entry.peer, entry.wire, entry.sender, entry.kind) == (
        PEER,
        "mllp",
        "unknown",
        "ORM^O01",
    )
    assert {*entry.keys} == {"patient:99002", "order:4711", "accession:4711"}
    [context] = verbs.contexts
    assert (context.message_id, context.sender, context.role) == (entry.id, "unknown", "placer")


def test_second_copy_gets_the_same_bytes_and_does_nothing(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    answers = [taking.answer(order_message(), PEER) for _ in range(3)]

    assert len({*answers}) == 1
    assert len(verbs.asked) == 1
    [entry] = entries(engine)
    assert entry.repeats == 2


def test_copies_at_once_are_applied_once(engine: Engine, taking: Pipeline) -> None:
    barrier, answers = threading.Barrier(6), []

    def send() -> None:
        barrier.wait(10)
        answers.append(taking.answer(order_message(), PEER))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({*answers}) == 1
    assert acknowledged(answers[0]) == ("AA", "C1")
    [entry] = entries(engine)
    assert entry.applied_no is not None
    with transaction(engine) as session:
        assert ledger.count(session, State.APPLIED) == 1


def test_control_id_of_another_message_is_no_duplicate(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    taking.answer(order_message("1", "C1"), PEER)
    taking.answer(order_message("2", "C1"), PEER)

    assert len(verbs.asked) == len(entries(engine)) == 2


def test_messages_of_one_patient_are_done_one_after_the_other(
    engine: Engine, verbs: RecordingVerbs
) -> None:
    at_once, most = 0, 0

    def watch(_verb: str, _given: object) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        threading.Event().wait(0.02)
        at_once -= 1

    verbs.before = watch
    taking = pipeline(engine, verbs)

    def send(number: int) -> None:
        taking.answer(order_message(str(number), f"C{number}"), PEER)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(verbs.asked), most) == (5, 1)


@pytest.mark.parametrize(
    ("octets", "code", "error", "state"),
    [
        (order_message(patient="").replace(b"|||^^^BV^PI|", b"||||"), "AE", "101", State.DEAD),
        (order_message(control="ZZ"), "AE", "103", State.DEAD),
        (order_message().replace(b"ORM^O01", b"MDM^T02"), "AR", "200", State.REFUSED),
        (order_message().replace(b"ORM^O01", b"ADT^A99"), "AR", "201", State.REFUSED),
        (order_message(processing="T"), "AR", "202", State.REFUSED),
        (order_message().split(b"ORC")[0], "AE", "100", State.DEAD),
        (order_message(extra="NTE|1\r" * 2001), "AE", "102", State.REFUSED),
        (order_message(patient="1~" * 600), "AE", "102", State.DEAD),
        (b"PID|1\r", "AR", "100", State.REFUSED),
        (b"BHS|^~\\&|HIS\rEVN|A04\rPID|1\rBTS|1\r", "AR", "100", State.REFUSED),
        (b"\xff\x00\x0b", "AR", "100", State.REFUSED),
        (order_message(control_id="C" * 70_000), "AE", "102", State.REFUSED),
    ],
    ids=[
        "no patient id",
        "unknown control",
        "type",
        "event",
        "trial",
        "no order",
        "too many segments",
        "too many repetitions",
        "no header",
        "batch without a message",
        "noise",
        "endless control id",
    ],
)
def test_what_cannot_be_done_is_kept_with_its_reason(
    engine: Engine,
    taking: Pipeline,
    octets: bytes,
    code: str,
    error: str,
    state: State,
) -> None:
    answer = taking.answer(octets, PEER)

    assert acknowledged(answer)[0] == code
    assert error.encode() in answer
    [entry] = entries(engine)
    assert (entry.raw, entry.answer, entry.state) == (octets, answer, state)
    assert entry.reason.startswith(f"{error} ")


@pytest.mark.parametrize(
    ("error", "number"),
    [(NotFound("x"), "204"), (Conflict("x"), "205"), (Malformed("x"), "102")],
    ids=["unknown key", "duplicate key", "value"],
)
def test_refusal_of_a_verb_is_a_dead_letter(
    engine: Engine,
    taking: Pipeline,
    verbs: RecordingVerbs,
    error: Exception,
    number: str,
) -> None:
    verbs.before = fail(error)

    assert acknowledged(taking.answer(order_message(), PEER)) == ("AE", "C1")
    [entry] = entries(engine)
    assert entry.state is State.DEAD
    assert entry.reason == f"{number} {ack.ERRORS[number][0]}: x"


def test_sender_that_cannot_stand_errors_gets_aa_and_a_person_the_letter(
    engine: Engine, taking: Pipeline
) -> None:
    register(engine, Sender("his", "hispro", application="HIS"))

    dead = taking.answer(order_message(control="ZZ"), PEER)
    unsupported = taking.answer(order_message().replace(b"ORM^O01", b"MDM^T02"), PEER)
    trial = taking.answer(order_message(processing="T"), PEER)

    assert [acknowledged(one)[0] for one in (dead, unsupported, trial)] == ["AA", "AA", "AR"]
    assert [one.state for one in entries(engine)] == [State.DEAD, State.REFUSED, State.REFUSED]


def test_what_passes_by_itself_is_tried_again_at_once(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    verbs.before = fail(
        StoreUnavailable("deadlock"), IntegrityError("INSERT", {}, Exception("made at once"))
    )

    assert acknowledged(taking.answer(order_message(), PEER))[0] == "AA"
    assert [one.state for one in entries(engine)] == [State.APPLIED]


def test_what_is_not_available_now_is_kept_by_the_sender(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    verbs.before = fail(*[StoreUnavailable("away")] * 3)

    first = taking.answer(order_message(), PEER)
    [waiting] = entries(engine)
    second = taking.answer(order_message(), PEER)

    assert acknowledged(first) == ("AR", "C1")
    assert b"|207^" in first or b"^207" in first
    assert (waiting.state, waiting.attempts) == (State.RECEIVED, 0)
    assert acknowledged(second)[0] == "AA"
    assert [one.state for one in entries(engine)] == [State.APPLIED]


def test_defect_of_ours_never_blames_the_message_at_once(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    verbs.before = fail(*[RuntimeError("NGUYỄN THỊ ĐIỂM")] * MAX_TRIES)

    answers = [taking.answer(order_message(), PEER) for _ in range(MAX_TRIES + 1)]

    assert [acknowledged(one)[0] for one in answers] == ["AR", "AR", "AE", "AE"]
    assert answers[2] == answers[3]
    [entry] = entries(engine)
    assert (entry.state, entry.reason) == (State.DEAD, "207 defect: RuntimeError")


def test_effects_of_a_verb_that_fails_are_undone(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    two = order_message(extra="ORC|NW|4712\rOBR|1|4712\r")

    def second_fails(_verb: str, given: object) -> None:
        if isinstance(given, OrderRequest) and given.placer_order_number == "4712":
            raise Conflict("no")

    verbs.before = second_fails
    taking.answer(two, PEER)

    [entry] = entries(engine)
    assert (entry.state, entry.applied_no) == (State.DEAD, None)


def test_without_database_nothing_is_accepted(verbs: RecordingVerbs) -> None:
    away = create("postgresql://lienthong@127.0.0.1:1/none")
    try:
        answer = pipeline(away, verbs).answer(order_message(), PEER)
    finally:
        away.dispose()

    assert acknowledged(answer) == ("AR", "C1")
    assert not verbs.asked


def test_batch_is_answered_message_by_message(engine: Engine, taking: Pipeline) -> None:
    parts = [order_message("1", "C1"), order_message("2", "C2", control="ZZ"), b"MSH|broken\r"]
    octets = b"FHS|^~\\&\rBHS|^~\\&\r" + b"".join(parts) + b"BTS|3\rFTS|1\r"

    answer = taking.answer(octets, PEER)

    assert [line[:6] for line in answer.split(b"\r") if line.startswith(b"MSA")] == [
        b"MSA|AA",
        b"MSA|AE",
        b"MSA|AR",
    ]
    assert answer.startswith(b"FHS|")
    assert answer.endswith(b"BTS|3\rFTS|1\r")
    assert [one.raw.rstrip(b"\r") for one in entries(engine)] == [
        part.rstrip(b"\r") for part in parts
    ]


def test_messages_in_one_frame_without_a_batch_around_them_are_answered_each(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    """HL7 v2.5.1 2.10.2: BHS and BTS are optional."""
    parts = [order_message("1", "C1"), order_message("2", "C2")]

    answer = taking.answer(b"".join(parts), PEER)

    assert [line for line in answer.split(b"\r") if line.startswith(b"MSA")] == [
        b"MSA|AA|C1",
        b"MSA|AA|C2",
    ]
    assert answer.startswith(b"MSH|")
    assert b"BTS" not in answer
    assert [one.raw for one in entries(engine)] == parts
    assert len(verbs.asked) == 2


def test_batch_that_miscounts_is_taken_and_noticed(
    taking: Pipeline, verbs: RecordingVerbs, caplog: pytest.LogCaptureFixture
) -> None:
    octets = b"BHS|^~\\&\r" + order_message("1", "C1") + b"BTS|2\r"

    taking.answer(octets, PEER)

    assert len(verbs.asked) == 1
    assert "hl7_batch_count" in caplog.messages


def test_unregistered_sender_is_refused_and_leaves_nothing(
    engine: Engine, verbs: RecordingVerbs
) -> None:
    closed = pipeline(engine, verbs, UnknownPeers.LOOPBACK)

    assert acknowledged(closed.answer(order_message(), PEER))[0] == "AR"
    assert entries(engine) == []
    assert acknowledged(closed.answer(order_message(), "127.0.0.1"))[0] == "AA"
    assert acknowledged(closed.answer(order_message("2"), "::1"))[0] == "AA"


def test_sender_is_found_by_name_and_address(engine: Engine, verbs: RecordingVerbs) -> None:
    register(engine, Sender("anybody"))
    register(engine, Sender("his", application="HIS"))
    register(engine, Sender("his-a", application="HIS", facility="A"))
    register(engine, Sender("ward", application="HIS", facility="A", addresses=["10.1.0.0/16"]))
    taking = pipeline(engine, verbs)

    for number, (application, facility, peer) in enumerate(
        [
            ("LIS", "A", PEER),
            ("HIS", "B", PEER),
            ("HIS", "A", PEER),
            ("HIS", "A", "10.1.2.3"),
            ("HIS", "A", "::ffff:10.1.2.3"),
        ]
    ):
        taking.answer(order_message(str(number), application=application, facility=facility), peer)

    assert [one.sender for one in entries(engine)] == ["anybody", "his", "his-a", "ward", "ward"]


def test_replay_applies_what_failed(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    verbs.before = fail(NotFound("no such procedure"))
    taking.answer(order_message(), PEER)
    [dead] = entries(engine)

    replayed = repair.replay(engine, taking, dead.id)

    assert (replayed.id, replayed.state, replayed.answer_code) == (dead.id, State.APPLIED, "AA")
    assert acknowledged(taking.answer(order_message(), PEER))[0] == "AA"
    with pytest.raises(Conflict, match="is applied"):
        repair.replay(engine, taking, dead.id)
    assert len(verbs.asked) == 1


def test_replay_that_fails_again_stays_dead(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    verbs.before = fail(NotFound("one"), NotFound("two"))
    taking.answer(order_message(), PEER)
    [dead] = entries(engine)

    replayed = repair.replay(engine, taking, dead.id)

    assert (replayed.state, replayed.reason) == (State.DEAD, "204 Unknown key identifier: two")
    with pytest.raises(NotFound):
        repair.replay(engine, taking, dead.id + 1)


def test_corrected_copy_answers_for_the_first_one(engine: Engine, taking: Pipeline) -> None:
    taking.answer(order_message(control="ZZ"), PEER)
    [dead] = entries(engine)

    copy = repair.correct(engine, taking, dead.id, order_message(control="NW"))

    assert (copy.corrects, copy.state, copy.wire) == (dead.id, State.APPLIED, "corrected")
    first, second = entries(engine)
    assert (first.state, first.raw, second.id) == (State.CORRECTED, dead.raw, copy.id)
    with pytest.raises(Conflict, match="is corrected"):
        repair.correct(engine, taking, dead.id, order_message())


@pytest.mark.parametrize(
    "octets", [b"PID|1", order_message(control="ZZ")], ids=["no message", "as wrong as before"]
)
def test_copy_that_cannot_be_read_changes_nothing(
    engine: Engine, taking: Pipeline, octets: bytes
) -> None:
    taking.answer(order_message(control="ZZ"), PEER)
    before = entries(engine)

    with pytest.raises(Malformed):
        repair.correct(engine, taking, before[0].id, octets)

    assert entries(engine) == before


def test_copy_that_fails_leaves_the_first_one_dead(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    taking.answer(order_message(control="ZZ"), PEER)
    [dead] = entries(engine)
    verbs.before = fail(Conflict("no"))

    copy = repair.correct(engine, taking, dead.id, order_message())

    assert copy.state is State.DEAD
    assert [one.state for one in entries(engine)] == [State.DEAD, State.DEAD]


def leave_unfinished(engine: Engine, taking: Pipeline, octets: bytes) -> int:
    """Write a message down as a process does that is killed before it has done anything."""
    with transaction(engine) as session:
        reading = taking.read(octets, PEER)
    noted = taking.note(reading, PEER, "mllp")
    with transaction(engine) as session:
        session.execute(
            update(MessageRow)
            .where(MessageRow.id == noted.id)
            .values(received_at=utc_now() - timedelta(minutes=1))
        )
    return noted.id


def test_unfinished_messages_are_taken_up_in_their_order(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    for number in range(3):
        leave_unfinished(engine, taking, order_message(str(number), f"C{number}"))
    with transaction(engine):
        taking.note(taking.read(order_message("9", "C9"), PEER), PEER, "mllp")

    assert repair.finish_undone(engine, taking) == 3

    numbers = [one.placer_order_number for _, one in verbs.asked if isinstance(one, OrderRequest)]
    assert numbers == ["0", "1", "2"]
    assert repair.finish_undone(engine, taking) == 0
    assert acknowledged(taking.answer(order_message("0", "C0"), PEER))[0] == "AA"
    assert len(verbs.asked) == 3


def test_message_that_kills_who_works_on_it_is_given_up(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    number = leave_unfinished(engine, taking, order_message())

    def die(_verb: str, _given: object) -> None:
        raise SystemExit

    verbs.before = die
    for _ in range(repair.MAX_TAKEN_UP):
        with pytest.raises(SystemExit):
            repair.finish_undone(engine, taking)
    repair.finish_undone(engine, taking)

    with transaction(engine) as session:
        entry = ledger.get(session, number)
    assert (entry.state, entry.reason) == (State.DEAD, "207 never finished")
    assert acknowledged(taking.answer(order_message(), PEER)) == ("AE", "C1")


def test_unfinished_message_that_must_wait_longer_is_not_given_up(
    engine: Engine, taking: Pipeline, verbs: RecordingVerbs
) -> None:
    number = leave_unfinished(engine, taking, order_message())
    verbs.before = fail(*[StoreUnavailable("away")] * 30)

    for _ in range(10):
        repair.finish_undone(engine, taking)
    repair.finish_undone(engine, taking)

    with transaction(engine) as session:
        assert ledger.get(session, number).state is State.APPLIED


def test_defect_while_answering_is_no_refusal(
    taking: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(message, "read", broken)

    assert acknowledged(taking.answer(order_message(), PEER)) == ("AR", "C1")


def test_empty_frame_is_answered_and_not_kept(engine: Engine, taking: Pipeline) -> None:
    assert acknowledged(taking.answer(b"\r\n", PEER)) == ("AR", "")
    assert entries(engine) == []


def test_frame_that_is_too_long_is_told_so(taking: Pipeline) -> None:
    answer = taking.refuse(order_message()[:100])

    assert acknowledged(answer) == ("AR", "C1")
    assert b"longer than this system takes" in answer


def test_usual_charset_of_a_sender_counts_where_none_is_declared(
    engine: Engine, taking: Pipeline
) -> None:
    register(engine, Sender("his", application="HIS", changes={"charset": "WINDOWS-1258"}))
    octets = (
        order_message(name="TR").replace(b"||||||UNICODE UTF-8", b"").replace(b"TR", b"TR\xc2N")
    )

    taking.answer(octets, PEER)

    [entry] = entries(engine)
    assert (entry.charset, entry.charset_guessed) == ("windows-1258", True)
