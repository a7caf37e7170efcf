"""Which object of the store holds the metadata of a series, and whether it still holds.

    announce ─ put the object ─ adopt ──(later)── the one before is disused
       └── a death in between leaves the announced key among the disused

The object was made of a state of the series: when it last changed and how many
instances it had. Whatever changes what is told of a series sets ``changed_at``, and
from that moment the object is out of date, without another word.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.archive import tables
from storage.archive.model import Level
from storage.base import values
from storage.db.engine import Session

ADOPT_WITHIN: Final = timedelta(minutes=5)
"""An announced key is adopted by then or never; disused objects are kept for longer."""

_SERIES: Final = tables.series.c
_DISUSED: Final = tables.disused_objects


@dataclass(frozen=True, slots=True)
class State:
    """A series and the state that it is in."""

    id: int
    study_instance_uid: str
    series_instance_uid: str
    changed_at: datetime
    number_of_instances: int


@dataclass(frozen=True, slots=True)
class Held:
    """One series of a study; `key` is '' when no object holds its metadata as they are now."""

    series_instance_uid: str
    key: str


def find(session: Session, study_instance_uid: str, series_instance_uid: str = "") -> list[Held]:
    """Return what is shown of a study, or the series named, in the order of `instances.locate`.

    Raises
    ------
    Malformed
        One is no UID.
    """
    studies = tables.studies.c
    wanted = [
        studies.study_instance_uid == values.uid(study_instance_uid),
        tables.SHOWN[Level.SERIES],
    ]
    if series_instance_uid:
        wanted.append(_SERIES.series_instance_uid == values.uid(series_instance_uid))
    found = session.execute(
        select(
            _SERIES.series_instance_uid, _SERIES.metadata_key, tables.UNSETTLED.label("unsettled")
        )
        .join(tables.studies, studies.id == _SERIES.study_ref)
        .where(*wanted)
        .order_by(tables.SERIES_NUMBER, _SERIES.id)
    )
    return [
        Held(row.series_instance_uid, "" if row.unsettled else row.metadata_key) for row in found
    ]


def unsettled(session: Session, limit: int, leave_out: Collection[int] = ()) -> list[State]:
    """Return series whose object is out of date or not there yet, the last changed first.

    `leave_out` has ids that are not asked for.
    """
    found = session.execute(
        select(
            _SERIES.id,
            tables.studies.c.study_instance_uid,
            _SERIES.series_instance_uid,
            _SERIES.changed_at,
            _SERIES.number_of_instances,
        )
        .join(tables.studies, tables.studies.c.id == _SERIES.study_ref)
        .where(tables.UNSETTLED, _SERIES.id.not_in(leave_out))
        .order_by(_SERIES.changed_at.desc())
        .limit(limit)
    )
    return [State(*row) for row in found]


def announce(session: Session, key: str, now: datetime) -> None:
    """Note a key under which an object is going to be put: it is disused until adopted.

    Whoever deletes a series announces its key in the same way.
    """
    session.execute(insert(_DISUSED).values(object_key=key, noticed_at=now))


def adopt(session: Session, state: State, key: str, now: datetime) -> bool:
    """Make `key` the object of the series; '' when none can be made of its `state`.

    Return False, with nothing changed, when the series is not in that state any more, or
    the key was announced too long ago.
    """
    if key and not still_announced(session, key, now):
        return False
    before = session.scalar(
        select(_SERIES.metadata_key)
        .where(
            _SERIES.id == state.id,
            _SERIES.changed_at == state.changed_at,
            _SERIES.number_of_instances == state.number_of_instances,
        )
        .with_for_update()
    )
    if before is None:
        return False
    session.execute(
        update(tables.series)
        .where(_SERIES.id == state.id)
        .values(
            metadata_key=key,
            metadata_changed_at=state.changed_at,
            metadata_instances=state.number_of_instances,
        )
    )
    forget(session, [key])
    if before and before != key:
        announce(session, before, now)
    return True


def still_announced(session: Session, key: str, now: datetime) -> bool:
    """Return whether a key may be adopted; it cannot be deleted before this transaction ends."""
    announced = select(_DISUSED.c.noticed_at).where(_DISUSED.c.object_key == key)
    noticed_at = session.scalar(announced.with_for_update())
    return noticed_at is not None and now - noticed_at < ADOPT_WITHIN


def reject(session: Session, key: str) -> None:
    """Let the object of a series be made anew: the one of that key is gone or rotten."""
    session.execute(
        update(tables.series)
        .where(_SERIES.metadata_key == key, _SERIES.metadata_changed_at.is_not(None))
        .values(metadata_changed_at=None)
    )


def disused(session: Session, before: datetime, limit: int) -> Sequence[str]:
    """Return keys that nothing has referred to since `before`, oldest first."""
    found = select(_DISUSED.c.object_key).where(_DISUSED.c.noticed_at < before)
    return session.scalars(found.order_by(_DISUSED.c.noticed_at).limit(limit)).all()


def forget(session: Session, keys: Collection[str]) -> None:
    """Forget disused keys whose objects were deleted."""
    session.execute(delete(_DISUSED).where(_DISUSED.c.object_key.in_(keys)))
