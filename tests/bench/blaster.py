"""C-STORE by the load generator: answered by the last response, findable by a query."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import memory
from tests.bench.peers import Archive

PROGRAM: Final = Path(__file__).parents[3] / "shared" / "tools" / "store_blaster.py"
FINDABLE_S: Final = 180.0
POLL_S: Final = 0.03


@dataclass(frozen=True)
class Stream:
    """What is sent: the files of a folder, over some associations, each a study of its own."""

    folder: Path
    instances: int
    associations: int


def send(archive: Archive, stream: Stream, *, watch_memory: bool = False) -> dict[str, float]:
    """Send `stream`; return rates per second, CPU milliseconds and megabytes.

    With `watch_memory` the processes are looked at all the time, which costs some speed.
    """
    before = archive.count() if archive.count else 0
    # The generator salts the UIDs by association: each one sends the same files, as its own.
    each = stream.instances // stream.associations
    expected = each * stream.associations
    started = time.monotonic()
    arguments = [
        *(("--raw",) if archive.raw else ("--aec", archive.ae_title)),
        *("--dir", str(stream.folder), "--assoc", str(stream.associations)),
        *("--limit", str(each), "--times", str(stream.associations)),
        *("--pid", str(archive.pid), "--prewarm", "--sync"),
    ]
    if watch_memory:
        with memory.Peak.of(archive.pid, archive.receiver) as peak:
            measured = _run(archive, arguments)
        measured |= {"peak_mb": peak.mb, "receiver_mb": peak.receiver_mb}
    else:
        measured = _run(archive, arguments)
    prepared = time.monotonic() - started - measured["wall"]
    if archive.count:
        while archive.count() < before + expected:
            if time.monotonic() - started > FINDABLE_S:
                raise RuntimeError(f"{archive.name} does not find all instances")
            time.sleep(POLL_S)
        measured["findable_s"] = expected / (time.monotonic() - started - prepared)
    measured["held_mb"] = memory.held_mb(archive.pid)
    return measured


def keep(archive: Archive, folder: Path) -> None:
    """Send the files of `folder` as they are, and wait until all are found."""
    before = archive.count() if archive.count else 0
    files = len(list(folder.glob("*.dcm")))
    _run(archive, ["--aec", archive.ae_title, "--dir", str(folder), "--no-fresh-uids"])
    deadline = time.monotonic() + FINDABLE_S
    while archive.count and archive.count() < before + files:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{archive.name} does not find all instances")
        time.sleep(POLL_S)


def _run(archive: Archive, arguments: list[str]) -> dict[str, float]:
    if not PROGRAM.is_file():
        sys.exit(f"the load generator {PROGRAM} is not there")
    blaster = subprocess.run(
        [sys.executable, str(PROGRAM), f"127.0.0.1:{archive.dicom_port}", "--json", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if blaster.returncode:
        raise RuntimeError(f"{archive.name}: {blaster.stderr}")
    measured: dict[str, float] = json.loads(blaster.stdout)
    if measured["bad"]:
        raise RuntimeError(f"{archive.name} refused {measured['bad']:.0f} instances")
    return measured
