"""R01: `kill -9` of the whole tree at random moments; what was answered is never lost.

``LIENTHONG_TEST_KILLS`` sets how often (the suite's default is small; 100 for a release).
"""

import hashlib
import json
import multiprocessing
import os
import random
import time
from pathlib import Path
from uuid import UUID

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.dsutils import encode

from tests.fixtures.serving import Serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3000)]

KILLS = int(os.environ.get("LIENTHONG_TEST_KILLS", "8"))
SENDERS = 4
READY_WITHIN_S = 5.0


def test_what_was_answered_survives_the_death_of_the_whole_tree(tmp_path: Path) -> None:
    server = Serving(tmp_path)
    server.start()
    senders = [
        multiprocessing.get_context("spawn").Process(
            target=send_for_ever, args=(server.dicom_port, str(tmp_path / f"ledger{n}"), n)
        )
        for n in range(SENDERS)
    ]
    moments = random.Random(20261123)
    restarts = []
    try:
        for sender in senders:
            sender.start()
        _await_answers(tmp_path, 20)
        for _ in range(KILLS):
            time.sleep(moments.uniform(0, 1.5))
            server.kill()
            restarts.append(server.start())
            _await_answers(tmp_path, _answered(tmp_path) + 4)
    finally:
        for sender in senders:
            sender.terminate()
            sender.join()
    try:
        _verify(server, tmp_path, restarts)
    finally:
        server.stop()


def _verify(server: Serving, folder: Path, restarts: list[float]) -> None:
    tried, answered = _ledger(folder)
    client = server.client()
    deadline = time.monotonic() + 60
    while (found := _everything(client)).keys() < answered.keys():
        assert time.monotonic() < deadline, f"{len(answered.keys() - found.keys())} lost"
        time.sleep(0.5)
    wrong = [
        uid
        for uid, (study, series) in found.items()
        if _fetched(client, study, series, uid) != tried[uid]
    ]
    client.close()

    assert not wrong
    assert found.keys() <= tried.keys()
    assert not list((folder / "data" / "spool").rglob("*.part"))
    print(
        f"kills {KILLS}, tried {len(tried)}, answered {len(answered)}, found {len(found)}, "
        f"restart max {max(restarts):.2f} s"
    )
    assert max(restarts) < READY_WITHIN_S


def _everything(client) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    while True:
        page = client.get("/dicom-web/instances", params={"limit": 1000, "offset": len(found)})
        page.raise_for_status()
        rows = page.json() if page.content else []
        for row in rows:
            uid, study, series = (
                row[tag]["Value"][0] for tag in ("00080018", "0020000D", "0020000E")
            )
            assert uid not in found, "the same instance twice"
            found[uid] = study, series
        if len(rows) < 1000:
            return found


def _fetched(client, study: str, series: str, uid: str) -> str:
    answer = client.get(
        f"/dicom-web/studies/{study}/series/{series}/instances/{uid}",
        headers={"Accept": "application/dicom; transfer-syntax=*"},
    )
    answer.raise_for_status()
    return hashlib.sha256(dataset_of(answer.content)).hexdigest()


def dataset_of(part10: bytes) -> bytes:
    """Return what follows the File Meta Information (PS3.10 7.1)."""
    assert part10[128:132] == b"DICM"
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def _ledger(folder: Path) -> tuple[dict[str, str], set[str] | dict[str, str]]:
    tried: dict[str, str] = {}
    answered: dict[str, str] = {}
    for path in folder.glob("ledger*"):
        for line in path.read_text().splitlines():
            word, uid, digest = json.loads(line)
            (answered if word == "OK" else tried)[uid] = digest
    return tried, answered


def _answered(folder: Path) -> int:
    return sum(path.read_text().count('"OK"') for path in folder.glob("ledger*"))


def _await_answers(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while _answered(folder) < count:
        assert time.monotonic() < deadline, "the senders get no answers"
        time.sleep(0.02)


def send_for_ever(port: int, ledger: str, seed: int) -> None:
    """Send slices one after the other, again and again after each failure; note every answer."""
    noise = random.Random(seed)
    with open(ledger, "a", buffering=1) as lines:
        study, series = generate_uid(), generate_uid()
        while True:
            ae = AE(f"SENDER{seed}")
            ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 5
            ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
            association = ae.associate("127.0.0.1", port)
            while association.is_established:
                slice_ = _slice(study, series, noise)
                digest = hashlib.sha256(encode(slice_, False, True) or b"").hexdigest()
                lines.write(json.dumps(["TRY", slice_.SOPInstanceUID, digest]) + "\n")
                try:
                    answer = association.send_c_store(slice_)
                except (RuntimeError, ValueError):
                    break
                if answer and answer.Status == 0:
                    lines.write(json.dumps(["OK", slice_.SOPInstanceUID, digest]) + "\n")
                if noise.random() < 0.02:
                    study, series = generate_uid(), generate_uid()
            time.sleep(0.05)


def _slice(study: str, series: str, noise: random.Random) -> Dataset:
    slice_ = Dataset()
    slice_.SpecificCharacterSet = "ISO_IR 192"
    slice_.SOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = f"2.25.{UUID(bytes=noise.randbytes(16)).int}"
    slice_.StudyDate, slice_.Modality = "20260701", "CT"
    slice_.PatientName, slice_.PatientID = "NGUYỄN^VĂN AN", "KILL1"
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.Rows = slice_.Columns = 256
    slice_.BitsAllocated = slice_.BitsStored = 16
    slice_.HighBit, slice_.PixelRepresentation = 15, 0
    slice_.PixelData = noise.randbytes(256 * 256 * 2)
    return slice_
