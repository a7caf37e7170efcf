"""Run the whole suite: install the peers it needs, then the quick tests in parallel, the rest once.

``python -m tests.run [pytest arguments]``; with arguments it is pytest itself.
Peers are programs of other makers (DCMTK). Where one is absent it is installed
if that is possible here; otherwise the run says loudly what is left out.

The tests' folders lie on a disk in memory where one may be mounted and there is room for it: a disk
that others keep busy would otherwise decide which test waits too long. What the tests of power cuts
and full disks need of a disk they make themselves.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from deploy import viewer_build
from tests.fixtures import programs

PEERS: Final = {
    "storescu": "dcmtk",
    "strace": "strace",
    "dciodvfy": "dicom3tools",
    "pdftotext": "poppler-utils",
    "qpdf": "qpdf",
    "zbarimg": "zbar-tools",
    "node": "nodejs",
    "npm": "npm",
    "chromium": "chromium",
    "Orthanc": "orthanc-dicomweb",
}
NPM: Final = Path(__file__).with_name("interop") / "npm"
"""Clients that are packages of npm, with their lock file."""
QUICK: Final = "not faults and not slow"
WORKERS: Final = "2"
_SCRATCH_MB: Final = 8192
"""How much the tests' folders may hold when they lie in memory."""


def install_peers(wanted: Mapping[str, str] = PEERS) -> list[str]:
    """Install absent peer programs by Debian's packages; return what is still absent.

    `wanted` is program → package.
    """
    absent = {program for program in wanted if programs.find(program) is None}
    if absent and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = sorted({wanted[program] for program in absent})
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
        install = ["apt-get", "install", "-y", "-qq"]
        if subprocess.run([*install, *packages], env=quiet, check=False).returncode:
            for package in packages:  # one that nobody has must not keep the others away
                subprocess.run([*install, package], env=quiet, check=False)
    return sorted(program for program in absent if programs.find(program) is None)


def install_clients() -> list[str]:
    """Install the locked packages of npm; return what is absent afterwards."""
    installed = NPM / "node_modules" / ".package-lock.json"
    locked = NPM / "package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= locked.stat().st_mtime:
        return []
    npm = shutil.which("npm")
    if npm:
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        subprocess.run([npm, "ci", *quiet], cwd=NPM, check=False)
    return [] if installed.is_file() else ["dicomweb-client (npm)"]


def fetch_viewer() -> list[str]:
    """Let npm keep the package of OHIF, which the tests install; return it when it is absent."""
    npm = shutil.which("npm")
    keep = ["cache", "add", "--prefer-offline", "--silent", viewer_build.PACKAGE]
    kept = npm and not subprocess.run([npm, *keep], check=False).returncode
    return [] if kept else [f"{viewer_build.PACKAGE} (npm)"]


def pytest(*arguments: str) -> int:
    """Run pytest and return its exit code.

    All its workers hash alike, so that what is made of a set has one order in all of them.
    """
    seed = os.environ.get("PYTHONHASHSEED") or str(random.randrange(1, 1 << 32))
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


@contextmanager
def scratch() -> Iterator[Sequence[str]]:
    """Yield the options that put the tests' folders on a disk in memory; none where none can be.

    An ext4 file system in a file on a tmpfs: it does what a disk does, and waits for nobody.
    """
    with tempfile.TemporaryDirectory(prefix="lienthong-tests-") as name, ExitStack() as mounted:
        image, disk = f"{name}/memory/image", f"{name}/disk"
        for step in (
            ["mkdir", "-m", "0711", f"{name}/memory", disk],
            ["mount", "-t", "tmpfs", "-o", f"size={_SCRATCH_MB}m", "tmpfs", f"{name}/memory"],
            ["truncate", "-s", f"{_SCRATCH_MB}M", image],
            ["mkfs.ext4", "-q", image],
            ["mount", "-o", "loop,discard,noatime", image, disk],
        ):
            if _free_memory_mb() < 2 * _SCRATCH_MB or not _succeeds(step):
                mounted.close()
                yield []
                return
            if step[0] == "mount":
                mounted.callback(subprocess.run, ["umount", "-l", step[-1]], check=True)
        Path(name).chmod(0o711)
        yield ["--basetemp", f"{disk}/run"]


def _succeeds(command: Sequence[str]) -> bool:
    with suppress(FileNotFoundError):
        return not subprocess.run(command, check=False, capture_output=True).returncode
    return False


def _free_memory_mb() -> int:
    """Return what Linux says that a new program may have; 0 elsewhere."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) >> 10
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for, else everything."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and the disk in memory goes
    left_out = [*install_peers(), *install_clients()]
    if arguments:
        return pytest(*arguments)
    left_out += fetch_viewer()
    with scratch() as folders:
        quick = pytest("-n", WORKERS, "--dist", "loadgroup", "-m", QUICK, *folders)
    with scratch() as folders:
        slow = pytest("-m", f"not ({QUICK})", *folders)
    for program in left_out:
        print(f"\n!!! LEFT OUT: {program} is not installed, the tests with it were skipped !!!")
    return quick or slow


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
