"""Import a folder of DICOM files; stop it at any moment, it goes on where it was.

Each file goes the way of every received object, through a spool of its own and
the ingest, so a file is reported as stored only when it is in the object store
and the index. What was done is noted in ``DATA_DIR/imports/<folder>.jsonl``;
a file that has not changed since it was taken is not read again.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from deploy.locking import only_one
from deploy.node import Node
from pacs import contexts, header, part10
from pacs.ingest import Ingest, Ingested
from pacs.part10 import Provenance
from storage.archive.model import Verdict
from storage.base.clock import utc_now
from storage.base.errors import Malformed, Rejected
from storage.spool import Spool, SpoolRecord

BATCH: Final = 64
CHUNK: Final = 1 << 20
SOURCE: Final = "IMPORT"
HELD: Final = "held"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file; `verdict` is `HELD` in quarantine, '' when it could not be read."""

    path: str
    size: int
    mtime_ns: int
    verdict: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the file is not in the archive."""
        return self.verdict not in {Verdict.STORED, Verdict.DUPLICATE}


def import_folder(node: Node, folder: Path, progress: Callable[[Imported], None]) -> list[Imported]:
    """Import every file below `folder` and return those that failed, with the reason.

    `progress` is called once for each file, also for those done in an earlier run.

    Raises
    ------
    Conflict
        Another import runs on this data folder.
    StoreUnavailable
        Spool, object store or database do not answer; run it again later.
    """
    data = node.settings.data_dir
    with only_one(data / "import.lock", "another import runs; start this one when that has ended"):
        return _import(node, folder, progress)


def _import(node: Node, folder: Path, progress: Callable[[Imported], None]) -> list[Imported]:
    spool = Spool(
        node.settings.data_dir / "spool-import", reserve_bytes=node.settings.spool_reserve_bytes
    )
    spool.recover()
    ingest = Ingest(node.engine, node.store, spool, follow=False)
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
        name = os.fsdecode(os.fsencode(path.relative_to(folder)))
        try:
            state = path.stat()
        except OSError as error:  # gone since it was listed
            yield Imported(name, 0, 0, "", error.strerror or str(error))
            continue
        fresh = Imported(name, state.st_size, state.st_mtime_ns, "")
        earlier = done.get(name)
        if earlier and earlier.verdict and _same_file(earlier, fresh):
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


def _spool_file(spool: Spool, path: Path) -> SpoolRecord:
    """Put the dataset of a file into the spool as it lies there.

    The dataset says what it is: file meta information that contradicts it is
    the work of some other program and is not kept.
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise Malformed("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = part10.split(content)
            if found.sop_class_uid == contexts.MEDIA_STORAGE_DIRECTORY:
                raise Malformed("a DICOMDIR: the files that it lists are imported, not itself")
            with memoryview(content) as whole, whole[found.length :] as dataset:
                return _spool_dataset(spool, dataset, found.transfer_syntax_uid)


def _spool_dataset(spool: Spool, dataset: memoryview, transfer_syntax_uid: str) -> SpoolRecord:
    """Spool what can be read; ingest holds it in quarantine when it does not say what it is."""
    read = header.scan(dataset, transfer_syntax_uid)
    provenance = Provenance(received_at=utc_now(), wire="import", source_ae_title=SOURCE)
    uids = read.text("SOPClassUID"), read.text("SOPInstanceUID")
    with spool.incoming(part10.head(*uids, transfer_syntax_uid, provenance)) as incoming:
        for start in range(0, len(dataset), CHUNK):
            with dataset[start : start + CHUNK] as chunk:
                incoming.write(chunk)
    return incoming.record


def _same_file(one: Imported, other: Imported) -> bool:
    return (one.size, one.mtime_ns) == (other.size, other.mtime_ns)


def _result(file: Imported, result: Ingested) -> Imported:
    if result.verdict in {Verdict.STORED, Verdict.DUPLICATE}:
        return Imported(file.path, file.size, file.mtime_ns, str(result.verdict), result.detail)
    return Imported(file.path, file.size, file.mtime_ns, HELD, f"kept aside: {result.detail}")


class _Journal:
    """What earlier runs did with the files of one folder: JSON lines, appended file by file."""

    def __init__(self, folder: Path, imported: Path) -> None:
        name = hashlib.sha256(os.fsencode(imported.resolve())).hexdigest()[:32]
        self._path = folder / f"{name}.jsonl"
        self.done: Mapping[str, Imported] = {one.path: one for one in self._read()}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8", errors="surrogateescape")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, done: Imported) -> None:
        """Append what became of one file."""
        if self.done.get(done.path) != done:
            self._file.write(json.dumps(asdict(done)) + "\n")
            self._file.flush()

    def _read(self) -> Iterator[Imported]:
        if not self._path.exists():
            return
        for line in self._path.read_text("utf-8", "surrogateescape").splitlines():
            with suppress(ValueError, TypeError):  # the last line of a run that was cut short
                yield Imported(**json.loads(line))
