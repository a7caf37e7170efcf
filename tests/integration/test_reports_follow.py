"""Reports of studies that get their order, or another one, apart from their UID."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ris import news, orders, outbox, reconcile
from ris.following import Following
from ris.reconcile import Action as DeedKind
from ris.reconcile import Deed
from ris.releases import releasing
from ris.reports.faults import Refused
from ris.reports.states import Action, Status
from ris.study_tables import StudyRow
from ris.tables import OrderRow
from storage.access import stations
from storage.access.stations import Facility
from storage.db.engine import transaction
from tests.fixtures.reports import HEAD, STUDY, Desk

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NOW = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
GIVEN_OUT = "2.25.999"
"""The UID that an order has for a study that came under another one."""


@pytest.fixture
def desk(desk: Desk) -> Desk:
    with transaction(desk.engine) as session:
        news.arrived(session, {STUDY}, NOW)
    with transaction(desk.engine) as session:  # a day later nobody looks after it any more
        session.get_one(StudyRow, STUDY).watched = False
    return desk


def attach(desk: Desk, *order_ids: int, kind: DeedKind = DeedKind.ATTACH) -> None:
    """Let a person say which orders the study belongs to, and let everybody follow."""
    with transaction(desk.engine) as session:
        procedures = [one.id for order in order_ids for one in orders.procedures_of(session, order)]
        deed = Deed(
            action=kind,
            study_instance_uid=STUDY,
            procedure_ids=tuple(procedures),
            by="reception",
            reason="",
            in_spite=True,
        )
        reconcile.do(session, deed, NOW, ZONE)
    Following(desk.engine, ZONE).run_once()


def untold(desk: Desk) -> Sequence[tuple[str, int, bool]]:
    with transaction(desk.engine) as session:
        found = outbox.untold_reports(session, 100)
        return [(one.report_uid, one.revision, one.again) for one in found]


def tell(desk: Desk) -> None:
    """Note that everybody was told who was to be told."""
    with transaction(desk.engine) as session:
        outbox.mark_reports_told(session, [one.id for one in outbox.untold_reports(session, 100)])


def test_report_is_for_the_order_that_its_study_was_attached_to(desk: Desk) -> None:
    order = desk.order(desk.patient(), "A77", study=GIVEN_OUT)
    attach(desk, order)

    report = desk.open()

    assert (report.order_ids, report.accession_numbers) == ((order,), ("A77",))


def test_order_names_the_study_that_was_attached_to_it(desk: Desk) -> None:
    order = desk.order(desk.patient(), study=GIVEN_OUT)
    attach(desk, order)

    assert desk.open(study_instance_uids=(), order_ids=(order,)).study_instance_uids == (STUDY,)


def test_study_that_was_moved_is_not_read_for_the_order_whose_uid_it_has(desk: Desk) -> None:
    patient = desk.patient()
    wrong, right = desk.order(patient, study=STUDY), desk.order(patient, study=GIVEN_OUT)
    attach(desk, wrong)
    attach(desk, right, kind=DeedKind.MOVE)

    assert desk.open().order_ids == (right,)


def test_study_of_somebody_with_another_name_is_read_when_a_person_attached_it(desk: Desk) -> None:
    unknown = desk.study("1", PatientID="TN-1", PatientName="VÔ^DANH")
    order = desk.order(desk.patient("BN8", "PHẠM^THỊ THẬT"), study=GIVEN_OUT)
    attach(desk, order)

    report = desk.open(study_instance_uids=(unknown,))

    assert (report.order_ids, report.latest.subject.patient_name) == ((order,), "PHẠM^THỊ THẬT")


def test_second_report_of_a_study_is_written_only_by_who_says_so(desk: Desk) -> None:
    order = desk.order(desk.patient(), study=STUDY)
    desk.open()

    with pytest.raises(Refused, match=f"order {order} has a report already"):
        desk.open(HEAD)
    assert desk.open(HEAD, order_ids=()).order_ids == ()


def test_second_report_of_a_study_without_an_order_is_written_only_by_who_says_so(
    desk: Desk,
) -> None:
    first = desk.open()

    with pytest.raises(Refused, match="the study has a report already"):
        desk.open(HEAD)
    desk.act(Action.CANCEL, desk.release(first), reason="Nhầm ca")
    assert desk.open(HEAD).order_ids == ()


def test_order_that_comes_later_is_told_of_the_report_that_was_signed_before(desk: Desk) -> None:
    report = desk.signed()
    tell(desk)
    with transaction(desk.engine) as session:
        station = stations.add(session, Facility(code="68001", name="Trạm y tế Hải Lý"))
    order = desk.order(desk.patient(), "A77", study=GIVEN_OUT)
    with transaction(desk.engine) as session:
        session.get_one(OrderRow, order).institution = "68001"

    attach(desk, order)

    now = desk.get(report)
    assert (now.order_ids, now.accession_numbers) == ((order,), ("A77",))
    assert untold(desk) == [(report.uid, report.revision, False)]
    with transaction(desk.engine) as session:
        assert orders.get(session, order).state == "REPORTED"
        [released] = releasing.page(session, station.id, 0, 10)
    assert (released.report_uid, released.version) == (report.uid, 1)


def test_nobody_is_told_twice(desk: Desk) -> None:
    desk.signed()
    order = desk.order(desk.patient(), study=GIVEN_OUT)
    attach(desk, order)
    tell(desk)

    with transaction(desk.engine) as session:
        news.arrived(session, {STUDY}, NOW)
    Following(desk.engine, ZONE).run_once()

    assert untold(desk) == []


def test_draft_follows_its_study_to_another_order(desk: Desk) -> None:
    patient = desk.patient()
    wrong, right = desk.order(patient, "A1", study=STUDY), desk.order(patient, "A2")
    attach(desk, wrong)
    report = desk.open()

    attach(desk, right, kind=DeedKind.MOVE)

    now = desk.get(report)
    assert (now.order_ids, now.accession_numbers) == ((right,), ("A2",))
    assert desk.open(study_instance_uids=(), order_ids=(wrong,)).order_ids == (wrong,)


def test_study_that_was_taken_from_its_order_is_not_signed_for_it(desk: Desk) -> None:
    order = desk.order(desk.patient(), study=STUDY)
    attach(desk, order)
    report = desk.release(desk.open())
    attach(desk, kind=DeedKind.DETACH)

    with pytest.raises(Refused, match="was taken from the order"):
        desk.act(Action.APPROVE, report)
    attach(desk, order)
    assert desk.act(Action.APPROVE, report).status is Status.FINAL


def test_order_that_has_a_report_keeps_it(desk: Desk) -> None:
    order = desk.order(desk.patient(), study=GIVEN_OUT)
    theirs = desk.open(study_instance_uids=(), order_ids=(order,))
    ours = desk.signed(order_ids=())

    attach(desk, order)

    assert (desk.get(theirs).order_ids, desk.get(ours).order_ids) == ((order,), ())
