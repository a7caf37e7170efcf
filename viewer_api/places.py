"""Where stored instances lie: asked of the index, and remembered while a series is read.

A viewer fetches the frames of a series one by one. The first question is answered
for its instance alone; at the second the whole series is asked for, and for some
seconds the index is not asked again. So what is taken out of the archive can still
be read for as long, and what is new is found at once.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storage.archive import instances
from storage.archive.model import StoredInstance
from storage.base import values
from storage.base.errors import NotFound
from storage.db.engine import Engine, transaction
from viewer_api.cache import Recent

KEEP_S: Final = 5.0
MAX_REMEMBERED: Final = 50_000
MAX_SERIES: Final = 5_000
"""Instances; of a longer series each is asked for alone."""

_KEYS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_LEVELS: Final = ("study", "series", "instance")


@dataclass(frozen=True, slots=True)
class _Series:
    instances: Mapping[str, StoredInstance]
    until: float

    @property
    def weight(self) -> int:
        return 1 + len(self.instances)


class Places:
    """Finds stored instances by the UIDs of a path."""

    def __init__(self, engine: Engine, keep_s: float = KEEP_S) -> None:
        self._engine = engine
        self._keep_s = keep_s
        self._known: Recent[tuple[str, str], _Series] = Recent(
            MAX_REMEMBERED, lambda series: series.weight
        )

    def under(self, *uids: str) -> Sequence[StoredInstance]:
        """Return the instances of a study, series or instance, each the parent of the next.

        Raises
        ------
        Malformed
            One is no UID.
        NotFound
            Nothing is stored there.
        """
        keys = {key: values.uid(uid) for key, uid in zip(_KEYS, uids, strict=False)}
        with transaction(self._engine) as session:
            found = instances.locate(session, keys)
        if not found:
            raise NotFound(f"no such {_LEVELS[len(keys) - 1]}")
        return found

    def of_series(self, study: str, series: str) -> Sequence[StoredInstance]:
        """Return the instances of a series and remember them; raises as `under`."""
        found = self.under(study, series)
        kept = found if len(found) <= MAX_SERIES else ()
        by_uid = {one.sop_instance_uid: one for one in kept}
        self._known.put((study, series), _Series(by_uid, time.monotonic() + self._keep_s))
        return found

    def of_instance(self, study: str, series: str, instance: str) -> StoredInstance:
        """Return one instance; raises as `under`."""
        known = self._known.get((study, series))
        if known is None:
            self._known.put((study, series), _Series({}, 0.0))
        elif known.until <= time.monotonic():
            of_series = self.of_series(study, series)
            known = _Series({one.sop_instance_uid: one for one in of_series}, 0.0)
        if known is not None and instance in known.instances:
            return known.instances[instance]
        [found] = self.under(study, series, instance)
        return found
