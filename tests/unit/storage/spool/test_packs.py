import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from storage.base.errors import StoreUnavailable
from storage.spool import Spool, checksum_of, members
from storage.spool.packs import MAX_AGE_S, MAX_BYTES, OPEN
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.spooled import spooled

HEAD = b"\0" * 128 + b"DICM"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def closed(spool: Spool) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(spool.folder.glob("*" + OPEN)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def left_by_the_dead(spool: Spool, *datasets: bytes) -> Path:
    """Return an open pack as a killed process leaves it: no name, no lock."""
    process = os.fork()
    if process == 0:
        mine = Spool(spool.folder)
        for dataset in datasets:
            mine.append(HEAD, dataset)
        os._exit(0)
    os.waitpid(process, 0)
    [path] = spool.folder.glob("*" + OPEN)
    return path


def test_objects_of_one_moment_are_one_record(spool: Spool) -> None:
    for number in range(5):
        spool.append(HEAD, b"dataset %d" % number)
    closed(spool)

    [record] = spool.sealed(10)
    content = memoryview(record.path.read_bytes())
    found, end = members(content)

    assert record.packed
    assert (record.objects, record.dataset_size) == (5, 45)
    assert end == len(content)
    assert [bytes(content[one.dataset_offset : one.end]) for one in found] == [
        b"dataset %d" % number for number in range(5)
    ]
    assert all(bytes(content[one.offset : one.dataset_offset]) == HEAD for one in found)
    assert found[0].checksum == checksum_of(b"dataset 0")


def test_a_pack_is_closed_soon_though_nobody_sends_more(spool: Spool) -> None:
    began = time.monotonic()
    spool.append(HEAD, b"alone")

    assert spool.wait(2)
    assert time.monotonic() - began < 10 * MAX_AGE_S
    assert len(spool.sealed(10)) == 1


def test_a_large_pack_is_closed_at_once(spool: Spool) -> None:
    spool.append(HEAD, bytes(MAX_BYTES))

    assert [record.objects for record in spool.sealed(10)] == [1]


def test_threads_that_write_at_once_do_not_mix(spool: Spool) -> None:
    def write(number: int) -> None:
        for each in range(30):
            spool.append(HEAD, bytes([number]) * (1000 + each))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    datasets = [record.path.read_bytes()[len(HEAD) :] for record in spooled(spool)]
    assert sorted(datasets) == sorted(
        bytes([number]) * (1000 + each) for number in range(6) for each in range(30)
    )


def test_a_pack_of_a_dead_process_is_found_without_a_restart(spool: Spool) -> None:
    left_by_the_dead(spool, b"one", b"two")
    deadline = time.monotonic() + PATIENCE_S
    while not (found := spool.sealed(10)):
        assert time.monotonic() < deadline
        spool.wait(0.1)

    assert [record.objects for record in found] == [2]


def test_recovery_closes_what_the_dead_left_and_not_what_the_living_write(spool: Spool) -> None:
    path = left_by_the_dead(spool, b"one")
    held = os.open(path, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)

    spool.recover()
    assert path.exists()
    os.close(held)
    spool.recover()

    assert not path.exists()
    assert [record.objects for record in spool.sealed(10)] == [1]


def test_what_was_cut_off_while_it_was_written_is_no_object(spool: Spool) -> None:
    path = left_by_the_dead(spool, b"whole", b"cut off")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    spool.recover()

    [record] = spool.sealed(10)
    found, end = members(memoryview(record.path.read_bytes()))

    assert record.objects == len(found) == 1
    assert end < record.path.stat().st_size


@pytest.mark.parametrize("at", [0, 5, 20, 47])
def test_a_frame_that_rotted_ends_the_reading(spool: Spool, at: int) -> None:
    spool.append(HEAD, b"dataset")
    closed(spool)
    [record] = spool.sealed(10)
    content = bytearray(record.path.read_bytes())
    content[at] ^= 1

    assert members(memoryview(content)) == ([], 0)


def test_objects_that_are_taken_out_twice_are_the_same_records(spool: Spool) -> None:
    for number in range(3):
        spool.append(HEAD, b"dataset %d" % number)
    closed(spool)
    [pack] = spool.sealed(10)

    spool.unpack(pack, keep=True)
    once = [record.name for record in spool.sealed(10) if not record.packed]
    spool.unpack(pack)

    assert [record.name for record in spool.sealed(10)] == once
    assert [record.path.read_bytes() for record in spool.sealed(10)] == [
        HEAD + b"dataset %d" % number for number in range(3)
    ]


def test_backlog_counts_the_objects_of_packs(spool: Spool) -> None:
    for _ in range(4):
        spool.append(HEAD, b"1234")
    closed(spool)

    assert (spool.backlog().count, spool.backlog().bytes) == (4, 16)


def test_a_pack_settles_and_comes_back_as_it_was(spool: Spool) -> None:
    spool.append(HEAD, b"1234")
    closed(spool)
    [pack] = spool.sealed(10)

    settled = spool.settle(pack)
    assert spool.sealed(10) == []
    spool.restore(settled)

    assert spool.sealed(10) == [pack]


def test_a_folder_that_went_away_is_unavailable(spool: Spool) -> None:
    spool.folder.rename(spool.folder.with_name("away"))

    with pytest.raises(StoreUnavailable):
        spool.append(HEAD, b"dataset")
