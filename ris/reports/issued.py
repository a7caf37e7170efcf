"""Many issued versions at once, with what goes with them: in a fixed number of statements."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, tuple_

from ris import orders
from ris.model import RequestedProcedure
from ris.reports import records, subjects
from ris.reports.model import Report, Version
from ris.reports.subjects import StudyFacts
from ris.reports.tables import CriticalRow, DocumentRow, KeyImageRow, ReportRow, VersionRow
from storage.db.engine import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One issued version of a report."""

    report: Report
    version: Version
    study: StudyFacts
    title: str
    """What was asked for, or what the device called it."""
    paper_sha256: str
    """Of the signed paper; '' while it is awaited."""
    paper_size: int
    """Bytes."""
    key_images: int
    """Those for who has sent the patient."""
    critical: str
    """The gravest level of a critical result; '' there is none."""


def load(session: Session, wanted: Collection[tuple[str, int]]) -> Mapping[str, Issued]:
    """Return these versions, given by report and revision, by report."""
    rows = session.scalars(select(ReportRow).where(ReportRow.uid.in_({uid for uid, _ in wanted})))
    held = {row.uid: row for row in rows}
    reports = {one.uid: one for one in records.reports_of(session, [*held.values()])}
    pairs = [(held[uid].id, revision) for uid, revision in wanted if uid in held]
    versions = _versions(session, pairs)
    papers = _papers(session, pairs)
    ids = [row.id for row in held.values()]
    images, criticals = _key_images(session, ids), _criticals(session, ids)
    studies = subjects.studies_of(session, [one.study_instance_uids for one in reports.values()])
    asked = orders.procedures_of_all(
        session, {order for one in reports.values() for order in one.order_ids}
    )
    found = {}
    for uid, row in held.items():
        if row.id in versions:
            report, study = reports[uid], studies[reports[uid].study_instance_uids]
            sha256, size = papers.get(row.id, ("", 0))
            found[uid] = Issued(
                report=report,
                version=versions[row.id],
                study=study,
                title=_title(report, study, asked),
                paper_sha256=sha256,
                paper_size=size,
                key_images=images.get(row.id, 0),
                critical=criticals.get(row.id, ""),
            )
    return found


def _versions(session: Session, pairs: Sequence[tuple[int, int]]) -> dict[int, Version]:
    wanted = tuple_(VersionRow.report_id, VersionRow.revision).in_(pairs)
    rows = session.scalars(select(VersionRow).where(wanted))
    return {row.report_id: records.version_of(row) for row in rows}


def _papers(session: Session, pairs: Sequence[tuple[int, int]]) -> dict[int, tuple[str, int]]:
    wanted = tuple_(DocumentRow.report_id, DocumentRow.revision).in_(pairs)
    statement = select(DocumentRow.report_id, DocumentRow.sha256, DocumentRow.size).where(wanted)
    return {report: (sha256, size) for report, sha256, size in session.execute(statement)}


def _key_images(session: Session, ids: Sequence[int]) -> dict[int, int]:
    statement = (
        select(KeyImageRow.report_id, func.count())
        .where(KeyImageRow.report_id.in_(ids), KeyImageRow.for_provider)
        .group_by(KeyImageRow.report_id)
    )
    return {report: count for report, count in session.execute(statement)}  # noqa: C416


def _criticals(session: Session, ids: Sequence[int]) -> dict[int, str]:
    order = ("red", "orange", "yellow")
    statement = select(CriticalRow.report_id, CriticalRow.level).where(
        CriticalRow.report_id.in_(ids)
    )
    found: dict[int, str] = {}
    for report, level in session.execute(statement):
        found[report] = min(found.get(report, level), level, key=order.index)
    return found


def _title(
    report: Report, study: StudyFacts, asked: Mapping[int, Sequence[RequestedProcedure]]
) -> str:
    procedures = [one for order in report.order_ids for one in asked.get(order, ())]
    told = (one.code.meaning if one.code else one.description for one in procedures)
    return "; ".join(dict.fromkeys(filter(None, told))) or study.description
