"""How stations use what they may: what somebody at the hospital should look at, week by week."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import aliased

from storage.audit.model import Kind, Outcome
from storage.audit.tables import EventRow
from storage.db.engine import Session

READ: Final = (Kind.VIEW, Kind.DOWNLOAD, Kind.PRINT)
READ_WITHIN: Final = timedelta(days=1)
"""Who looks somebody up reads something of him by then."""
NIGHT: Final = (22, 5)
"""From this hour to that, of the hospital's wall clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one person, or device, of a station did."""

    station: str
    actor: str
    entries: int
    look_ups: int
    empty_look_ups: int
    """That found nobody, or nothing for the station."""
    unread_look_ups: int
    """That found something, of which nothing was read within a day."""
    at_night: int
    refused: int
    emergencies: int


def by_person(session: Session, since: datetime, time_zone: str) -> Sequence[Use]:
    """Return what was done at stations since then, the most unusual first."""
    hour = func.extract("hour", func.timezone(time_zone, EventRow.recorded_at))
    looked_up = EventRow.kind == Kind.LOOK_UP
    found = and_(looked_up, EventRow.outcome == Outcome.SUCCESS)
    statement = (
        select(
            EventRow.station,
            EventRow.actor,
            func.count(),
            _count(looked_up),
            _count(and_(looked_up, EventRow.outcome == Outcome.EMPTY)),
            _count(and_(found, ~_was_read())),
            _count(or_(hour >= NIGHT[0], hour < NIGHT[1])),
            _count(EventRow.outcome == Outcome.REFUSED),
            _count(EventRow.kind == Kind.EMERGENCY),
        )
        .where(EventRow.recorded_at >= since, EventRow.station != "", EventRow.device != "")
        .group_by(EventRow.station, EventRow.actor)
    )
    uses = [
        Use(
            station=station,
            actor=actor,
            entries=counts[0],
            look_ups=counts[1],
            empty_look_ups=counts[2],
            unread_look_ups=counts[3],
            at_night=counts[4],
            refused=counts[5],
            emergencies=counts[6],
        )
        for station, actor, *counts in session.execute(statement)
    ]
    return sorted(uses, key=lambda one: (-_unusual(one), one.station, one.actor))


def _unusual(use: Use) -> int:
    return use.unread_look_ups + use.empty_look_ups + use.refused + use.emergencies


def _was_read() -> ColumnElement[bool]:
    later = aliased(EventRow)
    return (
        select(later.id)
        .where(
            later.patient_id == EventRow.patient_id,
            later.station == EventRow.station,
            later.kind.in_(READ),
            later.outcome == Outcome.SUCCESS,
            later.recorded_at.between(EventRow.recorded_at, EventRow.recorded_at + READ_WITHIN),
        )
        .exists()
    )


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)
