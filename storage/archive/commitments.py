"""Storage commitments that were asked for, until their result has been reported (PS3.4 Annex J).

    asked for ─ claimed ─ verified ─┬─ reported
                  ^                 └─ put off (the peer is away) ─┐
                  └────────────────────────────────────────────────┘  parked after some days

Claimed means that nobody else takes it before its lease ends: who claims and dies
delays a report and loses none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import RowMapping, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.archive.commitment_tables import commitments as table
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session

WAITING: Final = "waiting"
REPORTED: Final = "reported"
PARKED: Final = "parked"


@dataclass(frozen=True, slots=True)
class Reference:
    """One SOP Instance to be committed."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Commitment:
    """One request for commitment."""

    transaction_uid: str
    calling_ae_title: str
    called_ae_title: str
    """Whom the peer called: the report comes from the same AE title."""
    references: tuple[Reference, ...]
    requested_at: datetime
    attempts: int = 0
    failures: Mapping[str, int] | None = None
    """SOP Instance UID → Failure Reason (0008,1197); None: not verified yet."""
    id: int = 0
    """Given by the archive."""
    state: str = WAITING
    due_at: datetime | None = None
    """When it is taken next."""


def request(session: Session, asked: Commitment) -> None:
    """Note a request; the same one again is reported again.

    Raises
    ------
    Conflict
        This peer used the Transaction UID for other instances.
    """
    references = [[one.sop_class_uid, one.sop_instance_uid] for one in asked.references]
    statement = insert(table).values(
        transaction_uid=asked.transaction_uid,
        calling_ae_title=asked.calling_ae_title,
        called_ae_title=asked.called_ae_title,
        instances=references,
        requested_at=asked.requested_at,
        due_at=asked.requested_at,
    )
    again = statement.on_conflict_do_update(
        index_elements=["calling_ae_title", "transaction_uid"],
        set_={
            "state": WAITING,
            "requested_at": asked.requested_at,
            "due_at": asked.requested_at,
            "attempts": 0,
            "failures": None,
        },
        where=table.c.instances == statement.excluded.instances,
    )
    if session.execute(again.returning(table.c.id)).one_or_none() is None:
        raise Conflict("the Transaction UID was used for other instances")


def claim(session: Session, now: datetime, lease: timedelta) -> Commitment | None:
    """Take the next one that is due, for as long as `lease`; None when there is none."""
    due = (
        select(table.c.id)
        .where(table.c.state == WAITING, table.c.due_at <= now)
        .order_by(table.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = update(table).where(table.c.id == due).values(due_at=now + lease).returning(*table.c)
    row = session.execute(taken).mappings().one_or_none()
    return None if row is None else _commitment(row)


def note_verified(session: Session, commitment_id: int, failures: Mapping[str, int]) -> None:
    """Keep what a verification found."""
    _change(session, commitment_id, failures=dict(failures))


def put_off(session: Session, commitment_id: int, due_at: datetime, *, attempts: int) -> None:
    """Try again at `due_at`."""
    _change(session, commitment_id, due_at=due_at, attempts=attempts)


def finish(session: Session, commitment_id: int, state: str) -> None:
    """Note that it is `REPORTED`, or that it is `PARKED` because nobody takes the report."""
    _change(session, commitment_id, state=state)


def forget(session: Session, before: datetime) -> None:
    """Forget what was reported and asked for before a moment: its UIDs may be used again."""
    session.execute(delete(table).where(table.c.state == REPORTED, table.c.requested_at < before))


def _change(session: Session, commitment_id: int, **values: object) -> None:
    session.execute(update(table).where(table.c.id == commitment_id).values(**values))


def list_open(session: Session, *, limit: int = 100) -> list[Commitment]:
    """Return the newest `limit` commitments that were not reported."""
    statement = select(table).where(table.c.state != REPORTED).order_by(table.c.id.desc())
    return [_commitment(row) for row in session.execute(statement.limit(limit)).mappings()]


def retry(session: Session, commitment_id: int, now: datetime) -> None:
    """Report one at once, as if it were asked for now; its instances are read again.

    Raises
    ------
    NotFound
        None that waits or is parked has this id.
    """
    again = (
        update(table)
        .where(table.c.id == commitment_id, table.c.state != REPORTED)
        .values(state=WAITING, requested_at=now, due_at=now, attempts=0, failures=None)
        .returning(table.c.id)
    )
    if session.execute(again).one_or_none() is None:
        raise NotFound(f"no open commitment has id {commitment_id}")


def count(session: Session, state: str) -> int:
    """Return how many are in a state."""
    found = session.scalar(select(func.count()).where(table.c.state == state))
    return found or 0


def _commitment(row: RowMapping) -> Commitment:
    pairs: Sequence[Sequence[str]] = row["instances"]
    return Commitment(
        row["transaction_uid"],
        row["calling_ae_title"],
        row["called_ae_title"],
        tuple(Reference(*pair) for pair in pairs),
        row["requested_at"],
        row["attempts"],
        row["failures"],
        row["id"],
        row["state"],
        row["due_at"],
    )
