"""When a report is issued, and when a basis comes or goes: who is to have it now.

What decides is gathered here; `ris.releases` compares and writes. Whoever calls stays in the
transaction of the signature, or of the consent.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Select, select

from ris import orders, patients
from ris.model import Order, Patient
from ris.releases import bases, releasing, rules
from ris.releases.bases import NewBasis
from ris.releases.model import BasisKind, Facts, Sensitive, State
from ris.reports.states import SIGNED, Status
from ris.reports.tables import ReportOrderRow, ReportRow, VersionRow
from storage.access import stations
from storage.base.errors import NotFound
from storage.db.engine import Session

RECORDED_BY = "lienthong"
FROM_ORDER = "order"
"""How a referral is known that the order itself tells of."""

_STATES = {
    **dict.fromkeys(SIGNED, State.RELEASED),
    Status.UNAPPROVED: State.SUSPENDED,
    Status.RETRACTED: State.DELETED,
}
"""Issued versions in another state (preliminary, cancelled) are not for stations."""


def settle(session: Session, report_uid: str) -> None:
    """Release a report to exactly those stations that a basis entitles."""
    row = session.scalar(select(ReportRow).where(ReportRow.uid == report_uid))
    if row is not None:
        _settle(session, row)


def settle_patient(session: Session, patient_id: int) -> None:
    """Do so with every report of a patient and of those merged with him; he is locked here."""
    root = lock_patient(session, patient_id)
    for row in session.scalars(_reports_of(session, _group(session, root))):
        _settle(session, row)


def settle_order(session: Session, order_id: int) -> None:
    """Do so with the reports of an order."""
    held = select(ReportOrderRow.report_id).where(ReportOrderRow.order_id == order_id)
    for row in session.scalars(select(ReportRow).where(ReportRow.id.in_(held))).all():
        _settle(session, row)


def lock_patient(session: Session, patient_id: int) -> int:
    """Hold a patient, and return who stands for him."""
    root = patients.get(session, patient_id).root
    bases.lock(session, root)
    return root


def lock_order(session: Session, order_id: int) -> int:
    """Hold the patient of an order, and return who stands for him."""
    return lock_patient(session, orders.get(session, order_id).patient_id)


def patient_of(session: Session, report_uid: str) -> int | None:
    """Return who stands for the patient of a report; None when only a study tells of him."""
    row = session.scalar(select(ReportRow).where(ReportRow.uid == report_uid.replace("\0", "")))
    return _root(session, _order_ids(session, row)) if row is not None else None


def reports_of(session: Session, patient_id: int) -> Sequence[str]:
    """Return the reports of a patient and of those merged with him, oldest first."""
    root = patients.get(session, patient_id).root
    return [row.uid for row in session.scalars(_reports_of(session, _group(session, root)))]


def refer(session: Session, order_id: int, station_id: int, via: str, evidence: str) -> None:
    """Write down that a station has sent the patient of an order, and release what is signed.

    Raises
    ------
    NotFound
        There is no such order.
    """
    order = orders.get(session, order_id)
    lock_patient(session, order.patient_id)
    _refer(session, order_id, station_id, via, evidence)
    settle_order(session, order_id)


def _settle(session: Session, row: ReportRow) -> None:
    version = _issued(session, row)
    state = _STATES.get(Status(version.status)) if version is not None else None
    if version is None or state is None:
        return
    order_ids = _order_ids(session, row)
    root = _root(session, order_ids)
    bases.lock(session, root)
    held = [orders.get(session, one) for one in order_ids]
    for order in held:
        _note_referral(session, order)
    patient = patients.get(session, root) if root is not None else None
    facts = Facts(
        report_uid=row.uid,
        revision=version.revision,
        version=version.version,
        state=state,
        patient_id=root,
        patient_ids=_group(session, root) if root is not None else frozenset(),
        order_ids=frozenset(order_ids),
        sensitive=_sensitive(held, patient, version.authored_at),
    )
    releasing.apply(session, facts)


def _note_referral(session: Session, order: Order) -> None:
    """Keep in step with what an order says of who has sent the patient."""
    on = (order.issued_at or order.created_at).date()
    named = stations.named(session, order.institution, on)
    known_ones = bases.about(session, (), (order.id,))
    for known in known_ones:
        told = known.via == FROM_ORDER and known.withdrawn_at is None
        if told and (named is None or named.id != known.station_id):
            bases.withdraw(session, known.uid, RECORDED_BY, "the order names another facility")
    taken_back = {one.station_id for one in known_ones if one.withdrawn_by not in {"", RECORDED_BY}}
    if named is not None and named.id not in taken_back:
        evidence = order.placer_order_number or order.accession_number or str(order.id)
        _refer(session, order.id, named.id, FROM_ORDER, evidence)


def _refer(session: Session, order_id: int, station_id: int, via: str, evidence: str) -> None:
    bases.record(
        session,
        NewBasis(
            kind=BasisKind.REFERRAL,
            station_id=station_id,
            order_id=order_id,
            via=via,
            evidence=evidence,
            recorded_by=RECORDED_BY,
        ),
    )


def _issued(session: Session, row: ReportRow) -> VersionRow | None:
    statement = (
        select(VersionRow)
        .where(VersionRow.report_id == row.id, VersionRow.version > 0)
        .order_by(VersionRow.version.desc())
        .limit(1)
    )
    return session.scalar(statement)


def _order_ids(session: Session, row: ReportRow) -> Sequence[int]:
    statement = select(ReportOrderRow.order_id).where(ReportOrderRow.report_id == row.id)
    return session.scalars(statement.order_by(ReportOrderRow.order_id)).all()


def _root(session: Session, order_ids: Sequence[int]) -> int | None:
    if not order_ids:
        return None
    try:
        return patients.get(session, orders.get(session, order_ids[0]).patient_id).root
    except NotFound:
        return None


def _group(session: Session, root: int) -> frozenset[int]:
    return frozenset((root, *patients.merged_into(session, root)))


def _reports_of(session: Session, patient_ids: Collection[int]) -> Select[ReportRow]:
    ids = orders.ids_of_patients(session, patient_ids)
    held = select(ReportOrderRow.report_id).where(ReportOrderRow.order_id.in_(ids))
    return select(ReportRow).where(ReportRow.id.in_(held)).order_by(ReportRow.id)


def _sensitive(
    held: Sequence[Order], patient: Patient | None, authored_at: datetime
) -> frozenset[Sensitive]:
    born = patient.patient_birth_date if patient else None
    on = authored_at.date()
    found = [rules.sensitive_of(one.confidentiality, born, on) for one in held]
    return frozenset().union(*found) if found else rules.sensitive_of("", born, on)
