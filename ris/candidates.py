"""A study and the orders that it may belong to, as `matching` compares them."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta, tzinfo
from typing import Final

from sqlalchemy import ColumnElement, and_, or_, select

from ris import judging, matching, orders, patients, performed
from ris.matching import Person
from ris.model import Order, OrderState, Patient, RequestedProcedure, ScheduledStep
from ris.study_tables import AttachmentRow
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from ris.verdict import WRONG_ENTRY, PerformedStatus
from storage.archive.studies import HeldStudy
from storage.db.engine import Session

MOST_ORDERS: Final = 200
"""Orders that a study is compared with."""
AROUND: Final = timedelta(days=7)
"""Orders of a patient are compared that are scheduled so near to the study."""


def facts_of(session: Session, uid: str, held: HeldStudy | None, zone: tzinfo) -> matching.Study:
    """Return what a study says of itself; before its first object, what its performed steps say."""
    told = performed.of_study(session, uid)
    if held is None:
        return matching.Study(
            study_instance_uid=uid,
            person=Person(
                identifiers=frozenset((one.patient_id, "") for one in told if one.patient_id)
            ),
            accession_number=next(
                (
                    item.accession_number
                    for one in told
                    for item in one.items
                    if item.accession_number
                ),
                "",
            ),
            modalities=frozenset(one.modality for one in told if one.modality),
            begun=next((one.started for one in told if one.started), None),
            stations=frozenset(one.station_ae_title for one in told if one.station_ae_title),
        )
    born = judging.moment(held.patient_birth_date, "")
    return matching.Study(
        study_instance_uid=uid,
        person=Person(
            identifiers=frozenset(
                {(held.patient_id, held.issuer_of_patient_id)} if held.patient_id else ()
            ),
            name=held.patient_name,
            birth_date=born.date() if born else None,
            sex=held.patient_sex,
        ),
        accession_number=held.accession_number,
        modalities=frozenset(held.modalities),
        begun=judging.moment(held.study_date, held.study_time)
        or held.received_at.astimezone(zone).replace(tzinfo=None),
        requested_procedure_ids=frozenset(
            number for one in held.series for number in one.requested_procedure_ids
        ),
        scheduled_step_ids=frozenset(
            number for one in held.series for number in one.scheduled_step_ids
        ),
        stations=frozenset(one.source_ae_title for one in held.series if one.source_ae_title),
    )


def keys_of(study: matching.Study) -> set[str]:
    """Return what an order that comes later is recognised by."""
    return {
        f"study:{study.study_instance_uid}",
        *(f"number:{text}" for text in (study.accession_number,) if text),
        *(f"number:{text}" for text in study.scheduled_step_ids),
        *(f"patient:{number.casefold()}" for number, _ in study.person.identifiers),
    }


def orders_for(session: Session, study: matching.Study) -> list[matching.Order]:
    """Return the orders that a study may belong to."""
    uid, number = study.study_instance_uid, study.accession_number
    told = performed.of_study(session, uid)
    named = {item.procedure_id for one in told for item in one.items if item.procedure_id}
    wanted: list[ColumnElement[bool]] = [
        ProcedureRow.study_instance_uid == uid,
        ProcedureRow.id.in_(named),
    ]
    if number:
        wanted += [OrderRow.accession_number == number, OrderRow.placer_order_number == number]
    if study.scheduled_step_ids:
        steps = select(StepRow.procedure_ref).where(
            StepRow.scheduled_procedure_step_id.in_(study.scheduled_step_ids)
        )
        wanted.append(ProcedureRow.id.in_(steps))
    found = load(session, or_(*wanted), study)
    people = patients.known_as(session, {one for one, _ in study.person.identifiers})
    if people and study.begun is not None:
        of_patient = OrderRow.patient_ref.in_(
            select(PatientRow.id).where(PatientRow.root_ref.in_(people))
        )
        near = StepRow.start.between(study.begun - AROUND, study.begun + AROUND)
        theirs = select(StepRow.procedure_ref).where(near, StepRow.order_ref == OrderRow.id)
        found += load(session, and_(of_patient, ProcedureRow.id.in_(theirs)), study)
    return [*{one.id: one for one in found}.values()]


def load(
    session: Session, condition: ColumnElement[bool], study: matching.Study
) -> list[matching.Order]:
    """Return the requested procedures that fulfil `condition`, the newest first."""
    statement = (
        select(ProcedureRow, OrderRow, PatientRow.root_ref)
        .join(OrderRow, OrderRow.id == ProcedureRow.order_ref)
        .join(PatientRow, PatientRow.id == OrderRow.patient_ref)
        .where(condition, OrderRow.awaited.is_(False))
        .order_by(ProcedureRow.id.desc())
        .limit(MOST_ORDERS)
    )
    rows = session.execute(statement).all()
    people = patients.load(session, {root or order.patient_ref for _, order, root in rows})
    others = _others(session, study.study_instance_uid, [procedure.id for procedure, _, _ in rows])
    named, mistaken = _performed(session, study.study_instance_uid)
    return [
        _order(
            orders.procedure_of(procedure),
            orders.order_of(order),
            people[root or order.patient_ref],
            orders.steps_of(session, order.id),
            named=named,
            mistaken=mistaken,
            taken=procedure.id in others,
        )
        for procedure, order, root in rows
    ]


def _others(session: Session, uid: str, procedure_ids: Collection[int]) -> set[int]:
    """Return those of the procedures that another study is attached to."""
    statement = select(AttachmentRow.procedure_ref).where(
        AttachmentRow.procedure_ref.in_(procedure_ids),
        AttachmentRow.study_instance_uid != uid,
        AttachmentRow.detached_at.is_(None),
    )
    return {*session.scalars(statement)}


def _performed(session: Session, uid: str) -> tuple[set[int], set[int]]:
    """Return the procedures that the performed steps of a study name, and those by mistake."""
    named: set[int] = set()
    mistaken: set[int] = set()
    for one in performed.of_study(session, uid):
        wrong = one.status is PerformedStatus.DISCONTINUED and one.reason == WRONG_ENTRY
        sent = (item for item in one.items if item.linked_by in performed.SENT)
        (mistaken if wrong else named).update(
            item.procedure_id for item in sent if item.procedure_id is not None
        )
    return named, mistaken - named


def _order(  # noqa: PLR0913 - the parts of an order
    procedure: RequestedProcedure,
    order: Order,
    patient: Patient,
    steps: Iterable[ScheduledStep],
    *,
    named: Collection[int],
    mistaken: Collection[int],
    taken: bool,
) -> matching.Order:
    gone = {OrderState.CANCELED, OrderState.DISCONTINUED}
    return matching.Order(
        id=procedure.id,
        order_id=order.id,
        person=_person(patient),
        study_instance_uid=procedure.study_instance_uid,
        accession_number=order.accession_number,
        placer_order_number=order.placer_order_number,
        requested_procedure_id=procedure.requested_procedure_id,
        steps=tuple(
            matching.Step(
                scheduled_procedure_step_id=step.scheduled_procedure_step_id,
                modality=step.modality,
                stations=frozenset(step.station_ae_titles),
                start=step.start,
            )
            for step in steps
            if step.procedure_id == procedure.id
        ),
        performed=procedure.id in named,
        wrong_entry=procedure.id in mistaken,
        cancelled=procedure.canceled or (order.state in gone and procedure.id not in named),
        taken=taken,
    )


def _person(patient: Patient) -> Person:
    born, sent = patient.patient_birth_date, patient.patient_birth_date_sent[:4]
    if born is None and sent.isdecimal() and int(sent) in _YEARS:
        born = date(int(sent), 1, 1)
    return Person(
        identifiers=frozenset((one.value, one.issuer) for one in patient.identifiers),
        name=patient.patient_name,
        birth_date=born,
        birth_year_only=patient.patient_birth_date is None,
        sex=patient.patient_sex,
    )


_YEARS: Final = range(1850, 2200)
