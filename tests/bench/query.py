"""Query and DIMSE retrieval beside Orthanc: QIDO-RS, C-FIND, C-GET and C-MOVE.

What C-GET and C-MOVE send is received by DCMTK's programs and thrown away.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import msgspec
from pydicom import dcmread

from tests.bench import blaster, data, finder, peers, web
from tests.bench.figures import Column
from tests.bench.peers import Archive
from tests.bench.section import Place, Section, Turn
from tests.fixtures import programs

ORTHANC: Final = "Orthanc"
SINK: Final = "BENCHSINK"
STUDIES: Final = 900
SLICES: Final = 200
DAY: Final = "20260705"
ON_A_DAY: Final = 90

COLUMNS: Final = (
    Column("median ms", "p50_ms", 2),
    Column("p99 ms", "p99_ms", 2),
    Column("per second", "req_s"),
    Column("MB/s", "MB_s"),
    Column("of Orthanc: per second", "req_s", against=ORTHANC),
)


@contextmanager
def _opened(place: Place) -> Iterator[Sequence[Turn]]:
    port = peers.free_port()
    with ExitStack() as running:
        running.enter_context(_sink(place.scratch, port))
        archives = [
            running.enter_context(archive)
            for name, make in (
                ("lienthong", peers.lienthong),
                ("orthanc", partial(peers.orthanc, dicomweb=True, destination=(SINK, port))),
            )
            if (archive := peers.made(name, make, place.scratch))
        ]
        studies = data.write_studies(place.scratch / "studies", STUDIES)
        slices = data.write_series(place.scratch / "slices", SLICES, 512, 512)
        for archive in archives:
            if archive.name != ORTHANC:
                address = ("127.0.0.1", str(port))
                peers.command(archive.environment, "peer", "add", SINK, *address)
            blaster.keep(archive, studies)
            blaster.keep(archive, slices)
        yield [turn for archive in archives for turn in _turns(archive, slices)]


def _turns(archive: Archive, slices: Path) -> Iterator[Turn]:
    day = {"StudyDate": DAY, "ModalitiesInStudy": "CT"}
    one = {"AccessionNumber": "A000477"}
    for case, keys, found in (("a day by modality", day, ON_A_DAY), ("one by accession", one, 1)):
        yield Turn(f"QIDO, {case}", archive.name, partial(_qido, archive, keys, found))
        measure = partial(finder.measure, archive, keys, range(found, found + 1))
        yield Turn(f"C-FIND, {case}", archive.name, measure)
    study = str(dcmread(next(slices.iterdir()), stop_before_pixels=True).StudyInstanceUID)
    for service, program in (("C-GET", "getscu"), ("C-MOVE", "movescu")):
        if programs.find(program):
            measure = partial(_retrieve, archive, program, study, slices)
            yield Turn(f"{service}, {SLICES} CT of 0.5 MB", archive.name, measure)


def _qido(archive: Archive, keys: dict[str, str], found: int) -> dict[str, float]:
    target = web.Target(archive.http_port, archive.headers())
    path = f"/dicom-web/studies?{urlencode({**keys, 'limit': 200})}"
    headers = {"Accept": "application/dicom+json"}
    body = web.content(target, path, headers)
    if len(msgspec.json.decode(body or b"[]")) != found:
        raise RuntimeError(f"{archive.name} does not find {found} studies")
    request = target.request(path, headers)
    _, size = web.once(target, request)
    return web.Load([request], size, seconds=1.5).run(archive.http_port)


@contextmanager
def _sink(scratch: Path, port: int) -> Iterator[None]:
    """Run a receiver that keeps nothing."""
    program = programs.need("storescp")
    command = [program, "--ignore", "--fork", "-aet", SINK, "-od", str(scratch), str(port)]
    process = subprocess.Popen(command, env=_environment())
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _retrieve(archive: Archive, program: str, study: str, slices: Path) -> dict[str, float]:
    receiver = ["--ignore"] if program == "getscu" else ["-aem", SINK]
    command = [programs.need(program), "-d", "-S", "-aec", archive.ae_title, *receiver]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    command += ["127.0.0.1", str(archive.dicom_port)]
    begun = time.monotonic()
    done = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, check=False, timeout=120
    )
    taken = time.monotonic() - begun
    said = [line for line in (done.stdout + done.stderr).splitlines() if "Completed Sub" in line]
    if done.returncode or not said or said[-1].split()[-1] != str(SLICES):
        raise RuntimeError(f"{archive.name}: {program} did not get {SLICES} instances: {said[-1:]}")
    size = sum(path.stat().st_size for path in slices.iterdir())
    return {"req_s": SLICES / taken, "MB_s": size / taken / 1e6}


def _environment() -> dict[str, str]:
    return {**os.environ, "TCP_NODELAY": "1"}


QUERY: Final = Section("query", COLUMNS, _opened)
