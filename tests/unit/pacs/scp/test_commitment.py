"""What a request for storage commitment is answered, and what its report holds."""

from typing import Any

import pytest
from pydicom import Dataset

from pacs.scp import commitment, models, status
from pacs.scp.exchange import Response
from pacs.scu.association import Address
from pacs.upper_layer import dimse
from storage.archive.commitments import Commitment, Reference
from storage.base.clock import utc_now
from storage.base.errors import Malformed
from tests.fixtures.requests import FakeExchange, request

CT = "1.2.840.10008.5.1.4.1.1.2"
REFERENCES = (Reference(CT, "2.25.1"), Reference(CT, "2.25.2"))


def action(transaction_uid: str = "2.25.9", instances: int = 2, **changes: str) -> Dataset:
    made = Dataset()
    made.TransactionUID = transaction_uid
    made.ReferencedSOPSequence = []
    for number in range(1, instances + 1):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, f"2.25.{number}"
        for keyword, value in changes.items():
            setattr(item, keyword, value)
        made.ReferencedSOPSequence.append(item)
    return made


def act(asked: Dataset, **named: Any) -> tuple[Response, list[Commitment]]:
    noted: list[Commitment] = []
    given: dict[str, Any] = {
        "instance_uid": models.STORAGE_COMMITMENT_INSTANCE,
        "action_type_id": 1,
    }
    resolve = named.pop("resolve", lambda title: Address(title, "ct", 104))
    found = request(dimse.N_ACTION_RQ, models.STORAGE_COMMITMENT, asked, **given | named)
    [answer] = commitment.act(found, FakeExchange(), resolve=resolve, note=noted.append)
    return answer, noted


def test_request_is_noted_and_answered() -> None:
    answer, [noted] = act(action())

    assert answer.status == status.SUCCESS
    assert (noted.transaction_uid, noted.references) == ("2.25.9", REFERENCES)
    assert (noted.calling_ae_title, noted.called_ae_title) == ("CT01", "ARCHIVE")


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ({"action_type_id": 2}, 0x0123),
        ({"action_type_id": None}, 0x0123),
        ({"instance_uid": "1.2.3"}, 0x0112),
        ({"resolve": lambda _title: None}, 0x0110),
    ],
    ids=["another action", "no action", "another instance", "nobody to report to"],
)
def test_request_that_cannot_be_served_is_refused(named: dict[str, Any], code: int) -> None:
    answer, noted = act(action(), **named)

    assert (answer.status, noted) == (code, [])


@pytest.mark.parametrize(
    "asked",
    [
        action(transaction_uid=""),
        action(instances=0),
        action(ReferencedSOPInstanceUID=""),
        action(ReferencedSOPClassUID=""),
    ],
    ids=["no transaction", "no instances", "no instance UID", "no class UID"],
)
def test_request_that_lacks_something_is_an_invalid_argument(asked: Dataset) -> None:
    with pytest.raises(Malformed) as raised:
        act(asked)

    assert status.status_of(raised.value, status.N_ACTION) == 0x0115


def test_report_of_success_names_no_failures() -> None:
    asked = Commitment("2.25.9", "CT01", "ARCHIVE", REFERENCES, utc_now())

    assert commitment.result(asked, {}, "LIENTHONG") == {
        "TransactionUID": "2.25.9",
        "RetrieveAETitle": "LIENTHONG",
        "ReferencedSOPSequence": [
            {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "2.25.1"},
            {"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "2.25.2"},
        ],
    }


def test_report_names_what_failed_and_why() -> None:
    asked = Commitment("2.25.9", "CT01", "ARCHIVE", REFERENCES, utc_now())

    report = commitment.result(asked, {"2.25.1": 0x0112, "2.25.2": 0x0119}, "LIENTHONG")

    assert report == {
        "TransactionUID": "2.25.9",
        "FailedSOPSequence": [
            {
                "ReferencedSOPClassUID": CT,
                "ReferencedSOPInstanceUID": "2.25.1",
                "FailureReason": "274",
            },
            {
                "ReferencedSOPClassUID": CT,
                "ReferencedSOPInstanceUID": "2.25.2",
                "FailureReason": "281",
            },
        ],
    }
