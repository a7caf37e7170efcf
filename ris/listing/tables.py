"""The tables of searches that were sorted, and of those who want to be told of changes."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class ResultRow(Base):
    """What a sorted search found, in its order, for those who turn its pages."""

    __tablename__ = "listing_results"

    uid: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    made_at: Mapped[Instant]

    __table_args__ = (Index("ix_listing_results_made_at", "made_at"),)


class SubscriptionRow(Base):
    __tablename__ = "subscriptions"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str]
    kind: Mapped[str]
    """The type of resources that it is about."""
    criteria: Mapped[str]
    """The query behind the type, as it was given."""
    reason: Mapped[str]
    endpoint: Mapped[str]
    payload: Mapped[str]
    """The media type that is sent; '': nothing is."""
    headers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """``Name: value``; they may hold secrets and are shown to nobody."""
    ends_at: Mapped[datetime | None]
    failures: Mapped[int]
    """In a row."""
    failing_since: Mapped[datetime | None]
    error: Mapped[str]
    made_by: Mapped[str]
    role: Mapped[str]
    """Of who made it: nothing is sent that he may not see."""
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]


class ChangeRow(Base):
    """Written by triggers of migration 0023 while somebody wants to be told."""

    __tablename__ = "resource_changes"

    id: Mapped[Key]
    kind: Mapped[str]
    row_id: Mapped[int]


class NoticeRow(Base):
    """What a subscriber has not been told of yet."""

    __tablename__ = "subscription_notices"

    id: Mapped[Key]
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id", ondelete="CASCADE"))
    row_id: Mapped[int]
    made_at: Mapped[Instant]

    __table_args__ = (Index("ix_subscription_notices_subscription_id", "subscription_id", "id"),)
