"""The table of work that is not done."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class JobRow(Base):
    __tablename__ = "jobs"

    id: Mapped[Key]
    name: Mapped[str]
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str]
    attempts: Mapped[int]
    due_at: Mapped[Instant]
    reason: Mapped[str]
    created_at: Mapped[Instant]
    changed_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_jobs_due_at", "due_at", "id", postgresql_where=text("state = 'waiting'")),
    )
