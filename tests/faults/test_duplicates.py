"""R09: the same object again, and another one under its UID, over C-STORE and STOW-RS."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from tests.fixtures.dicom_files import ct_slice, encode, part10_file
from tests.fixtures.http import multipart_body
from tests.fixtures.ledger import dataset_of, everything, fetched
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.serving import Serving

pytestmark = pytest.mark.faults

TYPE = 'multipart/related; type="application/dicom"; boundary=b'
PEERS, EACH, UPLOADS = 10, 10, 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    server = Serving(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def store(server: Serving, dataset: Dataset, times: int = 1) -> list[int | None]:
    command, data = store_request(dataset.SOPInstanceUID), encode(dataset)
    with RawPeer(server.dicom_port, timeout_s=30) as peer:
        peer.associate()
        return [peer.store(command, data).status for _ in range(times)]


def upload(client: httpx.Client, *datasets: Dataset) -> int:
    answer = client.post(
        "/dicom-web/studies",
        content=multipart_body([part10_file(dataset) for dataset in datasets]),
        headers={"Content-Type": TYPE},
    )
    assert "00081198" not in answer.json(), answer.text
    return answer.status_code


def settle(server: Serving) -> None:
    """Wait until everything that was received has been ingested."""
    spool = Path(server.environment["LIENTHONG_DATA_DIR"]) / "spool"
    deadline = time.monotonic() + PATIENCE_S
    while [path for path in spool.iterdir() if path.suffix in {".dcm", ".open", ".pack"}]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def held(client: httpx.Client, uid: str) -> list[dict[str, str]]:
    return [one for one in client.get("/api/v1/quarantine").json() if uid in str(one)]


def sha256(dataset: Dataset) -> str:
    return hashlib.sha256(encode(dataset)).hexdigest()


def test_same_bytes_a_hundred_times_at_once_are_one_object(
    server: Serving, client: httpx.Client
) -> None:
    dataset = ct_slice()
    statuses: list[int | None] = []
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.extend(store(server, dataset, EACH)))
        for _ in range(PEERS)
    ]
    threads.append(
        threading.Thread(
            target=lambda: codes.extend(upload(client, dataset, dataset) for _ in range(UPLOADS))
        )
    )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settle(server)

    study, series = dataset.StudyInstanceUID, dataset.SeriesInstanceUID
    [found] = client.get("/dicom-web/studies", params={"StudyInstanceUID": study}).json()
    assert statuses == [0] * PEERS * EACH
    assert codes == [200] * UPLOADS
    assert found["00201208"]["Value"] == [1]
    assert fetched(client, study, series, dataset.SOPInstanceUID) == sha256(dataset)
    assert held(client, dataset.SOPInstanceUID) == []


@pytest.mark.parametrize("first", ["C-STORE", "STOW-RS"])
@pytest.mark.parametrize("second", ["C-STORE", "STOW-RS"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same study", "other study"])
def test_other_bytes_under_the_uid_are_kept_beside_it_with_an_alarm(
    server: Serving, client: httpx.Client, tmp_path: Path, first: str, second: str, elsewhere: bool
) -> None:
    original = ct_slice()
    uid, study = original.SOPInstanceUID, original.StudyInstanceUID
    other = ct_slice(
        SOPInstanceUID=uid,
        SeriesInstanceUID=original.SeriesInstanceUID if not elsewhere else generate_uid(),
        StudyInstanceUID=study if not elsewhere else generate_uid(),
        PixelData=bytes(range(256)) * 2,
    )

    for dataset, wire in ((original, first), (other, second), (other, second)):
        if wire == "C-STORE":
            assert store(server, dataset) == [0]
        else:
            assert upload(client, dataset) == 200
        settle(server)

    [alarm] = held(client, uid)
    exported = tmp_path / "other.dcm"
    out = server.run("quarantine", "export", str(alarm["id"]), str(exported))
    assert out.returncode == 0, out.stderr
    assert hashlib.sha256(dataset_of(exported.read_bytes())).hexdigest() == sha256(other)
    assert everything(client)[uid] == (study, original.SeriesInstanceUID)
    assert fetched(client, study, original.SeriesInstanceUID, uid) == sha256(original)


def test_doctor_says_that_something_is_held(server: Serving) -> None:
    dataset = ct_slice()
    other = ct_slice(SOPInstanceUID=dataset.SOPInstanceUID)
    assert store(server, dataset) + store(server, other) == [0, 0]
    settle(server)

    examined = server.run("doctor").stdout

    assert re.search(r"quarantine.*look.*[1-9]\d* objects held", examined), examined
