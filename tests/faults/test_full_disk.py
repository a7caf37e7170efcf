"""R05: the spool's disk fills up under ingest; senders are told, and all goes on with room again.

Not the database's disk: the reserve keeps that one from filling up where they share it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from tests.fixtures.dicom_files import ct_slice, encode, part10_file
from tests.fixtures.disks import small_disk
from tests.fixtures.http import multipart_body
from tests.fixtures.ledger import everything
from tests.fixtures.patience import AT_ONCE_S, PATIENCE_S
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.serving import Serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

MIB = 1 << 20
DISK_MIB = 12
OUT_OF_RESOURCES = 0xA700
TYPE = 'multipart/related; type="application/dicom"; boundary=b'


@contextmanager
def serving(tmp_path: Path, reserve_bytes: int) -> Iterator[Serving]:
    """A server whose spool is a disk of 12 MiB."""
    with small_disk(tmp_path / "data" / "spool", DISK_MIB):
        server = Serving(tmp_path, {"LIENTHONG_SPOOL_RESERVE_BYTES": str(reserve_bytes)})
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.mark.parametrize("reserve", [0, 3 * MIB], ids=["to the last byte", "down to the reserve"])
def test_full_spool_refuses_whole_objects_and_heals_by_itself(tmp_path: Path, reserve: int) -> None:
    with serving(tmp_path, reserve) as server, server.client() as client:
        spool = tmp_path / "data" / "spool"
        study = generate_uid()
        with server.paused("worker"), RawPeer(server.dicom_port, timeout_s=30) as sender:
            sender.associate()
            stored, refused = fill(lambda dataset: store(sender, dataset), study)
            uploaded, refused_uploads = fill(lambda dataset: upload(client, dataset), study)
            files = [path for path in spool.rglob("*") if path.is_file()]
            found_while_full = client.get("/dicom-web/studies").status_code

            assert len([path for path in files if path.suffix == ".dcm"]) == len(stored) + len(
                uploaded
            )
            assert not [path for path in files if path.suffix == ".part"]
            assert found_while_full < 300

        begun = time.monotonic()
        while (answer := store_anew(server, refused[0]))[0] != 0:
            time.sleep(0.1)
            assert time.monotonic() - begun < PATIENCE_S
        print(f"stores again after {time.monotonic() - begun:.2f} s")
        again = [upload(client, dataset)[0] for dataset in refused_uploads]

        wanted = {one.SOPInstanceUID for one in (*stored, *uploaded, refused[0], *refused_uploads)}
        found = await_all(client, wanted)

    assert len(stored) > 3
    assert answer == (0, "")
    assert again == [0] * len(refused_uploads)
    assert found == wanted


def fill(
    send: Callable[[Dataset], tuple[int, str]], study: str
) -> tuple[list[Dataset], list[Dataset]]:
    """Send slices of 1 MiB until five in a row were refused; return which were not, and which."""
    taken: list[Dataset] = []
    refused: list[Dataset] = []
    while len(refused) < 5:
        dataset = ct_slice(StudyInstanceUID=study, PixelData=bytes(MIB))
        begun = time.monotonic()
        status, said = send(dataset)
        assert time.monotonic() - begun < AT_ONCE_S
        assert status in {0, OUT_OF_RESOURCES}, said
        if status:
            refused.append(dataset)
        else:
            taken.append(dataset)
        assert len(taken) <= DISK_MIB
    return taken, refused


def store(sender: RawPeer, dataset: Dataset) -> tuple[int, str]:
    answer = sender.store(store_request(dataset.SOPInstanceUID), encode(dataset))
    return answer.status or 0, answer.error_comment or ""


def store_anew(server: Serving, dataset: Dataset) -> tuple[int, str]:
    with RawPeer(server.dicom_port) as sender:
        return store(sender.associate(), dataset)


def upload(client: httpx.Client, dataset: Dataset) -> tuple[int, str]:
    """Upload one object and return its failure reason, 0 when it was stored."""
    answer = client.post(
        "/dicom-web/studies",
        content=multipart_body([part10_file(dataset)]),
        headers={"Content-Type": TYPE},
    )
    if answer.status_code == 200:
        return 0, ""
    assert answer.status_code == 507
    assert int(answer.headers["retry-after"]) > 0
    [failed] = answer.json()["00081198"]["Value"]
    return failed["00081197"]["Value"][0], answer.text


def await_all(client: httpx.Client, wanted: set[str]) -> set[str]:
    deadline = time.monotonic() + PATIENCE_S
    while not wanted <= (found := everything(client).keys()):
        assert time.monotonic() < deadline, f"{len(wanted - found)} of {len(wanted)} are lost"
        time.sleep(0.2)
    return set(found)
