"""Which reports there are, and what they said when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, select

from ris.reports import contents, records, subjects
from ris.reports.faults import Fault, Missing, NotAllowed
from ris.reports.model import Flags, Report, SecondReading, Version
from ris.reports.states import SIGNED, Status
from ris.reports.tables import ReportOrderRow, ReportRow, VersionRow
from storage.db.engine import Session

LIMIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which reports are wanted; what is None or empty is not asked for."""

    statuses: tuple[Status, ...] = ()
    study_instance_uid: str = ""
    accession_number: str = ""
    order_id: int | None = None
    issued: bool = False
    """Only those that others were told of."""
    order_missing: bool = False
    """Only those that are for no order."""


def get(session: Session, uid: str) -> Report:
    """Return a report.

    Raises
    ------
    Missing
        There is no such report.
    """
    return records.report_of(session, records.held(session, uid))


def find(
    session: Session, search: Search, *, limit: int = LIMIT, before: str = ""
) -> Sequence[Report]:
    """Return the newest `limit` reports; `before` is the uid of the last one seen."""
    statement = select(ReportRow).where(*_conditions(search))
    if before:
        last = select(ReportRow.id).where(ReportRow.uid == before).scalar_subquery()
        statement = statement.where(ReportRow.id < last)
    rows = session.scalars(statement.order_by(ReportRow.id.desc()).limit(limit)).all()
    return records.reports_of(session, rows)


def versions(session: Session, uid: str, *, issued: bool = False) -> Sequence[Version]:
    """Return the versions of a report, oldest first; `issued`: those that others were told of.

    Raises
    ------
    Missing
        There is no such report.
    """
    row = records.held(session, uid)
    statement = select(VersionRow).where(VersionRow.report_id == row.id)
    if issued:
        statement = statement.where(VersionRow.version > 0)
    rows = session.scalars(statement.order_by(VersionRow.revision))
    return [records.version_of(one) for one in rows]


def version(session: Session, uid: str, revision: int) -> Version:
    """Return one version of a report.

    Raises
    ------
    Missing
        There is none.
    """
    row = records.held(session, uid)
    found = session.scalar(
        select(VersionRow).where(VersionRow.report_id == row.id, VersionRow.revision == revision)
    )
    if found is None:
        raise Missing(Fault("no_version"))
    return records.version_of(found)


def last_issued(session: Session, report: Report) -> Version | None:
    """Return the version that others were told of last; None: none yet."""
    issued = versions(session, report.uid, issued=True)
    return issued[-1] if issued else None


def for_paper(session: Session, report: Report, number: int | None, *, drafts: bool) -> Version:
    """Return the issued version `number`; when None the newest, of drafts too if they may be seen.

    Raises
    ------
    Missing
        There is none.
    """
    if number is None and drafts:
        return report.latest
    issued = versions(session, report.uid, issued=True)
    wanted = [one for one in issued if number in {None, one.version}]
    if not wanted:
        raise Missing(Fault("no_version"))
    return wanted[-1]


def hidden() -> NotAllowed:
    """Return the error for who asks for the text of a retracted report."""
    return NotAllowed(Fault("hidden"))


def flags(session: Session, report: Report) -> Flags:
    """Return what a reader of a signed report has to be warned of; none before a signature."""
    signed = [one for one in versions(session, report.uid, issued=True) if one.status in SIGNED]
    if not signed:
        return Flags()
    uids = report.study_instance_uids
    subject = subjects.present(session, report.order_ids, uids)
    found = subjects.flags_of(signed[-1], subject, subjects.images_of(session, uids))
    return replace(found, order_missing=not report.order_ids)


def second_readings(session: Session, uid: str) -> Sequence[SecondReading]:
    """Return what second readers wrote, oldest first.

    Raises
    ------
    Missing
        There is no such report.
    """
    return records.second_readings(session, records.held(session, uid).id)


def by_verify_code(session: Session, code: str) -> tuple[Report, Version]:
    """Return the report and the version that a paper's code leads to.

    Raises
    ------
    Missing
        It leads nowhere.
    """
    row = session.scalar(select(VersionRow).where(VersionRow.verify_code == code.replace("\0", "")))
    if row is None:
        raise Missing(Fault("no_report"))
    report = session.get_one(ReportRow, row.report_id)
    return records.report_of(session, report), records.version_of(row)


def chain_is_whole(session: Session, uid: str) -> bool:
    """Return whether every version of a report is the one that its digest was made of.

    Raises
    ------
    Missing
        There is no such report.
    """
    row = records.held(session, uid)
    statement = select(VersionRow).where(VersionRow.report_id == row.id)
    rows = session.scalars(statement.order_by(VersionRow.revision)).all()
    facts = [records.chained_facts(one, row.uid) for one in rows]
    steps = [one.revision for one in rows] == [*range(1, row.revision + 1)]
    return steps and contents.chain_holds([one.digest for one in rows], facts)


def _conditions(search: Search) -> Sequence[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if search.statuses:
        wanted.append(ReportRow.status.in_(search.statuses))
    if search.study_instance_uid:
        wanted.append(ReportRow.study_instance_uids.contains([search.study_instance_uid]))
    if search.accession_number:
        wanted.append(ReportRow.accession_numbers.contains([search.accession_number]))
    if search.issued:
        wanted.append(ReportRow.version > 0)
    if search.order_missing:
        having = select(ReportOrderRow.report_id).where(ReportOrderRow.report_id == ReportRow.id)
        wanted.append(~having.exists())
    if search.order_id is not None:
        having = select(ReportOrderRow.report_id).where(ReportOrderRow.order_id == search.order_id)
        wanted.append(ReportRow.id.in_(having))
    return wanted
