import contextlib
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.base.errors import StoreUnavailable
from storage.spool import Incoming, Spool, SpoolRecord, checksum_of

HEAD = b"\0" * 128 + b"DICM"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


class Events:
    """What the interpreter does to files (its audit events), while somebody wants to know."""

    KINDS = frozenset({"open", "os.listdir", "os.scandir", "os.remove", "os.rename"})

    def __init__(self) -> None:
        self._noted: list[tuple[str, str]] | None = None
        self._thread = threading.get_ident()
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def noted(self) -> Iterator[list[tuple[str, str]]]:
        """Yield the kind and the path of what this thread does."""
        self._noted = noted = []
        try:
            yield noted
        finally:
            self._noted = None

    def _hear(self, kind: str, given: tuple[object, ...]) -> None:
        noted = self._noted
        if noted is not None and kind in self.KINDS and threading.get_ident() == self._thread:
            noted.append((kind, str(given[0])))


@pytest.fixture(scope="module")
def events() -> Events:
    """A hook of the interpreter cannot be taken away again: one for all."""
    return Events()


def receive(spool: Spool, dataset: bytes = b"dataset") -> SpoolRecord:
    with spool.incoming(HEAD) as incoming:
        incoming.write(dataset)
    return incoming.record


def files(spool: Spool) -> set[str]:
    return {path.name for path in spool.folder.rglob("*") if path.is_file()}


def test_record_is_the_head_and_the_bytes_as_they_came(spool: Spool) -> None:
    before = datetime.now(UTC)

    with spool.incoming(HEAD) as incoming:
        incoming.write(b"one ")
        incoming.write(memoryview(bytearray(b"two ")))
        incoming.write(bytearray(b"three"))
        size = incoming.size

    record = incoming.record
    assert size == record.dataset_size == 13
    assert record.path.read_bytes() == HEAD + b"one two three"
    assert record.checksum == checksum_of(b"one two three")
    assert before <= record.received_at <= datetime.now(UTC)
    assert spool.sealed(10) == [record]


def test_object_without_any_bytes_is_a_record(spool: Spool) -> None:
    with spool.incoming(b"") as incoming:
        pass

    assert incoming.record.dataset_size == 0
    assert spool.sealed(10) == [incoming.record]


def test_name_tells_all_about_a_record_to_another_process(spool: Spool) -> None:
    record = receive(spool)

    assert Spool(spool.folder).sealed(10) == [record]


def test_files_and_folders_are_private(spool: Spool) -> None:
    record = receive(spool)

    assert record.path.stat().st_mode & 0o777 == 0o600
    folders = [spool.folder, *(path for path in spool.folder.iterdir() if path.is_dir())]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_nothing_is_sealed_while_the_block_runs(spool: Spool) -> None:
    with spool.incoming(HEAD) as incoming:
        incoming.write(b"dataset")

        assert spool.sealed(10) == []
        with pytest.raises(StoreUnavailable, match="sealed"):
            _ = incoming.record


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_block_that_fails_leaves_nothing_behind(spool: Spool, fault: type[BaseException]) -> None:
    def block(incoming: Incoming) -> None:
        incoming.write(b"dataset")
        raise fault

    with pytest.raises(fault), spool.incoming(HEAD) as incoming:
        block(incoming)

    assert files(spool) == set()


def test_incoming_that_is_never_entered_leaves_nothing_behind(spool: Spool) -> None:
    spool.incoming(HEAD)

    assert files(spool) == set()


def test_sealed_is_in_the_order_of_arrival_and_bounded(spool: Spool) -> None:
    records = [receive(spool, str(number).encode()) for number in range(20)]

    assert spool.sealed(7) == records[:7]
    assert spool.sealed(100) == records


def test_sealed_gives_a_record_until_it_is_taken_away(spool: Spool) -> None:
    first, second, third, fourth = (receive(spool) for _ in range(4))

    assert spool.sealed(2) == spool.sealed(2) == [first, second]
    spool.remove(first)
    assert spool.sealed(2) == [second, third]
    spool.park(second)
    spool.settle(third)
    assert spool.sealed(2) == [fourth]


def test_sealed_sees_what_came_after_it_looked(spool: Spool) -> None:
    early = [receive(spool) for _ in range(5)]
    spool.sealed(2)
    late = [receive(spool) for _ in range(5)]

    taken = []
    while records := spool.sealed(2):
        taken += records
        for record in records:
            spool.remove(record)

    assert taken == early + late


def test_record_that_another_process_took_is_no_error(spool: Spool) -> None:
    records = [receive(spool) for _ in range(10)]
    other = Spool(spool.folder)
    spool.sealed(2)

    for record in records[:8]:
        other.remove(record)

    assert spool.sealed(2) == records[8:]
    spool.remove(records[0])
    assert spool.park(records[1]).name == records[1].name
    assert spool.parked() == []


def test_file_that_is_no_record_is_left_alone(spool: Spool) -> None:
    strange = ["note.dcm", f"{'1' * 20}-{'a' * 32}-{'b' * 64}.dcm", "x.part2", "a\nb.dcm"]
    for name in strange:
        (spool.folder / name).write_bytes(b"?")

    assert spool.sealed(10) == []
    assert spool.backlog().count == 0
    spool.recover()
    assert files(spool) == set(strange)


def test_settling_record_waits_apart_and_is_given_after_its_time(spool: Spool) -> None:
    first, second = receive(spool, b"1"), receive(spool, b"2")
    settled_second = spool.settle(second)
    between = datetime.now(UTC)
    time.sleep(0.002)
    settled_first = spool.settle(first)

    later = datetime.now(UTC) + timedelta(seconds=1)
    assert spool.sealed(10) == []
    assert list(spool.settling(later)) == [settled_second, settled_first]
    assert list(spool.settling(between)) == [settled_second]
    assert list(spool.settling(between - timedelta(hours=1))) == []
    assert (settled_first.name, settled_first.received_at) == (first.name, first.received_at)
    assert settled_first.path.read_bytes() == HEAD + b"1"


def test_settling_record_may_be_removed_while_they_are_listed(spool: Spool) -> None:
    for _ in range(5):
        spool.settle(receive(spool))

    for record in spool.settling(datetime.now(UTC) + timedelta(seconds=1)):
        spool.remove(record)

    assert files(spool) == set()


@pytest.mark.parametrize("aside", [Spool.settle, Spool.park])
def test_restored_record_is_the_one_that_was_received(
    spool: Spool, aside: Callable[[Spool, SpoolRecord], SpoolRecord]
) -> None:
    record = receive(spool)

    restored = spool.restore(aside(spool, record))

    assert restored == record
    assert spool.sealed(10) == [record]


def test_parked_record_does_not_block_the_queue(spool: Spool) -> None:
    poison, good = receive(spool, b"poison"), receive(spool, b"good")

    parked = spool.park(poison)

    assert spool.sealed(1) == [good]
    assert spool.parked() == [parked]
    assert parked.path.read_bytes() == HEAD + b"poison"


def test_backlog_counts_what_waits(spool: Spool) -> None:
    empty = spool.backlog()
    oldest = receive(spool, b"12345")
    receive(spool, b"123")
    spool.settle(receive(spool))
    spool.park(receive(spool))

    backlog = spool.backlog()

    assert (empty.count, empty.bytes, empty.oldest) == (0, 0, None)
    assert (backlog.count, backlog.bytes, backlog.oldest) == (2, 8, oldest.received_at)


@pytest.fixture
def backlog_of(spool: Spool) -> Callable[[int], None]:
    """Puts that many records into the spool, each with its number as its size."""

    def fill(count: int) -> None:
        for number in range(count):
            name = f"{number:020d}-{number:032x}-{number:032x}-{number}.dcm"
            os.close(os.open(spool.folder / name, os.O_CREAT))

    return fill


def test_backlog_is_counted_by_one_listing(
    spool: Spool, backlog_of: Callable[[int], None], events: Events
) -> None:
    backlog_of(2000)

    with events.noted() as noted:
        backlog = spool.backlog()

    assert (backlog.count, backlog.bytes) == (2000, sum(range(2000)))
    assert noted == [("os.listdir", str(spool.folder))]


def test_long_backlog_is_worked_off_without_listing_it_each_time(
    spool: Spool, backlog_of: Callable[[int], None], events: Events
) -> None:
    backlog_of(10_000)

    with events.noted() as noted:
        for _ in range(50):
            for record in spool.sealed(64):
                spool.remove(record)

    kinds = Counter(kind for kind, _ in noted)
    assert kinds["os.listdir"] <= 2, "once for each few thousand records"
    assert kinds["os.remove"] == 50 * 64
    assert set(kinds) <= {"os.listdir", "os.remove"}, "no record is opened"


def test_receiving_stops_before_the_reserve_is_touched(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    spool = Spool(tmp_path / "spool", reserve_bytes=2 * disk.f_blocks * disk.f_frsize)

    with pytest.raises(StoreUnavailable, match="reserve"), spool.incoming(HEAD):
        pytest.fail("the block must not run")
    with pytest.raises(StoreUnavailable, match="reserve"):
        spool.check()

    assert files(spool) == set()


def test_receiving_stops_while_too_much_waits_and_goes_on_by_itself(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_backlog_bytes=1000)
    ingest = Spool(tmp_path / "spool")
    receive(spool, b"x" * 600)
    receive(spool, b"x" * 600)

    with pytest.raises(StoreUnavailable, match="1200 bytes wait for ingest"):
        receive(spool)
    for record in ingest.sealed(10):
        ingest.remove(record)
    time.sleep(2.1)  # it looks every two seconds

    receive(spool)


def test_limit_of_the_backlog_counts_what_other_processes_received(tmp_path: Path) -> None:
    receive(Spool(tmp_path / "spool"), b"x" * 2000)
    spool = Spool(tmp_path / "spool", max_backlog_bytes=1000)

    with pytest.raises(StoreUnavailable, match="wait for ingest"):
        receive(spool)


def test_folder_that_went_away_is_unavailable_and_not_made_again(spool: Spool) -> None:
    gone = spool.folder.rename(spool.folder.with_name("gone"))

    with pytest.raises(StoreUnavailable, match="No such file"):
        receive(spool)
    for call in (spool.check, spool.backlog, lambda: spool.sealed(1)):
        with pytest.raises(StoreUnavailable):
            call()

    assert not spool.folder.exists()
    gone.rename(spool.folder)
    receive(spool)


def test_folder_that_goes_away_within_an_object_is_unavailable(spool: Spool) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"), spool.incoming(HEAD):
        spool.folder.rename(spool.folder.with_name("gone"))


def test_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")

    with pytest.raises(StoreUnavailable):
        Spool(tmp_path / "spool")


def test_check_is_quiet_when_all_is_well_and_leaves_nothing(spool: Spool) -> None:
    spool.check()

    assert files(spool) == set()


def test_recover_takes_parts_of_the_dead_and_leaves_those_of_the_living(spool: Spool) -> None:
    (spool.folder / f"{'d' * 32}.part").write_bytes(b"left by a dead process")

    with spool.incoming(HEAD) as incoming:
        incoming.write(b"living")
        swept = Spool(spool.folder).recover()
        again = spool.recover()

    assert (swept, again) == (1, 0)
    assert incoming.record.path.read_bytes() == HEAD + b"living"
    assert files(spool) == {incoming.record.name}


def test_objects_received_at_the_same_time_do_not_mix(spool: Spool) -> None:
    def receive_many(letter: bytes) -> None:
        for _ in range(20):
            with spool.incoming(letter * 132) as incoming:
                for _ in range(10):
                    incoming.write(letter * 5000)

    threads = [threading.Thread(target=receive_many, args=(bytes([65 + n]),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    records = spool.sealed(1000)
    assert len(records) == 120
    for record in records:
        content = record.path.read_bytes()
        assert content == content[:1] * 50_132
        assert record.checksum == checksum_of(content[132:])


@pytest.fixture
def disk_that_takes_64_kb() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_and_swallow(incoming: Incoming) -> None:
    with contextlib.suppress(StoreUnavailable):
        incoming.write(b"x" * 100_000)


@pytest.mark.usefixtures("disk_that_takes_64_kb")
@pytest.mark.parametrize("block", [lambda i: i.write(b"x" * 100_000), write_and_swallow])
def test_write_that_fails_seals_nothing_even_when_the_block_swallows_it(
    spool: Spool, block: Callable[[Incoming], None]
) -> None:
    with pytest.raises(StoreUnavailable, match="too large"), spool.incoming(HEAD) as incoming:
        block(incoming)

    assert files(spool) == set()
    receive(spool)  # and the next one is not harmed


@pytest.mark.usefixtures("disk_that_takes_64_kb")
def test_head_that_cannot_be_written_leaves_nothing_behind(spool: Spool) -> None:
    with pytest.raises(StoreUnavailable, match="too large"), spool.incoming(b"h" * 70_000):
        pytest.fail("the block must not run")

    assert files(spool) == set()


def test_wait_returns_at_once_when_something_waits_already(spool: Spool) -> None:
    receive(spool)
    started_s = time.monotonic()

    assert spool.wait(5)
    assert time.monotonic() - started_s < 0.5


def test_wait_ends_without_anything_after_its_time(spool: Spool) -> None:
    started_s = time.monotonic()

    assert not spool.wait(0.2)
    assert 0.19 <= time.monotonic() - started_s < 1


def test_nothing_is_missed_between_looking_and_waiting(spool: Spool) -> None:
    spool.wait(0)
    assert spool.sealed(10) == []
    receive(spool)
    started_s = time.monotonic()

    assert spool.wait(5)
    assert time.monotonic() - started_s < 0.5


def test_wait_sees_a_record_whose_ring_was_lost(spool: Spool) -> None:
    spool.wait(0)
    record = receive(Spool(spool.folder.parent / "elsewhere"))
    threading.Timer(0.2, lambda: record.path.rename(spool.folder / record.name)).start()

    assert spool.wait(5)
