"""R03: every answer of success follows the flush of its object, read from strace."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset

from tests.fixtures import programs, traces
from tests.fixtures.dicom_files import ct_slice, encode, part10_file
from tests.fixtures.http import multipart_body
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.serving import Serving
from tests.fixtures.traces import judge

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not programs.find("strace"), reason="LEFT OUT: strace is not installed"),
]

SENDERS, EACH, UPLOADS = 4, 12, 6
TYPE = 'multipart/related; type="application/dicom"; boundary=b'


def send(port: int, datasets: list[Dataset], statuses: list[int | None]) -> None:
    with RawPeer(port, timeout_s=60) as peer:
        peer.associate()
        for dataset in datasets:
            answer = peer.store(store_request(dataset.SOPInstanceUID), encode(dataset))
            statuses.append(answer.status)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    server = Serving(tmp_path)
    server.start()
    yield server
    server.stop()


def test_no_answer_of_success_leaves_before_its_object_is_on_the_disk(
    serving: Serving, tmp_path: Path
) -> None:
    sent = [[marked() for _ in range(EACH)] for _ in range(SENDERS)]
    uploaded = [marked() for _ in range(UPLOADS)]
    statuses: list[int | None] = []
    log = tmp_path / "trace"
    receivers = [*serving.processes("dicom"), *serving.processes("api")]

    with serving.client() as client, traces.traced(receivers, log):
        senders = [
            threading.Thread(target=send, args=(serving.dicom_port, some, statuses))
            for some in sent
        ]
        for sender in senders:
            sender.start()
        codes = [upload(client, dataset) for dataset in uploaded]
        for sender in senders:
            sender.join()

    assert statuses == [0] * SENDERS * EACH
    assert codes == [200] * UPLOADS
    objects = {one.SOPInstanceUID: tail_of(one) for some in (*sent, uploaded) for one in some}
    assert judge(traces.calls(log), objects) == traces.Faults()


def marked() -> Dataset:
    """Return a slice whose last bytes are its own."""
    dataset = ct_slice()
    dataset.PixelData = dataset.PixelData[:-32] + tail_of(dataset).encode()
    return dataset


def tail_of(dataset: Dataset) -> str:
    return f"END{hash(dataset.SOPInstanceUID):029d}"


def upload(client: httpx.Client, dataset: Dataset) -> int:
    answer = client.post(
        "/dicom-web/studies",
        content=multipart_body([part10_file(dataset)]),
        headers={"Content-Type": TYPE},
    )
    return answer.status_code


# The judge itself

OBJECT = {"1.2.3": "THE END"}
FILE = (
    'openat(AT_FDCWD</>, "/s/a.part", O_RDWR|O_CREAT|O_EXCL, 0600) = 7</s/a.part>',
    'write(7</s/a.part>, "head 1.2.3", 10) = 10',
    'write(7</s/a.part>, "pixels THE END", 14) = 14',
    "fdatasync(7</s/a.part>) = 0",
    'rename("/s/a.part", "/s/1.dcm") = 0',
    "fsync(8</s>) = 0",
)
PACK = (
    'openat(AT_FDCWD</>, "/s/a.open", O_RDWR|O_CREAT|O_EXCL, 0600) = 7</s/a.open>',
    "fsync(8</s>) = 0",
    'write(7</s/a.open>, "head 1.2.3 pixels THE END", 25) = 25',
    "fdatasync(7</s/a.open>) = 0",
)
ANSWER = 'sendto(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, "... 1.2.3 ...", 13, 0, NULL, 0) = 13'
STEPS = [(FILE, step) for step in range(1, len(FILE))]  # a name that is renamed need not last
STEPS += [(PACK, step) for step in range(len(PACK))]


def early(tmp_path: Path, lines: Sequence[str]) -> list[str]:
    """Return which objects the judge finds answered too early."""
    log = tmp_path / "trace"
    log.write_text("".join(f"{line}\n" if line[:1].isdigit() else f"10 {line}\n" for line in lines))
    return judge(traces.calls(log), OBJECT).too_early


CLOSED = (*PACK, 'rename("/s/a.open", "/s/1.pack") = 0')


@pytest.mark.parametrize("way", [FILE, PACK, CLOSED], ids=["a file each", "a pack", "closed"])
def test_judge_accepts_the_right_order(tmp_path: Path, way: tuple[str, ...]) -> None:
    assert early(tmp_path, [*way, ANSWER]) == []


@pytest.mark.parametrize(("way", "late"), STEPS)
def test_judge_finds_each_step_that_comes_after_the_answer(
    tmp_path: Path, way: tuple[str, ...], late: int
) -> None:
    lines = [*way[:late], *way[late + 1 :], ANSWER, way[late]]

    assert early(tmp_path, lines) == ["1.2.3"]


@pytest.mark.parametrize(
    ("way", "step"), [(way, step) for way, step in STEPS if way[step].endswith(") = 0")]
)
def test_judge_finds_a_step_that_fails_or_ends_after_the_answer(
    tmp_path: Path, way: tuple[str, ...], step: int
) -> None:
    failed, slow = [*way, ANSWER], [*way, ANSWER]
    failed[step] = failed[step].replace("= 0", "= -1 EIO (Input/output error)")
    slow[step] = f"11 {way[step].removesuffix(') = 0')} <unfinished ...>"
    slow.append(f"11 <... {way[step].partition('(')[0]} resumed>) = 0")

    assert early(tmp_path, failed) == ["1.2.3"]
    assert early(tmp_path, slow) == ["1.2.3"]


@pytest.mark.parametrize("swapped", [(2, 3), (3, 4), (4, 5)])
def test_judge_finds_an_order_that_a_power_cut_breaks(
    tmp_path: Path, swapped: tuple[int, int]
) -> None:
    lines = [*FILE, ANSWER]
    one, other = swapped
    lines[one], lines[other] = lines[other], lines[one]

    assert early(tmp_path, lines) == ["1.2.3"]


def test_judge_misses_no_answer(tmp_path: Path) -> None:
    log = tmp_path / "trace"
    log.write_text("".join(f"10 {line}\n" for line in FILE))

    assert judge(traces.calls(log), OBJECT).unanswered == ["1.2.3"]
