"""What waits to be sent: one queue for each destination and order, nothing overtakes in it.

    waiting ─┬─ sent
             ├─ waiting     no answer: the same bytes again, later and later
             └─ parked      refused: a person resends or discards it; its queue stands still

The bytes and their control id are made once, so the other side can tell a repetition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import (
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from ris.hl7 import searching
from ris.hl7.tables import OutgoingRow
from storage.base.clock import utc_now
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session


class State(StrEnum):
    """Where a message of ours is."""

    WAITING = "waiting"
    SENT = "sent"
    PARKED = "parked"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Draft:
    """One message to be sent."""

    destination: str
    queue: str
    control_id: str
    kind: str
    payload: bytes = field(repr=False)
    keys: Sequence[str] = ()
    """``patient:…``, ``order:…``, ``accession:…``, ``report:…``: what people search by."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message of ours as people see it."""

    id: int
    destination: str
    queue: str
    control_id: str
    kind: str
    state: State
    attempts: int
    next_try_at: datetime
    reason: str
    created_at: datetime
    sent_at: datetime | None
    keys: Sequence[str]
    payload: bytes = field(repr=False)
    answer: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted(searching.Search):
    """Which messages are wanted; what is empty asks for nothing."""

    destination: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one destination."""

    destination: str
    waiting: int
    parked: int
    oldest: datetime | None


OPEN: Final = (State.WAITING, State.PARKED)


def enqueue(session: Session, drafts: Sequence[Draft]) -> None:
    """Let messages wait to be sent, in this order; in the transaction of what they tell of."""
    if not drafts:
        return
    now = utc_now()
    rows = [
        {
            "destination": one.destination,
            "queue": one.queue,
            "control_id": one.control_id,
            "kind": one.kind,
            "payload": one.payload,
            "keys": list(one.keys),
            "state": State.WAITING,
            "attempts": 0,
            "next_try_at": now,
            "reason": "",
            "created_at": now,
        }
        for one in drafts
    ]
    session.execute(insert(OutgoingRow), rows)


def due(session: Session, destination: str, now: datetime, limit: int) -> Sequence[Outgoing]:
    """Return the oldest messages that may be sent now, in the order in which to send them.

    Those of a queue come in their order, none behind one that is parked or has to wait.
    """
    earlier = aliased(OutgoingRow)
    held = exists().where(
        earlier.destination == OutgoingRow.destination,
        earlier.queue == OutgoingRow.queue,
        earlier.id < OutgoingRow.id,
        earlier.state != State.SENT,
        or_(
            earlier.state == State.PARKED,
            and_(earlier.state == State.WAITING, earlier.next_try_at > now),
        ),
    )
    statement = (
        select(OutgoingRow)
        .where(
            OutgoingRow.destination == destination,
            OutgoingRow.state == State.WAITING,
            OutgoingRow.next_try_at <= now,
            ~held,
        )
        .order_by(OutgoingRow.id)
        .limit(limit)
    )
    return [_outgoing(row) for row in session.scalars(statement)]


def next_try(session: Session, destination: str) -> datetime | None:
    """Return when the next message of a destination may be sent, None when none may.

    What stands behind a parked message does not count.
    """
    earlier = aliased(OutgoingRow)
    held = exists().where(
        earlier.destination == OutgoingRow.destination,
        earlier.queue == OutgoingRow.queue,
        earlier.id < OutgoingRow.id,
        earlier.state != State.SENT,
        earlier.state.in_(OPEN),
    )
    statement = select(func.min(OutgoingRow.next_try_at)).where(
        OutgoingRow.destination == destination, OutgoingRow.state == State.WAITING, ~held
    )
    return session.scalar(statement)


# No disk is waited for: what a crash may lose is the note, and then the same bytes go out again.
_SENT: Final = (
    update(OutgoingRow)
    .where(OutgoingRow.id == bindparam("wanted"))
    .values(
        state=State.SENT,
        attempts=OutgoingRow.attempts + 1,
        answer=bindparam("its_answer"),
        sent_at=bindparam("now"),
        reason="",
    )
    .returning(func.set_config("synchronous_commit", "off", literal(value=True)))
    .execution_options(synchronize_session=False)
)


def mark_sent(session: Session, message_id: int, answer: bytes, now: datetime) -> None:
    """Note that a message was taken."""
    session.execute(_SENT, {"wanted": message_id, "its_answer": answer, "now": now})


def postpone(session: Session, message_id: int, reason: str, until: datetime) -> None:
    """Note that a message got no answer; it is tried again from then on."""
    _change(
        session,
        message_id,
        attempts=OutgoingRow.attempts + 1,
        next_try_at=until,
        reason=reason,
    )


def park(session: Session, message_id: int, reason: str, answer: bytes) -> None:
    """Note that a message was refused: a person decides."""
    _change(
        session,
        message_id,
        state=State.PARKED,
        attempts=OutgoingRow.attempts + 1,
        reason=reason,
        answer=answer,
    )


def resend(session: Session, message_id: int) -> Outgoing:
    """Send a message once more, the same bytes: one that is parked, waits or was sent.

    Raises
    ------
    NotFound
        There is none of that number.
    Conflict
        It was discarded.
    """
    found = get(session, message_id)
    if found.state is State.DISCARDED:
        raise Conflict(f"message {message_id} was discarded")
    _change(session, message_id, state=State.WAITING, next_try_at=utc_now(), sent_at=None)
    return get(session, message_id)


def discard(session: Session, message_id: int) -> None:
    """Never send a message; those behind it in its queue go on.

    Raises
    ------
    NotFound
        There is none of that number.
    Conflict
        It was sent already.
    """
    found = get(session, message_id)
    if found.state is State.SENT:
        raise Conflict(f"message {message_id} was sent already")
    _change(session, message_id, state=State.DISCARDED)


def get(session: Session, message_id: int) -> Outgoing:
    """Return one message; raise `NotFound` when there is none of that number."""
    row = session.get(OutgoingRow, message_id, populate_existing=True)
    if row is None:
        raise NotFound(f"there is no message {message_id} to be sent")
    return _outgoing(row)


def search(
    session: Session, wanted: Wanted, limit: int, before: int | None = None
) -> Sequence[Outgoing]:
    """Return the messages that are wanted, newest first, those below the number `before`."""
    statement = searching.newest(OutgoingRow, OutgoingRow.created_at, wanted, limit, before)
    if wanted.destination:
        statement = statement.where(OutgoingRow.destination == wanted.destination)
    return [_outgoing(row) for row in session.scalars(statement)]


def backlog(session: Session) -> Sequence[Backlog]:
    """Return what waits, for each destination for which something does."""
    waiting = func.count().filter(OutgoingRow.state == State.WAITING)
    parked = func.count().filter(OutgoingRow.state == State.PARKED)
    statement = (
        select(OutgoingRow.destination, waiting, parked, func.min(OutgoingRow.created_at))
        .where(OutgoingRow.state != State.SENT, OutgoingRow.state.in_(OPEN))
        .group_by(OutgoingRow.destination)
        .order_by(OutgoingRow.destination)
    )
    return [Backlog(*row) for row in session.execute(statement)]


def purge(session: Session, before: datetime, limit: int = 1000) -> int:
    """Delete messages that were sent or discarded before then; return how many."""
    old = (
        select(OutgoingRow.id)
        .where(
            OutgoingRow.created_at < before,
            OutgoingRow.state.in_([State.SENT, State.DISCARDED]),
        )
        .limit(limit)
    )
    gone = delete(OutgoingRow).where(OutgoingRow.id.in_(old)).returning(OutgoingRow.id)
    return len(session.scalars(gone).all())


def _change(session: Session, message_id: int, **values: object) -> None:
    session.execute(
        update(OutgoingRow)
        .where(OutgoingRow.id == message_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _outgoing(row: OutgoingRow) -> Outgoing:
    return Outgoing(
        id=row.id,
        destination=row.destination,
        queue=row.queue,
        control_id=row.control_id,
        kind=row.kind,
        state=State(row.state),
        attempts=row.attempts,
        next_try_at=row.next_try_at,
        reason=row.reason,
        created_at=row.created_at,
        sent_at=row.sent_at,
        keys=row.keys,
        payload=row.payload,
        answer=row.answer,
    )
