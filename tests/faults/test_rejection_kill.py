"""A rejection note that was answered has its effect, whole, whenever the server dies after it.

``LIENTHONG_TEST_KILLS`` sets how often.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from storage.archive.rejection_rules import Title
from tests.fixtures.dicom_files import ct_slice, part10_file
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.rejection_notes import KOS, rejection
from tests.fixtures.serving import Serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("LIENTHONG_TEST_KILLS", "1"))
IMAGES = 6
API = "/api/v1/rejections"


def send(server: Serving, folder: Path, *some: Dataset) -> None:
    """Store objects by C-STORE; each is answered with success."""
    ae = AE("CT01")
    for uid in (CTImageStorage, KOS):
        ae.add_requested_context(uid, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", server.dicom_port)
    assert association.is_established
    for one in some:
        path = folder / "object.dcm"
        path.write_bytes(part10_file(one))
        assert association.send_c_store(dcmread(path)).Status == 0
    association.release()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def found(client: httpx.Client, study: str) -> set[str]:
    answer = client.get("/dicom-web/instances", params={"StudyInstanceUID": study})
    rows = answer.json() if answer.status_code == 200 else []
    return {row["00080018"]["Value"][0] for row in rows}


def counted(client: httpx.Client, study: str) -> int:
    answer = client.get("/dicom-web/studies", params={"StudyInstanceUID": study})
    return answer.json()[0]["00201208"]["Value"][0] if answer.status_code == 200 else 0


def test_rejection_survives_death_at_any_moment_and_is_never_half(tmp_path: Path) -> None:
    server = Serving(tmp_path)
    server.start()
    moments = random.Random(20261126)
    try:
        with server.client("technologist") as client:
            for _ in range(KILLS):
                images, note = _sent(server, tmp_path)
                time.sleep(moments.uniform(0, 0.5))
                server.kill()
                server.start()
                _verify(client, images, note)
    finally:
        server.stop()


def _sent(server: Serving, folder: Path) -> tuple[list[Dataset], Dataset]:
    """Send images and a note on the first half of them, in the midst of them."""
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    images = [ct_slice(InstanceNumber=number, **uids) for number in range(IMAGES)]
    note = rejection(Title.SAFETY, images[: IMAGES // 2])
    send(server, folder, *images[::2], note, *images[1::2])
    return images, note


def _verify(client: httpx.Client, images: Sequence[Dataset], note: Dataset) -> None:
    """Wait until the other half is shown and no more, and show everything again."""
    study, uid = str(note.StudyInstanceUID), str(note.SOPInstanceUID)
    everything = [str(one.SOPInstanceUID) for one in images]
    kept = {*everything[IMAGES // 2 :]}
    until(lambda: found(client, study) == kept)
    assert counted(client, study) == len(kept)
    assert client.get(f"{API}/{uid}").json()["in_force"] == IMAGES - len(kept)
    named = client.get(f"{API}/{uid}/instances").json()
    assert {one["hidden"] for one in named} == {Title.SAFETY}

    assert client.post(f"{API}/{uid}/restore").status_code == 200
    assert found(client, study) == {*everything}
    assert counted(client, study) == IMAGES
