"""Rows to data and back."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Final

from sqlalchemy import select

from ris.releases import releasing
from ris.reports import contents
from ris.reports.faults import Fault, Missing
from ris.reports.model import Json, Lock, Practitioner, Report, SecondReading, Subject, Version
from ris.reports.states import Action, Status
from ris.reports.tables import ReportOrderRow, ReportRow, SecondReadingRow, VersionRow
from storage.base.clock import utc_now
from storage.db.engine import Session

_CHAINED: Final = (
    "revision",
    "version",
    "status",
    "action",
    "content",
    "author",
    "reader",
    "reason",
    "supersedes",
    "subject",
    "images",
    "verify_code",
)


def held(session: Session, uid: str, *, for_change: bool = False) -> ReportRow:
    """Return the row of a report; `for_change` makes others wait until this transaction ends.

    Raises
    ------
    Missing
        There is no such report.
    """
    statement = select(ReportRow).where(ReportRow.uid == uid.replace("\0", ""))
    if for_change:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    row = session.scalar(statement)
    if row is None:
        raise Missing(Fault("no_report"))
    return row


def renew(session: Session, row: ReportRow) -> None:
    """Have the stations that have the issued version hear of the report once more."""
    if row.version:
        statement = select(VersionRow.revision).where(
            VersionRow.report_id == row.id, VersionRow.version == row.version
        )
        releasing.renewed(session, row.uid, session.scalars(statement).one())


def report_of(session: Session, row: ReportRow) -> Report:
    """Return a report with its newest version and its orders."""
    return reports_of(session, [row])[0]


def reports_of(session: Session, rows: Sequence[ReportRow]) -> list[Report]:
    """Return reports with their newest versions and their orders, in three statements."""
    ids = [row.id for row in rows]
    orders: dict[int, list[int]] = {report_id: [] for report_id in ids}
    statement = (
        select(ReportOrderRow.report_id, ReportOrderRow.order_id)
        .where(ReportOrderRow.report_id.in_(ids))
        .order_by(ReportOrderRow.order_id)
    )
    for report_id, order_id in session.execute(statement):
        orders[report_id].append(order_id)
    newest = session.scalars(
        select(VersionRow)
        .join(ReportRow, ReportRow.id == VersionRow.report_id)
        .where(VersionRow.report_id.in_(ids), VersionRow.revision == ReportRow.revision)
    )
    versions = {row.report_id: version_of(row) for row in newest}
    return [_report(row, tuple(orders[row.id]), versions[row.id]) for row in rows]


def version_of(row: VersionRow) -> Version:
    """Return a version."""
    return Version(
        revision=row.revision,
        version=row.version,
        status=Status(row.status),
        action=Action(row.action),
        content=contents.from_json(row.content),
        author=Practitioner(**row.author),
        reader=Practitioner(**row.reader),
        authored_at=row.authored_at,
        reason=row.reason,
        supersedes=row.supersedes,
        subject=Subject(**row.subject),
        images=row.images,
        verify_code=row.verify_code or "",
        digest=row.digest,
    )


def chained_facts(row: VersionRow, report_uid: str) -> Json:
    """Return what the digest of a version vouches for."""
    facts: Json = {name: getattr(row, name) for name in _CHAINED}
    return {
        **facts,
        "report": report_uid,
        "authored_at": row.authored_at.astimezone(UTC).isoformat(),
    }


def json_of(person: Practitioner | Subject) -> Json:
    """Return a person as a version keeps it."""
    return asdict(person)


def second_readings(session: Session, report_id: int) -> list[SecondReading]:
    """Return what second readers wrote, oldest first."""
    statement = (
        select(SecondReadingRow)
        .where(SecondReadingRow.report_id == report_id)
        .order_by(SecondReadingRow.id)
    )
    return [
        SecondReading(
            row.revision, Practitioner(**row.reader), row.agreement, row.comment, row.read_at
        )
        for row in session.scalars(statement)
    ]


def second_readers(session: Session, report_id: int, content_sha256: str) -> frozenset[str]:
    """Return by code who has read exactly this text as a second reader."""
    statement = select(SecondReadingRow.reader).where(
        SecondReadingRow.report_id == report_id,
        SecondReadingRow.content_sha256 == content_sha256,
    )
    return frozenset(reader["code"] for reader in session.scalars(statement))


def _report(row: ReportRow, order_ids: tuple[int, ...], latest: Version) -> Report:
    return Report(
        uid=row.uid,
        status=Status(row.status),
        revision=row.revision,
        version=row.version,
        study_instance_uids=tuple(row.study_instance_uids),
        order_ids=order_ids,
        accession_numbers=tuple(row.accession_numbers),
        language=row.language,
        second_reading=row.second_reading,
        retraction_asked_by=row.retraction_asked_by,
        lock=_lock(row),
        created_at=row.created_at,
        changed_at=row.changed_at,
        source=row.source,
        latest=latest,
    )


def _lock(row: ReportRow) -> Lock | None:
    if row.locked_until is None or row.locked_until <= utc_now():
        return None
    return Lock(row.locked_by, row.locked_name, row.locked_until)
