"""Referrals that stations send: taken once, and linked with an order by a person."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from ris.reports import releasing as settling
from ris.stations.faults import Missing, fault
from ris.stations.tables import ReferralRow
from storage.access.station_sessions import Visitor
from storage.base.clock import utc_now
from storage.db.engine import Session


class ReferralState(StrEnum):
    """What became of a referral."""

    SENT = "sent"
    ACCEPTED = "accepted"
    """There is an order for it."""
    DECLINED = "declined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """One patient who was sent to the hospital."""

    uid: str
    station_id: int
    content: Mapping[str, Any]
    state: ReferralState
    order_id: int | None
    note: str
    sent_at: datetime
    changed_at: datetime


def send(session: Session, visitor: Visitor, content: Mapping[str, Any]) -> Referral:
    """Keep a referral as it was sent."""
    now = utc_now()
    person = visitor.person
    row = ReferralRow(
        uid=uuid4().hex,
        station_ref=visitor.station.id,
        content=dict(content),
        sent_by=asdict(person) if person else {"name": visitor.device},
        state=ReferralState.SENT,
        note="",
        sent_at=now,
        changed_at=now,
    )
    row.sent_by = {key: value for key, value in row.sent_by.items() if key != "disabled_at"}
    session.add(row)
    session.flush()
    return _referral(row)


def get(session: Session, station_id: int | None, uid: str) -> Referral:
    """Return a referral; of that station only, unless it is None.

    Raises
    ------
    Missing
        There is none, or it is another station's.
    """
    return _referral(_held(session, station_id, uid))


def newest(
    session: Session,
    station_id: int | None = None,
    *,
    state: ReferralState | None = None,
    limit: int = 100,
) -> Sequence[Referral]:
    """Return referrals, newest first."""
    statement = select(ReferralRow).order_by(ReferralRow.id.desc()).limit(limit)
    if station_id is not None:
        statement = statement.where(ReferralRow.station_ref == station_id)
    if state is not None:
        statement = statement.where(ReferralRow.state == state)
    return [_referral(row) for row in session.scalars(statement)]


def accept(session: Session, uid: str, order_id: int) -> Referral:
    """Say which order a referral became: its reports are the station's from now on.

    Raises
    ------
    Missing
        There is no such referral.
    NotFound
        There is no such order.
    """
    row = _held(session, None, uid)
    settling.refer(session, order_id, row.station_ref, "referral", row.uid)
    row.state, row.order_ref, row.changed_at = ReferralState.ACCEPTED, order_id, utc_now()
    session.flush()
    return _referral(row)


def decline(session: Session, uid: str, note: str) -> Referral:
    """Say that nothing will come of a referral, and why.

    Raises
    ------
    Missing
        There is no such referral.
    """
    row = _held(session, None, uid)
    row.state, row.note, row.changed_at = ReferralState.DECLINED, note[:500], utc_now()
    session.flush()
    return _referral(row)


def _held(session: Session, station_id: int | None, uid: str) -> ReferralRow:
    statement = select(ReferralRow).where(ReferralRow.uid == uid.replace("\0", ""))
    if station_id is not None:
        statement = statement.where(ReferralRow.station_ref == station_id)
    row = session.scalar(statement)
    if row is None:
        raise Missing(fault("no_referral"))
    return row


def _referral(row: ReferralRow) -> Referral:
    return Referral(
        uid=row.uid,
        station_id=row.station_ref,
        content=row.content,
        state=ReferralState(row.state),
        order_id=row.order_ref,
        note=row.note,
        sent_at=row.sent_at,
        changed_at=row.changed_at,
    )
