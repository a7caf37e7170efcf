import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage.base.errors import NotFound, StoreUnavailable
from storage.objects.directory import DirectoryStore

KEY = "ab/cd/abcd/0123"
MEMORY = Path("/dev/shm")  # noqa: S108 (a second file system)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    path.write_bytes(b"0123456789")
    return path


def test_file_of_the_same_file_system_is_written_once(store: DirectoryStore, file: Path) -> None:
    store.put_files([(KEY, file)])

    assert (store.folder / KEY).samefile(file)


@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no second file system")
def test_file_of_another_file_system_is_copied(store: DirectoryStore) -> None:
    elsewhere = MEMORY / f"lienthong-{os.getpid()}"
    elsewhere.write_bytes(b"x" * 3_000_000)
    try:
        store.put_files([(KEY, elsewhere)])
        store.put_files([(KEY, elsewhere)])
    finally:
        elsewhere.unlink()

    assert store.read(KEY) == b"x" * 3_000_000
    assert (store.folder / KEY).stat().st_mode & 0o777 == 0o600
    assert list((store.folder / "tmp").iterdir()) == []


def test_files_and_folders_are_private(store: DirectoryStore, file: Path) -> None:
    store.put_files([(KEY, file)])

    for path in (store.folder, *store.folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_reader_keeps_the_old_object_while_it_is_replaced(
    store: DirectoryStore, file: Path, tmp_path: Path
) -> None:
    truncated = tmp_path / "truncated"
    truncated.write_bytes(b"01234")
    store.put_files([(KEY, truncated)])
    pieces = store.stream(KEY, chunk=2)
    first = next(pieces)

    store.put_files([(KEY, file)])

    assert first + b"".join(pieces) == b"01234"
    assert store.read(KEY) == b"0123456789"


def test_leftovers_of_dead_copies_are_swept_at_start(store: DirectoryStore) -> None:
    (store.folder / "tmp" / f"{'d' * 32}.part").write_bytes(b"half a copy")

    again = DirectoryStore(store.folder)

    assert list((again.folder / "tmp").iterdir()) == []


def test_store_whose_folder_went_away_is_unavailable(store: DirectoryStore, file: Path) -> None:
    shutil.rmtree(store.folder)

    with pytest.raises(StoreUnavailable, match="No such file"):
        store.put_files([(KEY, file)])
    with pytest.raises(StoreUnavailable, match="No such file"):
        store.check()


def test_study_folder_that_was_removed_by_hand_is_made_again(
    store: DirectoryStore, file: Path
) -> None:
    store.put_files([(KEY, file)])
    shutil.rmtree(store.folder / "ab")

    with pytest.raises(StoreUnavailable):
        store.put_files([(KEY, file)])
    store.put_files([(KEY, file)])

    assert store.read(KEY) == b"0123456789"


def test_file_that_was_made_shorter_is_unavailable_and_not_short(
    store: DirectoryStore, file: Path
) -> None:
    store.put_files([(KEY, file)])
    pieces = store.stream(KEY, chunk=2)
    next(pieces)
    os.truncate(file, 3)

    with pytest.raises(StoreUnavailable, match="shrank"):
        list(pieces)


def test_folder_is_no_object(store: DirectoryStore, file: Path) -> None:
    store.put_files([(KEY, file)])

    for folder in ("ab", "ab/cd", "ab/cd/abcd"):
        with pytest.raises(NotFound):
            store.stat(folder)
        with pytest.raises(NotFound):
            store.read(folder)


def test_folder_that_is_a_file_is_unavailable(file: Path) -> None:
    with pytest.raises(StoreUnavailable):
        DirectoryStore(file)


PUT = """
import sys, pathlib
from storage.objects.directory import DirectoryStore
store = DirectoryStore(pathlib.Path(sys.argv[1]))
file = pathlib.Path(sys.argv[2])
store.put_files([("ab/cd/abcd/0123", file), ("ab/cd/abcd/4567", file)])
store.put_files([("ab/cd/ffff/0123", file)])
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_folder_with_a_new_name_is_flushed_once_per_batch(tmp_path: Path, file: Path) -> None:
    log = tmp_path / "log"
    traced = ["strace", "-f", "-y", "-e", "trace=fsync,link,linkat,mkdir", "-o", str(log)]

    subprocess.run(
        [*traced, sys.executable, "-c", PUT, str(tmp_path / "objects"), str(file)], check=True
    )

    calls = log.read_text().splitlines()
    links = [number for number, call in enumerate(calls) if " link" in call and "abcd" in call]
    second = next(number for number, call in enumerate(calls) if " link" in call and "ffff" in call)
    flushed = [call.partition("<")[2].partition(">")[0] for call in calls[links[-1] : second]]
    root = str(tmp_path / "objects")
    assert len(links) == 2
    assert sorted(filter(None, flushed)) == [
        root,
        f"{root}/ab",
        f"{root}/ab/cd",
        f"{root}/ab/cd/abcd",
    ]
    later = [call.partition("<")[2].partition(">")[0] for call in calls[second:]]
    assert sorted(filter(None, later)) == [f"{root}/ab/cd", f"{root}/ab/cd/ffff"]
