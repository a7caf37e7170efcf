"""What every object store must do; each test runs on the folder and on a real S3 server."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.base.errors import Malformed, NotFound
from storage.objects.directory import DirectoryStore
from storage.objects.s3 import S3Store
from storage.objects.store import ObjectStat, ObjectStore

KEY = "ab/cd/abcd/0123"
DIGITS = b"0123456789"
BIG_BYTES = 40_000_001

MakeFile = Callable[[bytes], Path]


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "objects")
        return
    server = request.getfixturevalue("seaweedfs")
    s3 = S3Store.from_url(server.url(request.getfixturevalue("bucket")))
    yield s3
    s3.close()


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    def make(content: bytes) -> Path:
        path = tmp_path / f"file-{os.urandom(8).hex()}"
        path.write_bytes(content)
        return path

    return make


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(BIG_BYTES)


def test_object_reads_as_it_was_put(store: ObjectStore, make_file: MakeFile) -> None:
    store.put_files([(KEY, make_file(DIGITS))])

    assert store.read(KEY) == DIGITS
    assert store.stat(KEY) == ObjectStat(KEY, 10)
    assert store.sha256(KEY) == hashlib.sha256(DIGITS).hexdigest()
    assert store.sha256(KEY, 4) == hashlib.sha256(DIGITS[4:]).hexdigest()


def test_object_outlives_its_file(store: ObjectStore, make_file: MakeFile) -> None:
    file = make_file(DIGITS)
    store.put_files([(KEY, file)])

    file.unlink()

    assert store.read(KEY) == DIGITS


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        *((0, None), (0, 10), (0, 1), (9, 1), (3, 4), (3, None), (9, None), (0, 11)),
        *((9, 2), (10, None), (10, 1), (11, None), (99, 5), (0, 0), (5, 0), (99, 0)),
    ],
)
def test_range_is_what_a_slice_of_the_bytes_is(
    store: ObjectStore, make_file: MakeFile, offset: int, length: int | None
) -> None:
    store.put_files([(KEY, make_file(DIGITS))])
    expected = DIGITS[offset:] if length is None else DIGITS[offset : offset + length]

    assert store.read(KEY, offset, length) == expected
    assert b"".join(store.stream(KEY, offset, length, chunk=3)) == expected


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (3, 4), (9, 1)])
def test_what_is_at_hand_is_what_a_slice_of_the_bytes_is(
    store: ObjectStore, make_file: MakeFile, offset: int, length: int
) -> None:
    store.put_files([(KEY, make_file(DIGITS))])

    found = store.at_hand(KEY, offset, length)

    if isinstance(store, DirectoryStore):  # written a moment ago
        assert found == DIGITS[offset : offset + length]
    else:
        assert found is None


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (10, 1), (100, 1)])
def test_range_beyond_the_end_is_not_at_hand(
    store: ObjectStore, make_file: MakeFile, offset: int, length: int
) -> None:
    store.put_files([(KEY, make_file(DIGITS))])

    assert store.at_hand(KEY, offset, length) is None


def test_absent_object_is_not_at_hand(store: ObjectStore) -> None:
    assert store.at_hand(KEY, 0, 1) is None


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (-1, 5), (0, -1)])
def test_negative_range_is_malformed(
    store: ObjectStore, make_file: MakeFile, offset: int, length: int | None
) -> None:
    store.put_files([(KEY, make_file(DIGITS))])

    with pytest.raises(Malformed, match="no range"):
        store.read(KEY, offset, length)
    with pytest.raises(Malformed, match="no range"):
        store.stream(KEY, offset, length)


def test_empty_object_is_an_object(store: ObjectStore, make_file: MakeFile) -> None:
    store.put_files([(KEY, make_file(b""))])

    assert store.stat(KEY).size == 0
    assert store.read(KEY) == b""
    assert store.read(KEY, 0, 5) == b""
    assert list(store.stream(KEY)) == []


def test_stream_gives_pieces_of_at_most_the_chunk(store: ObjectStore, make_file: MakeFile) -> None:
    store.put_files([(KEY, make_file(DIGITS * 1000))])

    pieces = list(store.stream(KEY, 1, 9_990, chunk=512))

    assert max(map(len, pieces)) <= 512
    assert b"".join(pieces) == (DIGITS * 1000)[1:9_991]


def test_stream_that_is_dropped_midway_harms_nothing(
    store: ObjectStore, make_file: MakeFile
) -> None:
    store.put_files([(KEY, make_file(DIGITS * 100_000))])

    for _ in range(40):
        assert next(store.stream(KEY, chunk=10)) == DIGITS

    assert store.read(KEY, 5, 5) == DIGITS[5:]


def test_big_object_is_whole(store: ObjectStore, make_file: MakeFile, big: bytes) -> None:
    store.put_files([(KEY, make_file(big))])

    assert store.stat(KEY).size == BIG_BYTES
    assert store.sha256(KEY) == hashlib.sha256(big).hexdigest()
    for edge in (4 << 20, 8 << 20, 16 << 20, 32 << 20, BIG_BYTES):  # of parts and chunks
        assert store.read(KEY, edge - 5, 10) == big[edge - 5 : edge + 5]


@pytest.mark.parametrize("ask", ["read", "stream", "stat", "sha256"])
def test_absent_object_is_not_found_when_asked(
    store: ObjectStore, make_file: MakeFile, ask: str
) -> None:
    store.put_files([(KEY, make_file(DIGITS))])

    for absent in ("ff/ff/ffff/0123", "ab/cd/abcd/012", "ab/cd/abcd", "ab"):
        with pytest.raises(NotFound, match=absent):
            getattr(store, ask)(absent)  # raised by the call, before the first piece


def test_empty_range_of_an_absent_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        store.read(KEY, 0, 0)
    with pytest.raises(NotFound):
        store.stream(KEY, 0, 0)


def test_file_that_is_not_there_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        store.put_files([(KEY, tmp_path / "nowhere")])


def test_file_that_is_gone_is_not_found_where_the_object_is_there_already(
    store: ObjectStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """Another ingest was quicker: it put the object and removed the record."""
    store.put_files([(KEY, make_file(DIGITS))])

    with pytest.raises(NotFound, match="nowhere"):
        store.put_files([(KEY, tmp_path / "nowhere")])

    assert store.read(KEY) == DIGITS


def test_key_put_twice_is_one_object(store: ObjectStore, make_file: MakeFile) -> None:
    store.put_files([(KEY, make_file(DIGITS))])

    store.put_files([(KEY, make_file(DIGITS)), (KEY, make_file(DIGITS))])

    assert list(store.list()) == [ObjectStat(KEY, 10)]


def test_key_of_the_same_size_is_left_and_of_another_size_replaced(
    store: ObjectStore, make_file: MakeFile
) -> None:
    truncated = make_file(DIGITS[:4])
    store.put_files([(KEY, truncated)])

    store.put_files([(KEY, make_file(b"same"))])
    left = store.read(KEY)
    store.put_files([(KEY, make_file(DIGITS))])

    assert left == DIGITS[:4]
    assert store.read(KEY) == DIGITS
    assert truncated.read_bytes() == DIGITS[:4]  # its other name was not written through


def test_deleted_object_is_gone(store: ObjectStore, make_file: MakeFile) -> None:
    other = "ab/cd/abcd/4567"
    store.put_files([(KEY, make_file(DIGITS)), (other, make_file(DIGITS))])

    store.delete(KEY)
    store.delete(KEY)
    store.delete("ff/ff/ffff/0123")

    assert list(store.list()) == [ObjectStat(other, 10)]
    with pytest.raises(NotFound):
        store.read(KEY)


def test_object_may_come_back_after_it_was_deleted(store: ObjectStore, make_file: MakeFile) -> None:
    store.put_files([(KEY, make_file(DIGITS))])
    store.delete(KEY)

    store.put_files([(KEY, make_file(DIGITS))])

    assert store.read(KEY) == DIGITS


def test_list_is_complete_and_in_the_order_of_keys(store: ObjectStore, make_file: MakeFile) -> None:
    file = make_file(DIGITS)
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(1_100)]
    keys = [f"{'ab' if d < '8' else d[:2]}/{d[2:4]}/{d[4:8]}/{d[8:]}" for d in digests]

    store.put_files([(key, file) for key in keys])

    assert [found.key for found in store.list()] == sorted(keys)
    for prefix in ("ab", "ab/", "ab/0", sorted(keys)[500], sorted(keys)[700][:7], "123456"):
        expected = sorted(key for key in keys if key.startswith(prefix))
        assert [found.key for found in store.list(prefix)] == expected


def test_empty_store_lists_nothing(store: ObjectStore) -> None:
    assert list(store.list()) == []
    assert list(store.list("ab/c")) == []


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/ab", "ab/", "ab//cd", "..", "../ab", "ab/../../etc", "AB", "ab\0", "ab\n"),
        *("\uff41b", "ab/cd.part", "tmp/ab", "ab cd", "ab%2fcd", "check"),
    ],
)
def test_text_that_is_no_key_is_malformed(
    store: ObjectStore, make_file: MakeFile, key: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put_files([(KEY, make_file(DIGITS)), (key, make_file(DIGITS))]),
        lambda: store.read(key),
        lambda: store.stream(key),
        lambda: store.stat(key),
        lambda: store.sha256(key),
        lambda: store.delete(key),
    ]

    for call in calls:
        with pytest.raises(Malformed, match="no object key"):
            call()

    assert list(store.list()) == []  # a batch with one wrong key stores nothing


@pytest.mark.parametrize("prefix", ["/", "..", "ab/..", "AB", "ab//", "tmp"])
def test_text_that_begins_no_key_is_malformed(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(Malformed, match="no beginning"):
        store.list(prefix)


def test_concurrent_puts_of_one_key_give_one_whole_object(
    store: ObjectStore, make_file: MakeFile
) -> None:
    content = os.urandom(300_000)
    files = [make_file(content) for _ in range(8)]
    faults: list[Exception] = []
    together = threading.Barrier(len(files))

    def put(file: Path) -> None:
        together.wait()
        try:
            store.put_files([(KEY, file)])
        except Exception as fault:  # noqa: BLE001 (shown below)
            faults.append(fault)

    threads = [threading.Thread(target=put, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert store.read(KEY) == content


def test_check_is_quiet_on_a_store_that_works_and_leaves_nothing(store: ObjectStore) -> None:
    store.check()

    assert list(store.list()) == []
