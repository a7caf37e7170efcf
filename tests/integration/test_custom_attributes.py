"""Attributes that an operator adds: recorded, read again, matched and returned."""

import threading
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from deploy import reindexing
from storage.archive import custom
from storage.archive.model import Custom, Level
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice
from tests.fixtures.http import HttpNode

ID = "00100020"


def described(patient_id: str, **values: object) -> Dataset:
    """Return a slice with something for every kind of attribute."""
    code = Dataset()
    code.CodeValue, code.CodeMeaning = f"T-{patient_id}", "Phổi"
    dataset = ct_slice(
        PatientID=patient_id,
        EthnicGroup="Kinh",
        SliceThickness="1.50",
        AnatomicRegionSequence=[code],
        PhysiciansOfRecord=["TRẦN^VĂN BÌNH", "LÊ^THỊ CÚC"],
        AcquisitionDateTime="20260301073015",
        FrameOfReferenceUID="1.2.3",
        DateOfLastCalibration="20260102",
        TimeOfLastCalibration="0815",
        ConvolutionKernel=["B30f", "SHARP"],
    )
    block = dataset.private_block(0x0009, "ACME 1.0", create=True)
    block.add_new(0x02, "LO", f"private {patient_id}")
    other = dataset.private_block(0x0009, "OTHER", create=True)
    other.add_new(0x02, "LO", "somebody else's")
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


ADDED = (
    ("EthnicGroup", Level.STUDY, {}),
    ("AnatomicRegionSequence.CodeValue", Level.SERIES, {}),
    ("PhysiciansOfRecord", Level.STUDY, {}),
    ("SliceThickness", Level.IMAGE, {}),
    ("ConvolutionKernel", Level.IMAGE, {}),
    ("DateOfLastCalibration", Level.SERIES, {}),
    ("TimeOfLastCalibration", Level.SERIES, {}),
    ("AcquisitionDateTime", Level.IMAGE, {}),
    ("00091002", Level.SERIES, {"vr": "LO", "creator": "ACME 1.0"}),
)


def add(node: HttpNode, name: str, level: Level, **facts: str) -> Custom:
    with transaction(node.engine) as session:
        return custom.add(session, custom.declare(name, level, **facts), utc_now())


def reindexed(node: HttpNode) -> reindexing.Progress:
    return reindexing.reindex(node.engine, node.store, lambda _done: None, rest=0)


def ids(response: httpx.Response) -> list[str]:
    if response.status_code == 204:
        return []
    assert response.status_code == 200, response.text
    return [row[ID]["Value"][0] for row in response.json()]


@pytest.fixture(scope="module", params=["added first", "read again"])
def archive(shared_http_node: HttpNode, request: pytest.FixtureRequest) -> HttpNode:
    """Two studies; the attributes were added before they came, or after."""
    node = shared_http_node
    if request.param == "added first":
        for name, level, facts in ADDED:
            add(node, name, level, **facts)
        node.put(described("P1"), transfer_syntax=ImplicitVRLittleEndian)
        node.put(
            described("P2", EthnicGroup="Tày", SliceThickness="3", AcquisitionDateTime="20260401"),
            transfer_syntax=ExplicitVRLittleEndian,
        )
    else:
        with transaction(node.engine) as session:
            for name, _, facts in ADDED:
                custom.remove(session, name, facts.get("creator", ""))
        for name, level, facts in ADDED:
            assert not add(node, name, level, **facts).whole
        assert reindexed(node) == reindexing.Progress(2, 0)
    return node


@pytest.fixture
def client(archive: HttpNode) -> httpx.Client:
    return archive.client()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("studies?EthnicGroup=Kinh", ["P1"]),
        ("studies?00102160=T%C3%A0y", ["P2"]),
        ("studies?EthnicGroup=K*", ["P1"]),
        ("studies?EthnicGroup=", ["P2", "P1"]),
        ("studies?EthnicGroup=nobody", []),
        ("studies?PhysiciansOfRecord=tran van binh", ["P2", "P1"]),
        ("studies?PhysiciansOfRecord=cuc&EthnicGroup=Kinh", ["P1"]),
        ("studies?PhysiciansOfRecord=tr&fuzzymatching=true", ["P2", "P1"]),
        ("series?AnatomicRegionSequence.CodeValue=T-P1", ["P1"]),
        ("series?00082218.00080100=T-P2", ["P2"]),
        ("series?00091002=private P1", ["P1"]),
        ("series?00090010=ACME 1.0&00091002=private P2", ["P2"]),
        ("series?00090010=ACME 1.0&00091102=private*", ["P2", "P1"]),
        ("instances?00091002=private P1", ["P1"]),
        ("series?DateOfLastCalibration=20260101-20260103", ["P2", "P1"]),
        ("series?DateOfLastCalibration=20260103-", []),
        ("series?TimeOfLastCalibration=0800-0830", ["P2", "P1"]),
        ("instances?SliceThickness=1.5", ["P1"]),
        ("instances?SliceThickness=3.00", ["P2"]),
        ("instances?ConvolutionKernel=SHARP&EthnicGroup=Kinh", ["P1"]),
        ("instances?AcquisitionDateTime=20260301", ["P1"]),
        ("instances?AcquisitionDateTime=20260302-", ["P2"]),
        ("instances?AcquisitionDateTime=-20260302", ["P1"]),
    ],
)
def test_added_attributes_are_matched(
    client: httpx.Client, query: str, expected: list[str]
) -> None:
    response = client.get(f"/dicom-web/{query}")

    assert ids(response) == expected
    assert "warning" not in response.headers


def test_added_attributes_are_returned_when_asked_for(client: httpx.Client) -> None:
    asked = (
        "EthnicGroup,PhysiciansOfRecord,SliceThickness,AnatomicRegionSequence.CodeValue,00091002"
    )

    [row] = client.get(f"/dicom-web/instances?PatientID=P1&includefield={asked}").json()
    [plain] = client.get("/dicom-web/studies?PatientID=P1").json()

    assert row["00102160"] == {"vr": "SH", "Value": ["Kinh"]}
    assert row["00081048"]["Value"][1] == {"Alphabetic": "LÊ^THỊ CÚC"}
    assert row["00180050"] == {"vr": "DS", "Value": [1.5]}
    assert row["00082218"]["Value"][0]["00080100"] == {"vr": "SH", "Value": ["T-P1"]}
    assert row["00090010"] == {"vr": "LO", "Value": ["ACME 1.0"]}
    assert row["00091002"] == {"vr": "LO", "Value": ["private P1"]}
    assert list(row) == sorted(row)
    assert "00102160" not in plain


def test_all_returns_them_too(client: httpx.Client) -> None:
    [study] = client.get("/dicom-web/studies?PatientID=P1&includefield=all").json()

    assert study["00102160"]["Value"] == ["Kinh"]
    assert "00180050" not in study


def test_attribute_of_a_lower_level_is_not_matched_above(client: httpx.Client) -> None:
    response = client.get("/dicom-web/studies?SliceThickness=1.5&PatientID=P1")

    assert ids(response) == ["P1"]
    assert "SliceThickness" in response.headers["warning"]


def test_bad_values_of_added_attributes_are_told(client: httpx.Client) -> None:
    for query in ("SliceThickness=thin", "DateOfLastCalibration=soon", "00090000=x"):
        response = client.get(f"/dicom-web/instances?{query}")
        assert response.status_code == 400 or "warning" in response.headers


def test_attributes_of_instances_need_no_index(archive: HttpNode, client: httpx.Client) -> None:
    asked = "PixelSpacing,ImagePositionPatient,AnatomicRegionSequence.CodeMeaning,00091102"
    for settled in (False, True):
        if settled:
            archive.settle()
        [row] = client.get(f"/dicom-web/instances?PatientID=P2&includefield={asked}").json()

        assert row["00200032"]["Value"] == [-125.5, 10, 3.25]
        assert "00280030" not in row
        assert row["00082218"]["Value"] == [{"00080104": {"vr": "LO", "Value": ["Phổi"]}}]
        assert row["00090011"]["Value"] == ["OTHER"]
        assert row["00091102"]["Value"] == ["somebody else's"]
        assert row["00091002"]["Value"] == ["private P2"]


def test_all_of_an_instance_is_its_metadata(client: httpx.Client) -> None:
    [row] = client.get("/dicom-web/instances?PatientID=P1&includefield=all").json()
    base = row["00081190"]["Value"][0]

    [told] = client.get(f"{base}/metadata").json()

    # the operator said which VR the private element has, its implicit encoding does not
    assert {name for name in told if row.get(name) != told[name]} == {"00091002"}
    assert row["00091002"] == {"vr": "LO", "Value": ["private P1"]}


# Adding, reading and removing


def test_until_it_is_read_a_warning_says_so(http_node: HttpNode) -> None:
    http_node.put(described("OLD"))
    add(http_node, "EthnicGroup", Level.STUDY)
    http_node.put(described("NEW"))
    client = http_node.client()

    before = client.get("/dicom-web/studies?EthnicGroup=Kinh")
    done = reindexed(http_node)
    after = client.get("/dicom-web/studies?EthnicGroup=Kinh")

    assert ids(before) == ["NEW"]
    assert "not yet read of every instance: EthnicGroup" in before.headers["warning"]
    assert done == reindexing.Progress(1, 0)
    assert sorted(ids(after)) == ["NEW", "OLD"]
    assert "warning" not in after.headers


def test_nothing_is_missed_while_objects_come_in(http_node: HttpNode) -> None:
    stop = threading.Event()
    sent: list[str] = []

    def receive() -> None:
        while not stop.is_set() or len(sent) < 20:
            patient_id = f"P{len(sent)}"
            http_node.put(described(patient_id))
            sent.append(patient_id)

    sender = threading.Thread(target=receive)
    sender.start()
    while len(sent) < 5:
        stop.wait(0.01)
    add(http_node, "EthnicGroup", Level.STUDY)
    add(http_node, "SliceThickness", Level.IMAGE)
    reindexed(http_node)
    stop.set()
    sender.join()

    client = http_node.client()
    assert sorted(ids(client.get("/dicom-web/studies?EthnicGroup=Kinh"))) == sorted(sent)
    assert sorted(ids(client.get("/dicom-web/instances?SliceThickness=1.5"))) == sorted(sent)


def test_what_cannot_be_read_is_left_out_and_told(http_node: HttpNode) -> None:
    http_node.put(described("P1"), described("P2"))
    folder = Path(http_node.settings.data_dir, "objects")
    next(path for path in folder.rglob("*") if path.is_file()).unlink()
    add(http_node, "EthnicGroup", Level.STUDY)

    assert reindexed(http_node) == reindexing.Progress(2, 1)
    assert len(ids(http_node.client().get("/dicom-web/studies?EthnicGroup=Kinh"))) == 1


def test_removed_attribute_is_gone_with_its_values(http_node: HttpNode) -> None:
    add(http_node, "EthnicGroup", Level.STUDY)
    http_node.put(described("P1"))
    with transaction(http_node.engine) as session:
        custom.remove(session, "00102160")

    http_node.put(described("P2"))
    response = http_node.client().get("/dicom-web/studies?EthnicGroup=Kinh")

    assert "EthnicGroup" in response.headers["warning"]
    with transaction(http_node.engine) as session, pytest.raises(NotFound):
        custom.remove(session, "EthnicGroup")


@pytest.mark.parametrize(
    ("name", "level", "facts", "error"),
    [
        ("NoSuchThing", Level.STUDY, {}, Malformed),
        ("PixelData", Level.IMAGE, {}, Malformed),
        ("RequestAttributesSequence", Level.SERIES, {}, Malformed),
        ("PatientName.CodeValue", Level.SERIES, {}, Malformed),
        ("EthnicGroup", Level.PATIENT, {}, Malformed),
        ("EthnicGroup", Level.STUDY, {"vr": "LO"}, Malformed),
        ("EthnicGroup", Level.STUDY, {"creator": "ACME"}, Malformed),
        ("00091002", Level.STUDY, {"vr": "LO"}, Malformed),
        ("00091002", Level.STUDY, {"creator": "ACME"}, Malformed),
        ("StudyDate", Level.STUDY, {}, Conflict),
        ("PatientID", Level.SERIES, {}, Conflict),
    ],
)
def test_what_cannot_be_indexed_is_refused(
    name: str, level: Level, facts: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        custom.declare(name, level, **facts)


def test_same_attribute_is_added_once(http_node: HttpNode) -> None:
    add(http_node, "EthnicGroup", Level.STUDY)

    with pytest.raises(Conflict):
        add(http_node, "00102160", Level.SERIES)
