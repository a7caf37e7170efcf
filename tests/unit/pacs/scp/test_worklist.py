"""The worklist service over prepared entries: what is asked of the RIS, and what is answered."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs import part10
from pacs.scp import models, status, worklist
from pacs.scp.datasets import Attributes
from pacs.scp.exchange import Options, Response
from pacs.scp.worklist import Asked
from pacs.upper_layer import dimse
from storage.access.peers import Peer, TextProfile
from storage.base.clock import utc_now
from storage.base.errors import StoreUnavailable
from tests.fixtures.requests import FakeExchange, request

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
STEP = "ScheduledProcedureStepSequence"
ENTRY: Attributes = {
    "PatientName": "NGUYỄN VĂN AN",
    "PatientID": "BN-7",
    "StudyInstanceUID": "2.25.7",
    "RequestedProcedureCodeSequence": [{"CodeValue": "R1", "CodeMeaning": "Ngực"}],
    STEP: [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": "CT01\\CT02",
            "ScheduledProtocolCodeSequence": [
                {"CodeValue": "P1", "CodingSchemeDesignator": "L", "CodeMeaning": "Ngực"},
                {"CodeValue": "P2", "CodingSchemeDesignator": "L", "CodeMeaning": "Bụng"},
            ],
        }
    ],
}


def query(step: dict[str, Any] | None = None, **keys: Any) -> Dataset:
    asked = Dataset()
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    if step is not None:
        item = Dataset()
        for keyword, value in step.items():
            setattr(item, keyword, value)
        asked.ScheduledProcedureStepSequence = [item]
    return asked


def answers(
    asked: Dataset,
    entries: Iterable[Attributes] = (ENTRY,),
    exchange: FakeExchange | None = None,
    **named: Any,
) -> list[Response]:
    options = {key: named.pop(key) for key in ("transfer_syntax", "options") if key in named}
    given: dict[str, Any] = {
        "search": lambda _asked, _limit: iter(entries),
        "find_peer": lambda _title: None,
        "remember": lambda _asked, _number: None,
        "max_results": 10,
    }
    found = request(dimse.C_FIND_RQ, models.MODALITY_WORKLIST, asked, **options)
    return list(worklist.find(found, exchange or FakeExchange(), **given | named))


def dataset(response: Response, transfer_syntax: str = ExplicitVRLittleEndian) -> Dataset:
    assert response.identifier is not None
    return dcmread(BytesIO(file_of(response.identifier, transfer_syntax)), force=True)


def file_of(data: bytes, transfer_syntax: str) -> bytes:
    return part10.head("1.2", "1.3", transfer_syntax, part10.Provenance(utc_now(), "stow")) + data


@pytest.mark.parametrize("transfer_syntax", SYNTAXES)
def test_every_key_is_answered_and_nothing_else(transfer_syntax: str) -> None:
    asked = query(
        {"Modality": "", "ScheduledProcedureStepStartDate": ""},
        PatientName="",
        PatientBirthDate="",
        StudyInstanceUID="",
    )

    first, last = answers(asked, transfer_syntax=transfer_syntax)

    found = dataset(first, transfer_syntax)
    assert (first.status, last.status) == (status.PENDING, status.SUCCESS)
    assert [element.keyword for element in found] == [
        "SpecificCharacterSet",
        "PatientName",
        "PatientBirthDate",
        "StudyInstanceUID",
        STEP,
    ]
    assert found.PatientName == "NGUYỄN VĂN AN"
    assert found.PatientBirthDate == ""
    [step] = found.ScheduledProcedureStepSequence
    assert [(element.keyword, element.value) for element in step] == [
        ("Modality", "CT"),
        ("ScheduledProcedureStepStartDate", ""),
    ]


def test_sequence_asked_for_without_attributes_comes_whole() -> None:
    asked = query()
    asked.ScheduledProcedureStepSequence = []

    found = dataset(answers(asked)[0])

    [step] = found.ScheduledProcedureStepSequence
    assert step.Modality == "CT"
    assert step.ScheduledStationAETitle == ["CT01", "CT02"]
    assert [code.CodeMeaning for code in step.ScheduledProtocolCodeSequence] == ["Ngực", "Bụng"]


def test_nested_sequence_answers_with_what_was_asked_of_each_item() -> None:
    code = Dataset()
    code.CodeValue = ""

    found = dataset(answers(query({"ScheduledProtocolCodeSequence": [code]}))[0])

    [step] = found.ScheduledProcedureStepSequence
    codes = step.ScheduledProtocolCodeSequence
    assert [code.CodeValue for code in codes] == ["P1", "P2"]
    assert all(len(code) == 1 for code in codes)


def test_keys_reach_the_search_by_dotted_keyword() -> None:
    seen: list[tuple[Asked, int]] = []
    peer = Peer("CT01", "h", 104)

    def search(asked: Asked, limit: int) -> Iterator[Attributes]:
        seen.append((asked, limit))
        return iter(())

    answers(
        query({"Modality": "CT", "ScheduledProcedureStepStartDate": "20260101-"}, PatientID="B*"),
        search=search,
        find_peer={"CT01": peer}.get,
        options=Options(combined_datetime=True, fuzzy=True),
    )

    keys = {
        "PatientID": "B*",
        f"{STEP}.Modality": "CT",
        f"{STEP}.ScheduledProcedureStepStartDate": "20260101-",
    }
    assert seen == [(Asked("CT01", keys, peer, combined_datetime=True, fuzzy=True), 11)]


@pytest.mark.parametrize(
    "asked",
    [
        query(ContentCreatorName=""),
        query({"ContentDate": ""}),
        query(PatientID="", IconImageSequence=[]),
    ],
    ids=["top level", "in the step", "sequence"],
)
def test_key_that_no_entry_has_is_empty_and_warned_of(asked: Dataset) -> None:
    first, last = answers(asked)

    assert (first.status, last.status) == (status.PENDING_OPTIONAL_KEYS, status.SUCCESS)


def test_registered_console_gets_the_letters_it_can_show() -> None:
    console = Peer("CT01", "h", 104, "", TextProfile.FOLD_ASCII, 10)

    found = dataset(
        answers(query({}, PatientName="", PatientID=""), find_peer=lambda _title: console)[0]
    )

    assert found.PatientName == "NGUYEN VAN"
    assert "SpecificCharacterSet" not in found


def test_cancel_ends_the_answer() -> None:
    asked = query(PatientID="")

    statuses = [one.status for one in answers(asked, [ENTRY] * 5, FakeExchange(cancel_after=2))]

    assert statuses == [status.PENDING, status.PENDING, status.CANCEL]


def test_more_steps_than_may_be_are_said_to_be_cut_off() -> None:
    statuses = [one.status for one in answers(query(PatientID=""), [ENTRY] * 3, max_results=2)]

    assert statuses == [status.PENDING, status.PENDING, status.OUT_OF_RESOURCES]


def test_query_is_remembered_with_the_number_of_its_answers() -> None:
    kept: list[tuple[str, int]] = []

    answers(query(PatientID=""), remember=lambda asked, n: kept.append((asked.calling_ae_title, n)))

    assert kept == [("CT01", 1)]


def test_console_is_answered_though_its_query_cannot_be_kept() -> None:
    def fail(_asked: Asked, _number: int) -> None:
        raise StoreUnavailable("away")

    assert [one.status for one in answers(query(PatientID=""), remember=fail)] == [0xFF00, 0]
