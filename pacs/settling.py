"""Makes the metadata object of each series that has settled, beside the ingest.

    unchanged for some seconds ─ read its instances ─ announce the key ─ put ─ adopt it

A series that changes meanwhile is left for the next time; until an object is adopted,
and whenever it is out of date or gone, readers work everything out themselves. Objects
that nothing refers to are deleted when nobody can still be reading them.
"""

import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from pacs.series_metadata import Builder, key_of
from storage.archive import instances, series_metadata
from storage.archive.model import StoredInstance
from storage.archive.series_metadata import State
from storage.base.attending import attend
from storage.base.clock import utc_now
from storage.base.errors import ImagingError, StoreUnavailable
from storage.db.engine import Engine, transaction
from storage.objects.store import ObjectStore
from storage.objects.writing import put_pieces

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
MOST: Final = 200
"""Series that are watched at a time."""
MAX_INSTANCES: Final = 10_000
"""A larger series gets no object: readers would have to take in all of it."""
GRACE: Final = 2 * series_metadata.ADOPT_WITHIN
"""An object is deleted so long after it fell out of use."""
BUSY_S: Final = 1.0
REST: Final = 0.5
"""Of the time that an instance took, we rest so much: others want this interpreter too."""
BUSY_REST: Final = 9.0
"""The same while the ingest has work."""
LONGEST_PAUSE_S: Final = 3600.0


class Settling:
    """Watches the series that have changed; `run` is a thread of the worker.

    Parameters
    ----------
    folder
        Of this process's own files, on any file system.
    settle_s
        How long a series must not have changed.
    """

    def __init__(self, engine: Engine, store: ObjectStore, folder: Path, settle_s: float) -> None:
        self._engine = engine
        self._store = store
        self._folder = folder
        self._settle_s = settle_s
        self._seen: dict[State, float] = {}
        """When each was first seen in its state."""
        self._failed: dict[int, tuple[float, float]] = {}
        """Series id → when to try again, and the pause after that."""
        self._ingested_s = 0.0

    def ingested(self, objects: int) -> None:
        """Note how many objects the ingest has just taken: while it works, we rest more."""
        if objects:
            self._ingested_s = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; trouble is logged and passes."""

        def look() -> None:
            self.run_once(stop)
            self.delete_disused()

        attend("settling", look, stop, idle_s=LOOK_S, trouble_s=LOOK_S * 5)

    def run_once(self, stop: threading.Event) -> int:
        """Make the objects of the series that have settled by now; return how many.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        now = time.monotonic()
        waiting = [row_id for row_id, (until, _) in self._failed.items() if until > now]
        with transaction(self._engine) as session:
            found = series_metadata.unsettled(session, MOST, waiting)
        self._seen = {state: self._seen.get(state, now) for state in found}
        ripe = [state for state in found if now - self._seen[state] >= self._settle_s]
        return sum(self._settle(state, stop) for state in ripe)

    def _settle(self, state: State, stop: threading.Event) -> bool:
        """Make the object of one series; put it off when something does not answer."""
        try:
            key = self._make(state, stop)
        except StoreUnavailable as error:
            _, pause_s = self._failed.get(state.id, (0.0, LOOK_S * 10))
            self._failed[state.id] = time.monotonic() + pause_s, min(pause_s * 2, LONGEST_PAUSE_S)
            uid = state.series_instance_uid
            log.warning("not_settled", extra={"series_instance_uid": uid, "reason": str(error)})
            return False
        if key is None:
            return False
        with transaction(self._engine) as session:
            adopted = series_metadata.adopt(session, state, key, utc_now())
        self._failed.pop(state.id, None)
        return adopted

    def _make(self, state: State, stop: threading.Event) -> str | None:
        """Put the object and return its key, '' when none can be made, None when told to stop."""
        keys = {
            "StudyInstanceUID": state.study_instance_uid,
            "SeriesInstanceUID": state.series_instance_uid,
        }
        with transaction(self._engine) as session:
            found = instances.locate(session, keys)
        if not 0 < len(found) <= MAX_INSTANCES:
            return ""
        try:
            content = self._content(found, stop)
        except StoreUnavailable:
            raise
        except ImagingError as error:
            uid = state.series_instance_uid
            log.warning("no_metadata", extra={"series_instance_uid": uid, "reason": str(error)})
            return ""
        return self._put(state, content) if content else None

    def _content(self, found: Sequence[StoredInstance], stop: threading.Event) -> bytes | None:
        builder = Builder(self._store)
        for stored in found:
            begun_s = time.monotonic()
            builder.add(stored)
            ended_s = time.monotonic()
            rest = BUSY_REST if ended_s - self._ingested_s < BUSY_S else REST
            if stop.wait((ended_s - begun_s) * rest):
                return None
        return builder.finish()

    def _put(self, state: State, content: bytes) -> str:
        key = key_of(state.study_instance_uid, content)
        with transaction(self._engine) as session:
            series_metadata.announce(session, key, utc_now())
        put_pieces(self._store, self._folder, key, content)
        return key

    def delete_disused(self, grace: timedelta = GRACE) -> int:
        """Delete the objects that fell out of use some time ago; return how many.

        Raises
        ------
        StoreUnavailable
            The database or the store does not answer.
        """
        with transaction(self._engine) as session:
            gone = series_metadata.disused(session, utc_now() - grace, MOST)
        for key in gone:
            self._store.delete(key)
        if gone:
            with transaction(self._engine) as session:
                series_metadata.forget(session, gone)
        return len(gone)
