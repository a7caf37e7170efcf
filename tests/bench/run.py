"""Measure ingest side by side: ours, Orthanc and storescp, interleaved rounds, one run.

``python -m tests.bench.run [--rounds N] [--write]``

Every archive runs on a folder of its own on the same disk for the whole run; in
each round each one gets the same objects with fresh UIDs, in a changing order.
"Answered" is the time to the last C-STORE-RSP, "findable" until a query counts
every instance. Results are ratios of medians with their spread; ``--write``
puts them into deploy/docs/performance.md.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import data, peers
from tests.bench.peers import Archive

ROOT = Path(__file__).parents[2]
BLASTER = ROOT.parent / "shared" / "tools" / "store_blaster.py"
PAGE = ROOT / "deploy" / "docs" / "performance.md"
BEGIN, END = "<!-- ingest: begin -->", "<!-- ingest: end -->"
FINDABLE_S = 120.0


@dataclass(frozen=True)
class Load:
    """One kind of object: `instances` slices of ``(side, side) uint16`` in each turn."""

    name: str
    instances: int
    side: int


LOADS = (Load("CT 0.5 MB", 192, 512), Load("12 KB", 800, 76))
ASSOCIATIONS = (1, 4, 8)
Figures = dict[tuple[str, int, str], list[dict[str, float]]]


def main() -> int:
    """Run all rounds and print the table."""
    arguments = _arguments()
    if not BLASTER.is_file():
        sys.exit(f"the load generator {BLASTER} is not there")
    figures: Figures = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch, ExitStack() as running:
        folders = {
            load.name: data.write_series(
                Path(scratch, f"load{number}"), load.instances, load.side, load.side
            )
            for number, load in enumerate(LOADS)
        }
        archives = [running.enter_context(archive) for archive in _archives(Path(scratch))]
        for number in range(arguments.rounds + 1):
            for load, associations, archive in _turns(archives, number):
                measured = _measure(archive, load, folders[load.name], associations)
                if number:  # the first round warms up
                    figures[load.name, associations, archive.name].append(measured)
    table = _table(figures)
    print(table)
    if arguments.write:
        _write(table)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds, after one more")
    parser.add_argument("--write", action="store_true", help="write deploy/docs/performance.md")
    parser.add_argument("--folder", default=None, help="scratch space on the disk to measure")
    return parser.parse_args()


def _archives(scratch: Path) -> Iterator[Archive]:
    for make in (peers.lienthong, peers.orthanc, peers.storescp, peers.sink):
        folder = scratch / make.__name__
        folder.mkdir()
        archive = make(folder)
        if archive is None:
            print(f"!!! LEFT OUT: {make.__name__} is not installed !!!")
        else:
            yield archive


def _turns(archives: list[Archive], number: int) -> Iterator[tuple[Load, int, Archive]]:
    order = random.Random(number)
    for load in LOADS:
        for associations in ASSOCIATIONS:
            for archive in order.sample(archives, len(archives)):
                yield load, associations, archive


def _measure(archive: Archive, load: Load, folder: Path, associations: int) -> dict[str, float]:
    before = archive.count() if archive.count else 0
    # The generator salts the UIDs by association: each one sends the same files, as its own.
    each = load.instances // associations
    expected = each * associations
    started = time.monotonic()
    blaster = subprocess.run(
        [
            *(sys.executable, str(BLASTER), f"127.0.0.1:{archive.dicom_port}"),
            *(("--raw",) if archive.raw else ("--aec", archive.ae_title)),
            *("--dir", str(folder), "--assoc", str(associations)),
            *("--limit", str(each), "--times", str(associations)),
            *("--pid", str(archive.pid), "--prewarm", "--sync", "--json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if blaster.returncode:
        sys.exit(f"{archive.name}: {blaster.stderr}")
    measured: dict[str, float] = json.loads(blaster.stdout)
    if measured["bad"]:
        sys.exit(f"{archive.name} refused {measured['bad']:.0f} instances")
    prepared = time.monotonic() - started - measured["wall"]
    if archive.count:
        while archive.count() < before + expected:
            if time.monotonic() - started > FINDABLE_S:
                sys.exit(f"{archive.name} does not find all instances")
            time.sleep(0.03)
        measured["findable_s"] = expected / (time.monotonic() - started - prepared)
    return measured


def _table(figures: Figures) -> str:
    head = (
        "| objects | associations | archive | answered /s | findable /s | CPU ms | peak MB"
        " | of Orthanc: answered (spread) | findable (spread) | of the raw sink: answered |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for (load, associations, name), rounds in sorted(
        figures.items(), key=lambda item: (item[0][0], item[0][1])
    ):
        rival = figures.get((load, associations, "Orthanc"), [])
        floor = figures.get((load, associations, "raw sink"), [])
        lines.append(
            f"| {load} | {associations} | {name} | {_middle(rounds, 'inst_s')}"
            f" | {_middle(rounds, 'findable_s')} | {_middle(rounds, 'server_cpu_ms_inst', 2)}"
            f" | {_middle(rounds, 'peak_rss_MB')} | {_ratio(rounds, rival, 'inst_s')}"
            f" | {_ratio(rounds, rival, 'findable_s')} | {_ratio(rounds, floor, 'inst_s')} |"
        )
    return "\n".join(lines)


def _middle(rounds: list[dict[str, float]], key: str, digits: int = 0) -> str:
    values = [one[key] for one in rounds if key in one]
    return f"{statistics.median(values):.{digits}f}" if values else "–"


def _ratio(ours: list[dict[str, float]], rival: list[dict[str, float]], key: str) -> str:
    pairs = [
        one[key] / other[key]
        for one, other in zip(ours, rival, strict=False)
        if key in one and key in other
    ]
    if not pairs:
        return "–"
    return f"{statistics.median(pairs):.2f} ({min(pairs):.2f}–{max(pairs):.2f})"


def _machine() -> str:
    cores = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        f"{cores} cores ({platform.machine()}), {memory} GiB of memory, one virtual disk, "
        "senders and archives on the same machine"
    )


def _write(table: str) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    day = time.strftime("%Y-%m-%d")
    text = f"{before}{BEGIN}\n\nLast run {day} on {_machine()}.\n\n{table}\n\n{END}{after}"
    PAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
