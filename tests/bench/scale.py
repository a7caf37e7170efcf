"""What a full archive costs: ours with a million studies beside ours with few and with none.

Every archive has as many studies a day, so that a page of today has as many rows; what
differs is how many years of them there are.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from deploy.node import prepare
from storage.base.settings import Settings
from storage.db import open_database
from storage.db.engine import create
from tests.bench import blaster, data, finder, peers, web
from tests.bench.blaster import Stream
from tests.bench.figures import Column
from tests.bench.peers import Archive
from tests.bench.section import Place, Section, Turn
from tests.fixtures import filled_index

A_DAY: Final = 274
STUDIES: Final = (1_000_000, 10_000)
SMALL: Final = f"{STUDIES[1]:,} studies"
EMPTY: Final = "empty at first"

COLUMNS: Final = (
    Column("median ms", "p50_ms", 2),
    Column("p99 ms", "p99_ms", 2),
    Column(f"time of {SMALL}", "p50_ms", against=SMALL),
    Column("answered /s", "inst_s"),
    Column("findable /s", "findable_s"),
    Column("time of an empty one: answered", "inst_s", against=EMPTY, less_is_better=True),
    Column("findable", "findable_s", against=EMPTY, less_is_better=True),
)

PAGES: Final[Mapping[str, Mapping[str, object]]] = {
    "today and modality": {"StudyDate": "20260301", "ModalitiesInStudy": "CT", "limit": 100},
    "newest 100": {"limit": 100},
    "first 5 of `NGUYEN VAN A*`": {"PatientName": "NGUYEN VAN A*", "limit": 5},
    "first 5 of `*THI*LAN*`": {"PatientName": "*THI*LAN*", "limit": 5},
    "`*QZ*`, no match": {"PatientName": "*QZ*", "limit": 100},
    "Patient ID": {"PatientID": "BN00000777"},
    "Accession Number": {"AccessionNumber": "A000000777"},
    "page at 9,000": {"offset": 9000, "limit": 100},
}
QUERIES: Final[Mapping[str, tuple[Mapping[str, str], range]]] = {
    "today and modality": (
        {"StudyDate": "20260301", "ModalitiesInStudy": "CT"},
        range(A_DAY * 3 // 10, A_DAY // 2),
    ),
    "Patient ID": ({"PatientID": "BN00000777"}, range(1, 10)),
    "Accession Number": ({"AccessionNumber": "A000000777"}, range(1, 2)),
    "`*QZ*`, no match": ({"PatientName": "*QZ*"}, range(1)),
}
STORED: Final = (("CT 0.5 MB", 192, 512), ("12 KB", 1600, 76))
ASSOCIATIONS: Final = 4


@contextmanager
def _opened(place: Place) -> Iterator[Sequence[Turn]]:
    with ExitStack() as running:
        filled = []
        for studies in STUDIES:
            folder = place.filled / str(studies)
            fill(folder, studies)
            filled.append(running.enter_context(peers.lienthong(folder, f"{studies:,} studies")))
        folder = place.scratch / "empty"
        folder.mkdir()
        empty = running.enter_context(peers.lienthong(folder, EMPTY))
        yield [*_questions(filled), *_stores([filled[0], empty], place.scratch)]


def fill(folder: Path, studies: int) -> None:
    """Make a data folder with `studies` studies in its index, unless it is there."""
    done = folder / "filled"
    if done.exists():
        return
    folder.mkdir(parents=True)
    settings = Settings(data_dir=folder / "data")
    begun = time.monotonic()
    with prepare(settings), open_database(settings) as url:
        engine = create(url, statement_timeout_s=0)
        filled_index.fill(engine, studies, days=max(1, studies // A_DAY))
        engine.dispose()
    print(f"{studies:,} studies in {time.monotonic() - begun:.0f} s", flush=True)
    done.touch()


def _questions(archives: Sequence[Archive]) -> Iterator[Turn]:
    for archive in archives:
        for name, keys in PAGES.items():
            yield Turn(f"QIDO, {name}", archive.name, partial(_page, archive, keys))
        for name, (wanted, answers) in QUERIES.items():
            measure = partial(finder.measure, archive, wanted, answers)
            yield Turn(f"C-FIND, {name}", archive.name, measure)


def _page(archive: Archive, keys: Mapping[str, object]) -> dict[str, float]:
    target = web.Target(archive.http_port, archive.headers())
    path = f"/dicom-web/studies?{urlencode(keys)}"
    request = target.request(path, {"Accept": "application/dicom+json"})
    _, size = web.once(target, request)
    return web.Load([request], size, seconds=1.0).run(archive.http_port)


def _stores(archives: Sequence[Archive], scratch: Path) -> Iterator[Turn]:
    for name, instances, side in STORED:
        folder = scratch / f"objects-{side}"
        data.write_series(folder, instances // ASSOCIATIONS, side, side)
        stream = Stream(folder, instances, ASSOCIATIONS)
        for archive in archives:
            measure = partial(blaster.send, archive, stream)
            yield Turn(f"C-STORE, {name}, {ASSOCIATIONS} at once", archive.name, measure)


SCALE: Final = Section("scale", COLUMNS, _opened)
