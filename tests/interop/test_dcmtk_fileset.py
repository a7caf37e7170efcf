"""A study on media: the ZIP with DICOMDIR, read and judged by DCMTK, dicom3tools and pydicom."""

import io
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.fileset import FileSet
from pydicom.uid import EncapsulatedPDFStorage, RLELossless, generate_uid

from deploy import exporting
from deploy.node import Node
from pacs import contexts
from pacs.filesets import Profile
from storage.base.errors import Conflict, NotFound
from tests.fixtures import programs
from tests.fixtures.dcmtk import needs_dcmtk
from tests.fixtures.dicom_files import ct_slice, encapsulated, multi_frame, part10_file
from tests.fixtures.dicom_papers import ecg, structured_report
from tests.fixtures.http import HttpNode
from tests.fixtures.presentation_states import presentation_state

pytestmark = [pytest.mark.interop]

STUDY = generate_uid()


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    series = generate_uid()
    one = {"StudyInstanceUID": STUDY, "StudyID": "7", "ReferringPhysicianName": ""}
    slices = [
        ct_slice(**one, SeriesInstanceUID=series, InstanceNumber=number) for number in (1, 2, 3)
    ]
    return [*slices, multi_frame(2, **one, SeriesInstanceUID=generate_uid(), SeriesNumber=3)]


@pytest.fixture(scope="module")
def client(shared_http_node: HttpNode, images: list[Dataset]) -> httpx.Client:
    pdf = ct_slice(SOPClassUID=EncapsulatedPDFStorage, StudyInstanceUID=STUDY, Modality="DOC")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        del pdf[keyword]
    pdf.EncapsulatedDocument, pdf.MIMETypeOfEncapsulatedDocument = b"%PDF-1.4", "application/pdf"
    pdf.DocumentTitle = "Kết quả"
    paper, curve = structured_report(), ecg()
    curve.ContentDate, curve.ContentTime = "20260301", "073100"
    state = presentation_state(images[0])
    for one in (paper, curve, state):
        one.StudyInstanceUID, one.SeriesInstanceUID = STUDY, generate_uid()
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
            setattr(one, keyword, images[0][keyword].value)
    coded = ct_slice(StudyInstanceUID=STUDY, StudyID="7")
    coded.SOPInstanceUID = generate_uid()
    rle = encapsulated(coded, [_rle(coded.PixelData)])
    shared_http_node.put(*images, pdf, paper, curve, state)
    shared_http_node.put(rle, transfer_syntax=RLELossless)
    return shared_http_node.client()


def _rle(cells: bytes) -> bytes:
    """Return the cells of 16 bits in RLE (PS3.5 G), nothing of it repeated."""
    segments = []
    for plane in (cells[1::2], cells[::2]):
        runs = [plane[at : at + 128] for at in range(0, len(plane), 128)]
        segments.append(b"".join(bytes([len(run) - 1]) + run for run in runs))
    segments = [one + b"\0" * (len(one) % 2) for one in segments]
    offsets = [2, 64, 64 + len(segments[0]), *[0] * 13]
    return b"".join(number.to_bytes(4, "little") for number in offsets) + b"".join(segments)


def unpacked(answer: httpx.Response, folder: Path) -> Path:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder / "DICOMDIR"


@pytest.mark.parametrize("media", ["DICOMDIR", "STD-GEN-CD"])
def test_pydicom_finds_every_file_by_the_directory(client, tmp_path, media):
    path = unpacked(client.get(f"/dicom-web/studies/{STUDY}/archive?media={media}"), tmp_path)

    found = FileSet(path)
    found._stage["t"].cleanup()  # noqa: SLF001 - it has no end of its own

    assert len(found) == 9
    for one in found:
        stored = one.load()
        assert stored.SOPInstanceUID == one.ReferencedSOPInstanceUIDInFile
        assert stored.file_meta.TransferSyntaxUID == one.ReferencedTransferSyntaxUIDInFile
        assert stored.PatientName == one.PatientName
        if media == "STD-GEN-CD":
            assert stored.file_meta.TransferSyntaxUID == contexts.EXPLICIT_VR_LITTLE_ENDIAN
    kinds = Counter(record.DirectoryRecordType for record in dcmread(path).DirectoryRecordSequence)
    assert kinds == {
        "PATIENT": 1,
        "STUDY": 1,
        "SERIES": 7,
        "IMAGE": 5,
        "ENCAP DOC": 1,
        "SR DOCUMENT": 1,
        "WAVEFORM": 1,
        "PRESENTATION": 1,
    }


@needs_dcmtk
def test_dcmtk_makes_the_same_directory(client, tmp_path):
    path = unpacked(client.get(f"/dicom-web/studies/{STUDY}/archive?media=STD-GEN-CD"), tmp_path)
    ours = {one.ReferencedSOPInstanceUIDInFile: one for one in _leaves(path)}
    path.unlink()
    command = [programs.need("dcmmkdir"), "-Pgp", "+r", "+I", "-W", "+D", path, "DICOM"]
    made = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr

    theirs = {one.ReferencedSOPInstanceUIDInFile: one for one in _leaves(path)}

    assert theirs.keys() == ours.keys()
    for uid, record in theirs.items():
        for element in record:
            if element.tag.group == 0x0004 and element.keyword.startswith("Offset"):
                continue
            if element.keyword in {"ReferencedSeriesSequence", "SpecificCharacterSet"}:
                continue
            assert ours[uid].get(element.keyword) == element.value, element.keyword


def _leaves(path: Path) -> list[Dataset]:
    records = dcmread(path).DirectoryRecordSequence
    return [one for one in records if "ReferencedFileID" in one]


@needs_dcmtk
def test_dcmtk_reads_it_and_adds_to_it(client, tmp_path):
    path = unpacked(client.get(f"/dicom-web/studies/{STUDY}/archive?media=STD-GEN-CD"), tmp_path)
    shown = subprocess.run(
        [programs.need("dcmdump"), path], capture_output=True, timeout=60, check=False
    )
    another = ct_slice(StudyInstanceUID=STUDY, SOPInstanceUID=generate_uid(), StudyID="7")
    another.PatientName = "X"

    (tmp_path / "MORE").write_bytes(part10_file(another))

    command = [programs.need("dcmmkdir"), "-Pgp", "+A", "+I", "-W", "+D", path, "MORE"]
    added = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert shown.returncode == 0
    assert b"error" not in shown.stderr.lower()
    assert added.returncode == 0, added.stderr
    assert len(_leaves(path)) == 10


def test_dicom3tools_find_no_error(client, tmp_path):
    path = unpacked(client.get(f"/dicom-web/studies/{STUDY}/archive?media=STD-GEN-CD"), tmp_path)
    if not programs.find("dciodvfy"):
        pytest.skip("dicom3tools are not installed")

    told = subprocess.run(
        [programs.need("dciodvfy"), path], capture_output=True, text=True, timeout=60, check=False
    )

    told_of = (told.stdout + told.stderr).splitlines()
    # the sequence is of blending states only, which ours is not
    errors = [line for line in told_of if line.startswith("Error") and "Blending" not in line]
    assert "BasicDirectory" in told_of
    assert not errors


def test_a_zip_is_given_to_who_accepts_one(client):
    accepted = client.get(f"/dicom-web/studies/{STUDY}", headers={"Accept": "application/zip"})
    multipart = client.get(f"/dicom-web/studies/{STUDY}", headers={"Accept": "*/*"})

    assert accepted.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(accepted.content)) as archive:
        assert len(archive.namelist()) == 9
    assert multipart.headers["content-type"].startswith("multipart/related")


def test_file_ids_are_those_of_media(client):
    answer = client.get(f"/dicom-web/studies/{STUDY}/archive", params={"media": "std-gen-cd"})

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        for name in archive.namelist():
            for component in name.split("/"):
                assert len(component) <= 8
                assert component == component.upper()


def test_an_unknown_profile_is_refused(client):
    answer = client.get(f"/dicom-web/studies/{STUDY}/archive", params={"media": "STD-CTMR-CD"})

    assert answer.status_code == 400


@pytest.mark.usefixtures("client")
def test_studies_are_exported_into_a_folder(shared_http_node, images, tmp_path):
    node = Node(
        shared_http_node.settings,
        shared_http_node.engine,
        shared_http_node.store,
        shared_http_node.spool,
    )
    folder = tmp_path / "disc"

    count = exporting.export(node, [STUDY], folder, Profile.GENERAL_PURPOSE)

    assert count == 10
    assert len(_leaves(folder / "DICOMDIR")) == 9
    assert dcmread(folder / "DICOM/S00001/I000001").PatientName == images[0].PatientName
    with pytest.raises(Conflict):
        exporting.export(node, [STUDY], folder, Profile.PLAIN)
    with pytest.raises(NotFound):
        exporting.export(node, ["1.2.3"], tmp_path / "other", Profile.PLAIN)
