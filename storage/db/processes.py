"""Which processes of PostgreSQL work in a data folder, whoever started them."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

POLL_S: Final = 0.01
_PROC: Final = Path("/proc")


def postmaster(cluster: Path) -> int | None:
    """Return the process id of the server of `cluster`, None when it does not run.

    A stale ``postmaster.pid`` may name a process that got the number later: on Linux
    the process must also work in the folder.
    """
    try:
        pid = int((cluster / "postmaster.pid").read_text().partition("\n")[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 0 and is_alive(pid) and _may_work_in(pid, cluster) else None


def end_orphans(cluster: Path, patience_s: float = 2.0) -> None:
    """End what is left of a server whose postmaster was killed, and wait until it is gone.

    New servers refuse to start beside it.
    """
    deadline = time.monotonic() + patience_s
    while pids := _backends(cluster):
        late = time.monotonic() > deadline
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGQUIT)
        time.sleep(10 * POLL_S)


def is_alive(pid: int) -> bool:
    """Return whether the process runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) not in {"Z", "X"}


def _state(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _may_work_in(pid: int, cluster: Path) -> bool:
    try:
        return os.path.samestat((_PROC / str(pid) / "cwd").stat(), cluster.stat())
    except PermissionError:
        return False
    except OSError:
        return not _PROC.joinpath("self").exists()


def _backends(cluster: Path) -> list[int]:
    """Return the server processes whose working folder is `cluster` (Linux; elsewhere none)."""
    if not _PROC.is_dir():
        return []
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if _is_backend(pid, cluster)]


def _is_backend(pid: int, cluster: Path) -> bool:
    try:
        program = (_PROC / str(pid) / "exe").readlink().name
    except OSError:
        return False
    ours = program.removesuffix(" (deleted)") == "postgres"
    return ours and is_alive(pid) and _may_work_in(pid, cluster)
