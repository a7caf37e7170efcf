"""DCMTK's movescu and getscu: the stored bytes come back, counted."""

import re
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs import part10
from storage.access import peers
from storage.access.peers import Peer
from storage.db.engine import transaction
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk, storescp
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.raw_peer import CONTEXTS, RawPeer, store_request
from tests.fixtures.server import DicomServer
from tests.fixtures.serving import free_port

pytestmark = [pytest.mark.interop, needs_dcmtk]

STUDY = "1.2.826.0.1.3680043.9.6"
SLICES = 5
assert CONTEXTS[1].transfer_syntaxes == (ExplicitVRLittleEndian,)


@pytest.fixture
def sent(dicom_server: DicomServer) -> dict[str, bytes]:
    """SOP Instance UID → dataset bytes of a study of five slices that the archive holds."""
    datasets = [
        ct_slice(
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=f"{STUDY}.1",
            SOPInstanceUID=f"{STUDY}.1.{number}",
            InstanceNumber=number,
        )
        for number in range(SLICES)
    ]
    made = {str(dataset.SOPInstanceUID): encode(dataset) for dataset in datasets}
    with RawPeer(dicom_server.port) as peer:
        peer.associate()
        for uid, data in made.items():
            assert peer.store(store_request(uid), data).status == 0
    assert dicom_server.ingest() == SLICES
    return made


def register(server: DicomServer, ae_title: str, port: int) -> None:
    with transaction(server.engine) as session:
        peers.add(session, Peer(ae_title, "127.0.0.1", port))


def datasets_in(folder: Path) -> dict[str, bytes]:
    """SOP Instance UID → dataset bytes of the files that a receiver wrote."""
    found = {}
    for path in folder.iterdir():
        content = path.read_bytes()
        found[str(dcmread(path).SOPInstanceUID)] = content[part10.split(content).length :]
    return found


def move(server: DicomServer, *options: str, to: str = "VIEWER") -> tuple[str, str]:
    """Run movescu; return the final status and everything it said."""
    answer = dcmtk("movescu", server.port, "-S", "-d", "-aem", to, *options)
    said = answer.stdout + answer.stderr
    statuses = re.findall(r"DIMSE Status\s+: (0x[0-9a-f]+)", said)
    assert statuses, said
    return statuses[-1], said


def keys(*some: str) -> list[str]:
    return [part for key in some for part in ("-k", key)]


WHOLE_STUDY = keys("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={STUDY}")


def test_moved_study_is_the_bytes_that_were_sent(
    dicom_server: DicomServer, sent: dict[str, bytes], tmp_path: Path
) -> None:
    with storescp(tmp_path / "viewer") as port:
        register(dicom_server, "VIEWER", port)
        status, said = move(dicom_server, *WHOLE_STUDY)

    assert status == "0x0000"
    assert datasets_in(tmp_path / "viewer") == sent
    assert re.findall(r"Completed Suboperations\s+: (\d+)", said)[-1] == str(SLICES)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (
            (
                "QueryRetrieveLevel=SERIES",
                f"StudyInstanceUID={STUDY}",
                f"SeriesInstanceUID={STUDY}.1",
            ),
            5,
        ),
        (
            (
                "QueryRetrieveLevel=IMAGE",
                f"StudyInstanceUID={STUDY}",
                f"SeriesInstanceUID={STUDY}.1",
                f"SOPInstanceUID={STUDY}.1.1\\{STUDY}.1.3",
            ),
            2,
        ),
        (("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.3"), 0),
    ],
    ids=["series", "list of images", "study we do not hold"],
)
def test_every_level_can_be_moved(
    dicom_server: DicomServer,
    sent: dict[str, bytes],
    tmp_path: Path,
    asked: tuple[str, ...],
    count: int,
) -> None:
    with storescp(tmp_path / "viewer") as port:
        register(dicom_server, "VIEWER", port)
        status, _ = move(dicom_server, *keys(*asked))

    assert status == "0x0000"
    received = datasets_in(tmp_path / "viewer")
    assert len(received) == count
    assert received.items() <= sent.items()


def test_unknown_destination_is_named(dicom_server: DicomServer, sent: dict[str, bytes]) -> None:
    assert sent
    status, said = move(dicom_server, *WHOLE_STUDY, to="NOBODY")

    assert status == "0xa801"
    assert "NOBODY" in said


def test_destination_that_is_off_fails_every_suboperation(
    dicom_server: DicomServer, sent: dict[str, bytes]
) -> None:
    register(dicom_server, "VIEWER", free_port())

    status, said = move(dicom_server, *WHOLE_STUDY)

    assert status == "0xa702"
    assert re.findall(r"Failed Suboperations\s+: (\d+)", said)[-1] == str(SLICES)
    for uid in sent:
        assert uid in said


def test_receiver_of_implicit_only_gets_the_same_values(
    dicom_server: DicomServer, sent: dict[str, bytes], tmp_path: Path
) -> None:
    with storescp(tmp_path / "viewer", "+xi") as port:
        register(dicom_server, "VIEWER", port)
        status, _ = move(dicom_server, *WHOLE_STUDY)

    assert status == "0x0000"
    files = [dcmread(path) for path in (tmp_path / "viewer").iterdir()]
    assert {str(file.SOPInstanceUID) for file in files} == set(sent)
    assert {file.file_meta.TransferSyntaxUID for file in files} == {ImplicitVRLittleEndian}
    assert {file.PixelData for file in files} == {ct_slice().PixelData}


def test_got_study_is_the_bytes_that_were_sent(
    dicom_server: DicomServer, sent: dict[str, bytes], tmp_path: Path
) -> None:
    got = tmp_path / "got"
    got.mkdir()

    answer = dcmtk("getscu", dicom_server.port, "-S", "-B", "-od", got, "-v", *WHOLE_STUDY)

    assert answer.returncode == 0, answer.stderr
    assert datasets_in(got) == sent
    assert re.findall(r"Completed Suboperations\s+: (\d+)", answer.stderr)[-1] == str(SLICES)
