"""DCMTK's modality tools against the real listener: C-ECHO and C-STORE."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pacs import part10
from storage.spool import Spool, checksum_of
from tests.fixtures import programs
from tests.fixtures.dcmtk import dcmtk, needs_dcmtk
from tests.fixtures.dicom_files import SharedFile, ct_slice, part10_file
from tests.fixtures.server import listening
from tests.fixtures.spooled import spooled

pytestmark = [pytest.mark.interop, needs_dcmtk]


def test_echoscu_is_answered(port: int) -> None:
    answer = dcmtk("echoscu", port, "-v")

    assert answer.returncode == 0, answer.stderr
    assert "Received Echo Response (Success)" in answer.stderr


def test_echoscu_hears_why_it_is_rejected(port: int) -> None:
    answer = subprocess.run(
        [programs.need("echoscu"), "-aec", "OTHER", "127.0.0.1", str(port)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert "Called AE Title Not Recognized" in answer.stderr


@pytest.mark.parametrize(
    ("transfer_syntax", "option"),
    [
        (ExplicitVRLittleEndian, "-xe"),
        (ImplicitVRLittleEndian, "-xi"),
        (ExplicitVRBigEndian, "-xb"),
        (DeflatedExplicitVRLittleEndian, "-xd"),
    ],
    ids=["explicit", "implicit", "big endian", "deflated"],
)
def test_native_object_is_spooled_as_it_is(
    port: int, spool: Spool, tmp_path: Path, transfer_syntax: str, option: str
) -> None:
    path = tmp_path / "ct.dcm"
    sent = ct_slice()
    path.write_bytes(part10_file(sent, transfer_syntax))

    answer = dcmtk("storescu", port, option, path)

    assert answer.returncode == 0, answer.stderr
    [record] = spooled(spool, 10)
    kept = dcmread(record.path)
    assert kept.file_meta.TransferSyntaxUID == transfer_syntax
    assert kept == sent


COMPRESSED = {
    "-xs": "1.2.840.10008.1.2.4.70",
    "-xy": "1.2.840.10008.1.2.4.50",
    "-xx": "1.2.840.10008.1.2.4.51",
    "-xv": "1.2.840.10008.1.2.4.90",
    "-xw": "1.2.840.10008.1.2.4.91",
    "-xt": "1.2.840.10008.1.2.4.80",
    "-xu": "1.2.840.10008.1.2.4.81",
    "-xr": "1.2.840.10008.1.2.5",
}


@pytest.mark.parametrize(("option", "uid"), COMPRESSED.items(), ids=COMPRESSED.values())
def test_compressed_object_is_spooled_as_it_is(
    port: int, spool: Spool, shared_set: list[SharedFile], option: str, uid: str
) -> None:
    file = next(
        (one for one in shared_set if one.transfer_syntax_uid == uid and _sendable(one.path)), None
    )
    if file is None:
        pytest.skip(f"the shared set has no file in {uid}")

    answer = dcmtk("storescu", port, option, file.path)

    assert answer.returncode == 0, answer.stderr
    [record] = spooled(spool, 10)
    head = part10.read_head(record.path.read_bytes())
    assert head.transfer_syntax_uid == uid
    ours, theirs = dcmread(record.path), dcmread(file.path)
    assert ours.PixelData == theirs.PixelData
    assert ours.SOPInstanceUID == theirs.SOPInstanceUID


def _sendable(path: Path) -> bool:
    found = dcmread(path, stop_before_pixels=True)
    uids = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    return all(found.get(uid) for uid in uids)


@pytest.mark.parametrize("size", [4096, 16384, 65536, 131072])
def test_object_is_whole_with_any_pdu_length_of_the_sender(
    port: int, spool: Spool, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10_file(ct_slice(PixelData=bytes(range(256)) * 2000)))

    answer = dcmtk("storescu", port, "--max-send-pdu", min(size, 131072), path)

    assert answer.returncode == 0, answer.stderr
    [record] = spooled(spool, 10)
    assert dcmread(record.path).PixelData == bytes(range(256)) * 2000


def test_hundred_objects_over_one_association_are_a_hundred_records(
    port: int, spool: Spool, tmp_path: Path
) -> None:
    sent = set()
    for number in range(100):
        dataset = ct_slice(InstanceNumber=number)
        (tmp_path / f"{number}.dcm").write_bytes(part10_file(dataset))
        sent.add(dataset.SOPInstanceUID)

    answer = dcmtk("storescu", port, "+sd", "+sp", "*.dcm", tmp_path)

    assert answer.returncode == 0, answer.stderr
    records = spooled(spool, 200)
    assert {
        dcmread(record.path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID for record in records
    } == sent
    for record in records:
        content = record.path.read_bytes()
        dataset_bytes = content[part10.read_head(content).length :]
        assert checksum_of(dataset_bytes) == record.checksum


def test_modality_sees_out_of_resources_when_the_spool_is_gone(
    port: int, spool: Spool, tmp_path: Path
) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10_file(ct_slice()))
    shutil.rmtree(spool.folder)

    answer = dcmtk("storescu", port, "-v", path)

    assert "Refused: OutOfResources" in answer.stderr


def test_modality_sees_that_the_object_is_unreadable(port: int, tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10_file(ct_slice(StudyInstanceUID="")))

    answer = dcmtk("storescu", port, "-v", path)

    assert "CannotUnderstand" in answer.stderr


def test_senders_that_are_killed_leave_nothing(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    path.write_bytes(part10_file(ct_slice(PixelData=bytes(40 << 20))))
    with listening(spool) as listener:
        for _ in range(5):
            sender = subprocess.Popen(
                ["storescu", "-aec", "ARCHIVE", "127.0.0.1", str(listener.port), str(path)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with pytest.raises(subprocess.TimeoutExpired):
                sender.wait(0.03)
            sender.kill()
            sender.wait()
        answer = dcmtk("echoscu", listener.port)
        listener.stop(grace_s=2)

    assert answer.returncode == 0
    assert list(spool.folder.glob("*.part")) == []
