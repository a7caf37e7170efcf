"""The queue: a job is written in the transaction that causes it, and its row goes when it is done.

waiting ─ taken (due again after its lease) ─┬─ done: the row is deleted
                                             ├─ later: waits longer after each try
                                             └─ parked: waits for a person
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import delete, select, update

from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Session
from storage.jobs.tables import JobRow

LEASE: Final = timedelta(minutes=10)
"""Who took a job and died does not keep others from it longer than this."""
FIRST_PAUSE: Final = timedelta(seconds=2)
LONGEST_PAUSE: Final = timedelta(minutes=5)
_JITTER: Final = 0.2


class State(StrEnum):
    """Whether a job is tried by itself."""

    WAITING = "waiting"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Job:
    """Work to be done: a name, and ids as its arguments."""

    id: int
    name: str
    """``package.verb_noun``."""
    arguments: Mapping[str, Any]
    state: State
    attempts: int
    """Tries that were begun."""
    due_at: datetime
    reason: str
    """Why the last try did not succeed."""
    created_at: datetime


def enqueue(
    session: Session, name: str, due_at: datetime | None = None, **arguments: object
) -> None:
    """Have `name` done at `due_at` (now when None); `arguments` are ids, never patient data."""
    now = utc_now()
    row = JobRow(
        name=name,
        arguments=arguments,
        state=State.WAITING,
        attempts=0,
        due_at=due_at or now,
        reason="",
        created_at=now,
    )
    session.add(row)
    session.flush()


def enqueue_once(session: Session, name: str, **arguments: object) -> None:
    """Do so unless the same work waits already; at the same moment it may be written twice."""
    same = (JobRow.name == name, JobRow.arguments == arguments, JobRow.state == State.WAITING)
    if session.scalar(select(JobRow.id).where(*same).limit(1)) is None:
        enqueue(session, name, None, **arguments)


def take(session: Session, names: Sequence[str]) -> Job | None:
    """Return the job that is due longest and lease it; None when none of `names` is due."""
    row = session.scalar(
        select(JobRow)
        .where(JobRow.state == State.WAITING, JobRow.due_at <= utc_now(), JobRow.name.in_(names))
        .order_by(JobRow.due_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None:
        return None
    row.attempts += 1
    row.due_at = utc_now() + LEASE
    session.flush()
    return _job(row)


def done(session: Session, job: Job) -> None:
    """Take a finished job from the queue."""
    session.execute(delete(JobRow).where(JobRow.id == job.id))


def later(session: Session, job: Job, reason: str) -> datetime:
    """Put a job off, longer after each try; return until when."""
    pause = min(FIRST_PAUSE * 2 ** min(job.attempts - 1, 20), LONGEST_PAUSE)
    until: datetime = utc_now() + pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load
    _set(session, job.id, due_at=until, reason=reason)
    return until


def park(session: Session, job: Job, reason: str) -> None:
    """Leave a job to a person."""
    _set(session, job.id, state=State.PARKED, reason=reason)


def list_open(session: Session, limit: int = 100) -> Sequence[Job]:
    """Return what is not done, oldest first."""
    rows = session.scalars(select(JobRow).order_by(JobRow.id).limit(limit))
    return [_job(row) for row in rows]


def retry(session: Session, job_id: int) -> None:
    """Have a job tried again now.

    Raises
    ------
    NotFound
        No open job has this id.
    """
    if not _set(session, job_id, state=State.WAITING, due_at=utc_now()):
        raise NotFound(f"no open job has id {job_id}")


def discard(session: Session, job_id: int) -> None:
    """Take a job from the queue without doing it.

    Raises
    ------
    NotFound
        No open job has this id.
    """
    gone = session.scalar(delete(JobRow).where(JobRow.id == job_id).returning(JobRow.id))
    if gone is None:
        raise NotFound(f"no open job has id {job_id}")


def _set(session: Session, job_id: int, **values: object) -> bool:
    statement = (
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(**values, changed_at=utc_now())
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        name=row.name,
        arguments=row.arguments,
        state=State(row.state),
        attempts=row.attempts,
        due_at=row.due_at,
        reason=row.reason,
        created_at=row.created_at,
    )
