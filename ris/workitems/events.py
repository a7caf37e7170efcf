"""What watchers of a workitem are told, written down in the transaction that makes it so.

    tell ─ one row for each watcher ─┬─ whoever holds an event channel reads its rows as they come
                                     └─ N-EVENT-REPORT, in order, as far as the mailbox has come

A watcher that is away delays nobody: its rows wait for it, and are forgotten after `KEPT`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from ris.workitems import attributes, contents
from ris.workitems.contents import Json
from ris.workitems.tables import EventRow, MailboxRow, SubscriberRow
from storage.base.clock import utc_now
from storage.db.engine import Session

CHANNEL: Final = "lienthong_workitem_events"
"""Of NOTIFY; the payload is the AE title that has news."""
KEPT: Final = timedelta(days=7)
_IN_ORDER: Final = 0x57_4F_52_4B_45_56
"""The advisory lock under which events get their numbers: numbers are committed in order."""


class Kind(IntEnum):
    """Event Type ID (PS3.4 Table CC.2.4-1)."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    ASSIGNED = 5


@dataclass(frozen=True, slots=True)
class Event:
    """One event for one watcher."""

    id: int
    ae_title: str
    sop_instance_uid: str
    event_type_id: int
    content: Json


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A watcher that has events to be told by N-EVENT-REPORT."""

    ae_title: str
    told_id: int
    attempts: int


def state_report(whole: Json) -> tuple[Kind, dict[str, Any]]:
    """Return the report of the state and readiness of a workitem, and why it was cancelled."""
    progress = next(iter(contents.items(whole, attributes.PROGRESS)), {})
    shown = contents.select(whole, (attributes.STATE, attributes.READINESS))
    return Kind.STATE_REPORT, {**shown, **contents.select(progress, attributes.REASONS)}


def assigned(whole: Json) -> tuple[Kind, dict[str, Any]]:
    """Return to whom a workitem is assigned."""
    return Kind.ASSIGNED, contents.select(whole, attributes.ASSIGNMENT)


def is_assigned(whole: Json) -> bool:
    """Whether it is assigned to a station or a person."""
    return any(contents.has_value(whole, name) for name in attributes.ASSIGNMENT)


def progress_report(whole: Json) -> tuple[Kind, dict[str, Any]]:
    """Return how far the work has come."""
    return Kind.PROGRESS_REPORT, contents.select(whole, (attributes.PROGRESS,))


def cancel_requested(request: Json, by: str) -> tuple[Kind, dict[str, Any]]:
    """Return who wishes the work to be cancelled, and why."""
    told = contents.select(request, (*attributes.REASONS, *attributes.CONTACT))
    return Kind.CANCEL_REQUESTED, {**contents.attribute("RequestingAE", by), **told}


def tell(session: Session, workitem_id: int, uid: str, events: Iterable[tuple[Kind, Json]]) -> None:
    """Write down events for everybody who watches a workitem."""
    watching = select(SubscriberRow.ae_title).where(
        SubscriberRow.workitem_id == workitem_id, SubscriberRow.active
    )
    titles = session.scalars(watching.order_by(SubscriberRow.ae_title)).all()
    write(session, [(title, uid, event) for event in events for title in titles])


def write(session: Session, told: Sequence[tuple[str, str, tuple[Kind, Json]]]) -> None:
    """Write down events: AE title, SOP Instance UID, event."""
    if not told:
        return
    session.flush()
    session.execute(select(func.pg_advisory_xact_lock(_IN_ORDER)))
    now = utc_now()
    session.execute(
        insert(EventRow),
        [
            {
                "ae_title": title,
                "sop_instance_uid": uid,
                "event_type_id": int(kind),
                "content": content,
                "happened_at": now,
            }
            for title, uid, (kind, content) in told
        ],
    )
    for title in dict.fromkeys(title for title, _, _ in told):
        session.execute(select(func.pg_notify(CHANNEL, title)))


def newest(session: Session) -> int:
    """Return the number of the newest event, 0 when there was none."""
    return session.scalar(select(func.max(EventRow.id))) or 0


def after(session: Session, ae_title: str, last: int, limit: int) -> list[Event]:
    """Return the events of a watcher with a higher number than `last`, oldest first."""
    statement = select(EventRow).where(EventRow.ae_title == ae_title, EventRow.id > last)
    return [*map(_event, session.scalars(statement.order_by(EventRow.id).limit(limit)))]


def open_mailbox(session: Session, ae_title: str) -> None:
    """Have the events of a watcher told by N-EVENT-REPORT from now on."""
    row = {"ae_title": ae_title, "told_id": newest(session), "due_at": utc_now(), "attempts": 0}
    session.execute(upsert(MailboxRow).values(row).on_conflict_do_nothing())


def claim_mailbox(session: Session, now: datetime, lease: timedelta) -> Mailbox | None:
    """Take the mailbox with news that waits longest, for as long as `lease`; None: no news."""
    news = exists().where(
        EventRow.ae_title == MailboxRow.ae_title, EventRow.id > MailboxRow.told_id
    )
    due = (
        select(MailboxRow.ae_title)
        .where(MailboxRow.due_at <= now, news)
        .order_by(MailboxRow.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = (
        update(MailboxRow)
        .where(MailboxRow.ae_title == due)
        .values(due_at=now + lease)
        .returning(MailboxRow.ae_title, MailboxRow.told_id, MailboxRow.attempts)
        .execution_options(synchronize_session=False)
    )
    row = session.execute(taken).one_or_none()
    return None if row is None else Mailbox(*row)


def note_told(session: Session, ae_title: str, told_id: int) -> None:
    """Note how far a watcher was told."""
    _change(session, ae_title, told_id=told_id, attempts=0)


def put_off(session: Session, ae_title: str, due_at: datetime, *, attempts: int) -> None:
    """Tell a watcher more at `due_at`."""
    _change(session, ae_title, due_at=due_at, attempts=attempts)


def forget(session: Session, before: datetime) -> None:
    """Forget the events before a moment."""
    session.execute(delete(EventRow).where(EventRow.happened_at < before))


def _change(session: Session, ae_title: str, **values: object) -> None:
    statement = update(MailboxRow).where(MailboxRow.ae_title == ae_title).values(**values)
    session.execute(statement.execution_options(synchronize_session=False))


def _event(row: EventRow) -> Event:
    return Event(row.id, row.ae_title, row.sop_instance_uid, row.event_type_id, row.content)
