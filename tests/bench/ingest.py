"""Ingest beside others: common objects, a long stream, and very large ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import blaster, data, peers
from tests.bench.blaster import Stream
from tests.bench.figures import Column
from tests.bench.peers import Archive
from tests.bench.section import Place, Section, Turn

ORTHANC: Final = "Orthanc"
SINK: Final = "raw sink"


@dataclass(frozen=True)
class Objects:
    """One kind of object: `instances` slices of ``(side, side) uint16`` in each turn."""

    name: str
    instances: int
    side: int
    associations: Sequence[int]
    watch_memory: bool = False


COMMON: Final = (
    Objects("CT 0.5 MB", 192, 512, (1, 4, 8)),
    Objects("12 KB", 800, 76, (1, 4, 8)),
)
SUSTAINED: Final = (Objects("12 KB", 20_000, 76, (4,)),)
LARGE: Final = (Objects("200 MB", 4, 10_000, (4,), watch_memory=True),)

_RATES: Final = (
    Column("answered /s", "inst_s"),
    Column("findable /s", "findable_s"),
    Column("CPU ms", "server_cpu_ms_inst", 2),
    Column("MB after", "held_mb"),
    Column("of Orthanc: answered", "inst_s", against=ORTHANC),
    Column("findable", "findable_s", against=ORTHANC),
    Column("of the raw sink: answered", "inst_s", against=SINK),
)
_VOLUME: Final = (
    Column("MB/s answered", "MB_s"),
    Column("objects/s findable", "findable_s", 2),
    Column("CPU ms", "server_cpu_ms_inst"),
    Column("peak MB, all processes", "peak_mb"),
    Column("those that receive", "receiver_mb"),
    Column("of Orthanc: answered", "inst_s", against=ORTHANC),
    Column("findable", "findable_s", against=ORTHANC),
    Column("memory", "peak_mb", against=ORTHANC, less_is_better=True),
    Column("of the raw sink: answered", "inst_s", against=SINK),
)
_INDEXING: Final = (peers.lienthong, peers.orthanc)
_EVERYBODY: Final = (*_INDEXING, peers.storescp, peers.sink)


@contextmanager
def _opened(
    kinds: Sequence[Objects], makers: Sequence[Callable[[Path], Archive | None]], place: Place
) -> Iterator[Sequence[Turn]]:
    with ExitStack() as running:
        archives = [
            running.enter_context(archive)
            for make in makers
            if (archive := peers.made(make.__name__, make, place.scratch))
        ]
        turns = []
        for kind in kinds:
            folder = place.scratch / f"objects-{kind.side}"
            # each association sends the same files under UIDs of its own
            data.write_series(
                folder, kind.instances // min(kind.associations), kind.side, kind.side
            )
            for associations in kind.associations:
                stream = Stream(folder, kind.instances, associations)
                turns += [_turn(kind, stream, archive) for archive in archives]
        yield turns


def _turn(kind: Objects, stream: Stream, archive: Archive) -> Turn:
    measure = partial(blaster.send, archive, stream, watch_memory=kind.watch_memory)
    if len(kind.associations) > 1 or stream.associations == 1:
        case = f"{kind.name}, {stream.associations} at once"
    else:
        case = f"{kind.name}, {kind.instances:,} over {stream.associations}"
    return Turn(case, archive.name, measure)


INGEST: Final = Section("ingest", _RATES, partial(_opened, COMMON, _EVERYBODY))
SUSTAINED_INGEST: Final = Section("sustained", _RATES, partial(_opened, SUSTAINED, _INDEXING))
LARGE_INGEST: Final = Section("large", _VOLUME, partial(_opened, LARGE, _EVERYBODY))
