"""Instances as the files of a file-set for media (PS3.10 8, PS3.11 Annexes D, H and others).

    DICOM/S00001/I000001 …    one Part 10 file each, with a fresh head
    DICOMDIR                  behind them, when all their headers have gone by

Nothing is held but the directory and one file that is converted.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pacs import contexts, dicomdir, part10, retrieve
from pacs.dicomdir import Directory, File
from pacs.header import HeaderReader
from storage.archive.model import StoredInstance
from storage.base.errors import Malformed, NotSupported
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

MAX_CONVERTED: Final = 1 << 30
"""Bytes of a dataset that is converted; it is in memory whole."""


class Profile(StrEnum):
    """What a file-set is to be."""

    PLAIN = ""
    """Files as they are stored, without a directory."""
    DICOMDIR = "DICOMDIR"
    """Files as they are stored, with one."""
    GENERAL_PURPOSE = "STD-GEN-CD"
    """The General Purpose CD-R Interchange Profile (PS3.11 D): Explicit VR Little Endian."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file: its path, how many bytes it has, and these."""

    path: str
    size: int
    pieces: Iterator[bytes]


def require(profile: Profile, instances: Iterable[StoredInstance]) -> None:
    """Raise `NotSupported` when an instance cannot be what a profile demands."""
    if profile is not Profile.GENERAL_PURPOSE:
        return
    for stored in instances:
        syntax = stored.transfer_syntax_uid
        if syntax not in contexts.NATIVE | contexts.DECODABLE:
            name = contexts.name_of(syntax)
            raise NotSupported(f"{profile}: an object in {name}, which is not decoded")
        if stored.dataset_size > MAX_CONVERTED and syntax != contexts.EXPLICIT_VR_LITTLE_ENDIAN:
            raise NotSupported(f"{profile}: an object too large to be converted")


def members(
    store: ObjectStore, series: Iterable[Iterable[StoredInstance]], profile: Profile
) -> Iterator[Member]:
    """Yield the files of some series; each is to be read before the next is asked for.

    Raises
    ------
    StoreUnavailable
        The store does not answer, or gives other bytes than were received.
    NotSupported
        An instance cannot be what the profile demands.
    """
    directory = Directory()
    for number, instances in enumerate(series, 1):
        for place, stored in enumerate(instances, 1):
            file_id = ("DICOM", f"S{number:05}", f"I{place:06}")
            yield _member(store, stored, file_id, profile, directory)
    if profile is not Profile.PLAIN:
        content = directory.encode()
        yield Member(dicomdir.FILE_NAME, len(content), iter((content,)))


def _member(
    store: ObjectStore,
    stored: StoredInstance,
    file_id: tuple[str, ...],
    profile: Profile,
    directory: Directory,
) -> Member:
    syntax = stored.transfer_syntax_uid
    if profile is Profile.GENERAL_PURPOSE and syntax != contexts.EXPLICIT_VR_LITTLE_ENDIAN:
        wanted = (contexts.EXPLICIT_VR_LITTLE_ENDIAN,)
        syntax, converted = retrieve.dataset_as(store, stored, wanted)
        size, pieces = len(converted), iter((converted,))
    else:
        size = retrieve.outgoing_size(store, stored)
        pieces = retrieve.outgoing_pieces(store, stored)
    head = part10.head(stored.sop_class_uid, stored.sop_instance_uid, syntax)
    file = File(file_id, stored.sop_class_uid, stored.sop_instance_uid, syntax)
    noted = pieces if profile is Profile.PLAIN else _noted(pieces, file, directory)
    return Member("/".join(file_id), len(head) + size, _behind(head, noted))


def _behind(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _noted(pieces: Iterator[bytes], file: File, directory: Directory) -> Iterator[bytes]:
    """Yield a dataset and note it in the directory when it has gone by."""
    reader = HeaderReader(file.transfer_syntax_uid)
    for piece in pieces:
        reader.feed(piece)
        yield piece
    try:
        directory.add(file, reader.finish())
    except Malformed as fault:  # the file is there all the same
        facts = {"sop_instance_uid": file.sop_instance_uid, "reason": str(fault)}
        log.warning("no_directory_record", extra=facts)
