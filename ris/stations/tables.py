"""The tables of what stations send, and of what people have to look at."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class ReferralRow(Base):
    __tablename__ = "station_referrals"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    station_ref: Mapped[int]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """As it was sent."""
    sent_by: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str]
    order_ref: Mapped[int | None]
    note: Mapped[str]
    sent_at: Mapped[Instant]
    changed_at: Mapped[Instant]

    __table_args__ = (Index("ix_station_referrals_state", "state", "id"),)


class RequestRow(Base):
    """A request that was answered; sent again with the same key it gets the same answer."""

    __tablename__ = "station_requests"

    id: Mapped[Key]
    station_ref: Mapped[int]
    key: Mapped[str]
    digest: Mapped[str]
    answer: Mapped[dict[str, Any]] = mapped_column(JSONB)
    answered_at: Mapped[Instant]

    __table_args__ = (UniqueConstraint("station_ref", "key"),)


class AlarmRow(Base):
    __tablename__ = "station_alarms"

    id: Mapped[Key]
    station_ref: Mapped[int]
    kind: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB)
    raised_at: Mapped[Instant]
    seen_at: Mapped[datetime | None]
    seen_by: Mapped[str]

    __table_args__ = (Index("ix_station_alarms_station_ref", "station_ref", "id"),)
