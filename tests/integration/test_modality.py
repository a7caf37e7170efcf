"""A modality's day over our acceptor, over steps that are kept in a dictionary (DIMSE-N)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from pacs.scp import models, performed
from pacs.scp.acceptor import Acceptance
from pacs.scp.datasets import Attributes
from pacs.scp.limits import Limits
from pacs.scp.listener import Listener
from pacs.scp.metrics import Metrics
from pacs.upper_layer import dimse
from storage.base.errors import Conflict, NotFound

UID = "1.2.826.0.1.3680043.9.78"


@dataclass
class Steps:
    """Steps as the RIS keeps them."""

    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def create(self, uid: str, attributes: Attributes, _ae_title: str) -> None:
        if uid in self.kept:
            raise Conflict("there is a step of that UID")
        self.kept[uid] = dict(attributes)

    def update(self, uid: str, attributes: Attributes) -> None:
        if self.get(uid)["PerformedProcedureStepStatus"] != "IN PROGRESS":
            raise Conflict("it is at its end")
        self.kept[uid] |= attributes

    def get(self, uid: str) -> Attributes:
        if uid not in self.kept:
            raise NotFound("no such step")
        return self.kept[uid]


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def modality(steps: Steps) -> Iterator[Association]:
    """An association of pynetdicom with a listener for performed steps."""
    offers = {
        models.PERFORMED_STEP: {
            dimse.N_CREATE_RQ: partial(performed.create, create_step=steps.create),
            dimse.N_SET_RQ: partial(performed.update, update_step=steps.update, get_step=steps.get),
        },
        models.PERFORMED_STEP_RETRIEVE: {
            dimse.N_GET_RQ: partial(performed.get, get_step=steps.get)
        },
    }
    acceptance = Acceptance("ARCHIVE", lambda _title, _address: True, offers)
    metrics = Metrics(CollectorRegistry())
    listener = Listener(("127.0.0.1", 0), acceptance, Limits(), metrics)
    listener.start()
    ae = AE("CT01")
    ae.add_requested_context(models.PERFORMED_STEP)
    ae.add_requested_context(models.PERFORMED_STEP_RETRIEVE)
    association = ae.associate("127.0.0.1", listener.port, ae_title="ARCHIVE")
    assert association.is_established
    yield association
    association.release()
    listener.stop(grace_s=0)


def begun(**changes: Any) -> Dataset:
    scheduled = Dataset()
    scheduled.StudyInstanceUID, scheduled.ScheduledProcedureStepID = "2.25.7", "S1"
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.ScheduledStepAttributesSequence = [scheduled]
    values = {
        "Modality": "CT",
        "PatientName": "NGUYỄN VĂN AN",
        "PerformedStationAETitle": "CT01",
        "PerformedProcedureStepStartDate": "20260105",
        "PerformedProcedureStepStartTime": "081500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "P1",
    } | changes
    for keyword, value in values.items():
        setattr(step, keyword, value)
    return step


def change(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_step_goes_from_its_beginning_to_its_end(modality: Association, steps: Steps) -> None:
    created, _ = modality.send_n_create(begun(), models.PERFORMED_STEP, UID)
    ended, _ = modality.send_n_set(
        change(PerformedProcedureStepStatus="COMPLETED", PerformedProcedureStepEndTime="082000"),
        models.PERFORMED_STEP,
        UID,
    )

    assert (created.Status, ended.Status) == (0, 0)
    assert steps.kept[UID]["PatientName"] == "NGUYỄN VĂN AN"
    assert steps.kept[UID]["PerformedProcedureStepEndTime"] == "082000"


def test_second_creation_is_a_duplicate(modality: Association) -> None:
    modality.send_n_create(begun(), models.PERFORMED_STEP, UID)

    again, _ = modality.send_n_create(begun(), models.PERFORMED_STEP, UID)

    assert again.Status == 0x0111


def test_creation_without_status_names_what_is_missing(modality: Association) -> None:
    step = begun()
    del step.PerformedProcedureStepStatus

    answer, _ = modality.send_n_create(step, models.PERFORMED_STEP, UID)

    assert answer.Status == 0x0120
    assert "PerformedProcedureStepStatus" in answer.ErrorComment


def test_change_after_the_end_is_refused_with_its_error_id(modality: Association) -> None:
    modality.send_n_create(begun(), models.PERFORMED_STEP, UID)
    done = change(PerformedProcedureStepStatus="COMPLETED")
    modality.send_n_set(done, models.PERFORMED_STEP, UID)

    answer, _ = modality.send_n_set(done, models.PERFORMED_STEP, UID)

    assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)


def test_unknown_step_is_no_such_instance(modality: Association) -> None:
    changed, _ = modality.send_n_set(change(StudyID="1"), models.PERFORMED_STEP, "1.2.3")
    read, _ = modality.send_n_get([], models.PERFORMED_STEP_RETRIEVE, "1.2.3")

    assert (changed.Status, read.Status) == (0x0112, 0x0112)


def test_step_is_read_again(modality: Association) -> None:
    modality.send_n_create(begun(), models.PERFORMED_STEP, UID)

    answer, found = modality.send_n_get(
        [(0x0010, 0x0010), (0x0040, 0x0270)], models.PERFORMED_STEP_RETRIEVE, UID
    )

    assert answer.Status == 0
    assert found is not None
    assert found.PatientName == "NGUYỄN VĂN AN"
    assert found.ScheduledStepAttributesSequence[0].ScheduledProcedureStepID == "S1"


def test_refusal_harms_only_its_request(modality: Association) -> None:
    refused, _ = modality.send_n_create(change(StudyID="1"), models.PERFORMED_STEP, UID)
    created, _ = modality.send_n_create(begun(), models.PERFORMED_STEP, UID)

    assert (refused.Status, created.Status) == (0x0120, 0)


def test_request_of_another_service_is_unrecognized(modality: Association) -> None:
    answer, _ = modality.send_n_action(None, 1, models.PERFORMED_STEP, UID)

    assert answer.Status == 0x0211
