"""A receiver is killed at random moments: what it acknowledged is there, whole."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from storage.objects.directory import DirectoryStore
from storage.spool import Spool, checksum_of

pytestmark = pytest.mark.faults

ROUNDS = 30
HEAD = b"\0" * 128 + b"DICM"

RECEIVE = """
import os, pathlib, random, sys, threading
from storage.spool import Spool

spool = Spool(pathlib.Path(sys.argv[1]))

def receive():
    while True:
        with spool.incoming(b"\\0" * 128 + b"DICM") as incoming:
            for _ in range(random.randint(1, 20)):
                incoming.write(os.urandom(random.randint(1, 30_000)))
        # one write, so that a line is there or not
        os.write(1, f"{incoming.record.name}\\n".encode())

for _ in range(4):
    threading.Thread(target=receive).start()
"""

INGEST = """
import pathlib, sys
from storage.base.errors import NotFound
from storage.objects.directory import DirectoryStore
from storage.spool import Spool

spool, store = Spool(pathlib.Path(sys.argv[1])), DirectoryStore(pathlib.Path(sys.argv[2]))
while True:
    records = spool.sealed(16)
    try:
        store.put_files([(f"aa/{record.checksum}", record.path) for record in records])
    except NotFound:
        continue  # the other ingest was quicker
    for record in records:
        spool.remove(record)
    if records:
        print(len(records), flush=True)
    else:
        spool.wait(1)
"""


def start(program: str, log: Path, *arguments: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output, log.with_suffix(".errors").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)], stdout=output, stderr=errors
        )


@contextmanager
def killed(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, killed when the block ends, however it ends."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_lines(log: Path, count: int) -> None:
    give_up_s = time.monotonic() + 30
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        assert time.monotonic() < give_up_s, log.with_suffix(".errors").read_text()
        time.sleep(0.005)


def test_every_acknowledged_record_is_there_and_no_half_one_is_sealed(tmp_path: Path) -> None:
    folder, log = tmp_path / "spool", tmp_path / "log"
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    swept = 0
    for _ in range(ROUNDS):
        known = log.read_bytes().count(b"\n") if log.exists() else 0
        with killed(start(RECEIVE, log, folder)):
            wait_for_lines(log, known + 1)
            time.sleep(chance.uniform(0, 0.1))
        swept += Spool(folder).recover()

    acknowledged = set(log.read_text().split())
    records = Spool(folder).sealed(1_000_000)
    assert acknowledged <= {record.name for record in records}, f"seed {seed}"
    for record in records:
        content = record.path.read_bytes()
        assert content.startswith(HEAD)
        dataset = content[len(HEAD) :]
        assert len(dataset) == record.dataset_size
        assert checksum_of(dataset) == record.checksum
    assert not list(folder.glob("*.part"))
    assert swept > 0, "no kill hit a receiver at work: this test proved nothing"


def test_nothing_is_lost_between_spool_and_store_when_both_sides_are_killed(
    tmp_path: Path,
) -> None:
    folder, objects = tmp_path / "spool", tmp_path / "objects"
    acknowledged_log, ingest_log = tmp_path / "acknowledged", tmp_path / "ingest"
    with ExitStack() as dying:
        receiver = dying.enter_context(killed(start(RECEIVE, acknowledged_log, folder)))
        wait_for_lines(acknowledged_log, 1)
        for _ in range(10):
            known = ingest_log.read_bytes().count(b"\n") if ingest_log.exists() else 0
            with ExitStack() as round_:
                ingests = [
                    round_.enter_context(killed(start(INGEST, ingest_log, folder, objects)))
                    for _ in range(2)
                ]
                wait_for_lines(ingest_log, known + 3)
                time.sleep(random.uniform(0, 0.1))
                for ingest in ingests:
                    assert ingest.poll() is None, ingest_log.with_suffix(".errors").read_text()
        assert receiver.poll() is None, acknowledged_log.with_suffix(".errors").read_text()

    store = DirectoryStore(objects)
    Spool(folder).recover()
    waiting = {record.name for record in Spool(folder).sealed(1_000_000)}
    stored = {found.key.removeprefix("aa/"): found for found in store.list()}
    for name in acknowledged_log.read_text().split():
        digest, size = name.removesuffix(".dcm").split("-")[2:]
        if name not in waiting:
            assert stored[digest].size == len(HEAD) + int(size)
    for digest, found in stored.items():
        assert checksum_of(store.read(found.key, len(HEAD))) == digest
    assert len(stored) > 20


def test_record_that_is_received_elsewhere_wakes_ingest_within_milliseconds(
    tmp_path: Path,
) -> None:
    folder, log = tmp_path / "spool", tmp_path / "log"
    spool = Spool(folder)
    spool.wait(0)
    with killed(start(RECEIVE, log, folder)):
        assert spool.wait(30)
        delays_s = []
        for _ in range(20):
            while records := spool.sealed(1000):
                for record in records:
                    spool.remove(record)
            assert spool.wait(5)
            delays_s += [
                time.time() - newest.received_at.timestamp() for newest in spool.sealed(1000)[-1:]
            ]

    assert sorted(delays_s)[len(delays_s) // 2] < 0.5, "it was looked at, not rung"
