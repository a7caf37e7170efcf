"""Retrieval over DICOMweb beside Orthanc with its DICOMweb plugin."""

import contextlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from tests.bench import blaster, data, peers, web
from tests.bench.figures import Column
from tests.bench.peers import Archive
from tests.bench.section import Place, Section, Turn
from tests.bench.web import Load, Target

ORTHANC: Final = "Orthanc"
SLICES: Final = 400
ZIPPED: Final = 100
FRAME_BYTES: Final = 512 * 512 * 2
REAL: Final = Path(__file__).parents[3] / "shared" / "data" / "dicom" / "dcm_qa_ct"
LONG_ENOUGH: Final = 20

COLUMNS: Final = (
    Column("median ms", "p50_ms", 2),
    Column("p99 ms", "p99_ms", 2),
    Column("per second", "req_s", 1),
    Column("MB/s", "MB_s"),
    Column("of Orthanc: median", "p50_ms", against=ORTHANC, less_is_better=True),
    Column("p99", "p99_ms", against=ORTHANC, less_is_better=True),
    Column("per second", "req_s", against=ORTHANC),
    Column("MB/s", "MB_s", against=ORTHANC),
)

JSON: Final = {"Accept": "application/dicom+json", "Accept-Encoding": "gzip"}
OCTETS: Final = {"Accept": 'multipart/related; type="application/octet-stream"'}
OBJECTS: Final = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
JPEG: Final = {"Accept": "image/jpeg"}


@dataclass(frozen=True)
class Series:
    """One stored series."""

    name: str
    study: str
    series: str
    instances: Sequence[str]

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/dicom-web/studies/{self.study}/series/{self.series}"

    @classmethod
    def of(cls, name: str, folder: Path) -> "Series":
        """Read the UIDs of the files in `folder`."""
        heads = [dcmread(path, specific_tags=_UIDS) for path in sorted(folder.glob("*.dcm"))]
        first = heads[0]
        uids = [str(head.SOPInstanceUID) for head in heads]
        return cls(name, str(first.StudyInstanceUID), str(first.SeriesInstanceUID), uids)


@dataclass(frozen=True)
class Work:
    """One kind of request: what is asked, and what an answer must hold to count."""

    case: str
    paths: Sequence[str]
    headers: Mapping[str, str]
    holds: Callable[[bytes], bool]
    load: Load


_UIDS: Final = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


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
        folders = dict(_folders(place.scratch))
        for folder in folders.values():
            for archive in archives:
                blaster.keep(archive, folder)
        stored = [Series.of(name, folder) for name, folder in folders.items()]
        yield [turn for archive in archives for turn in _turns(archive, stored, place.scratch)]


def _folders(scratch: Path) -> Iterator[tuple[str, Path]]:
    yield "noise", data.write_series(scratch / "noise", SLICES, 512, 512)
    if models := real_slices():
        yield "real", data.write_like(scratch / "real", models, SLICES)
        yield "short", data.write_like(scratch / "short", models, ZIPPED)
    else:
        yield "short", data.write_series(scratch / "short", ZIPPED, 512, 512, 2)


@cache
def real_slices() -> Sequence[Path]:
    """Return the slices of a real CT series, or nothing when none is at hand."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for path in REAL.rglob("*") if path.is_file()):
        with contextlib.suppress(InvalidDicomError):
            head = dcmread(path, specific_tags=["SeriesInstanceUID", "Rows"])
            if head.get("Rows") == 512:
                found.setdefault(str(head.SeriesInstanceUID), []).append(path)
    longest = max(found.values(), key=len, default=[])
    return longest if len(longest) >= LONG_ENOUGH else []


def _turns(archive: Archive, stored: Sequence[Series], scratch: Path) -> Iterator[Turn]:
    target = Target(archive.http_port, archive.headers())
    yield Turn(
        f"series metadata, {SLICES} instances, first request",
        archive.name,
        partial(_first_metadata, archive, target, scratch),
    )
    *long, short = stored
    path, headers = _archive_of(archive, target, short)
    zipped = Load([], 0, seconds=4, most=3)
    zip_ = Work(f"study as zip, {ZIPPED} × 0.5 MB", [path], headers, _a_zip, zipped)
    for work in (*_works(long), zip_):
        if (measure := _prepared(archive, target, work)) is None:
            print(f"!!! LEFT OUT: {archive.name} does not give {work.case} !!!", flush=True)
        else:
            yield Turn(work.case, archive.name, measure)


def _works(stored: Sequence[Series]) -> Iterator[Work]:
    for series in stored:
        case = f"series metadata, {SLICES} instances, {series.name}"
        yield Work(case, [f"{series.path}/metadata"], JSON, _all_instances, Load([], 0))
    noise, shown = stored[0], stored[-1]
    frames = [f"{noise.path}/instances/{uid}/frames/1" for uid in noise.instances]
    for connections in (1, 4, 8):
        load = Load([], 0, connections=connections)
        yield Work(f"frame of 0.5 MB, {connections} at once", frames, OCTETS, _a_frame, load)
    whole = Load([], 0, seconds=4, most=3)
    paths = [f"/dicom-web/studies/{noise.study}"]
    yield Work(f"whole study, {SLICES} × 0.5 MB", paths, OBJECTS, _a_study, whole)
    rendered = [f"{shown.path}/instances/{uid}/frames/1/rendered" for uid in shown.instances]
    for connections in (1, 4):
        load = Load([], 0, tolerance=0.9, connections=connections)
        yield Work(f"rendered JPEG, {connections} at once", rendered, JPEG, _a_jpeg, load)


def _prepared(
    archive: Archive, target: Target, work: Work
) -> Callable[[], dict[str, float]] | None:
    """Check one answer whole; return what measures many, None when it is not given."""
    body = web.content(target, work.paths[0], work.headers)
    if body is None:
        return None
    if not work.holds(body):
        raise RuntimeError(f"{archive.name}: {work.case}: not what was asked for")
    requests = [target.request(path, work.headers) for path in work.paths]

    def measure() -> dict[str, float]:
        _, size = web.once(target, requests[0])
        measured = replace(work.load, requests=requests, size=size).run(archive.http_port)
        if work.holds is _a_zip:  # who packs tighter must not look slower
            measured["MB_s"] = measured["req_s"] * ZIPPED * FRAME_BYTES / 1e6
        return measured

    return measure


def _all_instances(body: bytes) -> bool:
    found = json.loads(body)
    return len(found) == SLICES and all("00080018" in instance for instance in found)


def _a_frame(body: bytes) -> bool:
    return FRAME_BYTES < len(body) < FRAME_BYTES + 1000


def _a_study(body: bytes) -> bool:
    return len(body) > SLICES * FRAME_BYTES and body.count(b"DICM") >= SLICES


def _a_jpeg(body: bytes) -> bool:
    return body.startswith(b"\xff\xd8") and len(body) > 10_000


def _a_zip(body: bytes) -> bool:
    names = zipfile.ZipFile(io.BytesIO(body)).namelist()
    return sum("DICOMDIR" not in name for name in names) == ZIPPED


def _first_metadata(archive: Archive, target: Target, scratch: Path) -> dict[str, float]:
    """Store a series that nobody has asked for, then ask once."""
    folder = scratch / f"first-{time.monotonic_ns()}"
    models = real_slices()
    if models:
        data.write_like(folder, models, SLICES)
    else:
        data.write_series(folder, SLICES, 64, 64)
    blaster.keep(archive, folder)
    series = Series.of("first", folder)
    taken, size = web.once(target, target.request(f"{series.path}/metadata", JSON))
    if size < SLICES * 10:
        raise RuntimeError(f"{archive.name}: metadata of {size} bytes")
    return {"p50_ms": taken}


def _archive_of(archive: Archive, target: Target, series: Series) -> tuple[str, Mapping[str, str]]:
    if archive.name != ORTHANC:
        return f"/dicom-web/studies/{series.study}/archive", {}
    url = f"http://127.0.0.1:{target.port}/tools/lookup"
    [found] = peers.fetch(url, body=series.study.encode())
    return f"/studies/{found['ID']}/archive", {}


RETRIEVE: Final = Section("retrieve", COLUMNS, _opened)
