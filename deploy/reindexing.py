"""Reads what was stored before an attribute was added to the index, while the server runs.

    next instances by number ─ read their headers ─ (nobody records) keep values, note progress

Stop it at any moment: it goes on where it was. What cannot be read is left out and told.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pacs import header, retrieve
from pacs.header import Header
from storage.archive import custom, custom_rows
from storage.archive.custom import Added
from storage.archive.custom_rows import Placed
from storage.archive.model import Custom, Level
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Engine, transaction
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

BATCH: Final = 200
REST: Final = 0.5
"""Of the time that a batch took, we rest so much: others want disk and database too."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    read: int
    """Instances of this run."""
    left_out: int
    """Of these, that could not be read."""


def reindex(
    engine: Engine, store: ObjectStore, progress: Callable[[Progress], None], rest: float = REST
) -> Progress:
    """Read every instance that an added attribute still waits for.

    Raises
    ------
    StoreUnavailable
        The database or the object store does not answer; a later call goes on.
    """
    done = Progress(0, 0)
    while True:
        begun_s = time.monotonic()
        with transaction(engine) as session:
            waiting = custom.unread(session)
            if not waiting:
                return done
            start = min(one.read_to for one in waiting)
            last = max(one.last_instance for one in waiting)
            batch = custom_rows.placed(session, start, last, BATCH)
            wanted = [
                *_wanted(waiting, batch, lambda one, ids: custom_rows.have(session, one, ids))
            ]
        end = batch[-1].ids[Level.IMAGE] if batch else last
        found, left_out = _read(store, wanted)
        with transaction(engine) as session:
            custom.hold_alone(session)
            still = {one.custom.id for one in custom.list_all(session)}
            custom_rows.write(session, [one for one in found if one[0].id in still])
            custom.note_read(session, [one.custom for one in waiting], end)
        done = Progress(done.read + len(batch), done.left_out + left_out)
        progress(done)
        time.sleep((time.monotonic() - begun_s) * rest)


def _wanted(
    waiting: Sequence[Added],
    batch: Sequence[Placed],
    have: Callable[[Custom, Sequence[int]], set[int]],
) -> list[tuple[Placed, list[Custom]]]:
    """Pair instances with the attributes to read of them; a row that has its value needs none."""
    given = {
        one.custom.id: have(one.custom, [placed.ids[one.custom.level] for placed in batch])
        for one in waiting
    }
    found = []
    for placed in batch:
        number = placed.ids[Level.IMAGE]
        customs = [
            one.custom
            for one in waiting
            if one.read_to < number <= one.last_instance
            and placed.ids[one.custom.level] not in given[one.custom.id]
        ]
        if customs:
            found.append((placed, customs))
    return found


def _read(
    store: ObjectStore, wanted: Sequence[tuple[Placed, list[Custom]]]
) -> tuple[list[tuple[Custom, int, str]], int]:
    """Return the values of the instances, and how many could not be read."""
    found: list[tuple[Custom, int, str]] = []
    left_out = 0
    given: set[tuple[int, int]] = set()
    for placed, customs in wanted:
        missing = [one for one in customs if (one.id, placed.ids[one.level]) not in given]
        if not missing:
            continue
        try:
            opened = _header(store, placed)
        except (Malformed, NotFound) as error:
            uid = placed.stored.sop_instance_uid
            log.warning("not_reindexed", extra={"sop_instance_uid": uid, "reason": str(error)})
            left_out += 1
            continue
        for one in missing:
            text = opened.text_at(one.path, one.creator, one.vr)
            if text:
                found.append((one, placed.ids[one.level], text))
                given.add((one.id, placed.ids[one.level]))
    return found, left_out


def _header(store: ObjectStore, placed: Placed) -> Header:
    start = retrieve.header_bytes(store, placed.stored)
    return header.scan(start, placed.stored.transfer_syntax_uid)
