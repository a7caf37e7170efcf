"""Workitems on the real database: the life of one, who watches, what they are told."""

import threading
from datetime import timedelta

import pytest
from pydicom.uid import generate_uid

from ris.workitems import contents, events, records, search, subscriptions, verbs
from ris.workitems.events import Kind
from ris.workitems.faults import (
    Duplicate,
    FinalStateUnmet,
    InvalidValue,
    MissingAttribute,
    MissingValue,
    NotScheduled,
    PerformerAway,
    WrongTransaction,
)
from ris.workitems.search import Query
from ris.workitems.states import Answer
from storage.base.clock import utc_now
from storage.base.errors import ImagingError, Malformed
from storage.db.engine import Engine, transaction
from tests.fixtures.workitems import (
    PERFORMED,
    ZONE,
    attributes,
    change,
    code,
    create,
    get,
    update,
    workitem,
)

CLAIM = "2.25.4711"


def subscribe(engine: Engine, uid: str, title: str, *, lock: bool = False, **keys: str) -> None:
    with transaction(engine) as session:
        subscriptions.subscribe(session, uid, title, lock=lock, zone=ZONE, keys=keys)


def unsubscribe(engine: Engine, uid: str, title: str) -> None:
    with transaction(engine) as session:
        subscriptions.unsubscribe(session, uid, title)


def told(engine: Engine, title: str) -> list[tuple[str, int, str]]:
    """Return UID, event type and state of every event of a watcher, oldest first."""
    with transaction(engine) as session:
        found = events.after(session, title, 0, 1000)
    return [
        (one.sop_instance_uid, one.event_type_id, contents.text(one.content, "ProcedureStepState"))
        for one in found
    ]


def found(engine: Engine, **keys: str) -> list[str]:
    named = {name.replace("__", "."): value for name, value in keys.items()}
    with transaction(engine) as session:
        return [subscriptions.uid_of(one) for one in search.find(session, Query(named), ZONE, 1000)]


def purge(engine: Engine) -> int:
    with transaction(engine) as session:
        return verbs.purge(session, utc_now() + timedelta(seconds=1))


def finish(engine: Engine, uid: str) -> None:
    change(engine, uid, "IN PROGRESS", CLAIM)
    update(engine, uid, PERFORMED, CLAIM)
    change(engine, uid, "COMPLETED", CLAIM)


# The life of a workitem


def test_workitem_is_claimed_worked_on_and_completed(engine: Engine) -> None:
    uid = create(engine)

    finish(engine, uid)

    assert contents.text(get(engine, uid), "ProcedureStepState") == "COMPLETED"
    assert change(engine, uid, "COMPLETED", CLAIM) is Answer.ALREADY


def test_transaction_uid_is_shown_to_nobody(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "WATCH")

    finish(engine, uid)

    with transaction(engine) as session:
        shown = [
            verbs.get(session, uid),
            search.find(session, Query({"TransactionUID": CLAIM}), ZONE, 9),
            events.after(session, "WATCH", 0, 99),
        ]
    assert CLAIM not in repr(shown)


def test_of_many_claims_at_once_one_wins(engine: Engine) -> None:
    uid = create(engine)
    claims = [f"2.25.{number}" for number in range(1, 9)]
    answers: dict[str, object] = {}
    start = threading.Barrier(len(claims))

    def claim(transaction_uid: str) -> None:
        start.wait()
        try:
            answers[transaction_uid] = change(engine, uid, "IN PROGRESS", transaction_uid)
        except ImagingError as error:
            answers[transaction_uid] = type(error)

    threads = [threading.Thread(target=claim, args=[one]) for one in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [winner] = [one for one in claims if answers[one] is None]
    assert [answers[one] for one in claims if one != winner] == [WrongTransaction] * 7
    update(engine, uid, PERFORMED, winner)
    change(engine, uid, "COMPLETED", winner)


def test_same_uid_twice_at_once_is_one_workitem(engine: Engine) -> None:
    uid = generate_uid()
    answers: list[object] = []
    start = threading.Barrier(2)

    def make() -> None:
        start.wait()
        try:
            answers.append(create(engine, uid))
        except Duplicate:
            answers.append(Duplicate)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(str, answers)) == sorted(map(str, [uid, Duplicate]))


def test_completion_waits_for_what_was_performed(engine: Engine) -> None:
    uid = create(engine)
    change(engine, uid, "IN PROGRESS", CLAIM)

    with pytest.raises(FinalStateUnmet):
        change(engine, uid, "COMPLETED", CLAIM)

    assert contents.text(get(engine, uid), "ProcedureStepState") == "IN PROGRESS"


def test_cancelled_workitem_says_when_and_why(engine: Engine) -> None:
    uid = create(engine)
    change(engine, uid, "IN PROGRESS", CLAIM)

    change(engine, uid, "CANCELED", CLAIM)

    [progress] = contents.items(get(engine, uid), "ProcedureStepProgressInformationSequence")
    [reason] = contents.items(progress, "ProcedureStepDiscontinuationReasonCodeSequence")
    assert contents.text(reason, "CodeValue") == "110513"
    assert contents.has_value(progress, "ProcedureStepCancellationDateTime")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, NotScheduled),
        ({"ProcedureStepLabel": None}, MissingAttribute),
        ({"InputReadinessState": []}, MissingValue),
        ({"InputReadinessState": "MAYBE"}, InvalidValue),
        ({"ScheduledProcedureStepPriority": "STAT"}, InvalidValue),
        ({"ScheduledProcedureStepStartDateTime": "tomorrow"}, InvalidValue),
        ({"StudyInstanceUID": "x"}, InvalidValue),
        ({"TransactionUID": "2.25.1"}, InvalidValue),
    ],
    ids=str,
)
def test_workitem_that_is_not_right_is_not_made(
    engine: Engine, changes: dict[str, object], fault: type[ImagingError]
) -> None:
    with pytest.raises(fault):
        create(engine, **changes)

    assert found(engine) == []


def test_what_may_be_empty_is_supplied(engine: Engine) -> None:
    with transaction(engine) as session:
        supplied = verbs.create(session, "2.25.9", workitem(WorklistLabel=None), ZONE)

    held = get(engine, "2.25.9")
    assert supplied
    assert contents.text(held, "WorklistLabel") == "DEFAULT"
    assert held[contents.tag_of("PatientSex")] == {"vr": "CS"}


def test_patient_is_not_changed_by_an_update(engine: Engine) -> None:
    uid = create(engine)

    with pytest.raises(InvalidValue, match="PatientID"):
        update(engine, uid, attributes(PatientID="BN2", ProcedureStepLabel="other"))

    assert contents.text(get(engine, uid), "ProcedureStepLabel") == "Lung nodules"


def test_update_with_what_is_held_changes_nothing(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "WATCH")
    before = get(engine, uid)

    update(engine, uid, attributes(PatientID="BN1", InputReadinessState="READY"))

    assert get(engine, uid) == before
    assert len(told(engine, "WATCH")) == 1


# Search


def test_search_finds_by_state_range_code_and_name(engine: Engine) -> None:
    early = create(engine, ScheduledProcedureStepStartDateTime="20261126070000")
    # 06:30 UTC is 13:30 on the hospital's clock
    late = create(
        engine,
        ScheduledProcedureStepStartDateTime="20261126063000+0000",
        PatientName="Trần^Bình",
        ScheduledWorkitemCodeSequence=code("110007"),
    )
    change(engine, early, "IN PROGRESS", CLAIM)

    assert found(engine) == [early, late]
    assert found(engine, ProcedureStepState="SCHEDULED") == [late]
    assert found(engine, ScheduledProcedureStepStartDateTime="20261126-") == [early, late]
    assert found(engine, ScheduledProcedureStepStartDateTime="202611261200-202611261400") == [late]
    assert found(engine, ScheduledProcedureStepStartDateTime="20261126050000+0000-") == [late]
    assert found(engine, ScheduledWorkitemCodeSequence__CodeValue="110007") == [late]
    assert found(engine, PatientName="tran binh") == [late]
    assert found(engine, WorklistLabel="A*") == [early, late]
    assert found(engine, WorklistLabel="B") == []


def test_search_finds_by_study_wherever_it_stands(engine: Engine) -> None:
    request = attributes(StudyInstanceUID="2.25.77", AccessionNumber="A1")
    uid = create(engine, ReferencedRequestSequence=request)
    create(engine)

    assert found(engine, ReferencedRequestSequence__StudyInstanceUID="2.25.77") == [uid]
    assert found(engine, ReferencedRequestSequence__AccessionNumber="A1") == [uid]
    assert found(engine, StudyInstanceUID="2.25.77") == []


def test_search_pages_do_not_overlap(engine: Engine) -> None:
    made = [create(engine) for _ in range(5)]

    with transaction(engine) as session:
        pages = [search.find(session, Query(), ZONE, 2, first) for first in (0, 2, 4)]

    assert [subscriptions.uid_of(one) for page in pages for one in page] == made


def test_repeating_groups_harm_nobody(engine: Engine) -> None:
    overlay = {"60000010": {"vr": "US", "Value": [512]}, "60020010": {"vr": "US", "Value": [512]}}
    with transaction(engine) as session:
        verbs.create(session, "2.25.8", {**workitem(), **overlay}, ZONE)

    assert found(engine, OverlayRows="512") == ["2.25.8"]


def test_key_that_cannot_be_read_is_named(engine: Engine) -> None:
    with pytest.raises(Malformed, match="ScheduledProcedureStepStartDateTime"):
        found(engine, ScheduledProcedureStepStartDateTime="soon")


# Watchers


def test_watcher_is_told_of_every_step(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "WATCH")
    change(engine, uid, "IN PROGRESS", CLAIM)
    progress = attributes(
        ProcedureStepProgressInformationSequence=attributes(ProcedureStepProgress="50")
    )
    update(engine, uid, progress, CLAIM)
    update(engine, uid, attributes(ScheduledStationNameCodeSequence=code("GPU1")), CLAIM)
    update(engine, uid, PERFORMED, CLAIM)
    change(engine, uid, "COMPLETED", CLAIM)

    assert told(engine, "WATCH") == [
        (uid, Kind.STATE_REPORT, "SCHEDULED"),
        (uid, Kind.STATE_REPORT, "IN PROGRESS"),
        (uid, Kind.PROGRESS_REPORT, ""),
        (uid, Kind.ASSIGNED, ""),
        (uid, Kind.STATE_REPORT, "COMPLETED"),
    ]


def test_global_watcher_is_told_of_new_workitems(engine: Engine) -> None:
    old = create(engine)
    subscribe(engine, records.GLOBAL, "WATCH")
    new = create(engine, ScheduledStationNameCodeSequence=code("GPU1"))
    change(engine, old, "IN PROGRESS", CLAIM)

    assert told(engine, "WATCH") == [
        (new, Kind.STATE_REPORT, "SCHEDULED"),
        (new, Kind.ASSIGNED, ""),
        (old, Kind.STATE_REPORT, "IN PROGRESS"),
    ]


def test_global_watcher_with_lock_is_told_what_there_is(engine: Engine) -> None:
    uid = create(engine)

    subscribe(engine, records.GLOBAL, "WATCH", lock=True)

    assert told(engine, "WATCH") == [(uid, Kind.STATE_REPORT, "SCHEDULED")]


def test_filter_lets_only_its_own_pass(engine: Engine) -> None:
    subscribe(engine, records.FILTERED, "WATCH", WorklistLabel="AI")
    create(engine, WorklistLabel="HUMAN")
    uid = create(engine, WorklistLabel="AI")
    moved = create(engine, WorklistLabel="HUMAN")

    update(engine, moved, attributes(WorklistLabel="AI"))

    assert told(engine, "WATCH") == [
        (uid, Kind.STATE_REPORT, "SCHEDULED"),
        (moved, Kind.STATE_REPORT, "SCHEDULED"),
    ]


def test_filter_without_keys_is_refused(engine: Engine) -> None:
    with pytest.raises(Malformed, match="matching keys"):
        subscribe(engine, records.FILTERED, "WATCH")


def test_unsubscribed_by_name_stays_so(engine: Engine) -> None:
    subscribe(engine, records.GLOBAL, "WATCH")
    uid = create(engine)
    unsubscribe(engine, uid, "WATCH")
    subscribe(engine, records.GLOBAL, "WATCH")

    change(engine, uid, "IN PROGRESS", CLAIM)

    assert told(engine, "WATCH") == [(uid, Kind.STATE_REPORT, "SCHEDULED")]


def test_suspended_watcher_keeps_what_it_watches(engine: Engine) -> None:
    subscribe(engine, records.GLOBAL, "WATCH")
    uid = create(engine)
    with transaction(engine) as session:
        subscriptions.suspend(session, records.GLOBAL, "WATCH")
    create(engine)

    change(engine, uid, "IN PROGRESS", CLAIM)

    assert told(engine, "WATCH") == [
        (uid, Kind.STATE_REPORT, "SCHEDULED"),
        (uid, Kind.STATE_REPORT, "IN PROGRESS"),
    ]


def test_unsubscribed_globally_watches_nothing(engine: Engine) -> None:
    subscribe(engine, records.GLOBAL, "WATCH")
    uid = create(engine)
    subscribe(engine, uid, "WATCH")
    unsubscribe(engine, records.GLOBAL, "WATCH")
    before = told(engine, "WATCH")

    change(engine, uid, "IN PROGRESS", CLAIM)
    create(engine)

    assert told(engine, "WATCH") == before


def test_events_are_committed_in_the_order_of_their_numbers(engine: Engine) -> None:
    subscribe(engine, records.GLOBAL, "WATCH")
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        last = 0
        while not (stop.is_set() and len(seen) == 24):
            with transaction(engine) as session:
                news = events.after(session, "WATCH", last, 100)
            seen.extend(one.id for one in news)
            last = seen[-1] if seen else 0

    def write() -> None:
        for _ in range(6):
            create(engine)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write) for _ in range(4)]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join(20)

    assert len(seen) == 24


# Cancellation requests


def test_unclaimed_workitem_is_cancelled_by_way_of_in_progress(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "WATCH")
    request = attributes(ReasonForCancellation="patient left", ContactDisplayName="Ward 3")

    with transaction(engine) as session:
        answer = verbs.request_cancel(session, uid, request, "RIS")

    [progress] = contents.items(get(engine, uid), "ProcedureStepProgressInformationSequence")
    assert answer is None
    assert contents.text(progress, "ReasonForCancellation") == "patient left"
    assert [state for _, _, state in told(engine, "WATCH")] == [
        "SCHEDULED",
        "IN PROGRESS",
        "CANCELED",
    ]


def test_performer_is_told_of_the_wish_to_cancel(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "AI1")
    change(engine, uid, "IN PROGRESS", CLAIM, "AI1")

    with transaction(engine) as session:
        answer = verbs.request_cancel(
            session, uid, attributes(ReasonForCancellation="wrong patient"), "RIS"
        )

    with transaction(engine) as session:
        wish = events.after(session, "AI1", 0, 9)[-1]
    assert answer is Answer.ASK
    assert wish.event_type_id == Kind.CANCEL_REQUESTED
    assert contents.text(wish.content, "RequestingAE") == "RIS"
    assert contents.text(wish.content, "ReasonForCancellation") == "wrong patient"
    assert contents.text(get(engine, uid), "ProcedureStepState") == "IN PROGRESS"


def test_performer_that_does_not_listen_cannot_be_contacted(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "OTHER")
    change(engine, uid, "IN PROGRESS", CLAIM, "AI1")

    with pytest.raises(PerformerAway), transaction(engine) as session:
        verbs.request_cancel(session, uid, {}, "RIS")


# Deletion locks


def test_finished_workitem_is_deleted_when_its_last_lock_is_gone(engine: Engine) -> None:
    uid = create(engine)
    subscribe(engine, uid, "WATCH", lock=True)
    finish(engine, uid)
    open_one = create(engine)

    kept = purge(engine)
    unsubscribe(engine, uid, "WATCH")
    deleted = purge(engine)

    assert (kept, deleted) == (0, 1)
    assert found(engine) == [open_one]


def test_lock_of_a_global_subscription_counts(engine: Engine) -> None:
    subscribe(engine, records.GLOBAL, "WATCH", lock=True)
    uid = create(engine)
    finish(engine, uid)

    assert purge(engine) == 0


# Mailboxes


def test_mailbox_has_news_until_it_is_told(engine: Engine) -> None:
    create(engine)
    subscribe(engine, records.GLOBAL, "WATCH")
    now, lease = utc_now() + timedelta(seconds=1), timedelta(minutes=1)
    with transaction(engine) as session:
        assert events.claim_mailbox(session, now, lease) is None
    create(engine)

    with transaction(engine) as session:
        mailbox = events.claim_mailbox(session, now, lease)
        assert mailbox is not None
        [news] = events.after(session, "WATCH", mailbox.told_id, 9)
        assert events.claim_mailbox(session, now, lease) is None  # it is taken
        events.note_told(session, "WATCH", news.id)
    with transaction(engine) as session:
        assert events.claim_mailbox(session, now + lease, lease) is None
