"""Import a folder of DICOM files; stop it at any moment, it goes on where it was.

Each file goes the way of every received object, through a spool of its own and
the ingest, so a file is reported as stored only when it is in the object store
and the index. What was done is noted in ``DATA_DIR/imports/<folder>.jsonl``;
a file that has not changed since it was stored is not read again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from deploy.node import Node
from pacs import part10
from pacs.ingest import Ingest, Ingested
from pacs.part10 import Provenance
from storage.archive.model import Verdict
from storage.base.clock import utc_now
from storage.base.errors import Rejected
from storage.spool import Spool

BATCH: Final = 64
SOURCE: Final = "IMPORT"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file; `verdict` is empty when it was held or could not be read."""

    path: str
    size: int
    mtime_ns: int
    verdict: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the file is not in the archive."""
        return self.verdict not in {Verdict.STORED, Verdict.DUPLICATE}


def import_folder(
    node: Node, folder: Path, progress: Callable[[Imported], None]
) -> list[Imported]:
    """Import every file below `folder` and return those that failed, with the reason.

    `progress` is called once for each file, also for those done in an earlier run.

    Raises
    ------
    StoreUnavailable
        Spool, object store or database do not answer; run it again later.
    """
    spool = Spool(
        node.settings.data_dir / "spool-import", reserve_bytes=node.settings.spool_reserve_bytes
    )
    spool.recover()
    ingest = Ingest(node.engine, node.store, spool)
    while ingest.run_once():  # what a run that was cut short left behind
        pass
    failed = []
    with _Journal(node.settings.data_dir / "imports", folder) as journal:
        for batch in _batches(files_below(folder)):
            for done in _import_batch(ingest, spool, folder, batch, journal.done):
                journal.note(done)
                progress(done)
                if done.failed:
                    failed.append(done)
    return failed


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every regular file below `folder`, in order of path."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _batches(paths: Iterator[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    for path in paths:
        batch.append(path)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _import_batch(
    ingest: Ingest,
    spool: Spool,
    folder: Path,
    batch: list[Path],
    done: Mapping[str, Imported],
) -> Iterator[Imported]:
    waiting: dict[str, Imported] = {}
    records = []
    for path in batch:
        state = path.stat()
        name = os.fsdecode(os.fsencode(path.relative_to(folder)))
        fresh = Imported(name, state.st_size, state.st_mtime_ns, "")
        earlier = done.get(name)
        if earlier and not earlier.failed and _same_file(earlier, fresh):
            yield earlier
            continue
        try:
            record = _spool_file(spool, path)
        except (Rejected, OSError) as error:
            yield Imported(name, fresh.size, fresh.mtime_ns, "", str(error))
            continue
        waiting[record.name] = fresh
        records.append(record)
    for result in ingest.take(records):
        yield _result(waiting[result.record.name], result)


def _same_file(one: Imported, other: Imported) -> bool:
    return (one.size, one.mtime_ns) == (other.size, other.mtime_ns)


def _result(file: Imported, result: Ingested) -> Imported:
    if result.verdict in {Verdict.STORED, Verdict.DUPLICATE}:
        return Imported(file.path, file.size, file.mtime_ns, str(result.verdict), result.detail)
    return Imported(file.path, file.size, file.mtime_ns, "", f"in quarantine: {result.detail}")
