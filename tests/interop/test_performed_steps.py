"""pynetdicom, as a modality, takes a step from the worklist and tells what it does of it."""

from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from sqlalchemy import select

from pacs.scp import models
from ris import orders, outbox
from ris.tables import StepRow
from storage.db.engine import transaction
from tests.fixtures.orders import place
from tests.fixtures.server import AE_TITLE, DicomServer

pytestmark = pytest.mark.interop

UID = "1.2.826.0.1.3680043.9.79"
WRONG_ENTRY = "110514"


@pytest.fixture
def modality(dicom_server: DicomServer) -> Iterator[Association]:
    """An association for worklist and performed steps; two orders are placed."""
    with transaction(dicom_server.engine) as session:
        place(session, 1)
        place(session, 2)
    ae = AE("CT01")
    for uid in (models.MODALITY_WORKLIST, models.PERFORMED_STEP, models.PERFORMED_STEP_RETRIEVE):
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", dicom_server.port, ae_title=AE_TITLE)
    assert association.is_established
    yield association
    association.release()


def dataset(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def entries(modality: Association) -> list[Dataset]:
    step = dataset(Modality="CT", ScheduledProcedureStepID="", ScheduledStationAETitle="")
    query = dataset(
        PatientName="",
        PatientID="",
        AccessionNumber="",
        StudyInstanceUID="",
        RequestedProcedureID="",
        ScheduledProcedureStepSequence=[step],
    )
    answers = modality.send_c_find(query, models.MODALITY_WORKLIST)
    return [found for status, found in answers if status.Status == 0xFF00 and found is not None]


def scheduled(entry: Dataset) -> Dataset:
    """Return what a modality copies of an entry."""
    step = entry.ScheduledProcedureStepSequence[0]
    return dataset(
        StudyInstanceUID=entry.StudyInstanceUID,
        AccessionNumber=entry.AccessionNumber,
        RequestedProcedureID=entry.RequestedProcedureID,
        ScheduledProcedureStepID=step.ScheduledProcedureStepID,
    )


def begun(*some: Dataset) -> Dataset:
    return dataset(
        SpecificCharacterSet="ISO_IR 192",
        Modality="CT",
        PatientName=some[0].PatientName,
        PatientID=some[0].PatientID,
        PerformedStationAETitle="CT01",
        PerformedProcedureStepStartDate="20260105",
        PerformedProcedureStepStartTime="081700",
        PerformedProcedureStepStatus="IN PROGRESS",
        PerformedProcedureStepID="P1",
        ScheduledStepAttributesSequence=[scheduled(entry) for entry in some],
    )


def told(server: DicomServer) -> list[tuple[str, str]]:
    with transaction(server.engine) as session:
        return [
            (orders.get(session, event.order_id).accession_number, event.status)
            for event in outbox.untold(session, 100)
        ]


def statuses(server: DicomServer) -> list[str]:
    with transaction(server.engine) as session:
        return [*session.scalars(select(StepRow.status).order_by(StepRow.id))]


def test_step_from_the_worklist_is_performed_and_told(
    modality: Association, dicom_server: DicomServer
) -> None:
    first, second = entries(modality)

    created, _ = modality.send_n_create(begun(first), models.PERFORMED_STEP, UID)
    begun_ones = statuses(dicom_server)
    done = dataset(
        PerformedProcedureStepStatus="COMPLETED",
        PerformedProcedureStepEndDate="20260105",
        PerformedProcedureStepEndTime="082500",
    )
    ended, _ = modality.send_n_set(done, models.PERFORMED_STEP, UID)

    assert (created.Status, ended.Status) == (0, 0)
    assert begun_ones == ["STARTED", "SCHEDULED"]
    assert statuses(dicom_server) == ["COMPLETED", "SCHEDULED"]
    assert told(dicom_server) == [("A1", "IP"), ("A1", "CM")]
    assert [one.AccessionNumber for one in entries(modality)] == [second.AccessionNumber]


def test_step_that_was_begun_stays_on_the_worklist(modality: Association) -> None:
    first, _ = entries(modality)

    modality.send_n_create(begun(first), models.PERFORMED_STEP, UID)

    assert len(entries(modality)) == 2


def test_one_performed_step_may_complete_two_orders(
    modality: Association, dicom_server: DicomServer
) -> None:
    both = begun(*entries(modality))

    modality.send_n_create(both, models.PERFORMED_STEP, UID)
    modality.send_n_set(
        dataset(PerformedProcedureStepStatus="COMPLETED"), models.PERFORMED_STEP, UID
    )

    assert statuses(dicom_server) == ["COMPLETED", "COMPLETED"]
    assert entries(modality) == []


def test_wrong_entry_comes_back_to_the_worklist(
    modality: Association, dicom_server: DicomServer
) -> None:
    first, _ = entries(modality)
    modality.send_n_create(begun(first), models.PERFORMED_STEP, UID)
    reason = dataset(
        CodeValue=WRONG_ENTRY,
        CodingSchemeDesignator="DCM",
        CodeMeaning="Incorrect worklist entry selected",
    )

    answer, _ = modality.send_n_set(
        dataset(
            PerformedProcedureStepStatus="DISCONTINUED",
            PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason],
        ),
        models.PERFORMED_STEP,
        UID,
    )

    assert answer.Status == 0
    assert statuses(dicom_server) == ["SCHEDULED", "SCHEDULED"]
    assert told(dicom_server) == [("A1", "IP"), ("A1", "SC")]
    assert len(entries(modality)) == 2


def test_what_is_against_the_rules_is_refused(modality: Association) -> None:
    first, _ = entries(modality)
    done = dataset(PerformedProcedureStepStatus="COMPLETED")

    unknown, _ = modality.send_n_set(done, models.PERFORMED_STEP, UID)
    modality.send_n_create(begun(first), models.PERFORMED_STEP, UID)
    twice, _ = modality.send_n_create(begun(first), models.PERFORMED_STEP, UID)
    modality.send_n_set(done, models.PERFORMED_STEP, UID)
    again, _ = modality.send_n_set(done, models.PERFORMED_STEP, UID)

    assert unknown.Status == 0x0112
    assert twice.Status == 0x0111
    assert (again.Status, again.ErrorID) == (0x0110, 0xA710)


@pytest.mark.parametrize("empty", ["AccessionNumber", "ScheduledProcedureStepID", "both"])
def test_console_that_copies_little_is_understood(
    modality: Association, dicom_server: DicomServer, empty: str
) -> None:
    first, _ = entries(modality)
    step = begun(first)
    for keyword in ("AccessionNumber", "ScheduledProcedureStepID"):
        if empty in {keyword, "both"}:
            setattr(step.ScheduledStepAttributesSequence[0], keyword, "")

    modality.send_n_create(step, models.PERFORMED_STEP, UID)

    assert statuses(dicom_server) == ["STARTED", "SCHEDULED"]


def test_unscheduled_step_is_kept_and_read_again(
    modality: Association, dicom_server: DicomServer
) -> None:
    first, _ = entries(modality)
    step = begun(first)
    step.ScheduledStepAttributesSequence = [
        dataset(StudyInstanceUID="2.25.99", AccessionNumber="", ScheduledProcedureStepID="")
    ]

    created, _ = modality.send_n_create(step, models.PERFORMED_STEP, UID)
    _, held = modality.send_n_get([], models.PERFORMED_STEP_RETRIEVE, UID)

    assert created.Status == 0
    assert statuses(dicom_server) == ["SCHEDULED", "SCHEDULED"]
    assert held is not None
    assert held.PatientName == "NGUYỄN^VĂN AN"
    assert held.ScheduledStepAttributesSequence[0].StudyInstanceUID == "2.25.99"
