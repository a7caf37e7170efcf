"""What other systems shall be told of an order, written down in the transaction that makes it so.

The verbs of this package say what happened (`enqueue_status`); the HL7 sender makes a message of
it for each destination later, in the order in which it was written down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Index, exists, func, select, text, union_all, update
from sqlalchemy.orm import Mapped, aliased, mapped_column

from storage.base.clock import utc_now
from storage.db.columns import Base, Instant, Key
from storage.db.engine import Session


class OrderEventRow(Base):
    """One event; `told_at` is empty until messages were made of it."""

    __tablename__ = "order_events"

    id: Mapped[Key]
    order_id: Mapped[int]
    control: Mapped[str]
    status: Mapped[str]
    caused_by: Mapped[str] = mapped_column(server_default="")
    """The sender whose message it is the effect of; '' where it happened here."""
    happened_at: Mapped[Instant]
    told_at: Mapped[datetime | None] = mapped_column(default=None)

    __table_args__ = (
        Index("ix_order_events_untold", "id", postgresql_where=text("told_at IS NULL")),
    )


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One thing that happened to an order."""

    id: int
    order_id: int
    control: str
    """ORC-1: ``SC`` status changed, ``OC`` cancelled by us, ``UC`` unable to cancel, ``NA`` …"""
    status: str
    """ORC-5: ``SC`` scheduled, ``IP``, ``CM``, ``CA``, ``DC``, ``A`` some results, ``HD`` …"""
    happened_at: datetime
    caused_by: str = ""
    """The sender whose message it is the effect of, which knows it; '' where it happened here."""


def enqueue_status(
    session: Session, order_id: int, status: str, *, control: str = "SC", caused_by: str = ""
) -> None:
    """Write down that an order has `status` (ORC-5) now."""
    session.add(status_event(order_id, status, control=control, caused_by=caused_by))


def status_event(
    order_id: int, status: str, *, control: str = "SC", caused_by: str = ""
) -> OrderEventRow:
    """Return that event, to be written together with its order."""
    return OrderEventRow(
        order_id=order_id,
        control=control,
        status=status,
        caused_by=caused_by,
        happened_at=utc_now(),
        told_at=None,
    )


def untold(session: Session, limit: int) -> Sequence[OrderEvent]:
    """Return the oldest events of which no messages were made; hold them for this transaction."""
    statement = (
        select(OrderEventRow)
        .where(OrderEventRow.told_at.is_(None))
        .order_by(OrderEventRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [
        OrderEvent(row.id, row.order_id, row.control, row.status, row.happened_at, row.caused_by)
        for row in session.scalars(statement)
    ]


def mark_told(session: Session, ids: Sequence[int]) -> None:
    """Note that messages were made of these events."""
    statement = update(OrderEventRow).where(OrderEventRow.id.in_(ids)).values(told_at=utc_now())
    session.execute(statement.execution_options(synchronize_session=False))


class ReportEventRow(Base):
    """One issued version of a report; `told_at` is empty until messages were made of it."""

    __tablename__ = "report_events"

    id: Mapped[Key]
    report_uid: Mapped[str]
    revision: Mapped[int]
    happened_at: Mapped[Instant]
    told_at: Mapped[datetime | None] = mapped_column(default=None)

    __table_args__ = (
        Index("ix_report_events_untold", "id", postgresql_where=text("told_at IS NULL")),
        Index("ix_report_events_report_uid", "report_uid", "revision"),
    )


@dataclass(frozen=True, slots=True)
class ReportEvent:
    """One version that others shall be told of."""

    id: int
    report_uid: str
    revision: int
    happened_at: datetime
    again: bool
    """It was told before, without its paper: only who wants that is told once more."""


def enqueue_report(session: Session, report_uid: str, revision: int, at: datetime) -> None:
    """Write down that this revision of a report was issued at `at`."""
    session.add(ReportEventRow(report_uid=report_uid, revision=revision, happened_at=at))


def paper_is_there(session: Session, report_uid: str, revision: int, at: datetime) -> None:
    """Tell of a version once more when it was told without its paper."""
    of_it = select(ReportEventRow).where(
        ReportEventRow.report_uid == report_uid, ReportEventRow.revision == revision
    )
    # waits for who makes messages of it just now
    if any(one.told_at is not None for one in session.scalars(of_it.with_for_update()).all()):
        enqueue_report(session, report_uid, revision, at)


def tell_reports_anew(session: Session, report_uid: str) -> None:
    """Have every version of a report told that was told to nobody: its order was not known."""
    earlier = aliased(ReportEventRow)
    again = exists().where(
        earlier.report_uid == ReportEventRow.report_uid,
        earlier.revision == ReportEventRow.revision,
        earlier.id < ReportEventRow.id,
    )
    statement = update(ReportEventRow).where(ReportEventRow.report_uid == report_uid, ~again)
    session.execute(statement.values(told_at=None).execution_options(synchronize_session=False))


def untold_reports(session: Session, limit: int) -> Sequence[ReportEvent]:
    """Return the oldest versions of which no messages were made; hold them for this transaction."""
    earlier = aliased(ReportEventRow)
    again = exists().where(
        earlier.report_uid == ReportEventRow.report_uid,
        earlier.revision == ReportEventRow.revision,
        earlier.id < ReportEventRow.id,
    )
    statement = (
        select(ReportEventRow, again)
        .where(ReportEventRow.told_at.is_(None))
        .order_by(ReportEventRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=ReportEventRow)
    )
    return [
        ReportEvent(row.id, row.report_uid, row.revision, row.happened_at, again)
        for row, again in session.execute(statement)
    ]


def mark_reports_told(session: Session, ids: Sequence[int]) -> None:
    """Note that messages were made of these versions."""
    statement = update(ReportEventRow).where(ReportEventRow.id.in_(ids)).values(told_at=utc_now())
    session.execute(statement.execution_options(synchronize_session=False))


def count_untold(session: Session) -> tuple[int, datetime | None]:
    """Return of how many events no messages were made yet, and when the oldest of them happened."""
    waiting = union_all(
        select(OrderEventRow.happened_at).where(OrderEventRow.told_at.is_(None)),
        select(ReportEventRow.happened_at).where(ReportEventRow.told_at.is_(None)),
    ).subquery()
    count, oldest = session.execute(select(func.count(), func.min(waiting.c.happened_at))).one()
    return count, oldest
