"""The spool on a disk that is full, broken, or slow to say so."""

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacs.scp.limits import Limits
from storage.base.errors import StoreUnavailable
from storage.objects.directory import DirectoryStore
from storage.spool import Spool
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.raw_peer import CT_CONTEXT, RawPeer, message, p_data, pdv, store_request
from tests.fixtures.server import listening
from tests.fixtures.spooled import spooled

pytestmark = pytest.mark.faults

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("LEFT OUT: a full disk needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def receive(spool: Spool, megabytes: int) -> None:
    with spool.incoming(b"head") as incoming:
        for _ in range(megabytes):
            incoming.write(b"x" * MIB)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_full_disk_is_unavailable_leaves_nothing_and_heals_by_itself(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool")
    receive(spool, 10)

    with pytest.raises(StoreUnavailable, match="No space left"):
        receive(spool, 10)
    for _ in range(20):
        with pytest.raises(StoreUnavailable, match="No space left"):
            receive(spool, 10)

    [record] = spool.sealed(10)
    assert files(spool.folder) == [record.path]
    assert record.path.stat().st_size == 10 * MIB + 4
    spool.remove(record)
    receive(spool, 10)


def test_reserve_stops_an_object_before_the_disk_is_full(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", reserve_bytes=7 * MIB)
    receive(spool, 7)

    with pytest.raises(StoreUnavailable, match="reserve"):
        receive(spool, 9)  # begins with enough, and is stopped within
    receive(spool, 1)
    with pytest.raises(StoreUnavailable, match="reserve"):
        receive(spool, 3)

    disk = os.statvfs(small_disk)
    assert disk.f_bavail * disk.f_frsize > 7 * MIB
    assert len(files(spool.folder)) == 2
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    receive(spool, 9)


def test_store_on_a_full_disk_is_unavailable_and_leaves_no_half_object(
    small_disk: Path, tmp_path: Path
) -> None:
    store = DirectoryStore(small_disk / "objects")
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10 * MIB)
    store.put_files([("aa/00", file)])

    for _ in range(5):
        with pytest.raises(StoreUnavailable, match="No space left"):
            store.put_files([("aa/01", file)])

    assert [found.key for found in store.list()] == ["aa/00"]
    assert files(store.folder) == [store.folder / "aa/00"]
    store.delete("aa/00")
    store.put_files([("aa/01", file)])


RECEIVE_THREE = """
import pathlib, sys
from storage.base.errors import StoreUnavailable
from storage.spool import Spool
spool = Spool(pathlib.Path(sys.argv[1]))
for number in range(3):
    try:
        with spool.incoming(b"head") as incoming:
            incoming.write(b"dataset")
        sys.stdout.write(f"sealed {incoming.record.name}\\n")
    except StoreUnavailable as error:
        sys.stdout.write(f"refused {error}\\n")
    sys.stdout.flush()
"""


def trace(folder: Path, log: Path, *options: str) -> list[str]:
    """Receive three objects under strace; return what was said of each."""
    command = ["strace", "-f", "-y", "-o", str(log), *options]
    ran = subprocess.run(
        [*command, sys.executable, "-c", RECEIVE_THREE, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    return ran.stdout.splitlines()


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("call", ["fdatasync", "rename", "write"])
def test_call_that_fails_refuses_that_object_only_and_is_not_tried_again(
    tmp_path: Path, call: str, error: str
) -> None:
    folder, log = tmp_path / "spool", tmp_path / "log"
    Spool(folder)
    # the second object; two writes each, and one of the answer
    when = {"write": 5}.get(call, 2)
    path = ["-P", str(folder)] if call == "nothing" else []

    said = trace(
        folder, log, f"--trace={call}", f"--inject={call}:error={error}:when={when}", *path
    )

    assert [line.split()[0] for line in said] == ["sealed", "refused", "sealed"]
    assert os.strerror(getattr(errno, error)) in said[1]
    assert {path.name for path in files(folder)} == {said[0].split()[1], said[2].split()[1]}
    if call == "fdatasync":
        assert log.read_text().count("fdatasync(") == 3


@needs_strace
def test_folder_flush_that_fails_refuses_that_object_and_takes_its_name_away(
    tmp_path: Path,
) -> None:
    folder, log = tmp_path / "spool", tmp_path / "log"
    Spool(folder)

    said = trace(folder, log, "--trace=fsync", "--inject=fsync:error=EIO:when=2")

    assert [line.split()[0] for line in said] == ["sealed", "refused", "sealed"]
    assert {path.name for path in files(folder)} == {said[0].split()[1], said[2].split()[1]}
    assert log.read_text().count("fsync(") == 3


@needs_strace
def test_answer_follows_flush_of_file_rename_and_flush_of_folder(tmp_path: Path) -> None:
    folder, log = tmp_path / "spool", tmp_path / "log"
    Spool(folder)

    said = trace(folder, log, "--trace=write,fdatasync,rename,fsync")

    calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines() if "(" in line]
    shape = [
        step
        for call in calls
        for step, pattern in {
            "bytes": rf"write\(\d+<{folder}/[0-9a-f]+\.part>",
            "file": rf"fdatasync\(\d+<{folder}/[0-9a-f]+\.part>\) += 0",
            "name": rf'rename\("{folder}/[0-9a-f]+\.part", "{folder}/\d+-.*\.dcm"\) += 0',
            "folder": rf"fsync\(\d+<{folder}>\) += 0",
            "answer": r"write\(1<.*sealed",
        }.items()
        if re.match(pattern, call)
    ]
    assert len(said) == 3
    assert shape == ["bytes", "bytes", "file", "name", "folder", "answer"] * 3


def test_endless_object_never_crosses_the_reserve(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", reserve_bytes=7 * MIB)
    fragment = p_data(pdv(CT_CONTEXT, 0, bytes(60_000)))
    with listening(spool, Limits(max_object_bytes=64 * MIB)) as listener:
        with RawPeer(listener.port) as sender:
            sender.associate().send(message(CT_CONTEXT, store_request("1.2"), b"")[:-12])
            lowest, deadline = 16 * MIB, time.monotonic() + PATIENCE_S
            with pytest.raises(ConnectionError):  # noqa: PT012 - it goes on until it is stopped
                while time.monotonic() < deadline:
                    sender.send(fragment)
                    disk = os.statvfs(small_disk)
                    lowest = min(lowest, disk.f_bavail * disk.f_frsize)
        with RawPeer(listener.port) as sender:
            dataset = ct_slice()
            answer = sender.associate().store(
                store_request(dataset.SOPInstanceUID), encode(dataset)
            )

    assert lowest > 6 * MIB
    assert answer.status == 0
    assert len(spooled(spool)) == 1
