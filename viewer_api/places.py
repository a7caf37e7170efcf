"""Where stored instances lie: asked of the index, and remembered while a series is read.

A series that has settled has one object with the places of its instances and frames
(`pacs.series_metadata`); which one is asked of the index. Of a series that has not,
the first question is answered for its instance alone; at the second the whole series is
asked for. For some seconds the index is then not asked again for the instances of the
series. So what is taken out of the archive can still be read for as long, and what is new
is found at once.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pacs import series_metadata as objects
from pacs.series_metadata import Entry, SeriesMetadata
from storage.archive import instances, series_metadata
from storage.archive.model import StoredInstance
from storage.archive.series_metadata import Held
from storage.base import values
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Engine, transaction
from storage.objects.store import ObjectStore
from viewer_api.cache import Recent

log = logging.getLogger(__name__)

KEEP_S: Final = 5.0
MAX_REMEMBERED: Final = 50_000
MAX_SERIES: Final = 5_000
"""Instances; of a longer series that has not settled each is asked for alone."""

_KEYS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_LEVELS: Final = ("study", "series", "instance")


@dataclass(frozen=True)
class Series:
    """A series, its instances in order, and its metadata object if it has settled."""

    entries: Sequence[Entry]
    key: str = ""
    metadata: SeriesMetadata | None = None

    @cached_property
    def by_uid(self) -> Mapping[str, Entry]:
        """The instances by SOP Instance UID."""
        return {entry.stored.sop_instance_uid: entry for entry in self.entries}

    @cached_property
    def fingerprint(self) -> str:
        """What changes when an instance comes or goes."""
        return objects.fingerprint(entry.stored for entry in self.entries)

    @cached_property
    def weight(self) -> int:
        """About how many kilobytes of memory it takes."""
        pieces = sum(len(entry.frames.fragments) for entry in self.entries if entry.frames)
        zipped = len(self.metadata.zipped) if self.metadata else 0
        return 1 + len(self.entries) + pieces // 8 + (zipped >> 10)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A series and until when the index is not asked about it; None: it was asked for once."""

    series: Series | None
    until: float


class Places:
    """Finds stored instances by the UIDs of a path.

    Every method but `at_hand` raises `Malformed` for what is no UID, `NotFound` for what
    is not stored and `StoreUnavailable` when database or store do not answer.
    """

    def __init__(self, engine: Engine, store: ObjectStore, keep_s: float = KEEP_S) -> None:
        self._engine = engine
        self._store = store
        self._keep_s = keep_s
        self._settled: Recent[str, Series] = Recent(MAX_REMEMBERED, lambda series: series.weight)
        """By the key of the metadata object, which never changes."""
        self._known: Recent[tuple[str, str], _Remembered] = Recent(MAX_REMEMBERED, _weight)

    def of_study(self, study: str) -> Sequence[Series]:
        """Return the series of a study in order."""
        with transaction(self._engine) as session:
            held = series_metadata.find(session, study)
        found = [self._series(study, one) for one in held]
        if not any(series.entries for series in found):
            raise NotFound("no such study")
        return found

    def of_series(self, study: str, series: str) -> Series:
        """Return a series and remember it."""
        with transaction(self._engine) as session:
            held = series_metadata.find(session, study, series)
        found = self._series(study, *held) if held else Series(())
        if not found.entries:
            raise NotFound("no such series")
        if found.metadata or len(found.entries) <= MAX_SERIES:
            until = time.monotonic() + self._keep_s
            self._known.put((study, series), _Remembered(found, until))
        return found

    def of_instance(self, study: str, series: str, instance: str) -> Entry:
        """Return one instance."""
        known = self._known.get((study, series))
        if known is None:
            found = self._if_settled(study, series)
        elif known.until > time.monotonic():
            found = known.series
        else:
            found = self.of_series(study, series)
        if found is not None and instance in found.by_uid:
            return found.by_uid[instance]
        [alone] = self._located(study, series, instance)
        return _plain(alone)

    def at_hand(self, study: str, series: str, instance: str) -> Entry | None:
        """Return one instance if it is remembered; nothing is asked and nothing waits."""
        known = self._known.get((study, series))
        if known is None or known.series is None or known.until <= time.monotonic():
            return None
        return known.series.by_uid.get(instance)

    def _if_settled(self, study: str, series: str) -> Series | None:
        """Return and remember a series that has settled; note that another was asked for."""
        with transaction(self._engine) as session:
            held = series_metadata.find(session, study, series)
        if any(one.key for one in held):
            return self.of_series(study, series)
        self._known.put((study, series), _Remembered(None, 0.0))
        return None

    def _series(self, study: str, held: Held) -> Series:
        settled = self._settled_series(study, held.key) if held.key else None
        if settled is not None:
            return settled
        try:
            found = self._located(study, held.series_instance_uid)
        except NotFound:
            return Series(())
        return Series([*map(_plain, found)])

    def _settled_series(self, study: str, key: str) -> Series | None:
        """Read the metadata object; one that is gone or rotten is made anew some time."""
        if known := self._settled.get(key):
            return known
        try:
            metadata = objects.read(self._store, key, study)
        except (NotFound, Malformed) as error:
            log.warning("metadata_object_lost", extra={"object_key": key, "reason": str(error)})
            with transaction(self._engine) as session:
                series_metadata.reject(session, key)
            return None
        found = Series(metadata.entries, key, metadata)
        self._settled.put(key, found)
        return found

    def _located(self, *uids: str) -> Sequence[StoredInstance]:
        keys = {key: values.uid(uid) for key, uid in zip(_KEYS, uids, strict=False)}
        with transaction(self._engine) as session:
            found = instances.locate(session, keys)
        if not found:
            raise NotFound(f"no such {_LEVELS[len(keys) - 1]}")
        return found


def _plain(stored: StoredInstance) -> Entry:
    """Return what the index alone tells of an instance."""
    return Entry(stored, checksum=b"")


def _weight(known: _Remembered) -> int:
    return known.series.weight if known.series else 1
