"""A study of 1,000 slices opened as OHIF opens it, beside Orthanc with its DICOMweb plugin.

One connection that is kept alive; the study, its series, the metadata of the series, the first
frame: each request begins when the one before it has been answered. The time of the browser,
which parses and draws, is in none of the figures.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from tests.bench import blaster, data, peers, web
from tests.bench.figures import Column
from tests.bench.peers import Archive
from tests.bench.retrieve import FRAME_BYTES, JSON, ORTHANC, Series, real_slices
from tests.bench.section import Place, Section, Turn
from tests.bench.web import Client, Target

SLICES: Final = 1000
SETTLED_S: Final = 12.0
"""Behind the arrival of the last slice: twice what a series has to rest, and what comes then."""
FRAME: Final = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}

_NUMBERS: Final = count(1)
_WHAT: Final = {
    "metadata_ms": "metadata ms",
    "frame_ms": "first frame ms",
    "total_ms": "all four requests ms",
}
COLUMNS: Final = (
    *(Column(head, key, 1) for key, head in _WHAT.items()),
    *(
        Column(f"of Orthanc: {head.removesuffix(' ms')}", key, against=ORTHANC, less_is_better=True)
        for key, head in _WHAT.items()
    ),
)


@dataclass
class Opened:
    """One archive, and the series that was opened last there."""

    archive: Archive
    scratch: Path
    last: Series | None = None

    def just_arrived(self) -> dict[str, float]:
        """Open a study whose last slice has just become findable."""
        return self._open(self._store())

    def settled(self) -> dict[str, float]:
        """Open a study that nobody has opened, a while after it arrived."""
        series = self._store()
        time.sleep(SETTLED_S)
        return self._open(series)

    def again(self) -> dict[str, float]:
        """Open the last one once more."""
        return self._open(self.last or self._store())

    def _store(self) -> Series:
        number = next(_NUMBERS)
        folder = self.scratch / f"{number}"
        if models := real_slices():
            data.write_like(folder, models, SLICES)
        else:
            data.write_series(folder, SLICES, 512, 512, number)
        blaster.keep(self.archive, folder)
        series = Series.of("opened", folder)
        shutil.rmtree(folder)
        self.last = series
        return series

    def _open(self, series: Series) -> dict[str, float]:
        target = Target(self.archive.http_port, self.archive.headers())
        requests = [
            target.request(f"/dicom-web/studies?StudyInstanceUID={series.study}", JSON),
            target.request(f"/dicom-web/studies/{series.study}/series", JSON),
            target.request(f"{series.path}/metadata", JSON),
            target.request(f"{series.path}/instances/{series.instances[0]}/frames/1", FRAME),
        ]
        with closing(Client(target.port)) as client:
            taken = [_timed(client, request) for request in requests]
        (_, study), (_, within), (metadata_ms, metadata), (frame_ms, frame) = taken
        if not (study and within and metadata and FRAME_BYTES < frame < FRAME_BYTES + 1000):
            raise RuntimeError(f"{self.archive.name}: not what was asked for")
        self._check(target, series)
        total_ms = sum(ms for ms, _ in taken)
        return {"metadata_ms": metadata_ms, "frame_ms": frame_ms, "total_ms": total_ms}

    def _check(self, target: Target, series: Series) -> None:
        told = json.loads(web.content(target, f"{series.path}/metadata", JSON) or b"[]")
        if {one["00080018"]["Value"][0] for one in told} != {*series.instances}:
            raise RuntimeError(f"{self.archive.name}: not the metadata of all slices")


def _timed(client: Client, request: bytes) -> tuple[float, int]:
    begun = time.monotonic()
    status, size = client.get(request)
    if status not in web.FOUND:
        raise RuntimeError(f"status {status}")
    return (time.monotonic() - begun) * 1000, size


@contextmanager
def _opened(place: Place) -> Iterator[Sequence[Turn]]:
    with ExitStack() as running:
        archives = [
            running.enter_context(archive)
            for name, make in (
                ("lienthong", peers.lienthong),
                ("orthanc", partial(peers.orthanc, dicomweb=True)),
            )
            if (archive := peers.made(name, make, place.scratch))
        ]
        yield [
            Turn(case, archive.name, measure)
            for archive in archives
            for case, measure in _cases(Opened(archive, place.scratch))
        ]


def _cases(opened: Opened) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    yield f"{SLICES:,} slices that have just arrived", opened.just_arrived
    yield f"{SLICES:,} slices, {SETTLED_S:.0f} s after they arrived", opened.settled
    yield f"{SLICES:,} slices, opened before", opened.again


OPENING: Final = Section("opening", COLUMNS, _opened)
