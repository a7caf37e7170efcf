"""A study or series as one ZIP file, streamed (PS3.18 8.7.3.7 application/zip).

Entries are stored, not deflated: pixel data hardly shrinks, and a disk or a line is
faster than deflate. Their names are ours, by number and short enough for media (PS3.10 8.2).
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import part10, retrieve
from pacs.series_metadata import Entry
from storage.access.tokens import Action
from storage.objects.store import ObjectStore
from viewer_api import deps
from viewer_api.dicomweb import contents
from viewer_api.places import Series

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.RETRIEVE))]
)

ZIP: Final = "application/zip"
_WHEN: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every entry: the same study gives the same file."""


@router.get("/studies/{study}/archive")
def archive_of_study(request: Request, study: str) -> Response:
    """Retrieve a study as a ZIP file of DICOM files."""
    return answer(request, deps.parts(request).places.of_study(study), study)


@router.get("/studies/{study}/series/{series}/archive")
def archive_of_series(request: Request, study: str, series: str) -> Response:
    """Retrieve a series as a ZIP file of DICOM files."""
    return answer(request, [deps.parts(request).places.of_series(study, series)], series)


def answer(request: Request, found: Sequence[Series], name: str) -> Response:
    """Answer the instances of some series as a ZIP file; a rotten one leaves it without an end."""
    pieces = _zipped(deps.parts(request).store, _named(found))
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return contents.streamed(pieces, None, ZIP, headers)


def _named(found: Sequence[Series]) -> Iterator[tuple[str, Entry]]:
    for number, series in enumerate(found, 1):
        for place, entry in enumerate(series.entries, 1):
            yield f"DICOM/S{number:05}/I{place:06}", entry


def _zipped(store: ObjectStore, entries: Iterable[tuple[str, Entry]]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, entry in entries:
            stored = entry.stored
            head = part10.head(
                stored.sop_class_uid, stored.sop_instance_uid, stored.transfer_syntax_uid
            )
            facts = zipfile.ZipInfo(name, _WHEN)
            facts.file_size = len(head) + retrieve.outgoing_size(store, stored)
            with archive.open(facts, "w") as member:
                member.write(head)
                for piece in retrieve.outgoing_pieces(store, stored):
                    member.write(piece)
                    yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """Where the ZIP is written to; what was written is taken away again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """It can be written, and nothing else."""
        return True

    def write(self, piece: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Keep a piece until it is taken."""
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> Sequence[bytes]:
        """Return what was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces
