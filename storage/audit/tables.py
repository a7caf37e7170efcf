"""The journal and its chain; triggers of migration 0021 keep both as they were written."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class EventRow(Base):
    __tablename__ = "audit_events"

    id: Mapped[Key]
    recorded_at: Mapped[Instant]
    kind: Mapped[str]
    outcome: Mapped[str]
    actor: Mapped[str]
    actor_name: Mapped[str]
    role: Mapped[str]
    licence: Mapped[str]
    station: Mapped[str]
    device: Mapped[str]
    address: Mapped[str]
    patient_id: Mapped[int | None]
    report_uid: Mapped[str]
    report_version: Mapped[int | None]
    study_instance_uid: Mapped[str]
    basis: Mapped[str]
    evidence: Mapped[str]
    size: Mapped[int | None]
    request_id: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB)
    content_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    """Over all columns above but the id."""

    __table_args__ = (
        Index("ix_audit_events_recorded_at", "recorded_at"),
        Index(
            "ix_audit_events_patient_id",
            "patient_id",
            "id",
            postgresql_where=text("patient_id IS NOT NULL"),
        ),
        Index("ix_audit_events_report_uid", "report_uid", "id"),
        Index("ix_audit_events_station", "station", "id"),
    )


class LinkRow(Base):
    """The place of an entry in the chain, given when its transaction commits."""

    __tablename__ = "audit_chain"

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[int] = mapped_column(ForeignKey("audit_events.id"), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
