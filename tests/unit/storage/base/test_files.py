import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from storage.base.files import make_folder, open_part, sweep_parts, write_all


def test_buffer_that_the_disk_takes_in_part_only_is_an_error(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_all(file, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.close(file)

    assert (tmp_path / "file").stat().st_size == 65536


def test_folders_are_made_with_their_parents_and_private(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")

    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700


def test_part_of_a_living_process_is_left_until_it_is_closed(tmp_path: Path) -> None:
    part, path = open_part(str(tmp_path))

    assert sweep_parts(tmp_path) == 0
    assert Path(path).exists()
    os.close(part)
    assert sweep_parts(tmp_path) == 1
    assert not Path(path).exists()


def test_part_of_a_dead_process_is_swept(tmp_path: Path) -> None:
    program = (
        "import os, sys; from storage.base.files import open_part;"
        "open_part(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    left = list(tmp_path.iterdir())

    assert sweep_parts(tmp_path) == len(left) == 1
    assert list(tmp_path.iterdir()) == []


def test_only_parts_are_swept(tmp_path: Path) -> None:
    (tmp_path / "record.dcm").touch()

    assert sweep_parts(tmp_path) == 0
    assert (tmp_path / "record.dcm").exists()
