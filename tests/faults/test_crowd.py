"""N01, N11: many peers that do nothing, and many that come and go, in front of the whole server.

``LIENTHONG_TEST_ASSOCIATIONS`` sets how many come one after the other (10,000 for a release).
"""

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pacs.upper_layer import pdu
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.patience import AT_ONCE_S, PATIENCE_S
from tests.fixtures.processes import Use
from tests.fixtures.raw_peer import CT_CONTEXT, RawPeer, message, store_request
from tests.fixtures.serving import Serving

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

CROWD = 500
ASSOCIATIONS = int(os.environ.get("LIENTHONG_TEST_ASSOCIATIONS", "2000"))
RELEASE = ASSOCIATIONS >= 10_000
"""A release is tried on a quiet machine; the suite shares its cores with other work."""
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    server = Serving(
        tmp_path_factory.mktemp("server"),
        {
            "LIENTHONG_DICOM_PROCESSES": "1",
            "LIENTHONG_HTTP_PROCESSES": "1",
            "LIENTHONG_MAX_ASSOCIATIONS": "1024",
            "LIENTHONG_MAX_ASSOCIATIONS_PER_PEER": "1024",
        },
    )
    server.start()
    yield server
    server.stop()
    assert '"level": "ERROR"' not in server.log.read_text()


@contextmanager
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip(f"LEFT OUT: only {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def echo_seconds(port: int) -> float:
    """Associate, C-ECHO, release; return how long it took."""
    begun = time.monotonic()
    with RawPeer(port) as peer:
        assert peer.associate().echo() == 0
        peer.send(pdu.RELEASE_REQUEST)
        assert peer.until_closed() == [pdu.RELEASE_RP]
    return time.monotonic() - begun


def transfer_seconds(port: int, count: int = 100) -> float:
    """Store `count` slices of 128 KiB; return how long it took."""
    dataset = ct_slice(PixelData=bytes(128 << 10))
    command, data = store_request(dataset.SOPInstanceUID), encode(dataset)
    begun = time.monotonic()
    with RawPeer(port) as peer:
        peer.associate()
        for _ in range(count):
            assert peer.store(command, data).status == 0
    return time.monotonic() - begun


def test_crowd_that_does_nothing_is_not_noticed(server: Serving) -> None:
    port, pid = server.dicom_port, server.role("dicom")
    with server.paused("worker"):
        alone_s = min(transfer_seconds(port) for _ in range(3))
    before = Use.of(pid)
    with many_descriptors(), server.paused("worker"), ExitStack() as crowd:
        begun = time.monotonic()
        for _ in range(CROWD):
            crowd.enter_context(RawPeer(port)).associate()
        opened_s = time.monotonic() - begun
        begun = time.monotonic()
        for sent in (b"", b"\x01\0"):
            for _ in range(CROWD):
                crowd.enter_context(RawPeer(port)).send(sent)
        while (crowded := Use.of(pid)).threads < 3 * CROWD and time.monotonic() - begun < 3:
            time.sleep(0.02)  # the kernel holds some of them for the listener
        time.sleep(1)
        idle_s = Use.of(pid).processor_s - crowded.processor_s
        echoes = sorted(echo_seconds(port) for _ in range(100))
        slow_s = min(transfer_seconds(port) for _ in range(3))
        crowded_for_s = time.monotonic() - begun

    print(
        f"{CROWD} associations in {opened_s:.2f} s; with {3 * CROWD} connections: resident "
        f"{before.resident_bytes / MIB:.0f} -> {crowded.resident_bytes / MIB:.0f} MiB, "
        f"{crowded.threads} threads, {idle_s:.2f} CPU s/s, echo p50 {echoes[50] * 1000:.1f} "
        f"p99 {echoes[98] * 1000:.1f} ms, 100 x 128 KiB {alone_s:.2f} -> {slow_s:.2f} s"
    )
    assert crowded.threads >= 3 * CROWD
    assert crowded_for_s < 5 or not RELEASE, "the silent ones were gone before the end"
    assert crowded.resident_bytes < 200 * MIB
    assert idle_s < 0.05
    assert echoes[98] < (0.2 if RELEASE else AT_ONCE_S)
    assert slow_s < (alone_s * 1.2 + 0.1 if RELEASE else AT_ONCE_S)


def test_crowd_leaves_nothing_behind(server: Serving) -> None:
    """After the test above everybody is gone: threads, descriptors, memory."""
    pid = server.role("dicom")
    deadline = time.monotonic() + PATIENCE_S

    while (use := Use.of(pid)).threads > 20 or use.descriptors > 100:
        assert time.monotonic() < deadline, use
        time.sleep(0.1)

    assert echo_seconds(server.dicom_port) < AT_ONCE_S


def test_associations_that_come_and_go_leave_nothing_behind(server: Serving) -> None:
    port, pid = server.dicom_port, server.role("dicom")

    def in_turn(count: int) -> None:
        for _ in range(count):
            echo_seconds(port)

    in_turn(ASSOCIATIONS // 4)
    before = Use.of(pid)
    begun = time.monotonic()
    threads = [threading.Thread(target=in_turn, args=(ASSOCIATIONS // 8,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - begun
    after = Use.of(pid)

    print(
        f"{ASSOCIATIONS} associations, {ASSOCIATIONS * 3 / 4 / took_s:.0f}/s: {before} -> {after}"
    )
    assert after.threads <= before.threads + 6  # those that are just being closed
    assert after.descriptors <= before.descriptors + 6
    assert after.resident_bytes - before.resident_bytes < 10 * MIB


def test_two_thousand_descriptors_are_no_limit(server: Serving) -> None:
    with many_descriptors(), ExitStack() as crowd:
        for _ in range(2000):
            crowd.enter_context(RawPeer(server.dicom_port))

        assert echo_seconds(server.dicom_port) < AT_ONCE_S
        assert Use.of(server.role("dicom")).descriptors > 2000


def test_peers_that_die_in_the_middle_of_an_object_leave_nothing_behind(server: Serving) -> None:
    port, pid = server.dicom_port, server.role("dicom")
    half = message(CT_CONTEXT, store_request("1.2.3"), bytes(200_000))[:-5000]
    spool = Path(server.environment["LIENTHONG_DATA_DIR"]) / "spool"
    with many_descriptors(), ExitStack() as crowd:
        for _ in range(CROWD):
            crowd.enter_context(RawPeer(port)).associate().send(half)
        assert len(list(spool.glob("*.part"))) > CROWD // 2

    deadline = time.monotonic() + PATIENCE_S
    while Use.of(pid).threads > 20 or list(spool.glob("*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
