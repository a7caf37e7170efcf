"""DCMTK's findscu against the real index."""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from storage.access import peers
from storage.access.peers import Peer, TextProfile
from storage.db.engine import transaction
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.server import DicomServer

pytestmark = [pytest.mark.interop, needs_dcmtk]

STUDY = "1.2.826.0.1.3680043.9.5"


@pytest.fixture
def archive(dicom_server: DicomServer) -> DicomServer:
    """Two studies: one with two series of three slices, one with a single slice."""
    with RawPeer(dicom_server.port) as peer:
        peer.associate()
        for series in (1, 2):
            for number in range(3):
                keep(
                    peer,
                    ct_slice(
                        StudyInstanceUID=f"{STUDY}.1",
                        SeriesInstanceUID=f"{STUDY}.1.{series}",
                        SOPInstanceUID=f"{STUDY}.1.{series}.{number}",
                        SeriesNumber=series,
                        InstanceNumber=number,
                        StudyID="S1",
                        RequestAttributesSequence=[requested(f"SPS{series}", f"RP{series}")],
                    ),
                )
        keep(
            peer,
            ct_slice(
                StudyInstanceUID=f"{STUDY}.2",
                SeriesInstanceUID=f"{STUDY}.2.1",
                SOPInstanceUID=f"{STUDY}.2.1.0",
                PatientName="TRẦN^THỊ BÌNH",
                PatientID="BN0002",
                StudyDate="20250101",
                AccessionNumber="A-2",
            ),
        )
    assert dicom_server.ingest() == 7
    return dicom_server


def keep(peer: RawPeer, dataset: Dataset) -> None:
    assert peer.store(store_request(dataset.SOPInstanceUID), encode(dataset)).status == 0


def requested(step: str, procedure: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    return item


def find(server: DicomServer, folder: Path, *keys: str, model: str = "-S") -> list[Dataset]:
    """Run findscu and return the response identifiers as it wrote them."""
    options = [part for key in keys for part in ("-k", key)]
    answer = dcmtk("findscu", server.port, model, "-X", *options, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


def test_name_is_found_however_it_is_typed(archive: DicomServer, tmp_path: Path) -> None:
    for number, text in enumerate(("nguyen", "an nguyen", "NGUYEN^VAN*", "NGUYỄN")):
        folder = tmp_path / str(number)
        folder.mkdir()
        [match] = find(
            archive,
            folder,
            "SpecificCharacterSet=ISO_IR 192",
            "QueryRetrieveLevel=STUDY",
            f"PatientName={text}",
            "StudyInstanceUID",
        )

        assert match.StudyInstanceUID == f"{STUDY}.1", text
        assert match.PatientName == "NGUYỄN^VĂN AN"
        assert match.SpecificCharacterSet == "ISO_IR 192"


def test_study_has_what_was_asked_and_nothing_else(archive: DicomServer, tmp_path: Path) -> None:
    [match] = find(
        archive,
        tmp_path,
        "QueryRetrieveLevel=STUDY",
        "StudyDate=20260101-",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "StudyID",
    )

    assert {element.keyword: element.value for element in match} == {
        "QueryRetrieveLevel": "STUDY",
        "RetrieveAETitle": "ARCHIVE",
        "InstanceAvailability": "ONLINE",
        "StudyDate": "20260301",
        "ModalitiesInStudy": "CT",
        "NumberOfStudyRelatedSeries": 2,
        "NumberOfStudyRelatedInstances": 6,
        "StudyID": "S1",
    }


@pytest.mark.parametrize(
    ("model", "keys", "count"),
    [
        ("-P", ("QueryRetrieveLevel=PATIENT", "PatientID"), 2),
        ("-P", ("QueryRetrieveLevel=PATIENT", "PatientID=BN0002"), 1),
        ("-P", ("QueryRetrieveLevel=STUDY", "PatientID=BN0001", "StudyInstanceUID"), 1),
        ("-S", ("QueryRetrieveLevel=STUDY", "StudyInstanceUID"), 2),
        ("-S", ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={STUDY}.1\\{STUDY}.2"), 2),
        ("-S", ("QueryRetrieveLevel=STUDY", "AccessionNumber=A-?"), 2),
        ("-S", ("QueryRetrieveLevel=STUDY", "ModalitiesInStudy=MR"), 0),
        ("-S", ("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={STUDY}.1"), 2),
        (
            "-S",
            (
                "QueryRetrieveLevel=SERIES",
                f"StudyInstanceUID={STUDY}.1",
                "RequestAttributesSequence[0].ScheduledProcedureStepID=SPS2",
            ),
            1,
        ),
        (
            "-S",
            (
                "QueryRetrieveLevel=IMAGE",
                f"StudyInstanceUID={STUDY}.1",
                f"SeriesInstanceUID={STUDY}.1.2",
                "SOPInstanceUID",
            ),
            3,
        ),
        ("-O", ("QueryRetrieveLevel=STUDY", "PatientID=BN0002"), 1),
    ],
)
def test_every_level_of_every_model_answers(
    archive: DicomServer, tmp_path: Path, model: str, keys: tuple[str, ...], count: int
) -> None:
    assert len(find(archive, tmp_path, *keys, model=model)) == count


def test_item_of_a_sequence_comes_back(archive: DicomServer, tmp_path: Path) -> None:
    [match] = find(
        archive,
        tmp_path,
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={STUDY}.1",
        "SeriesNumber=2",
        "RequestAttributesSequence[0].ScheduledProcedureStepID",
        "RequestAttributesSequence[0].RequestedProcedureID",
    )

    [item] = match.RequestAttributesSequence
    assert (item.ScheduledProcedureStepID, item.RequestedProcedureID) == ("SPS2", "RP2")


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        (("StudyInstanceUID",), "0xa900"),
        (("QueryRetrieveLevel=PATIENT",), "0xa900"),
        (("QueryRetrieveLevel=SOMETHING",), "0xa900"),
        (("QueryRetrieveLevel=SERIES", "SeriesInstanceUID"), "0xa900"),
        (("QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={STUDY}.1"), "0xa900"),
        (("QueryRetrieveLevel=STUDY", "StudyDate=yesterday"), "0xc000"),
        (("QueryRetrieveLevel=STUDY", "StudyDate=-"), "0xc000"),
    ],
    ids=[
        "no level",
        "level of another model",
        "unknown level",
        "series without its study",
        "image without its series",
        "bad date",
        "range without ends",
    ],
)
def test_bad_query_is_refused_by_name(
    archive: DicomServer, keys: tuple[str, ...], status: str
) -> None:
    options = [part for key in keys for part in ("-k", key)]

    answer = dcmtk("findscu", archive.port, "-S", "-d", *options)

    assert status in answer.stdout.lower() + answer.stderr.lower()
    assert "(0000,0902)" in answer.stderr + answer.stdout or "Error Comment" in answer.stderr


def test_optional_key_that_is_not_supported_is_said_so(archive: DicomServer) -> None:
    answer = dcmtk(
        "findscu",
        archive.port,
        "-S",
        "-d",
        *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}.2"),
        *("-k", "PatientReligiousPreference", "-k", "0009,1001="),
    )

    assert "0xff01" in answer.stderr.lower() + answer.stdout.lower()


def test_registered_workstation_gets_the_letters_it_can_show(
    archive: DicomServer, tmp_path: Path
) -> None:
    with transaction(archive.engine) as session:
        peers.add(session, Peer("CT01", "127.0.0.1", 104, "", TextProfile.FOLD_ASCII))

    [match] = find(
        archive,
        tmp_path,
        "SpecificCharacterSet=ISO_IR 192",
        "QueryRetrieveLevel=STUDY",
        "PatientName",
        "PatientID=BN0002",
    )

    assert match.PatientName == "TRAN^THI BINH"
    assert "SpecificCharacterSet" not in match
