"""The services of performed procedure steps, over steps that are kept in a dictionary."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from pacs.scp import datasets, models, performed, status
from pacs.scp.datasets import Attributes
from pacs.scp.exchange import Response
from pacs.upper_layer import dimse
from storage.base.errors import Conflict, NotFound
from tests.fixtures.requests import FakeExchange, request

UID = "1.2.826.0.1.3680043.9.77"


class Steps:
    """Steps as the RIS keeps them."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.callers: list[str] = []

    def create(self, uid: str, attributes: Attributes, ae_title: str) -> None:
        if uid in self.kept:
            raise Conflict("there is a step of that UID")
        self.kept[uid] = dict(attributes)
        self.callers.append(ae_title)

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


def item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def begun(**changes: Any) -> Dataset:
    """Return what a console sends at the start, `changes` applied; None leaves one out."""
    values: Mapping[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "Modality": "CT",
        "PatientName": "NGUYỄN VĂN AN",
        "PatientID": "BN-7",
        "PerformedStationAETitle": "CT01",
        "PerformedProcedureStepStartDate": "20260105",
        "PerformedProcedureStepStartTime": "081500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepID": "P1",
        "ScheduledStepAttributesSequence": [
            item(StudyInstanceUID="2.25.7", ScheduledProcedureStepID="S1")
        ],
    } | changes
    return item(**{name: value for name, value in values.items() if value is not None})


def create(steps: Steps, dataset: Dataset, uid: str | None = UID) -> Response:
    found = request(dimse.N_CREATE_RQ, models.PERFORMED_STEP, dataset, instance_uid=uid)
    [answer] = performed.create(found, FakeExchange(), create_step=steps.create)
    return answer


def update(steps: Steps, **values: Any) -> Response:
    found = request(dimse.N_SET_RQ, models.PERFORMED_STEP, item(**values), instance_uid=UID)
    [answer] = performed.update(found, FakeExchange(), update_step=steps.update, get_step=steps.get)
    return answer


def test_begun_step_is_kept_with_its_caller(steps: Steps) -> None:
    answer = create(steps, begun())

    assert (answer.status, answer.sop_instance_uid) == (status.SUCCESS, UID)
    assert steps.callers == ["CT01"]
    assert steps.kept[UID]["PatientName"] == "NGUYỄN VĂN AN"
    assert steps.kept[UID]["ScheduledStepAttributesSequence"] == [
        {"StudyInstanceUID": "2.25.7", "ScheduledProcedureStepID": "S1"}
    ]


def test_step_without_a_uid_gets_one(steps: Steps) -> None:
    answer = create(steps, begun(), uid=None)

    assert [answer.sop_instance_uid] == list(steps.kept)
    assert answer.sop_instance_uid.startswith("2.25.")


def test_second_step_of_a_uid_is_a_conflict(steps: Steps) -> None:
    create(steps, begun())

    with pytest.raises(Conflict) as raised:
        create(steps, begun())

    assert status.status_of(raised.value, status.N_CREATE) == 0x0111


@pytest.mark.parametrize("keyword", performed.REQUIRED)
def test_step_without_a_required_attribute_is_refused(steps: Steps, keyword: str) -> None:
    answer = create(steps, begun(**{keyword: None}))

    assert (answer.status, answer.attributes) == (0x0120, datasets.tags([keyword]))
    assert not steps.kept


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"PerformedProcedureStepStatus": ""}, 0x0121),
        ({"ScheduledStepAttributesSequence": []}, 0x0121),
        ({"ScheduledStepAttributesSequence": [item(StudyInstanceUID="")]}, 0x0121),
        ({"ScheduledStepAttributesSequence": [item(AccessionNumber="A1")]}, 0x0121),
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106),
        ({"PerformedProcedureStepStatus": "STARTED"}, 0x0106),
    ],
    ids=str,
)
def test_step_without_status_or_study_is_refused(
    steps: Steps, change: dict[str, Any], code: int
) -> None:
    answer = create(steps, begun(**change))

    assert (answer.status, answer.attributes) == (code, datasets.tags(change))
    assert not steps.kept


def test_other_attributes_may_be_empty(steps: Steps) -> None:
    empty = {
        name: ""
        for name in performed.REQUIRED
        if name not in {"PerformedProcedureStepStatus", "ScheduledStepAttributesSequence"}
    }

    assert create(steps, begun(**empty)).status == status.SUCCESS


def test_text_that_is_no_uid_is_no_step(steps: Steps) -> None:
    assert create(steps, begun(), uid="1.2.x").status == 0x0117


def test_step_in_progress_is_brought_to_its_end(steps: Steps) -> None:
    create(steps, begun())

    answer = update(
        steps,
        PerformedProcedureStepStatus="COMPLETED",
        PerformedSeriesSequence=[item(SeriesInstanceUID="2.25.8")],
    )

    assert answer.status == status.SUCCESS
    assert steps.kept[UID]["PerformedProcedureStepStatus"] == "COMPLETED"
    assert steps.kept[UID]["PerformedSeriesSequence"] == [{"SeriesInstanceUID": "2.25.8"}]


@pytest.mark.parametrize("end", ["COMPLETED", "DISCONTINUED"])
def test_step_at_its_end_is_not_changed(steps: Steps, end: str) -> None:
    create(steps, begun())
    update(steps, PerformedProcedureStepStatus=end)

    answer = update(steps, PerformedProcedureStepStatus="IN PROGRESS")

    assert (answer.status, answer.error_id) == (0x0110, 0xA710)
    assert steps.kept[UID]["PerformedProcedureStepStatus"] == end


def test_unknown_step_is_not_changed(steps: Steps) -> None:
    with pytest.raises(NotFound) as raised:
        update(steps, PerformedProcedureStepStatus="COMPLETED")

    assert status.status_of(raised.value, status.N_SET) == 0x0112


def test_status_that_no_step_has_is_refused(steps: Steps) -> None:
    create(steps, begun())

    answer = update(steps, PerformedProcedureStepStatus="DONE")

    assert (answer.status, answer.attributes) == (0x0106, (0x00400252,))


@pytest.mark.parametrize(("given", "code"), [("BN-7", 0x0000), ("BN-8", 0x0107)])
def test_patient_of_a_step_is_not_changed(steps: Steps, given: str, code: int) -> None:
    create(steps, begun())

    answer = update(steps, PatientID=given, PerformedProcedureStepStatus="COMPLETED")

    assert answer.status == code
    assert steps.kept[UID]["PatientID"] == "BN-7"
    assert steps.kept[UID]["PerformedProcedureStepStatus"] == "COMPLETED"


@pytest.mark.parametrize(
    ("wanted", "code", "found"),
    [
        ((0x00080060, 0x00400252), 0x0000, ["Modality", "PerformedProcedureStepStatus"]),
        ((0x00080060, 0x00100040), 0x0001, ["Modality"]),
        (None, 0x0000, None),
    ],
    ids=["some", "one that is not held", "all"],
)
def test_step_is_returned_with_what_is_asked_for(
    steps: Steps, wanted: tuple[int, ...] | None, code: int, found: list[str] | None
) -> None:
    create(steps, begun())
    asked = request(dimse.N_GET_RQ, models.PERFORMED_STEP_RETRIEVE, instance_uid=UID)
    asked.command.attribute_identifier_list = wanted

    [answer] = performed.get(asked, FakeExchange(), get_step=steps.get)

    assert answer.status == code
    read = dcmread(BytesIO(answer.identifier or b""), force=True)
    expected = found or [element.keyword for element in begun()]
    assert [element.keyword for element in read] == expected
