"""R03: every answer of success follows the flush of its object, read from strace."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset

from tests.fixtures import programs, traces
from tests.fixtures.dicom_files import ct_slice, encode, part10_file
from tests.fixtures.http import multipart_body
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.serving import Serving
from tests.fixtures.traces import Call, judge

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
    sent = [[ct_slice() for _ in range(EACH)] for _ in range(SENDERS)]
    uploaded = [ct_slice() for _ in range(UPLOADS)]
    statuses: list[int | None] = []
    log = tmp_path / "trace"
    receivers = [serving.role(name) for name in ("dicom", "api")]

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
    uids = [one.SOPInstanceUID for some in (*sent, uploaded) for one in some]
    assert judge(traces.calls(log), uids) == traces.Faults()


def upload(client: httpx.Client, dataset: Dataset) -> int:
    answer = client.post(
        "/dicom-web/studies",
        content=multipart_body([part10_file(dataset)]),
        headers={"Content-Type": TYPE},
    )
    return answer.status_code


# The judge itself

GOOD = (
    'write(7</s/a.part>, "head 1.2.3 tail", 15) = 15',
    'write(7</s/a.part>, "pixels", 6) = 6',
    "fdatasync(7</s/a.part>) = 0",
    'rename("/s/a.part", "/s/1.dcm") = 0',
    "fsync(8</s>) = 0",
    'sendto(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, "... 1.2.3 ...", 13, 0, NULL, 0) = 13',
)


def trace(tmp_path: Path, lines: list[str]) -> list[Call]:
    log = tmp_path / "trace"
    log.write_text("".join(f"10 {line}\n" for line in lines))
    return traces.calls(log)


def test_judge_accepts_the_right_order(tmp_path: Path) -> None:
    assert judge(trace(tmp_path, list(GOOD)), ["1.2.3"]) == traces.Faults()


@pytest.mark.parametrize("late", range(len(GOOD) - 1))
def test_judge_finds_each_step_that_comes_after_the_answer(tmp_path: Path, late: int) -> None:
    lines = [line for number, line in enumerate(GOOD) if number != late] + [GOOD[late]]

    assert judge(trace(tmp_path, lines), ["1.2.3"]).too_early == ["1.2.3"]


@pytest.mark.parametrize("step", [2, 3, 4])
def test_judge_finds_a_step_that_fails_or_ends_after_the_answer(tmp_path: Path, step: int) -> None:
    failed = [*GOOD]
    failed[step] = failed[step].replace("= 0", "= -1 EIO (Input/output error)")
    slow = [f"10 {line}" for line in GOOD]
    slow[step] = f"11 {GOOD[step].removesuffix(') = 0')} <unfinished ...>"
    slow.append(f"11 <... {GOOD[step].partition('(')[0]} resumed>) = 0")
    log = tmp_path / "slow"
    log.write_text("\n".join(slow))

    assert judge(trace(tmp_path, failed), ["1.2.3"]).too_early == ["1.2.3"]
    assert judge(traces.calls(log), ["1.2.3"]).too_early == ["1.2.3"]


def test_judge_finds_the_order_of_flush_and_name_that_a_power_cut_breaks(tmp_path: Path) -> None:
    lines = [GOOD[0], GOOD[3], GOOD[2], GOOD[4], GOOD[5]]

    assert judge(trace(tmp_path, lines), ["1.2.3"]).too_early == ["1.2.3"]


def test_judge_misses_no_answer(tmp_path: Path) -> None:
    assert judge(trace(tmp_path, list(GOOD[:-1])), ["1.2.3"]).unanswered == ["1.2.3"]
