"""Write what the bases of a report allow, and nothing else; and what was released to whom."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import or_, select, update

from ris.releases import bases, marks, rules
from ris.releases.model import Basis, Facts, Reason, Release, State
from ris.releases.rules import Change, Present
from ris.releases.tables import BasisRow, ReleaseRow
from storage.access import stations
from storage.base.clock import utc_now
from storage.db.engine import Session
from storage.jobs import queue

HINT: Final = "ris.hint_station"
"""Tells a station's software, without a word of whom, that there is news."""
CHANNEL: Final = "lienthong_releases"
"""Says which station there is news for (NOTIFY), when the transaction has committed."""


def apply(session: Session, facts: Facts) -> Sequence[Change]:
    """Release a report to whom it is to be released, and take it from everybody else.

    The patient has to be locked (`bases.lock`).
    """
    now = utc_now()
    known = bases.about(session, facts.patient_ids, facts.order_ids)
    marked = facts.sensitive | marks.of(session, facts.report_uid, facts.patient_ids)
    given = replace(facts, sensitive=marked)
    rows = _rows(session, facts.report_uid)
    used = bases.load(session, {row.basis_ref for row in rows})
    present = [_present(row, used[row.basis_ref]) for row in rows]
    wanted = rules.changes(present, known, given, now)
    by_station = {row.station_ref: row for row in rows}
    for station_id, basis in rules.rebased(present, known, given, now).items():
        by_station[station_id].basis_ref = basis.id
    for change in wanted:
        _write(session, by_station.get(change.station_id), change, given, now)
    session.flush()
    _hint(session, {change.station_id for change in wanted})
    return wanted


def renewed(session: Session, report_uid: str, revision: int) -> None:
    """Tell again of a released version: its signed paper is there now, or other pictures are."""
    session.execute(
        update(ReleaseRow)
        .where(
            ReleaseRow.report_uid == report_uid,
            ReleaseRow.revision == revision,
            ReleaseRow.state == State.RELEASED,
        )
        .values(changed_at=utc_now())
        .execution_options(synchronize_session=False)
    )


def page(session: Session, station_id: int, after: int, limit: int) -> Sequence[Release]:
    """Return the changes of one station behind the place `after`, in their order."""
    statement = (
        select(ReleaseRow)
        .where(ReleaseRow.station_ref == station_id, ReleaseRow.position > after)
        .order_by(ReleaseRow.position)
        .limit(limit)
    )
    return [release_of(row) for row in session.scalars(statement)]


def end_of_feed(session: Session, station_id: int) -> int:
    """Return the place of the newest change of a station, 0 when there is none."""
    statement = select(ReleaseRow.position).where(
        ReleaseRow.station_ref == station_id, ReleaseRow.position.is_not(None)
    )
    return session.scalar(statement.order_by(ReleaseRow.position.desc()).limit(1)) or 0


def to_station(session: Session, station_id: int, report_uid: str) -> Release | None:
    """Return what was ever released of a report to a station; None: nothing."""
    row = session.scalar(
        select(ReleaseRow).where(
            ReleaseRow.station_ref == station_id,
            ReleaseRow.report_uid == report_uid.replace("\0", ""),
        )
    )
    return release_of(row) if row else None


def readable(session: Session, station_id: int, report_uid: str) -> tuple[Release, Basis] | None:
    """Return a report's release to a station while its basis holds; None: it is not its own."""
    now = utc_now()
    found = session.execute(
        select(ReleaseRow, BasisRow)
        .join(BasisRow, BasisRow.id == ReleaseRow.basis_ref)
        .where(
            ReleaseRow.station_ref == station_id,
            ReleaseRow.report_uid == report_uid.replace("\0", ""),
            ReleaseRow.state != State.DELETED,
            BasisRow.withdrawn_at.is_(None),
            or_(BasisRow.ends_at.is_(None), BasisRow.ends_at > now),
        )
    ).one_or_none()
    return (release_of(found[0]), bases.basis_of(found[1])) if found else None


def of_reports(
    session: Session, station_id: int, report_uids: Collection[str]
) -> Sequence[Release]:
    """Return what a station may see of these reports."""
    found = (readable(session, station_id, uid) for uid in report_uids)
    return [one[0] for one in found if one is not None]


def release_of(row: ReleaseRow) -> Release:
    """Return a release."""
    return Release(
        station_id=row.station_ref,
        report_uid=row.report_uid,
        patient_id=row.patient_ref,
        revision=row.revision,
        version=row.version,
        state=State(row.state),
        reason=Reason(row.reason),
        basis_id=row.basis_ref,
        since=row.since,
        changed_at=row.changed_at,
        position=row.position or 0,
    )


def _rows(session: Session, report_uid: str) -> Sequence[ReleaseRow]:
    statement = select(ReleaseRow).where(ReleaseRow.report_uid == report_uid)
    fresh = statement.order_by(ReleaseRow.id).with_for_update()
    return session.scalars(fresh.execution_options(populate_existing=True)).all()


def _present(row: ReleaseRow, basis: Basis) -> Present:
    return Present(
        station_id=row.station_ref, basis=basis, revision=row.revision, state=State(row.state)
    )


def _write(
    session: Session, row: ReleaseRow | None, change: Change, facts: Facts, now: datetime
) -> None:
    values = {
        "patient_ref": facts.patient_id,
        "basis_ref": change.basis.id,
        "revision": facts.revision,
        "version": facts.version,
        "state": change.state,
        "reason": change.reason,
        "changed_at": now,
    }
    if row is None:
        session.add(
            ReleaseRow(
                station_ref=change.station_id, report_uid=facts.report_uid, since=now, **values
            )
        )
        return
    for name, value in values.items():
        setattr(row, name, value)


def _hint(session: Session, station_ids: Collection[int]) -> None:
    for station_id, station in sorted(stations.load(session, station_ids).items()):
        if station.hook_url and station.revoked_at is None:
            queue.enqueue_once(session, HINT, station_id=station_id)
