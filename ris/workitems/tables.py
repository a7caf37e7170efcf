"""The tables of workitems, of who watches them, and of what watchers are told."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, ClinicalTime, Instant, Key


class WorkitemRow(Base):
    __tablename__ = "workitems"

    id: Mapped[Key]
    sop_instance_uid: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str]
    transaction_uid: Mapped[str]
    """Of the claim, '' while there is none; shown to nobody."""
    performer: Mapped[str]
    """The AE title that claimed it, '' when that is not known."""
    dataset: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """DICOM JSON Model object without the UIDs, the state and the Transaction UID."""
    worklist_label: Mapped[str]
    patient_id: Mapped[str]
    study_instance_uids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    start: Mapped[ClinicalTime]
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_workitems_state_start", "state", "start", "id"),
        Index("ix_workitems_patient_id", "patient_id"),
        Index("ix_workitems_study_instance_uids", "study_instance_uids", postgresql_using="gin"),
    )


class SubscriberRow(Base):
    __tablename__ = "workitem_subscribers"

    workitem_id: Mapped[int] = mapped_column(
        ForeignKey("workitems.id", ondelete="CASCADE"), primary_key=True
    )
    ae_title: Mapped[str] = mapped_column(primary_key=True)
    active: Mapped[bool]
    """False: it was unsubscribed by name, which a global subscription does not undo."""
    deletion_lock: Mapped[bool]

    __table_args__ = (Index("ix_workitem_subscribers_ae_title", "ae_title"),)


class GlobalSubscriptionRow(Base):
    __tablename__ = "workitem_subscriptions"

    ae_title: Mapped[str] = mapped_column(primary_key=True)
    filtered: Mapped[bool] = mapped_column(primary_key=True)
    deletion_lock: Mapped[bool]
    keys: Mapped[dict[str, str]] = mapped_column(JSONB)
    """Dotted keyword → value, as in a query; empty: every workitem."""


class EventRow(Base):
    __tablename__ = "workitem_events"

    id: Mapped[Key]
    ae_title: Mapped[str]
    """Who is told."""
    sop_instance_uid: Mapped[str]
    event_type_id: Mapped[int]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    happened_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_workitem_events_ae_title", "ae_title", "id"),
        Index("ix_workitem_events_happened_at", "happened_at"),
    )


class MailboxRow(Base):
    """How far a peer was told of its events by N-EVENT-REPORT."""

    __tablename__ = "workitem_mailboxes"

    ae_title: Mapped[str] = mapped_column(primary_key=True)
    told_id: Mapped[int]
    due_at: Mapped[Instant]
    attempts: Mapped[int]
