"""Orders over MLLP: applied and committed before the answer, and how long an answer takes.

No rival stands beside: what takes orders and can be had for nothing (dcm4chee-arc, Mirth Connect)
runs in a Java server that neither Debian nor a Python registry packages, Orthanc and DCMTK speak
no HL7, and the MLLP servers of Python's HL7 libraries keep nothing. A sink that syncs each message
to a file shows what the machine and the sender give.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import memory, peers
from tests.bench.figures import Column
from tests.bench.peers import Archive
from tests.bench.section import Place, Section, Turn

SINK: Final = "MLLP sink"
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")

COLUMNS: Final = (
    Column("applied /s", "applied_s"),
    Column("median ms", "p50_ms", 2),
    Column("p99 ms", "p99_ms", 2),
    Column("worst ms", "worst_ms", 1),
    Column("CPU ms", "cpu_ms", 2),
    Column("of the sink: applied", "applied_s", against=SINK),
)


@dataclass(frozen=True)
class Load:
    """What an order placer does in one turn."""

    name: str
    orders: int
    connections: int
    per_second: float = 0.0
    patients: int = 0
    """Known ones that the orders go round; 0: a new one for each order."""


LOADS: Final = (
    *(Load(f"new patients, {n} at once", 1000, n) for n in (1, 4, 16)),
    *(Load(f"known patients, {n} at once", 1000, n, patients=500) for n in (4, 16)),
    Load("new patients, 50 a second over 4", 600, 4, 50.0),
)


@contextmanager
def _opened(place: Place) -> Iterator[Sequence[Turn]]:
    with ExitStack() as running:
        ours = peers.made("lienthong", peers.lienthong, place.scratch)
        floor = peers.made("mllp_sink", _sink, place.scratch)
        assert ours is not None
        assert floor is not None
        running.enter_context(ours)
        running.enter_context(floor)
        doors = ((ours, int(ours.environment["LIENTHONG_HL7_PORT"])), (floor, floor.dicom_port))
        yield [
            Turn(load.name, archive.name, partial(_measure, archive, port, load))
            for load in LOADS
            for archive, port in doors
        ]


def _sink(folder: Path) -> Archive:
    port = peers.free_port()
    (folder / "sink").mkdir()
    command = [sys.executable, "-m", "tests.bench.mllp_sink", str(port), str(folder / "sink")]
    return Archive(SINK, "", command, folder, port)


def _measure(archive: Archive, port: int, load: Load) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.placer", str(port)]
    command += ["--orders", str(load.orders), "--connections", str(load.connections)]
    command += ["--per-second", str(load.per_second), "--patients", str(load.patients)]
    before_s = _processor_s(archive)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    used_s = _processor_s(archive) - before_s
    if done.returncode:
        raise RuntimeError(f"{archive.name}: {done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout)
    return {**measured, "cpu_ms": used_s * 1000 / load.orders}


def _processor_s(archive: Archive) -> float:
    """Return what its processes have used, database and those that ended included."""
    roots = [archive.pid]
    database = archive.folder / "data/postgres/cluster/postmaster.pid"
    if database.exists():  # a session of its own, and nobody's child
        roots.append(int(database.read_text().split()[0]))
    return sum(_ticks(one) for root in roots for one in memory.tree(root)) / _TICKS_S


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0
    return sum(map(int, fields[11:15]))  # utime, stime, and those of its children


ORDERS: Final = Section("orders", COLUMNS, _opened)
