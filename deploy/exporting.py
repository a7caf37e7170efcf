"""Studies as the files of a medium in a folder (PS3.10 8)."""

from collections.abc import Sequence
from itertools import chain, groupby
from pathlib import Path

from deploy.node import Node
from pacs import filesets
from pacs.filesets import Profile
from storage.archive import instances
from storage.archive.model import StoredInstance
from storage.base.errors import Conflict, NotFound, StoreUnavailable
from storage.db.engine import transaction


def export(node: Node, studies: Sequence[str], folder: Path, profile: Profile) -> int:
    """Write studies into a new or empty folder; return how many files were written.

    Raises
    ------
    NotFound
        There is no such study.
    Conflict
        The folder is not empty.
    NotSupported
        An object cannot be what the profile demands; nothing was written.
    StoreUnavailable
        The folder cannot be written, or the archive does not answer.
    """
    series = [one for study in studies for one in _series(node, study)]
    filesets.require(profile, chain.from_iterable(series))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if next(folder.iterdir(), None) is not None:
            raise Conflict(f"{folder} is not empty")
        count = 0
        for member in filesets.members(node.store, series, profile):
            path = folder / member.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.writelines(member.pieces)
            count += 1
    except OSError as error:
        raise StoreUnavailable(f"{folder}: {error.strerror}") from error
    return count


def _series(node: Node, study: str) -> list[list[StoredInstance]]:
    with transaction(node.engine) as session:
        found = instances.locate(session, {"StudyInstanceUID": study})
    if not found:
        raise NotFound(f"no study {study}")
    groups = groupby(found, lambda one: one.series_instance_uid)
    return [[*group] for _, group in groups]
