"""Mutated data sets: a service answers, or raises an error of ours, and nothing else."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs.scp import commitment, datasets, models, performed, worklist
from pacs.scp.datasets import Attributes
from pacs.scp.exchange import Context, Request, Response
from pacs.scp.worklist_keys import STEP
from pacs.scu.association import Address
from pacs.upper_layer.dimse import Command
from storage.access.peers import Peer, TextProfile
from storage.base.errors import ImagingError
from tests.fixtures.requests import CT01, FakeExchange

ENTRY: Attributes = {
    "PatientName": "NGUYỄN VĂN AN",
    "PregnancyStatus": "B6",
    "OtherPatientIDsSequence": [{"PatientID": "1"}, {"PatientID": "2"}],
    STEP: [{"Modality": "CT", "ScheduledProtocolCodeSequence": [{"CodeValue": "P"}]}],
}
QUERY: Attributes = {
    "PatientName": "NGUYỄN*",
    "PregnancyStatus": "4",
    "OtherPatientIDsSequence": [],
    STEP: [{"Modality": "CT", "ScheduledProtocolCodeSequence": [{"CodeValue": ""}]}],
}
BEGUN: Attributes = {
    "Modality": "CT",
    "PerformedStationAETitle": "CT01",
    "PerformedProcedureStepStartDate": "20260105",
    "PerformedProcedureStepStartTime": "0815",
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "PerformedProcedureStepID": "P1",
    "PatientName": "NGUYỄN VĂN AN",
    "ScheduledStepAttributesSequence": [{"StudyInstanceUID": "2.25.7"}],
}
ACTION: Attributes = {
    "TransactionUID": "2.25.9",
    "ReferencedSOPSequence": [
        {"ReferencedSOPClassUID": "1.2", "ReferencedSOPInstanceUID": "2.25.1"}
    ],
}


def find(request: Request) -> Iterable[Response]:
    peer = Peer("CT01", "h", 104, "", TextProfile.LATIN1, 16)
    return worklist.find(
        request,
        FakeExchange(),
        search=lambda _asked, _limit: [ENTRY],
        find_peer=lambda _title: peer,
        remember=lambda _asked, _number: None,
        max_results=5,
    )


def create(request: Request) -> Iterable[Response]:
    return performed.create(request, FakeExchange(), create_step=lambda _uid, _step, _title: None)


def change(request: Request) -> Iterable[Response]:
    return performed.update(
        request,
        FakeExchange(),
        update_step=lambda _uid, _step: None,
        get_step=lambda _uid: BEGUN,
    )


def act(request: Request) -> Iterable[Response]:
    return commitment.act(
        request,
        FakeExchange(),
        resolve=lambda title: Address(title, "h", 104),
        note=lambda _asked: None,
    )


@pytest.mark.parametrize(
    ("service", "sound"),
    [(find, QUERY), (create, BEGUN), (change, BEGUN), (act, ACTION)],
    ids=["find", "create", "change", "act"],
)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_data_set_is_answered_or_refused(
    service: Callable[[Request], Iterable[Response]], sound: Attributes, data: st.DataObject
) -> None:
    syntax = data.draw(
        st.sampled_from((ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian))
    )
    mutated = bytearray(datasets.write(sound, syntax))
    for _ in range(data.draw(st.integers(0, 5))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from((len(mutated), len(mutated) // 2)))
    command = Command(
        command_field=0,
        action_type_id=1,
        requested_sop_instance_uid=models.STORAGE_COMMITMENT_INSTANCE,
        affected_sop_instance_uid="2.25.1",
    )
    request = Request(command, Context(1, "1.2", syntax), CT01, iter((memoryview(mutated[:cut]),)))

    try:
        statuses = [response.status for response in service(request)]
    except ImagingError:
        return
    assert statuses
