"""Studies and orders brought together on the real tables, by rules and by persons."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update

from pacs import rejection_notes
from ris import following, news, orders, outbox, performed, reconcile
from ris.following import Following
from ris.reconcile import Action, Change, Deed, Entry, Preview, Reconciled, Standing
from ris.study_tables import PerformedStepRow
from ris.tables import OrderRow, StepRow
from ris.verdict import PerformedStatus, State
from storage.archive import instances
from storage.archive.model import Level
from storage.archive.rejection_rules import Title
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Engine, transaction
from tests.fixtures.index import Index, received
from tests.fixtures.orders import Placed, person, place
from tests.fixtures.rejection_notes import received_note

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NOW = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
"""Half past eight in the hospital."""
QUIET = timedelta(minutes=5)
LATER = timedelta(days=3650)
"""When everything is quiet that was changed while a test ran."""
STUDY = "2.25.1"
"""Of the first order, and of the first study of the index."""


class Hospital:
    """Studies, orders and who looks after them, each call a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.following = Following(engine, ZONE)

    def place(self, *numbers: int, **values: Any) -> list[Placed]:
        with transaction(self.engine) as session:
            return [place(session, number, **values) for number in numbers or (1,)]

    def store(self, study: str = "1", numbers: Iterable[str] = "12", **values: str) -> str:
        """Let images of a study arrive as `NOW`; return its UID."""
        facts = {
            "PatientName": "NGUYEN^VAN AN",
            "PatientID": "BN-1",
            "PatientBirthDate": "19600302",
            "StudyDate": "20260105",
            "StudyTime": "082000",
        } | values
        images = [
            replace(received(number, "1", study, **facts), received_at=NOW) for number in numbers
        ]
        with transaction(self.engine) as session:
            instances.record(session, images)
            news.arrived(session, {f"2.25.{study}"}, NOW)
        return f"2.25.{study}"

    def perform(self, status: PerformedStatus, *uids: str, reason: str = "") -> None:
        """Tell of a performed step for study and order 1."""
        item = {"StudyInstanceUID": STUDY, "ScheduledProcedureStepID": "S1"}
        begun = {
            "Modality": "CT",
            "PatientID": "BN-1",
            "PerformedProcedureStepStatus": "IN PROGRESS",
            "ScheduledStepAttributesSequence": [item],
        }
        code = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
        ended = {
            "PerformedProcedureStepStatus": status.value,
            "PerformedSeriesSequence": [
                {"ReferencedImageSequence": [{"ReferencedSOPInstanceUID": uid} for uid in uids]}
            ],
            code: [{"CodeValue": reason}],
        }
        with transaction(self.engine) as session:
            performed.create(session, "2.25.9000", begun, "CT01", NOW)
            if status is not PerformedStatus.IN_PROGRESS:
                performed.update(session, "2.25.9000", ended, NOW)

    def follow(self, after: timedelta = timedelta()) -> int:
        """Look after the studies at some time after `NOW`; return how many were looked at."""
        return self.following.run_once(NOW + after)

    def show(self, uid: str = STUDY) -> Reconciled:
        with transaction(self.engine) as session:
            return reconcile.show(session, uid)

    def do(self, action: Action, *procedures: int, uid: str = STUDY, **more: Any) -> Entry:
        deed = Deed(
            action=action, study_instance_uid=uid, procedure_ids=procedures, by="hoa", **more
        )
        with transaction(self.engine) as session:
            return reconcile.do(session, deed, NOW, ZONE)

    def preview(self, action: Action, *procedures: int, uid: str = STUDY) -> Preview:
        deed = Deed(action=action, study_instance_uid=uid, procedure_ids=procedures, by="hoa")
        with transaction(self.engine) as session:
            return reconcile.preview(session, deed, NOW, ZONE)

    def undo(self, entry: int) -> Entry:
        with transaction(self.engine) as session:
            return reconcile.undo(session, entry, "lan", NOW, ZONE)

    def attached(self, uid: str = STUDY) -> list[str]:
        return [one.accession_number for one in self.show(uid).attachments]

    def steps(self) -> list[str]:
        with transaction(self.engine) as session:
            return [*session.scalars(select(StepRow.status).order_by(StepRow.id))]

    def states(self) -> list[str]:
        with transaction(self.engine) as session:
            return [*session.scalars(select(OrderRow.state).order_by(OrderRow.id))]

    def told(self) -> list[tuple[str, str]]:
        with transaction(self.engine) as session:
            return [
                (orders.get(session, event.order_id).accession_number, event.status)
                for event in outbox.untold(session, 100)
            ]

    def made_up(self) -> int:
        with transaction(self.engine) as session:
            wanted = select(PerformedStepRow.id).where(PerformedStepRow.synthesised)
            return len(session.scalars(wanted).all())


@pytest.fixture
def hospital(engine: Engine) -> Hospital:
    return Hospital(engine)


# By rules


def test_study_of_an_order_is_attached_when_it_begins(hospital: Hospital) -> None:
    hospital.place()
    hospital.store()

    assert hospital.follow() == 1

    shown = hospital.show()
    assert shown.standing is Standing.ATTACHED
    [attachment] = shown.attachments
    assert (attachment.accession_number, attachment.attached_by) == ("A1", "rules")
    assert {"rule": "study_uid", "points": 100} in attachment.reasons
    assert shown.state == State.IN_PROGRESS


def test_study_without_a_performed_step_completes_its_order_when_it_is_quiet(
    hospital: Hospital,
) -> None:
    hospital.place()
    hospital.store()
    hospital.follow()
    early = hospital.states()

    hospital.follow(QUIET)

    assert (early, hospital.states()) == (["SCHEDULED"], ["COMPLETED"])
    assert hospital.steps() == ["COMPLETED"]
    assert hospital.told() == [("A1", "CM")]
    shown = hospital.show()
    assert (shown.state, shown.assumed) == (State.COMPLETE, True)
    assert shown.evidence[-1]["what"] == "quiet"
    assert hospital.made_up() == 1


def test_study_of_a_performed_step_is_complete_with_its_last_object(hospital: Hospital) -> None:
    hospital.place()
    hospital.store(numbers="1")
    hospital.perform(PerformedStatus.COMPLETED, "2.25.1.1.1", "2.25.1.1.2")
    hospital.follow()
    before = hospital.show().state

    hospital.store(numbers="2")
    hospital.follow(timedelta(seconds=10))

    assert before == State.IN_PROGRESS
    shown = hospital.show()
    assert (shown.state, shown.assumed) == (State.COMPLETE, False)
    assert shown.evidence[-1] == {"what": "all_here", "facts": {"named": 2}}
    assert hospital.made_up() == 0


def test_object_that_never_comes_leaves_the_study_incomplete(hospital: Hospital) -> None:
    hospital.store(numbers="1")
    hospital.perform(PerformedStatus.COMPLETED, "2.25.1.1.1", "2.25.1.1.2")
    hospital.follow()

    hospital.follow(timedelta(hours=2))

    assert hospital.show().state == State.INCOMPLETE


def test_later_objects_open_a_complete_study_again(hospital: Hospital) -> None:
    hospital.place()
    hospital.store(numbers="1")
    hospital.follow()
    hospital.follow(QUIET)

    hospital.store(numbers="2")
    hospital.follow()
    reopened = hospital.show().state
    hospital.follow(QUIET)

    assert reopened == State.IN_PROGRESS
    assert hospital.show().state == State.COMPLETE
    assert hospital.made_up() == 1
    assert hospital.told() == [("A1", "CM")]


def test_performed_step_that_is_never_ended_is_taken_for_ended(hospital: Hospital) -> None:
    hospital.place()
    hospital.store()
    hospital.perform(PerformedStatus.IN_PROGRESS)
    hospital.follow()
    started = hospital.steps()

    hospital.follow(timedelta(hours=4))

    assert (started, hospital.steps()) == (["STARTED"], ["COMPLETED"])
    assert hospital.told() == [("A1", "IP"), ("A1", "CM")]
    assert hospital.show().assumed


def test_study_without_an_order_is_provisional(hospital: Hospital) -> None:
    uid = hospital.store("7", PatientID="X1")

    hospital.follow()

    shown = hospital.show(uid)
    assert (shown.standing, shown.attachments, shown.proposals) == (Standing.PROVISIONAL, (), ())
    with transaction(hospital.engine) as session:
        [listed] = reconcile.list_open(session, 10)
    assert listed == shown


def test_old_study_waits_for_no_order(hospital: Hospital) -> None:
    uid = hospital.store("7", PatientID="X1", StudyDate="20200105")

    hospital.follow()

    assert hospital.show(uid).standing is Standing.PRIOR


def test_order_that_comes_later_finds_its_study(hospital: Hospital) -> None:
    uid = hospital.store("7", AccessionNumber="A1")
    hospital.follow()
    before = hospital.show(uid).standing

    hospital.place(order={"changed_at": NOW})
    looked = hospital.follow(timedelta(seconds=5))

    assert (before, looked) == (Standing.PROVISIONAL, 1)
    assert hospital.attached(uid) == ["A1"]


def test_order_that_changes_for_others_wakes_nobody(hospital: Hospital) -> None:
    hospital.store("7", PatientID="X1")
    hospital.follow()
    hospital.follow(QUIET)

    hospital.place(2, order={"changed_at": NOW + QUIET})

    assert hospital.follow(QUIET + timedelta(seconds=5)) == 0


def test_study_that_may_be_of_two_orders_is_proposed_for_both(hospital: Hospital) -> None:
    hospital.place(1, 2)
    uid = hospital.store("7")

    hospital.follow()

    shown = hospital.show(uid)
    assert shown.standing is Standing.PROPOSED
    assert {one.accession_number for one in shown.proposals} == {"A1", "A2"}
    assert {"rule": "patient_id", "points": 30} in shown.proposals[0].reasons


def test_study_of_another_person_is_a_conflict_and_moves_nothing(hospital: Hospital) -> None:
    hospital.place()
    hospital.store(PatientName="TRAN^THI BINH", PatientID="BN-2", PatientBirthDate="19710506")

    hospital.follow()
    hospital.follow(QUIET)

    shown = hospital.show()
    assert (shown.standing, shown.attachments) == (Standing.CONFLICT, ())
    assert shown.proposals[0].mismatches == ["name", "birth_date", "patient_id"]
    assert hospital.states() == ["SCHEDULED"]


@pytest.mark.parametrize(
    "name", ["NGUYỄN VĂN AN", "nguyen van an", "AN NGUYEN VAN", "NGUYỄN^AN^VĂN"]
)
def test_same_person_written_otherwise_is_no_mismatch(hospital: Hospital, name: str) -> None:
    hospital.place()
    hospital.store(PatientName=name)

    hospital.follow()

    assert hospital.attached() == ["A1"]


def test_year_of_birth_agrees_with_a_day_of_that_year(hospital: Hospital) -> None:
    with transaction(hospital.engine) as session:
        person(session, 1, patient_birth_date=None, patient_birth_date_sent="1960")
    hospital.place()
    hospital.store()

    hospital.follow()

    assert hospital.attached() == ["A1"]


def test_performed_step_for_two_orders_attaches_both(hospital: Hospital) -> None:
    hospital.place(1, 2)
    hospital.store()
    items = [{"StudyInstanceUID": STUDY, "AccessionNumber": f"A{number}"} for number in (1, 2)]
    begun = {
        "Modality": "CT",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "ScheduledStepAttributesSequence": items,
    }
    with transaction(hospital.engine) as session:
        performed.create(session, "2.25.9000", begun, "CT01", NOW)

    hospital.follow()

    assert hospital.attached() == ["A1", "A2"]


def test_second_order_joins_when_its_performed_step_is_told_later(hospital: Hospital) -> None:
    hospital.place(1, 2)
    hospital.store()
    hospital.follow()
    item = {"StudyInstanceUID": STUDY, "AccessionNumber": "A2", "ScheduledProcedureStepID": "S2"}
    begun = {
        "Modality": "CT",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "ScheduledStepAttributesSequence": [item],
    }

    with transaction(hospital.engine) as session:
        performed.create(session, "2.25.9000", begun, "CT01", NOW)
    hospital.follow()

    assert hospital.attached() == ["A1", "A2"]


def test_wrong_entry_leaves_the_study_for_a_person(hospital: Hospital) -> None:
    hospital.place()
    hospital.store()
    hospital.follow()

    hospital.perform(PerformedStatus.DISCONTINUED, reason="110514")
    hospital.follow()

    shown = hospital.show()
    assert shown.standing is Standing.CONFLICT
    assert {"rule": "wrong_entry", "points": -100} in shown.proposals[0].reasons
    assert hospital.attached() == ["A1"]
    assert hospital.steps() == ["SCHEDULED"]


def test_wrong_entry_before_the_images_is_a_conflict_too(hospital: Hospital) -> None:
    hospital.place()
    hospital.perform(PerformedStatus.DISCONTINUED, reason="110514")
    hospital.store()

    hospital.follow()

    assert hospital.show().standing is Standing.CONFLICT
    assert hospital.attached() == []


def rejected(hospital: Hospital, *numbers: str, title: Title = Title.WRONG_ENTRY) -> str:
    """Let a note come that rejects images of the study; return its UID."""
    images = [received(number, "1", "1", PatientID="BN-1") for number in numbers]
    facts = {"PatientName": "NGUYEN^VAN AN", "PatientID": "BN-1", "PatientBirthDate": "19600302"}
    note = received_note(f"{len(numbers)}{title}", title, *images)
    note = replace(note, attributes={**note.attributes, **facts}, received_at=NOW)
    with transaction(hospital.engine) as session:
        news.notice(session, {STUDY}, NOW)
        instances.record(session, [note])
    return note.attributes["SOPInstanceUID"]


def restored(hospital: Hospital, note: str) -> None:
    with transaction(hospital.engine) as session:
        rejection_notes.restore(session, note, by="hoa", address="")


def told_done(hospital: Hospital) -> None:
    """Place an order, let its study be made and come to rest."""
    hospital.place(1, 2)
    hospital.store(AccessionNumber="A1")
    hospital.follow()
    hospital.follow(QUIET)
    assert hospital.states()[0] == "COMPLETED"


def test_study_of_a_wrong_entry_is_taken_from_its_order_and_the_placer_is_told(
    hospital: Hospital,
) -> None:
    told_done(hospital)
    before = len(hospital.told())

    rejected(hospital, "1", "2")
    hospital.follow(QUIET)

    assert hospital.show().standing is Standing.REJECTED
    assert hospital.attached() == []
    assert (hospital.states()[0], hospital.made_up()) == ("SCHEDULED", 0)
    assert hospital.told()[before:] == [("A1", "SC")]
    hospital.follow(QUIET * 3)
    assert hospital.states()[0] == "SCHEDULED", "what is hidden completes nothing"


def test_right_study_completes_the_other_order(hospital: Hospital) -> None:
    told_done(hospital)
    rejected(hospital, "1", "2")
    before = len(hospital.told())

    hospital.store("2", AccessionNumber="A2")
    hospital.follow(QUIET)
    hospital.follow(QUIET * 2)

    assert hospital.attached("2.25.2") == ["A2"]
    assert hospital.states() == ["SCHEDULED", "COMPLETED"]
    assert {(number, status) for number, status in hospital.told()[before:]} >= {
        ("A1", "SC"),
        ("A2", "CM"),
    }


def test_restored_study_goes_back_to_its_order(hospital: Hospital) -> None:
    told_done(hospital)
    note = rejected(hospital, "1", "2")
    hospital.follow(QUIET)

    restored(hospital, note)
    hospital.follow(QUIET)
    again = hospital.attached()
    hospital.follow(LATER)

    assert again == ["A1"]
    assert hospital.states()[0] == "COMPLETED"


@pytest.mark.parametrize(
    ("numbers", "title"),
    [("1", Title.WRONG_ENTRY), ("12", Title.QUALITY), ("12", Title.SAFETY)],
    ids=["a part", "quality", "safety"],
)
def test_other_rejections_leave_the_study_with_its_order(
    hospital: Hospital, numbers: str, title: Title
) -> None:
    told_done(hospital)

    rejected(hospital, *numbers, title=title)
    hospital.follow(QUIET)

    assert hospital.attached() == ["A1"]
    assert hospital.states()[0] == "COMPLETED"


def test_study_that_a_person_set_aside_stays_so_when_it_is_rejected(hospital: Hospital) -> None:
    hospital.store()
    hospital.follow()
    hospital.do(Action.SET_ASIDE)

    rejected(hospital, "1", "2")
    hospital.follow(QUIET)

    assert hospital.show().standing is Standing.SET_ASIDE


def test_reported_order_keeps_its_rejected_study_for_a_person(hospital: Hospital) -> None:
    told_done(hospital)
    with transaction(hospital.engine) as session:
        first = session.scalars(select(OrderRow.id).order_by(OrderRow.id)).first()
        assert first is not None
        orders.mark_reported(session, first, NOW)

    rejected(hospital, "1", "2")
    hospital.follow(QUIET)

    assert hospital.show().standing is Standing.CONFLICT
    assert hospital.attached() == ["A1"]


def test_cancelled_order_with_images_is_a_conflict(hospital: Hospital) -> None:
    hospital.place(order={"state": "CANCELED", "control": "CA"}, step={"status": "CANCELED"})
    hospital.store()

    hospital.follow()
    hospital.follow(QUIET)

    assert hospital.show().standing is Standing.CONFLICT
    assert hospital.states() == ["CANCELED"]


def test_study_is_found_by_the_accession_number_of_its_order(hospital: Hospital) -> None:
    hospital.place()
    hospital.store(AccessionNumber="typed")
    hospital.follow()
    index = Index(hospital.engine)
    found = index.uids(Level.STUDY, AccessionNumber="A1")

    hospital.store(numbers="3", AccessionNumber="typed")
    hospital.follow(QUIET)
    kept = index.find(Level.STUDY)[0]["AccessionNumber"]
    hospital.do(Action.DETACH)

    assert (found, kept) == ([STUDY], "A1")
    assert index.uids(Level.STUDY, AccessionNumber="typed") == [STUDY]
    assert index.uids(Level.STUDY, AccessionNumber="A1") == []


# By persons


def test_person_attaches_what_the_rules_leave(hospital: Hospital) -> None:
    [placed] = hospital.place()
    uid = hospital.store("7", PatientID="", PatientName="", PatientBirthDate="")
    hospital.follow()
    hospital.follow(QUIET)

    entry = hospital.do(Action.ATTACH, placed.procedure, uid=uid, reason="by phone")

    assert hospital.attached(uid) == ["A1"]
    assert hospital.states() == ["SCHEDULED"]  # judged as of NOW, when it was not quiet
    hospital.follow(QUIET)
    assert hospital.states() == ["COMPLETED"]
    assert (entry.before["procedures"], entry.after["procedures"]) == ([], [placed.procedure])
    assert (entry.made_by, entry.reason) == ("hoa", "by phone")


def test_preview_shows_what_is_then_done_and_does_nothing(hospital: Hospital) -> None:
    first, second = hospital.place(1, 2)
    hospital.store()
    hospital.perform(PerformedStatus.COMPLETED, "2.25.1.1.1", "2.25.1.1.2")
    hospital.follow()
    before = hospital.show(), hospital.steps(), hospital.told()

    shown = hospital.preview(Action.MOVE, second.procedure)

    assert (hospital.show(), hospital.steps(), hospital.told()) == before
    assert {*shown.changes} == {
        Change("study of order", "A1", STUDY, ""),
        Change("study of order", "A2", "", STUDY),
        Change("order", "A1", "COMPLETED", "SCHEDULED"),
        Change("order", "A2", "SCHEDULED", "COMPLETED"),
        Change("step", "A1 S1", "COMPLETED", "SCHEDULED"),
        Change("step", "A2 S2", "SCHEDULED", "COMPLETED"),
    }
    hospital.do(Action.MOVE, second.procedure)
    assert hospital.steps() == ["SCHEDULED", "COMPLETED"]
    assert hospital.told()[len(before[2]) :] == [("A1", "SC"), ("A2", "CM")]
    assert first.procedure != second.procedure


def test_order_of_another_person_is_not_attached_unless_somebody_insists(
    hospital: Hospital,
) -> None:
    with transaction(hospital.engine) as session:
        other = person(
            session, 2, patient_name="TRẦN THỊ BÌNH", patient_birth_date=date(1971, 5, 6)
        )
    [placed] = hospital.place(2, patient=other)
    uid = hospital.store("7")
    hospital.follow()

    shown = hospital.preview(Action.ATTACH, placed.procedure, uid=uid)
    with pytest.raises(Conflict, match=r"different persons \(A2: name, birth_date, patient_id\)"):
        hospital.do(Action.ATTACH, placed.procedure, uid=uid)
    hospital.do(Action.ATTACH, placed.procedure, uid=uid, in_spite=True)

    assert shown.mismatches == {"A2": ("name", "birth_date", "patient_id")}
    assert hospital.attached(uid) == ["A2"]


def test_detached_study_is_not_attached_by_rules_again(hospital: Hospital) -> None:
    hospital.place()
    hospital.store(numbers="1")
    hospital.follow()

    hospital.do(Action.DETACH)
    hospital.store(numbers="2")
    hospital.follow(QUIET)

    shown = hospital.show()
    assert (shown.standing, shown.attachments) == (Standing.PROPOSED, ())
    assert hospital.states() == ["SCHEDULED"]


def test_made_up_step_goes_with_its_study(hospital: Hospital) -> None:
    hospital.place()
    hospital.store()
    hospital.follow()
    hospital.follow(QUIET)

    hospital.do(Action.DETACH)

    assert hospital.made_up() == 0
    assert hospital.states() == ["SCHEDULED"]
    assert hospital.told() == [("A1", "CM"), ("A1", "SC")]


def test_study_that_is_set_aside_waits_for_nothing(hospital: Hospital) -> None:
    uid = hospital.store("7", PatientID="X1")
    hospital.follow()

    hospital.do(Action.SET_ASIDE, uid=uid, reason="phantom")
    hospital.store("7", "3", PatientID="X1")
    hospital.follow(QUIET)

    assert hospital.show(uid).standing is Standing.SET_ASIDE
    with transaction(hospital.engine) as session:
        assert reconcile.list_open(session, 10) == []


@pytest.mark.parametrize("action", [Action.DETACH, Action.SET_ASIDE, Action.MOVE])
def test_undoing_brings_back_what_was(hospital: Hospital, action: Action) -> None:
    _, second = hospital.place(1, 2)
    hospital.store()
    hospital.perform(PerformedStatus.COMPLETED, "2.25.1.1.1", "2.25.1.1.2")
    hospital.follow()
    before = hospital.attached(), hospital.steps(), hospital.states(), hospital.show().standing
    procedures = [second.procedure] if action is Action.MOVE else []

    entry = hospital.do(action, *procedures)
    undone = hospital.undo(entry.id)

    now = hospital.attached(), hospital.steps(), hospital.states(), hospital.show().standing
    assert now == before
    assert undone.action is Action.UNDO
    with transaction(hospital.engine) as session:
        entries = reconcile.journal(session, STUDY)
    assert [one.action for one in entries] == [Action.ATTACH, action, Action.UNDO]
    assert (entries[1].undone_by, entries[2].made_by) == ("lan", "lan")


def test_only_what_was_done_last_is_undone_and_once(hospital: Hospital) -> None:
    _, second = hospital.place(1, 2)
    hospital.store()
    hospital.follow()
    moved = hospital.do(Action.MOVE, second.procedure)
    detached = hospital.do(Action.DETACH)

    with pytest.raises(Conflict, match=f"after entry {moved.id}"):
        hospital.undo(moved.id)
    hospital.undo(detached.id)
    with pytest.raises(Conflict, match="undone already"):
        hospital.undo(detached.id)
    hospital.undo(moved.id)

    assert hospital.attached() == ["A1"]
    with pytest.raises(NotFound):
        hospital.undo(10**9)


def test_order_with_a_signed_report_keeps_its_study(hospital: Hospital) -> None:
    hospital.place()
    hospital.store()
    hospital.follow()
    with transaction(hospital.engine) as session:
        session.execute(update(OrderRow).values(state="REPORTED", reported_at=NOW))

    with pytest.raises(Conflict, match="signed"):
        hospital.do(Action.DETACH)

    assert hospital.attached() == ["A1"]


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Action.ATTACH, "no order is named"),
        (Action.MOVE, "no order is named"),
        (Action.DETACH, "so already"),
    ],
)
def test_deed_that_changes_nothing_is_refused(
    hospital: Hospital, action: Action, error: str
) -> None:
    uid = hospital.store("7", PatientID="X1")

    with pytest.raises(Conflict, match=error):
        hospital.do(action, uid=uid)


def test_unknown_study_and_unknown_order_are_not_found(hospital: Hospital) -> None:
    uid = hospital.store("7", PatientID="X1")

    with pytest.raises(NotFound):
        hospital.show("2.25.404")
    with pytest.raises(NotFound):
        hospital.do(Action.ATTACH, 10**9, uid=uid)


def test_study_that_makes_trouble_keeps_nobody_waiting(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.store("7", PatientID="X1")
    hospital.store("8", PatientID="X2")
    sound = following.look

    def look(session: Any, uid: str, *more: Any) -> None:
        if uid == "2.25.7":
            raise ZeroDivisionError
        sound(session, uid, *more)

    monkeypatch.setattr(following, "look", look)
    hospital.follow()

    assert hospital.show("2.25.8").standing is Standing.PROVISIONAL
    assert hospital.show("2.25.7").standing is Standing.NEW
    assert hospital.follow() == 0  # it rests
