"""A study that belongs to an order is shown as it says, and every object stays as it came."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy import Engine, update

from pacs import part10, retrieve
from pacs.scp import suboperations
from ris import news, reconcile
from ris.following import Following
from ris.reconcile import Action, Deed
from ris.tables import OrderRow, ProcedureRow
from storage.archive import instances
from storage.archive.model import Level
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.http import HttpNode, http_node_on
from tests.fixtures.index import Index
from tests.fixtures.orders import Placed, place

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NOW = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
STUDY = "2.25.1"
AS_STORED = {"Accept": "application/dicom; transfer-syntax=*"}
DESCRIPTION = "Chụp cắt lớp vi tính lồng ngực"
ITEM = {
    "AccessionNumber": "A1",
    "RequestedProcedureDescription": DESCRIPTION,
    "ScheduledProcedureStepID": "S1",
    "RequestedProcedureID": "R1",
}


class Hospital:
    """Orders, an archive with its web interface, and who brings them together."""

    def __init__(self, engine: Engine, node: HttpNode) -> None:
        self.engine, self.node = engine, node
        self.client = node.client()
        self.index = Index(engine)
        self._following = Following(engine, ZONE)
        self._passed = timedelta()

    def place(self, number: int = 1, **values: Any) -> Placed:
        with transaction(self.engine) as session:
            return place(session, number, **values)

    def image(self, **values: object) -> Dataset:
        """Let an image arrive, of a console where people type, and the rules look at it."""
        given = {
            "PatientName": "NGUYEN^VAN AN",
            "PatientID": "BN-1",
            "PatientBirthDate": "19600302",
            "StudyInstanceUID": STUDY,
            "StudyDate": "20260105",
            "StudyTime": "082000",
            "AccessionNumber": "typed",
            "StudyDescription": "CT NGUC",
            "ReferringPhysicianName": "",
            **values,
        }
        dataset = ct_slice(**given)
        self.node.put(dataset)
        with transaction(self.engine) as session:
            news.arrived(session, {str(dataset.StudyInstanceUID)}, NOW)
        self.follow()
        return dataset

    def follow(self) -> None:
        self._passed += timedelta(seconds=1)
        self._following.run_once(NOW + self._passed)

    def do(self, action: Action, *procedures: int) -> None:
        deed = Deed(action=action, study_instance_uid=STUDY, procedure_ids=procedures, by="hoa")
        with transaction(self.engine) as session:
            reconcile.do(session, deed, NOW, ZONE)

    def path(self, dataset: Dataset) -> str:
        return (
            f"/dicom-web/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
            f"/instances/{dataset.SOPInstanceUID}"
        )

    def bytes_of(self, dataset: Dataset) -> bytes:
        answer = self.client.get(self.path(dataset), headers=AS_STORED)
        return answer.raise_for_status().content

    def given(self, dataset: Dataset) -> Dataset:
        """Return the object as WADO-RS gives it."""
        return dcmread(BytesIO(self.bytes_of(dataset)))

    def metadata(self, dataset: Dataset) -> Dataset:
        [found] = self.client.get(f"{self.path(dataset)}/metadata").raise_for_status().json()
        return Dataset.from_json({tag: one for tag, one in found.items() if tag < "7FE00000"})

    def found(self, level: Level = Level.STUDY, **keys: str) -> list[Mapping[str, Any]]:
        return self.index.find(level, **keys)


@pytest.fixture
def hospital(engine: Engine, tmp_path: Path) -> Iterator[Hospital]:
    with http_node_on(engine, tmp_path) as node:
        yield Hospital(engine, node)


def shown(dataset: Dataset) -> tuple[str, str, str]:
    return (
        dataset.AccessionNumber,
        dataset.StudyDescription,
        str(dataset.get("ReferringPhysicianName", "")),
    )


def requests(dataset: Dataset) -> list[dict[str, str]]:
    return [
        {element.keyword: str(element.value) for element in item}
        for item in dataset.get("RequestAttributesSequence", [])
    ]


ORDERED = ("A1", DESCRIPTION, "BÙI^THỊ HOA")
TYPED = ("typed", "CT NGUC", "")
DOCTOR = {"requesting_physician": "BÙI^THỊ HOA"}


@pytest.mark.parametrize("settled", [False, True])
def test_study_of_an_order_is_shown_as_it_was_ordered(hospital: Hospital, *, settled: bool) -> None:
    hospital.place(order=DOCTOR)
    sent = hospital.image()
    if settled:
        hospital.node.settle()

    given, header = hospital.given(sent), hospital.metadata(sent)

    assert shown(given) == shown(header) == ORDERED
    assert requests(given) == requests(header) == [ITEM]
    assert given.PixelData == sent.PixelData
    with transaction(hospital.engine) as session:
        [stored] = instances.locate(session, {"StudyInstanceUID": STUDY})
    assert retrieve.read_dataset(hospital.node.store, stored) == encode(sent)


def test_queries_find_what_is_shown(hospital: Hospital) -> None:
    hospital.place(order=DOCTOR)
    hospital.image()

    for keys in (
        {"AccessionNumber": "A1"},
        {"StudyDescription": "*lồng ngực"},
        {"ReferringPhysicianName": "bui thi hoa"},
    ):
        [match] = hospital.found(**keys)
        assert tuple(match[keyword] for keyword in KEYWORDS) == ORDERED
    for keys in ({"AccessionNumber": "typed"}, {"StudyDescription": "CT*"}):
        assert hospital.found(**keys) == []
    of_request = {"RequestAttributesSequence.RequestedProcedureID": "R1"}
    [series] = hospital.found(Level.SERIES, **of_request)
    assert series["RequestAttributesSequence.ScheduledProcedureStepID"] == ("S1",)


KEYWORDS = ("AccessionNumber", "StudyDescription", "ReferringPhysicianName")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_object_that_dimse_sends_has_the_order(hospital: Hospital, syntax: str) -> None:
    hospital.place(order=DOCTOR)
    sent = hospital.image()
    with transaction(hospital.engine) as session:
        [stored] = instances.locate(session, {"StudyInstanceUID": STUDY})

    chosen, pieces = suboperations.dataset(hospital.node.store, stored, {syntax})

    head = part10.head(stored.sop_class_uid, stored.sop_instance_uid, chosen)
    given = dcmread(BytesIO(head + b"".join(pieces)))
    assert (shown(given), requests(given)) == (ORDERED, [ITEM])
    assert given.PixelData == sent.PixelData


def test_detached_study_goes_out_as_it_came(hospital: Hospital) -> None:
    hospital.place(order=DOCTOR)
    sent = hospital.image()
    assert shown(hospital.given(sent)) == ORDERED

    hospital.do(Action.DETACH)

    assert shown(hospital.given(sent)) == TYPED
    assert hospital.bytes_of(sent).endswith(encode(sent))
    [series] = hospital.found(Level.SERIES)
    assert series["RequestAttributesSequence.RequestedProcedureID"] in ("", ())


def test_study_that_is_moved_shows_the_other_order(hospital: Hospital) -> None:
    hospital.place(order=DOCTOR)
    other = hospital.place(2, procedure={"meaning": "Chụp CLVT sọ não"})
    sent = hospital.image()

    hospital.do(Action.MOVE, other.procedure)

    given = hospital.given(sent)
    assert shown(given) == ("A2", "Chụp CLVT sọ não", "")
    assert [item["RequestedProcedureID"] for item in requests(given)] == ["R2"]


def test_changed_order_is_followed(hospital: Hospital) -> None:
    placed = hospital.place()
    sent = hospital.image()

    with transaction(hospital.engine) as session:
        session.execute(update(OrderRow).values(accession_number="A9", changed_at=NOW))
        wanted = ProcedureRow.id == placed.procedure
        session.execute(update(ProcedureRow).where(wanted).values(description="Có thuốc"))
    hospital.follow()

    assert shown(hospital.given(sent)) == ("A9", "Có thuốc", "")
    assert hospital.found(AccessionNumber="A1") == []


def test_what_a_console_took_from_the_worklist_stays(hospital: Hospital) -> None:
    """Without accents it is the same; the sequence of a device that knows its step is kept."""
    hospital.place(order=DOCTOR)
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID = "R1", "S1"
    item.ScheduledProcedureStepDescription = "by the device"
    sent = hospital.image(
        AccessionNumber="A1",
        StudyDescription="CHUP CAT LOP VI TINH LONG NGUC",
        ReferringPhysicianName="BUI^THI HOA",
        RequestAttributesSequence=[item],
    )

    assert hospital.bytes_of(sent).endswith(encode(sent))
    assert requests(hospital.metadata(sent))[0]["ScheduledProcedureStepDescription"]


def test_study_of_two_orders_names_both(hospital: Hospital) -> None:
    first, second = hospital.place(), hospital.place(2, procedure={"meaning": "Bụng"})
    sent = hospital.image()

    hospital.do(Action.ATTACH, second.procedure)

    given = hospital.given(sent)
    assert given.AccessionNumber == "A1"
    assert [item["RequestedProcedureID"] for item in requests(given)] == ["R1", "R2"]
    assert first.procedure != second.procedure
    assert hospital.found(Level.SERIES, **{"RequestAttributesSequence.RequestedProcedureID": "R2"})


def test_series_that_comes_later_shows_the_order_too(hospital: Hospital) -> None:
    hospital.place()
    first = hospital.image()
    later = hospital.image()

    assert first.SeriesInstanceUID != later.SeriesInstanceUID
    assert requests(hospital.given(later)) == [ITEM]
    wanted = {"RequestAttributesSequence.RequestedProcedureID": "R1"}
    assert len(hospital.found(Level.SERIES, **wanted)) == 2
