"""What people at the hospital have to look at: emergencies, limits that are reached, probing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select

from ris.stations.tables import AlarmRow
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Session


class AlarmKind(StrEnum):
    """What happened."""

    EMERGENCY = "emergency"
    LIMIT = "limit"
    PROBING = "probing"
    """Reports that are not its own were asked for, again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One thing to look at."""

    id: int
    station_id: int
    kind: AlarmKind
    details: Mapping[str, Any]
    raised_at: datetime
    seen_at: datetime | None
    seen_by: str


def raise_(session: Session, station_id: int, kind: AlarmKind, **details: object) -> Alarm:
    """Raise an alarm; `details` are codes, counts and ids."""
    row = AlarmRow(
        station_ref=station_id, kind=kind, details=details, raised_at=utc_now(), seen_by=""
    )
    session.add(row)
    session.flush()
    return _alarm(row)


def newest(
    session: Session, *, station_id: int | None = None, unseen: bool = False, limit: int = 100
) -> Sequence[Alarm]:
    """Return alarms, newest first."""
    statement = select(AlarmRow).order_by(AlarmRow.id.desc()).limit(limit)
    if station_id is not None:
        statement = statement.where(AlarmRow.station_ref == station_id)
    if unseen:
        statement = statement.where(AlarmRow.seen_at.is_(None))
    return [_alarm(row) for row in session.scalars(statement)]


def see(session: Session, alarm_id: int, by: str) -> Alarm:
    """Note that somebody looked at it.

    Raises
    ------
    NotFound
        There is no such alarm.
    """
    row = session.get(AlarmRow, alarm_id, with_for_update=True)
    if row is None:
        raise NotFound(f"there is no alarm {alarm_id}")
    if row.seen_at is None:
        row.seen_at, row.seen_by = utc_now(), by
        session.flush()
    return _alarm(row)


def _alarm(row: AlarmRow) -> Alarm:
    return Alarm(
        id=row.id,
        station_id=row.station_ref,
        kind=AlarmKind(row.kind),
        details=row.details,
        raised_at=row.raised_at,
        seen_at=row.seen_at,
        seen_by=row.seen_by,
    )
