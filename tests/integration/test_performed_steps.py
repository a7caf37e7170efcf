"""Performed steps on the real tables: what they are linked to, and what they make of orders."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from ris import orders, outbox, performed
from ris.keys import Attributes
from ris.model import OrderState
from ris.study_tables import StudyRow
from ris.tables import OrderRow, ProcedureRow, StepRow
from ris.verdict import PerformedStatus
from storage.base.errors import Conflict, ImagingError, NotFound
from storage.db.engine import Engine, transaction
from tests.fixtures.orders import Placed, add_step, place

NOW = datetime(2026, 1, 5, 1, 20, tzinfo=UTC)
IN_PROGRESS, COMPLETED, DISCONTINUED = PerformedStatus
WRONG_ENTRY, FAILURE = "110514", "110501"
UID = "2.25.9000"


def item(number: int = 1, **changes: str) -> Attributes:
    """Return what a console copies of order A<number>; '' leaves a value out."""
    return {
        "StudyInstanceUID": f"2.25.{number}",
        "AccessionNumber": f"A{number}",
        "RequestedProcedureID": f"R{number}",
        "ScheduledProcedureStepID": f"S{number}",
    } | changes


BARE = {"AccessionNumber": "", "RequestedProcedureID": "", "ScheduledProcedureStepID": ""}


def begun(*items: Attributes, **changes: Any) -> dict[str, Any]:
    return {
        "Modality": "CT",
        "PatientID": "BN-1",
        "PatientName": "NGUYỄN^VĂN AN",
        "PerformedStationAETitle": "CT01",
        "PerformedProcedureStepStartDate": "20260105",
        "PerformedProcedureStepStartTime": "081500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "P1",
        "ScheduledStepAttributesSequence": list(items or [item()]),
    } | changes


def ended(status: PerformedStatus = COMPLETED, reason: str = "", *uids: str) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "PerformedProcedureStepStatus": status.value,
        "PerformedProcedureStepEndDate": "20260105",
        "PerformedProcedureStepEndTime": "082000",
        "PerformedSeriesSequence": [
            {
                "SeriesInstanceUID": "2.25.7",
                "ReferencedImageSequence": [{"ReferencedSOPInstanceUID": uid} for uid in uids],
            }
        ],
    }
    if reason:
        sequence = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
        changes[sequence] = [{"CodeValue": reason, "CodingSchemeDesignator": "DCM"}]
    return changes


class Ris:
    """The performed steps of one database, each call a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def place(self, *numbers: int, **values: Any) -> list[Placed]:
        with transaction(self.engine) as session:
            return [place(session, number, **values) for number in numbers or (1,)]

    def begin(self, *items: Attributes, uid: str = UID, **changes: Any) -> None:
        with transaction(self.engine) as session:
            performed.create(session, uid, begun(*items, **changes), "CT01", NOW)

    def end(
        self, status: PerformedStatus = COMPLETED, reason: str = "", *uids: str, uid: str = UID
    ) -> None:
        with transaction(self.engine) as session:
            performed.update(session, uid, ended(status, reason, *uids), NOW)

    def steps(self) -> dict[str, str]:
        """Return the status of every scheduled step by its id."""
        with transaction(self.engine) as session:
            rows = session.scalars(select(StepRow).order_by(StepRow.id))
            return {row.scheduled_procedure_step_id: row.status for row in rows}

    def states(self) -> list[str]:
        """Return the state of every order."""
        with transaction(self.engine) as session:
            return [*session.scalars(select(OrderRow.state).order_by(OrderRow.id))]

    def told(self) -> list[tuple[str, str]]:
        """Return what the HIS is told: accession number and ORC-5."""
        with transaction(self.engine) as session:
            return [
                (orders.get(session, event.order_id).accession_number, event.status)
                for event in outbox.untold(session, 100)
            ]

    def show(self, uid: str = UID) -> performed.PerformedStep:
        with transaction(self.engine) as session:
            return performed.show(session, uid)

    def links(self, uid: str = UID) -> list[tuple[str, int | None, str]]:
        """Return study, scheduled step and how it was found of each item."""
        items = self.show(uid).items
        return [(one.study_instance_uid, one.step_id, one.linked_by) for one in items]


@pytest.fixture
def ris(engine: Engine) -> Ris:
    return Ris(engine)


def test_performed_step_starts_and_completes_what_was_scheduled(ris: Ris) -> None:
    ris.place()

    ris.begin()
    started = ris.steps(), ris.states()
    ris.end(COMPLETED, "", "2.25.7.1", "2.25.7.2")

    assert started == ({"S1": "STARTED"}, ["IN_PROGRESS"])
    assert (ris.steps(), ris.states()) == ({"S1": "COMPLETED"}, ["COMPLETED"])
    assert ris.told() == [("A1", "IP"), ("A1", "CM")]
    shown = ris.show()
    assert (shown.status, shown.objects) == (COMPLETED, 2)
    assert shown.started == datetime(2026, 1, 5, 8, 15)
    assert shown.ended == datetime(2026, 1, 5, 8, 20)
    assert shown.study_instance_uids == ("2.25.1",)


@pytest.mark.parametrize(
    ("sent", "how"),
    [
        (item(), "step"),
        (item(AccessionNumber=""), "step"),
        (item(ScheduledProcedureStepID=""), "study"),
        (item(**BARE), "study"),
        (item(ScheduledProcedureStepID="other"), "study"),
        (item(StudyInstanceUID="2.25.77"), "step"),
        (item(StudyInstanceUID="2.25.77", ScheduledProcedureStepID=""), "accession"),
        (item(StudyInstanceUID="2.25.77", AccessionNumber=""), "step"),
    ],
    ids=[
        "all",
        "no accession number",
        "no step id",
        "study uid alone",
        "unknown step id",
        "another study uid",
        "accession number alone",
        "step id of the patient",
    ],
)
def test_scheduled_step_is_found_by_what_is_sent(ris: Ris, sent: Attributes, how: str) -> None:
    [placed] = ris.place()

    ris.begin(sent)

    assert ris.links() == [(sent["StudyInstanceUID"], placed.step, how)]
    assert ris.steps() == {"S1": "STARTED"}


@pytest.mark.parametrize(
    "sent",
    [
        item(9),
        item(9, **BARE),
        item(StudyInstanceUID="2.25.77", AccessionNumber="", PatientID="x"),
        item(9, ScheduledProcedureStepID="S1"),
    ],
    ids=["unknown order", "unknown study", "step id of another patient", "another accession"],
)
def test_unscheduled_step_is_kept_and_links_nothing(ris: Ris, sent: Attributes) -> None:
    ris.place()

    ris.begin(sent, PatientID="BN-2")
    ris.end()

    assert ris.links() == [(sent["StudyInstanceUID"], None, "")]
    assert ris.steps() == {"S1": "SCHEDULED"}
    assert ris.told() == []
    assert ris.show().status is COMPLETED


def test_one_performed_step_may_be_for_several_orders(ris: Ris) -> None:
    first, second, _ = ris.place(1, 2, 3)
    together = "2.25.50"

    ris.begin(item(1, StudyInstanceUID=together), item(2, StudyInstanceUID=together))
    ris.end()

    assert ris.links() == [(together, first.step, "step"), (together, second.step, "step")]
    assert ris.steps() == {"S1": "COMPLETED", "S2": "COMPLETED", "S3": "SCHEDULED"}
    assert ris.told() == [("A1", "IP"), ("A2", "IP"), ("A1", "CM"), ("A2", "CM")]


def test_same_item_twice_counts_once(ris: Ris) -> None:
    ris.place()

    ris.begin(item(), item())

    assert len(ris.links()) == 1


def test_step_of_another_modality_in_the_same_study_is_not_performed(ris: Ris) -> None:
    [placed] = ris.place()
    with transaction(ris.engine) as session:
        procedure = session.get_one(ProcedureRow, placed.procedure)
        add_step(session, procedure, 2, modality="US")

    ris.begin(item(**BARE))
    ris.end()

    assert ris.steps() == {"S1": "COMPLETED", "S2": "SCHEDULED"}
    assert ris.states() == ["IN_PROGRESS"]
    assert ris.told() == [("A1", "IP")]


def test_order_is_complete_when_all_its_steps_are(ris: Ris) -> None:
    [placed] = ris.place()
    with transaction(ris.engine) as session:
        add_step(session, session.get_one(ProcedureRow, placed.procedure), 2)

    ris.begin(item())
    ris.end()
    halfway = ris.states()
    ris.begin(item(ScheduledProcedureStepID="S2"), uid="2.25.9001")
    ris.end(uid="2.25.9001")

    assert (halfway, ris.states()) == (["IN_PROGRESS"], ["COMPLETED"])
    assert ris.told() == [("A1", "IP"), ("A1", "CM")]


@pytest.mark.parametrize("reason", ["", FAILURE])
def test_discontinued_step_discontinues_its_order(ris: Ris, reason: str) -> None:
    ris.place()

    ris.begin()
    ris.end(DISCONTINUED, reason)

    assert (ris.steps(), ris.states()) == ({"S1": "DISCONTINUED"}, ["DISCONTINUED"])
    assert ris.told() == [("A1", "IP"), ("A1", "DC")]


def test_step_begun_from_the_wrong_entry_is_to_be_done_again(ris: Ris) -> None:
    ris.place()

    ris.begin()
    ris.end(DISCONTINUED, WRONG_ENTRY)

    assert (ris.steps(), ris.states()) == ({"S1": "SCHEDULED"}, ["SCHEDULED"])
    assert ris.told() == [("A1", "IP"), ("A1", "SC")]
    assert ris.show().reason == WRONG_ENTRY


def test_device_that_gave_up_may_try_again(ris: Ris) -> None:
    ris.place()
    ris.begin()
    ris.end(DISCONTINUED, FAILURE)

    ris.begin(uid="2.25.9001")
    ris.end(uid="2.25.9001")

    assert (ris.steps(), ris.states()) == ({"S1": "COMPLETED"}, ["COMPLETED"])
    assert [status for _, status in ris.told()] == ["IP", "DC", "IP", "CM"]


def test_append_after_the_end_takes_nothing_back(ris: Ris) -> None:
    ris.place()
    ris.begin()
    ris.end()

    ris.begin(uid="2.25.9001")

    assert (ris.steps(), ris.states()) == ({"S1": "COMPLETED"}, ["COMPLETED"])


@pytest.mark.parametrize("state", [OrderState.CANCELED, OrderState.DISCONTINUED])
def test_order_that_was_taken_back_stays_so_though_it_is_performed(
    ris: Ris, state: OrderState
) -> None:
    ris.place(order={"state": state, "control": "DC"}, step={"status": "CANCELED"})

    ris.begin()
    ris.end()

    assert ris.states() == [state]
    assert ris.steps() == {"S1": "COMPLETED"}
    assert ris.told() == []


def test_held_order_that_is_performed_is_done(ris: Ris) -> None:
    ris.place(order={"state": "HELD"}, step={"status": "HELD"})

    ris.begin()
    ris.end()

    assert ris.states() == ["COMPLETED"]


def test_second_step_of_a_uid_is_a_conflict(ris: Ris) -> None:
    ris.begin()

    with pytest.raises(Conflict):
        ris.begin(item(2))

    assert ris.links() == [("2.25.1", None, "")]


@pytest.mark.parametrize("end", [COMPLETED, DISCONTINUED])
@pytest.mark.parametrize("again", PerformedStatus)
def test_step_at_its_end_is_not_changed(
    ris: Ris, end: PerformedStatus, again: PerformedStatus
) -> None:
    ris.place()
    ris.begin()
    ris.end(end)

    with pytest.raises(Conflict, match="may no longer be updated"):
        ris.end(again)

    assert ris.show().status is end
    assert len(ris.told()) == 2


def test_unknown_step_is_not_found(ris: Ris) -> None:
    with pytest.raises(NotFound):
        ris.end()
    with transaction(ris.engine) as session, pytest.raises(NotFound):
        performed.get(session, UID)


def test_change_in_progress_keeps_what_is_not_sent(ris: Ris) -> None:
    ris.begin()

    with transaction(ris.engine) as session:
        performed.update(session, UID, {"StudyID": "7", "PatientSex": ""}, NOW)
        held = performed.get(session, UID)

    assert held == {**begun(), "StudyID": "7", "PatientSex": ""}


def test_values_that_a_database_cannot_hold_harm_nothing(ris: Ris) -> None:
    ris.begin(item(AccessionNumber="A\0"), PatientComments="a\0b", PatientName="N\0")

    with transaction(ris.engine) as session:
        assert performed.get(session, UID)["PatientComments"] == "ab"


@pytest.mark.parametrize(
    "changes",
    [
        {"PerformedProcedureStepStartDate": "yesterday"},
        {"PerformedProcedureStepStartDate": "", "PerformedProcedureStepStartTime": "08"},
        {"PerformedProcedureStepStartTime": "25"},
        {"PatientID": "", "Modality": "", "PerformedProcedureStepID": ""},
        {"PerformedSeriesSequence": ""},
        {"PerformedSeriesSequence": [{}]},
    ],
    ids=str,
)
def test_odd_and_empty_values_harm_nothing(ris: Ris, changes: Mapping[str, Any]) -> None:
    ris.place()

    ris.begin(**changes)
    ris.end()

    assert ris.steps() == {"S1": "COMPLETED"}


def test_there_is_news_of_each_study(ris: Ris) -> None:
    ris.begin(item(1), item(2))

    with transaction(ris.engine) as session:
        rows = session.scalars(select(StudyRow).order_by(StudyRow.study_instance_uid)).all()
    assert [(row.study_instance_uid, row.watched) for row in rows] == [
        ("2.25.1", True),
        ("2.25.2", True),
    ]


# Nobody ended it


def test_step_that_was_taken_for_ended_may_still_be_ended(ris: Ris) -> None:
    ris.place()
    ris.begin()
    with transaction(ris.engine) as session:
        performed.close(session, UID)
    closed = ris.show(), ris.steps()

    ris.end(DISCONTINUED, FAILURE)

    assert (closed[0].status, closed[0].assumed) == (COMPLETED, True)
    assert closed[1] == {"S1": "COMPLETED"}
    assert (ris.show().status, ris.show().assumed) == (DISCONTINUED, False)
    with pytest.raises(Conflict):
        ris.end()


# Orders that come later, and go


def test_order_that_comes_after_its_study_is_performed(ris: Ris) -> None:
    ris.begin(item(7, **BARE))
    ris.end()
    [placed] = ris.place(1)

    with transaction(ris.engine) as session:
        performed.attach(session, "2.25.7", [placed.procedure])

    assert ris.links() == [("2.25.7", placed.step, "attached")]
    assert (ris.steps(), ris.states()) == ({"S1": "COMPLETED"}, ["COMPLETED"])
    assert ris.told() == [("A1", "CM")]


def test_study_that_is_detached_leaves_its_order_to_be_done(ris: Ris) -> None:
    [placed] = ris.place()
    ris.begin()
    ris.end()

    with transaction(ris.engine) as session:
        performed.detach(session, "2.25.1", [placed.procedure])

    assert ris.links() == [("2.25.1", None, "")]
    assert (ris.steps(), ris.states()) == ({"S1": "SCHEDULED"}, ["SCHEDULED"])
    assert [status for _, status in ris.told()] == ["IP", "CM", "SC"]


def test_attaching_and_detaching_leave_what_was_there(ris: Ris) -> None:
    first, second = ris.place(1, 2)
    ris.begin(item(1))
    ris.end()
    before = ris.links(), ris.steps()

    with transaction(ris.engine) as session:
        performed.attach(session, "2.25.1", [first.procedure, second.procedure])
    between = ris.steps()
    with transaction(ris.engine) as session:
        performed.detach(session, "2.25.1", [second.procedure])

    assert between == {"S1": "COMPLETED", "S2": "COMPLETED"}
    assert (ris.links(), ris.steps()) == before


def test_step_that_no_device_told_is_made_up_and_goes_with_its_order(ris: Ris) -> None:
    [placed] = ris.place()
    made = performed.Made(
        study_instance_uid="2.25.60",
        patient_id="BN-1",
        modality="CT",
        station_ae_title="CT01",
        started=datetime(2026, 1, 5, 8, 15),
        ended=None,
        series_instance_uids=["2.25.61"],
    )

    with transaction(ris.engine) as session:
        uid = performed.synthesise(session, made, [placed.step], NOW)
    shown, done = ris.show(uid), ris.steps()
    with transaction(ris.engine) as session:
        performed.detach(session, "2.25.60", [placed.procedure])

    assert (shown.status, shown.synthesised, shown.assumed) == (COMPLETED, True, True)
    assert done == {"S1": "COMPLETED"}
    assert ris.steps() == {"S1": "SCHEDULED"}
    assert [status for _, status in ris.told()] == ["CM", "SC"]
    with pytest.raises(NotFound):
        ris.show(uid)


def test_newest_steps_are_listed_page_by_page(ris: Ris) -> None:
    for number in range(4):
        ris.begin(item(number), uid=f"2.25.90{number}")
    ris.end(uid="2.25.901")

    with transaction(ris.engine) as session:
        first = performed.newest(session, 2)
        second = performed.newest(session, 2, first[-1].sop_instance_uid)
        open_ones = performed.newest(session, 10, status=IN_PROGRESS)

    assert [one.sop_instance_uid[-1] for one in (*first, *second)] == ["3", "2", "1", "0"]
    assert [one.sop_instance_uid[-1] for one in open_ones] == ["3", "2", "0"]


# Two at once


def together(*work: Callable[[], object]) -> list[ImagingError]:
    """Do everything at once and return what failed."""
    failed: list[ImagingError] = []
    barrier = threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> None:
        barrier.wait(10)
        try:
            one()
        except ImagingError as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return failed


def test_two_creations_of_one_uid_make_one_step(ris: Ris) -> None:
    ris.place()

    failed = together(*[ris.begin] * 4)

    assert [type(error) for error in failed] == [Conflict] * 3
    assert len(ris.links()) == 1
    assert ris.told() == [("A1", "IP")]


def test_two_ends_at_once_end_it_once(ris: Ris) -> None:
    ris.place()
    ris.begin()

    failed = together(*[ris.end] * 4)

    assert [type(error) for error in failed] == [Conflict] * 3
    assert ris.told() == [("A1", "IP"), ("A1", "CM")]


def test_steps_of_one_order_that_end_at_once_complete_it_once(ris: Ris) -> None:
    [placed] = ris.place()
    uids = [f"2.25.91{number}" for number in range(4)]
    with transaction(ris.engine) as session:
        procedure = session.get_one(ProcedureRow, placed.procedure)
        for number in range(2, 5):
            add_step(session, procedure, number)
    for number, uid in enumerate(uids, 1):
        ris.begin(item(ScheduledProcedureStepID=f"S{number}"), uid=uid)

    failed = together(*[lambda uid=uid: ris.end(uid=uid) for uid in uids])  # type: ignore[misc]

    assert failed == []
    assert {*ris.steps().values()} == {"COMPLETED"}
    assert ris.told() == [("A1", "IP"), ("A1", "CM")]


def test_group_steps_that_name_orders_in_other_orders_do_not_wait_in_a_circle(ris: Ris) -> None:
    ris.place(1, 2)

    for round_ in range(5):
        failed = together(
            lambda: ris.begin(item(1), item(2), uid=f"2.25.92{round_}1"),  # noqa: B023
            lambda: ris.begin(item(2), item(1), uid=f"2.25.92{round_}2"),  # noqa: B023
        )
        assert failed == []
