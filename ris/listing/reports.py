"""Reports by criteria, page by page: what was issued of them, never a draft.

A report of which nothing was issued is there without its text: somebody is at it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    false,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from ris.listing import people, requests, studies
from ris.reports import records
from ris.reports.model import Version
from ris.reports.states import NAMES, Status
from ris.reports.tables import DocumentRow, ReportOrderRow, ReportRow, VersionRow
from ris.tables import OrderRow, PatientRow, ProcedureRow
from storage.archive import listing
from storage.db import criteria
from storage.db.criteria import Criterion, Instants, Reference, Rule, Rules, Token, Wanted, each
from storage.db.engine import Session

REGISTERED: Final = "registered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The signed paper of a version, as far as others are told of it."""

    sha256: str
    size: int
    signed_at: datetime
    algorithm: str
    subject: str
    issuer: str
    serial_number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A report as one issued version has it, or as nothing yet (`version` None)."""

    id: int
    uid: str
    version: Version | None
    hidden: bool
    """It was retracted: nobody is shown its text."""
    study_instance_uids: tuple[str, ...]
    order_ids: tuple[int, ...]
    accession_numbers: tuple[str, ...]
    language: str
    codes: tuple[tuple[str, str, str], ...]
    """Of the requested procedures: value, meaning, scheme."""
    patient_number: int | None
    """In the order of `people`; None when neither order nor study is held any more."""
    performed: tuple[str, str]
    """Date and time of the study as DICOM writes them, '' when it is not held."""
    paper: Signed | None
    created_at: datetime

    @property
    def status(self) -> str:
        """The status in FHIR R4."""
        return NAMES[self.version.status].fhir_status if self.version else REGISTERED

    @property
    def told_at(self) -> datetime:
        """When it became what it is."""
        return self.version.authored_at if self.version else self.created_at


def find(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Return the ids of a page of reports."""
    where = criteria.conditions(_rules(full=full), wanted.criteria)
    return criteria.page_ids(session, ReportRow.id, where, wanted)


def count(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    """Return how many reports match."""
    return criteria.count(session, ReportRow.id, criteria.conditions(_rules(full=full), asked))


def load(session: Session, ids: Collection[int]) -> dict[int, Issued]:
    """Return these reports by id, each as it was issued last."""
    current = and_(VersionRow.report_id == ReportRow.id, VersionRow.version == ReportRow.version)
    statement = (
        select(ReportRow, VersionRow)
        .outerjoin(VersionRow, current & (VersionRow.version > 0))
        .where(ReportRow.id == _one_of(ids))
    )
    return _issued(session, [(row[0], row[1]) for row in session.execute(statement)])


def versions(session: Session, uid: str) -> list[Issued]:
    """Return the issued versions of a report, oldest first; none when there is no such report."""
    return _versions(session, ReportRow.uid == uid)


def version(session: Session, uid: str, number: int) -> Issued | None:
    """Return one issued version of a report; None when there is none."""
    found = _versions(session, ReportRow.uid == uid, VersionRow.version == number)
    return found[0] if found else None


def of_versions(session: Session, ids: Collection[int]) -> dict[int, Issued]:
    """Return issued versions by the ids of their rows."""
    statement = (
        select(ReportRow, VersionRow)
        .join(VersionRow, VersionRow.report_id == ReportRow.id)
        .where(VersionRow.id == _one_of(ids))
    )
    rows = [(row[0], row[1]) for row in session.execute(statement)]
    return {
        version.id: _issued(session, [(report, version)])[report.id] for report, version in rows
    }


def _versions(session: Session, *where: ColumnElement[bool]) -> list[Issued]:
    statement = (
        select(ReportRow, VersionRow)
        .join(VersionRow, VersionRow.report_id == ReportRow.id)
        .where(*where, VersionRow.version > 0)
        .order_by(VersionRow.version)
    )
    rows = [(row[0], row[1]) for row in session.execute(statement)]
    return [_issued(session, [one])[one[0].id] for one in rows]


def _one_of(ids: Collection[int]) -> Any:  # noqa: ANN401 - an expression
    return any_(literal([*ids], ARRAY(BigInteger)))


def _issued(
    session: Session, rows: Sequence[tuple[ReportRow, VersionRow | None]]
) -> dict[int, Issued]:
    ids = [report.id for report, _ in rows]
    orders = _orders(session, ids)
    uids = {uid for report, _ in rows for uid in report.study_instance_uids}
    owners, dates = studies.patients_of(session, uids), listing.dates_of(session, uids)
    patients = _patients(session, {order for held in orders.values() for order in held})
    codes = _codes(session, {order for held in orders.values() for order in held})
    papers = _papers(session, [(report.id, one.revision) for report, one in rows if one])
    found: dict[int, Issued] = {}
    for report, one in rows:
        held = tuple(orders.get(report.id, ()))
        by_study = (owners[uid] for uid in report.study_instance_uids if uid in owners)
        dated = (dates[uid] for uid in report.study_instance_uids if uid in dates)
        found[report.id] = Issued(
            id=report.id,
            uid=report.uid,
            version=records.version_of(one) if one else None,
            hidden=report.status == Status.RETRACTED,
            study_instance_uids=tuple(report.study_instance_uids),
            order_ids=held,
            accession_numbers=tuple(report.accession_numbers),
            language=report.language,
            codes=tuple(dict.fromkeys(code for order in held for code in codes.get(order, ()))),
            patient_number=next((patients[order] for order in held), next(by_study, None)),
            performed=next(dated, ("", "")),
            paper=papers.get((report.id, one.revision)) if one else None,
            created_at=report.created_at,
        )
    return found


def _orders(session: Session, ids: Collection[int]) -> dict[int, list[int]]:
    statement = (
        select(ReportOrderRow.report_id, ReportOrderRow.order_id)
        .where(ReportOrderRow.report_id == _one_of(ids))
        .order_by(ReportOrderRow.order_id)
    )
    found: dict[int, list[int]] = {}
    for report, order in session.execute(statement):
        found.setdefault(report, []).append(order)
    return found


def _patients(session: Session, orders: Collection[int]) -> Mapping[int, int]:
    statement = (
        select(OrderRow.id, PatientRow.root_ref)
        .join(PatientRow, PatientRow.id == OrderRow.patient_ref)
        .where(OrderRow.id == _one_of(orders))
    )
    return {row.id: row.root_ref for row in session.execute(statement)}


def _codes(session: Session, orders: Collection[int]) -> Mapping[int, list[tuple[str, str, str]]]:
    shown = ProcedureRow.order_ref, ProcedureRow.code, ProcedureRow.meaning, ProcedureRow.scheme
    statement = select(*shown).where(ProcedureRow.order_ref == _one_of(orders))
    found: dict[int, list[tuple[str, str, str]]] = {}
    for order, code, meaning, scheme in session.execute(statement.order_by(ProcedureRow.id)):
        if code or meaning:
            found.setdefault(order, []).append((code, meaning, scheme))
    return found


def _papers(session: Session, wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], Signed]:
    ids = [report for report, _ in wanted]
    statement = select(DocumentRow).where(DocumentRow.report_id == _one_of(ids))
    return {
        (row.report_id, row.revision): Signed(
            sha256=row.sha256,
            size=row.size,
            signed_at=row.signed_at,
            algorithm=row.algorithm,
            subject=row.subject,
            issuer=row.issuer,
            serial_number=row.serial_number,
        )
        for row in session.scalars(statement)
        if (row.report_id, row.revision) in {*wanted}
    }


# What a report is searched by


def link() -> people.Link:
    """Return how reports refer to patients: by their orders, without one by their studies."""
    ordered = select(ReportOrderRow.report_id)
    alone = ReportRow.id.not_in(ordered)

    def by_study(ids: Select[Any]) -> ColumnElement[bool]:
        held = listing.uids_of_patients(ids)
        return criteria.overlapping(ReportRow.study_instance_uids, held, Text) & alone

    def of_roots(roots: Select[Any]) -> ColumnElement[bool]:
        of = criteria.among(OrderRow.patient_ref, people.members(roots))
        by_order = _of_orders(select(OrderRow.id).where(of))
        return by_order | by_study(people.archived(roots))

    return people.Link(of_roots=of_roots, of_archive=by_study)


def _of_orders(orders: Select[Any]) -> ColumnElement[bool]:
    those = criteria.among(ReportOrderRow.order_id, orders)
    return criteria.among(ReportRow.id, select(ReportOrderRow.report_id).where(those))


def _is(wanted: Sequence[Any]) -> ColumnElement[bool]:
    texts = [one.code if isinstance(one, Token) else one.id for one in wanted]
    return criteria.one_of(ReportRow.uid, literal(texts, ARRAY(Text)))


def _number(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a criterion's value
    if not isinstance(wanted, Token) or not wanted.code:
        return false()
    accession = ReportRow.accession_numbers.contains([wanted.code])
    own = ReportRow.uid == wanted.code
    if wanted.system is None:
        return own | accession
    return {"report": own, "accession": accession}.get(wanted.system, false())


_UNISSUED: Final = (Status.DRAFT, Status.TRANSCRIBED)
STATUSES: Final[Mapping[str, tuple[Status, ...]]] = {
    name: tuple(one for one in Status if NAMES[one].fhir_status == name and one not in _UNISSUED)
    for name in {NAMES[one].fhir_status for one in Status}
}


def _status(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    code = getattr(wanted, "code", "")
    if code == REGISTERED:
        return ReportRow.version == 0
    states = [*STATUSES.get(code, ())]
    if Status.PRELIMINARY in states:
        states.append(Status.TRANSCRIBED)
    return ReportRow.status.in_(states) & (ReportRow.version > 0)


def _issued_in(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, criteria.Period):
        return false()
    at = criteria.within(Instants(VersionRow.authored_at), wanted)
    told = select(VersionRow.report_id).where(
        at, VersionRow.version > 0, VersionRow.version == ReportRow.version
    )
    return ReportRow.id.in_(told.correlate(ReportRow))


def _told_in(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, criteria.Period):
        return false()
    begun = criteria.within(Instants(ReportRow.created_at), wanted)
    return _issued_in(wanted) | ((ReportRow.version == 0) & begun)


def _code(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Token):
        return false()
    return _of_orders(requests.where(Criterion(name="code", values=(wanted,))))


def _category(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return literal(getattr(wanted, "code", "") == "RAD")


def _performed_in(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, criteria.Period):
        return false()
    return listing.dated_in(ReportRow.study_instance_uids, wanted)


def _by_order(wanted: Sequence[Any]) -> ColumnElement[bool]:
    those = requests.referred(ReportOrderRow.order_id, wanted)
    return criteria.among(ReportRow.id, select(ReportOrderRow.report_id).where(those))


def _by_study(wanted: Sequence[Any]) -> ColumnElement[bool]:
    uids = [
        one.id for one in wanted if isinstance(one, Reference) and one.kind in {"", "ImagingStudy"}
    ]
    found: ColumnElement[bool] = ReportRow.study_instance_uids.overlap(literal(uids, ARRAY(Text)))
    return found


def _rules(*, full: bool) -> Rules:
    of_patient = people.rule(link(), full=full)
    ordered = ReportRow.id.in_(select(ReportOrderRow.report_id))
    uids = ReportRow.study_instance_uids

    def through_order(criterion: Criterion) -> ColumnElement[bool]:
        return _of_orders(requests.where(criterion, full=full))

    def through_study(criterion: Criterion) -> ColumnElement[bool]:
        return criteria.overlapping(uids, studies.uids_where(criterion, full=full), Text)

    return {
        "_id": Rule(_is, true()),
        "identifier": Rule(each(_number), true()),
        "status": Rule(each(_status), true()),
        "category": Rule(each(_category), true()),
        "code": Rule(each(_code), ordered),
        "date": Rule(each(_performed_in), listing.any_dated(uids)),
        "issued": Rule(each(_issued_in), ReportRow.version > 0),
        "patient": of_patient,
        "subject": of_patient,
        "based-on": Rule(_by_order, ordered, through_order),
        "imaging-study": Rule(_by_study, func.cardinality(uids) > 0, through_study),
        "_lastUpdated": Rule(each(_told_in), true()),
    }


# Issued versions, each by itself


def find_versions(session: Session, wanted: Wanted, *, full: bool) -> list[int]:
    """Return the ids of a page of issued versions."""
    where = [*criteria.conditions(_version_rules(full=full), wanted.criteria), _ISSUED]
    return criteria.page_ids(session, VersionRow.id, where, wanted)


def count_versions(session: Session, asked: Sequence[Criterion], *, full: bool) -> int:
    """Return how many issued versions match."""
    where = [*criteria.conditions(_version_rules(full=full), asked), _ISSUED]
    return criteria.count(session, VersionRow.id, where)


_ISSUED: Final = VersionRow.version > 0


def _version_is(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Compare ``uid-version``."""
    text = wanted.code if isinstance(wanted, Token) else wanted.id
    uid, _, number = text.rpartition("-")
    if not number.isascii() or not number.isdecimal() or len(number) > people.LONGEST:
        return false()
    report = select(ReportRow.id).where(ReportRow.uid == uid)
    return criteria.among(VersionRow.report_id, report) & (VersionRow.version == int(number))


def _target(wanted: Sequence[Any]) -> ColumnElement[bool]:
    uids = [
        one.id
        for one in wanted
        if isinstance(one, Reference) and one.kind in {"", "DiagnosticReport"}
    ]
    those = select(ReportRow.id).where(criteria.one_of(ReportRow.uid, literal(uids, ARRAY(Text))))
    return criteria.among(VersionRow.report_id, those)


def _version_rules(*, full: bool) -> Rules:
    def of_target(criterion: Criterion) -> ColumnElement[bool]:
        reports = select(ReportRow.id).where(*criteria.conditions(_rules(full=full), [criterion]))
        return criteria.among(VersionRow.report_id, reports)

    def of_patient(wanted: Sequence[Any]) -> ColumnElement[bool]:
        return of_target(Criterion(name="patient", values=tuple(wanted)))

    def through_patient(criterion: Criterion) -> ColumnElement[bool]:
        return of_target(Criterion(name="patient", through=criterion))

    recorded = criteria.dated(Instants(VersionRow.authored_at))
    return {
        "_id": Rule(each(_version_is), true()),
        "target": Rule(_target, true(), of_target),
        "patient": Rule(of_patient, true(), through_patient),
        "recorded": recorded,
        "_lastUpdated": recorded,
    }


SORTS: Final = frozenset({"issued"})


def find_sorted(
    session: Session, asked: Sequence[Criterion], sort: str, limit: int, *, full: bool
) -> list[int]:
    """Return the ids of the reports that match and were issued, sorted by when.

    ``-`` before the name: latest first.
    """
    current = (VersionRow.report_id == ReportRow.id) & (VersionRow.version == ReportRow.version)
    where = criteria.conditions(_rules(full=full), asked)
    found = select(ReportRow.id).join(VersionRow, current).where(_ISSUED, *where)
    at = VersionRow.authored_at
    order = [at.desc(), ReportRow.id.desc()] if sort.startswith("-") else [at, ReportRow.id]
    return [*session.scalars(found.order_by(*order).limit(limit))]
