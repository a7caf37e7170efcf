"""Measure side by side in interleaved rounds, on one machine, in one run.

``python -m tests.bench.run [SECTION ...] [--rounds N] [--write]``

Every archive runs on a folder of its own on the same disk for the whole run; in each
round each one does the same work, in a changing order, after one round that warms up.
Results are medians, and ratios with their spread; ``--write`` puts them into
deploy/docs/performance.md. With ``--keep FOLDER`` the figures of earlier runs count too,
and nothing is lost when a run is cut short.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.bench import figures, ingest, opening, orders, page, peers, query, retrieve, scale
from tests.bench.figures import Figures
from tests.bench.section import Place, Section, interleaved
from tests.run import install_peers

SECTIONS: Final[Mapping[str, Section]] = {
    section.name: section
    for section in (
        ingest.INGEST,
        ingest.SUSTAINED_INGEST,
        ingest.LARGE_INGEST,
        retrieve.RETRIEVE,
        opening.OPENING,
        query.QUERY,
        scale.SCALE,
        orders.ORDERS,
    )
}
ALL: Final = "all"
PEERS: Final = {"Orthanc": "orthanc-dicomweb", "storescp": "dcmtk"}


def main() -> int:
    """Run the sections that are asked for and print their tables."""
    asked = _arguments()
    if asked.rounds:
        install_peers(PEERS)
    names = [*SECTIONS] if ALL in asked.sections else asked.sections
    for name in names:
        measured = _run(SECTIONS[name], asked)
        table = figures.table(measured, SECTIONS[name].columns)
        print(f"\n{name}\n\n{table}", flush=True)
        if asked.write:
            page.write(name, table, peers.versions())
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sections", nargs="*", default=["ingest"], choices=[*SECTIONS, ALL])
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds, after one more")
    parser.add_argument("--write", action="store_true", help="write deploy/docs/performance.md")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--folder", type=Path, help="scratch space on the disk to measure")
    parser.add_argument("--filled", type=Path, help="keep the filled archives here")
    parser.add_argument("--keep", type=Path, help="keep the figures here, and add to them")
    return parser.parse_args()


def _run(section: Section, asked: argparse.Namespace) -> Figures:
    kept = asked.keep / f"{section.name}.json" if asked.keep else None
    measured = Figures.load(kept) if kept else Figures()
    if not asked.rounds:
        return measured
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        place = Place(Path(scratch), asked.filled or Path(scratch, "filled"))
        with section.opened(place) as turns:
            chosen = [turn for turn in turns if asked.only in turn.case]
            for number in range(asked.rounds + 1):
                for turn in interleaved(chosen, number):
                    found = turn.measure()
                    if not number:  # the first round warms up
                        continue
                    measured.add(turn.case, turn.archive, found)
                    if kept:
                        measured.save(kept)
    return measured


if __name__ == "__main__":
    sys.exit(main())
