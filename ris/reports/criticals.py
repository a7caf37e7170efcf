"""Critical results: who was told, whether he read it back, and what happens when nobody answers.

    raised ─ told (channel, read-back) … ─ acknowledged
       └──── nobody has by `due_at`: escalated, and due again after the same time

An acknowledgement counts only from who has read the finding back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import uuid4

from sqlalchemy import select

from ris.reports import records
from ris.reports.contents import MOST_CHARACTERS, check_short
from ris.reports.faults import Fault, Invalid, Missing, refused
from ris.reports.model import Practitioner
from ris.reports.tables import CriticalRow, NoticeRow, ReportRow
from storage.base.clock import utc_now
from storage.db.engine import Engine, Session, transaction
from storage.jobs import queue
from storage.jobs.runner import Handler

ESCALATE: Final = "ris.escalate_critical"


class Level(StrEnum):
    """How soon somebody has to know: minutes, hours, days."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"


WITHIN: Final[Mapping[Level, timedelta]] = {
    Level.RED: timedelta(minutes=30),
    Level.ORANGE: timedelta(hours=6),
    Level.YELLOW: timedelta(days=3),
}
CHANNELS: Final = ("phone", "in_person", "message", "system")


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody was told."""

    told: str
    """Name and function of who was told."""
    channel: str
    read_back: bool
    acknowledged: bool
    told_by: Practitioner
    told_at: datetime
    note: str


@dataclass(frozen=True, slots=True)
class Critical:
    """A finding that somebody has to know of soon."""

    uid: str
    report_uid: str
    level: Level
    finding: str
    recognised_at: datetime
    recognised_by: Practitioner
    due_at: datetime
    escalations: int
    acknowledged_at: datetime | None
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """What is noted when somebody is told."""

    told: str
    channel: str
    read_back: bool = False
    acknowledged: bool = False
    note: str = ""


def raise_critical(
    session: Session, person: Practitioner, report_uid: str, level: str, finding: str
) -> Critical:
    """Note a critical finding; its clock runs from now, and stations that have the report hear.

    Raises
    ------
    Missing
        There is no such report.
    Invalid
        The level is none of `Level`, or the finding is empty or too long.
    """
    if level not in {*Level}:
        raise Invalid(Fault("unknown_value", "/level", {"known": ", ".join(Level)}))
    text = check_short(finding, "/finding", MOST_CHARACTERS)
    if not text:
        raise Invalid(Fault("required", "/finding"))
    report, now = records.held(session, report_uid), utc_now()
    row = CriticalRow(
        uid=uuid4().hex,
        report_id=report.id,
        level=level,
        finding=text,
        recognised_at=now,
        recognised_by=records.json_of(person),
        due_at=now + WITHIN[Level(level)],
        escalations=0,
    )
    session.add(row)
    session.flush()
    records.renew(session, report)
    queue.enqueue(session, ESCALATE, row.due_at, critical_uid=row.uid)
    return _critical(session, row)


def tell(session: Session, person: Practitioner, uid: str, telling: Telling) -> Critical:
    """Note who was told; acknowledged is what was also read back.

    Raises
    ------
    Missing
        There is no such critical result.
    Invalid
        Nobody is named, the channel is none of `CHANNELS`, or it was acknowledged unread.
    Refused
        It was acknowledged before.
    """
    told = check_short(telling.told, "/told")
    faults = []
    if not told:
        faults.append(Fault("required", "/told"))
    if telling.channel not in CHANNELS:
        faults.append(Fault("unknown_value", "/channel", {"known": ", ".join(CHANNELS)}))
    if telling.acknowledged and not telling.read_back:
        faults.append(Fault("needs_read_back", "/read_back"))
    if faults:
        raise Invalid(*faults)
    row = _held(session, uid)
    if row.acknowledged_at is not None:
        raise refused("acknowledged")
    now = utc_now()
    notice = NoticeRow(
        critical_id=row.id,
        told=told,
        channel=telling.channel,
        read_back=telling.read_back,
        acknowledged=telling.acknowledged,
        told_by=records.json_of(person),
        told_at=now,
        note=check_short(telling.note, "/note"),
    )
    session.add(notice)
    if telling.acknowledged:
        row.acknowledged_at = now
    session.flush()
    return _critical(session, row)


def escalate(session: Session, uid: str) -> None:
    """Escalate when nobody has acknowledged in time; the clock starts again.

    Raises
    ------
    Missing
        There is no such critical result.
    """
    row, now = _held(session, uid), utc_now()
    if row.acknowledged_at is not None:
        return
    if row.due_at <= now:
        row.escalations += 1
        row.due_at = now + WITHIN[Level(row.level)]
    session.flush()
    queue.enqueue(session, ESCALATE, row.due_at, critical_uid=uid)


def handlers(engine: Engine) -> Mapping[str, Handler]:
    """Return the jobs that are done here, by name."""

    def run(critical_uid: str) -> None:
        with transaction(engine) as session:
            escalate(session, critical_uid)

    return {ESCALATE: run}


def of_report(session: Session, report_uid: str) -> Sequence[Critical]:
    """Return the critical results of a report, oldest first.

    Raises
    ------
    Missing
        There is no such report.
    """
    report = records.held(session, report_uid)
    statement = select(CriticalRow).where(CriticalRow.report_id == report.id)
    rows = session.scalars(statement.order_by(CriticalRow.id)).all()
    return [_critical(session, row) for row in rows]


def list_open(session: Session, limit: int = 100) -> Sequence[Critical]:
    """Return what nobody has acknowledged, the most often escalated and soonest due first."""
    statement = (
        select(CriticalRow)
        .where(CriticalRow.acknowledged_at.is_(None))
        .order_by(CriticalRow.escalations.desc(), CriticalRow.due_at)
        .limit(limit)
    )
    return [_critical(session, row) for row in session.scalars(statement).all()]


def _held(session: Session, uid: str) -> CriticalRow:
    statement = select(CriticalRow).where(CriticalRow.uid == uid.replace("\0", ""))
    row = session.scalar(statement.with_for_update())
    if row is None:
        raise Missing(Fault("no_critical"))
    return row


def _critical(session: Session, row: CriticalRow) -> Critical:
    statement = select(NoticeRow).where(NoticeRow.critical_id == row.id).order_by(NoticeRow.id)
    notices = tuple(
        Notice(
            one.told,
            one.channel,
            one.read_back,
            one.acknowledged,
            Practitioner(**one.told_by),
            one.told_at,
            one.note,
        )
        for one in session.scalars(statement)
    )
    return Critical(
        uid=row.uid,
        report_uid=session.get_one(ReportRow, row.report_id).uid,
        level=Level(row.level),
        finding=row.finding,
        recognised_at=row.recognised_at,
        recognised_by=Practitioner(**row.recognised_by),
        due_at=row.due_at,
        escalations=row.escalations,
        acknowledged_at=row.acknowledged_at,
        notices=notices,
    )
