"""The last worklist query of each console, so that somebody can ask why a step was not in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column

from storage.base.errors import NotFound
from storage.db.columns import Base, Instant
from storage.db.engine import Session


class WorklistQueryRow(Base):
    """One row for each calling AE title."""

    __tablename__ = "worklist_queries"

    calling_ae_title: Mapped[str] = mapped_column(primary_key=True)
    keys: Mapped[dict[str, str]] = mapped_column(JSONB)
    asked_at: Mapped[Instant]
    matches: Mapped[int]


@dataclass(frozen=True, slots=True)
class LastQuery:
    """What a console asked for last."""

    calling_ae_title: str
    keys: Mapping[str, str]
    """Dotted keyword → value as sent; keys without a value are left out."""
    asked_at: datetime
    matches: int
    """How many steps it was answered with."""


def remember(session: Session, query: LastQuery) -> None:
    """Keep a query instead of the one before it of the same console."""
    stripped = {keyword: value.replace("\0", "") for keyword, value in query.keys.items()}
    keys = {keyword: value for keyword, value in stripped.items() if value}
    known = {"keys": keys, "asked_at": query.asked_at, "matches": query.matches}
    statement = insert(WorklistQueryRow).values(calling_ae_title=query.calling_ae_title, **known)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["calling_ae_title"],
            set_=known,
            where=WorklistQueryRow.asked_at <= query.asked_at,
        )
    )


def last(session: Session, calling_ae_title: str) -> LastQuery:
    """Return the last query of a console.

    Raises
    ------
    NotFound
        No query ever came from that AE title: it never reached us, or calls itself otherwise.
    """
    row = session.get(WorklistQueryRow, calling_ae_title)
    if row is None:
        raise NotFound(f"no worklist query came from {calling_ae_title!r}")
    return LastQuery(row.calling_ae_title, row.keys, row.asked_at, row.matches)
