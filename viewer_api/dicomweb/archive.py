"""A study or series as one ZIP file, streamed (PS3.18 8.7.3.7 application/zip).

Entries are stored, not deflated: pixel data hardly shrinks, and a disk or a line is
faster than deflate. Their names are ours, by number and short enough for media (PS3.10 8.2);
a directory of them (DICOMDIR) and a media profile can be asked for (`pacs.filesets`).
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from pacs import filesets
from pacs.filesets import Member, Profile
from storage.access.tokens import Action
from storage.base.errors import Malformed
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
    """Answer the instances of some series as a ZIP file; a rotten one leaves it without an end.

    The parameter ``media`` asks for a file-set with a directory.
    """
    profile = _profile(request.query_params.get("media", ""))
    series = [[entry.stored for entry in one.entries] for one in found]
    filesets.require(profile, chain.from_iterable(series))
    pieces = _zipped(filesets.members(deps.parts(request).store, series, profile))
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return contents.streamed(pieces, None, ZIP, headers)


def _profile(name: str) -> Profile:
    try:
        return Profile(name.strip().upper())
    except ValueError:
        known = ", ".join(filter(None, Profile))
        raise Malformed(f"media: one of {known}") from None


def _zipped(members: Iterable[Member]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for one in members:
            facts = zipfile.ZipInfo(one.path, _WHEN)
            facts.file_size = one.size
            with archive.open(facts, "w") as member:
                for piece in one.pieces:
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
