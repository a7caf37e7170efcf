"""Who wants to be told of which changes, and what he has not been told of yet.

    a change (triggers of migration 0023) ─ sorted by who wants it ─► notices ─ told ─► gone

Whoever sorts and whoever tells holds the row of the subscription meanwhile, so that there is always
exactly one job for its notices while there are any.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Text, delete, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from ris.listing.tables import ChangeRow, NoticeRow, SubscriptionRow
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db import criteria
from storage.db.criteria import Criterion, Rule, Rules, Token, Wanted, each
from storage.db.engine import Session
from storage.jobs import queue

NOTIFY: Final = "viewer_api.notify_subscriber"
ACTIVE, ERROR, OFF = "active", "error", "off"
"""Of Subscription.status (FHIR R4)."""
LIVE: Final = (ACTIVE, ERROR)
GIVEN_UP_AFTER: Final = timedelta(hours=24)
"""Of nothing but failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to be told of, and where."""

    kind: str
    """The type of resources."""
    criteria: str
    """The query behind it."""
    reason: str
    endpoint: str
    payload: str
    """A media type; '': nothing is sent but that there is news."""
    headers: tuple[str, ...]
    ends_at: datetime | None
    status: str = ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription(Wish):
    """A subscription."""

    id: int
    uid: str
    error: str
    failures: int
    role: str
    made_by: str
    changed_at: datetime


def put(session: Session, wish: Wish, made_by: str, role: str, uid: str = "") -> Subscription:
    """Make a subscription, or change the one of `uid`.

    Raises
    ------
    NotFound
        There is none of that uid.
    """
    now = utc_now()
    if uid:
        row = _held(session, uid)
    else:
        row = SubscriptionRow(uid=uuid4().hex, created_at=now)
        session.add(row)
    row.kind, row.criteria, row.reason = wish.kind, wish.criteria, wish.reason
    row.endpoint, row.payload, row.headers = wish.endpoint, wish.payload, [*wish.headers]
    row.ends_at, row.status = wish.ends_at, wish.status
    row.failures, row.failing_since, row.error = 0, None, ""
    row.made_by, row.role, row.changed_at = made_by, role, now
    session.flush()
    return _subscription(row)


def get(session: Session, uid: str) -> Subscription:
    """Return one subscription.

    Raises
    ------
    NotFound
        There is none.
    """
    return _subscription(_held(session, uid))


def remove(session: Session, uid: str) -> None:
    """Forget a subscription and what it has not been told of.

    Raises
    ------
    NotFound
        There is none.
    """
    session.delete(_held(session, uid))
    session.flush()


def find(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Return the ids of a page of subscriptions."""
    del full
    where = criteria.conditions(_RULES, wanted.criteria)
    return criteria.page_ids(session, SubscriptionRow.id, where, wanted)


def count(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    """Return how many subscriptions match."""
    del full
    return criteria.count(session, SubscriptionRow.id, criteria.conditions(_RULES, asked))


def load(session: Session, ids: Collection[int]) -> Mapping[int, Subscription]:
    """Return these subscriptions by id."""
    statement = select(SubscriptionRow).where(SubscriptionRow.id.in_([*ids]))
    return {row.id: _subscription(row) for row in session.scalars(statement)}


def live(session: Session) -> Sequence[Subscription]:
    """Return those that are to be told; what has come to its end is turned off."""
    rows = session.scalars(select(SubscriptionRow).where(SubscriptionRow.status.in_(LIVE))).all()
    now = utc_now()
    for row in rows:
        if row.ends_at is not None and row.ends_at <= now:
            row.status, row.changed_at = OFF, now
    return [_subscription(row) for row in rows if row.status in LIVE]


def take_changes(session: Session, most: int) -> dict[str, list[int]]:
    """Return the rows that changed, by kind, each once; they are taken from the list."""
    rows = session.scalars(
        select(ChangeRow).order_by(ChangeRow.id).limit(most).with_for_update(skip_locked=True)
    ).all()
    session.execute(delete(ChangeRow).where(ChangeRow.id.in_([row.id for row in rows])))
    found: dict[str, dict[int, None]] = {}
    for row in rows:
        found.setdefault(row.kind, {})[row.row_id] = None
    return {kind: [*ids] for kind, ids in found.items()}


def add_notices(session: Session, subscription_id: int, row_ids: Collection[int]) -> None:
    """Write down what somebody is to be told of, and have it done."""
    if not row_ids:
        return
    session.get_one(SubscriptionRow, subscription_id, with_for_update=True)
    waiting = select(NoticeRow.id).where(NoticeRow.subscription_id == subscription_id).limit(1)
    begun = session.scalar(waiting) is not None
    now = utc_now()
    session.add_all(
        NoticeRow(subscription_id=subscription_id, row_id=one, made_at=now) for one in row_ids
    )
    if not begun:
        queue.enqueue(session, NOTIFY, subscription_id=subscription_id)
    session.flush()


def notices(
    session: Session, subscription_id: int, most: int
) -> tuple[Subscription, list[tuple[int, int]]] | None:
    """Return a subscription and the ids and rows of its oldest notices; None: it is not live."""
    row = session.get(SubscriptionRow, subscription_id, with_for_update=True)
    if row is None:
        return None
    if row.status not in LIVE:
        session.execute(delete(NoticeRow).where(NoticeRow.subscription_id == subscription_id))
        return None
    statement = (
        select(NoticeRow)
        .where(NoticeRow.subscription_id == subscription_id)
        .order_by(NoticeRow.id)
        .limit(most)
    )
    return _subscription(row), [(one.id, one.row_id) for one in session.scalars(statement)]


def told(session: Session, subscription_id: int, notice_ids: Collection[int]) -> None:
    """Note that somebody was told."""
    row = session.get(SubscriptionRow, subscription_id, with_for_update=True)
    session.execute(delete(NoticeRow).where(NoticeRow.id.in_([*notice_ids])))
    if row is not None and (row.failures or row.status == ERROR):
        row.failures, row.failing_since, row.error = 0, None, ""
        row.status = ACTIVE if row.status == ERROR else row.status


def failed(session: Session, subscription_id: int, error: str) -> bool:
    """Note that somebody could not be told; return whether he is given up."""
    row = session.get(SubscriptionRow, subscription_id, with_for_update=True)
    if row is None:
        return True
    now = utc_now()
    row.failures += 1
    row.failing_since = row.failing_since or now
    row.error, row.changed_at = error, now
    given_up = now - row.failing_since >= GIVEN_UP_AFTER
    row.status = OFF if given_up else ERROR
    if given_up:
        session.execute(delete(NoticeRow).where(NoticeRow.subscription_id == subscription_id))
    return given_up


def _held(session: Session, uid: str) -> SubscriptionRow:
    statement = select(SubscriptionRow).where(SubscriptionRow.uid == uid.replace("\0", ""))
    row = session.scalar(statement.with_for_update())
    if row is None:
        raise NotFound("there is no such subscription")
    return row


def _subscription(row: SubscriptionRow) -> Subscription:
    return Subscription(
        id=row.id,
        uid=row.uid,
        status=row.status,
        kind=row.kind,
        criteria=row.criteria,
        reason=row.reason,
        endpoint=row.endpoint,
        payload=row.payload,
        headers=tuple(row.headers),
        ends_at=row.ends_at,
        error=row.error,
        failures=row.failures,
        role=row.role,
        made_by=row.made_by,
        changed_at=row.changed_at,
    )


def _is(wanted: Sequence[Any]) -> ColumnElement[bool]:
    uids = [getattr(one, "code", "") for one in wanted]
    return criteria.one_of(SubscriptionRow.uid, literal(uids, ARRAY(Text)))


def _status(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a criterion's value
    return SubscriptionRow.status == (wanted.code if isinstance(wanted, Token) else "")


_RULES: Final[Rules] = {"_id": Rule(_is, true()), "status": Rule(each(_status), true())}
