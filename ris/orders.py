"""Orders with their requested procedures and scheduled steps."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, or_, select

from ris import outbox, transitions
from ris.model import ORDER_STATUS, Order, OrderState, RequestedProcedure, ScheduledStep, StepStatus
from ris.requests import Code
from ris.study_tables import AttachmentRow
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from storage.archive import studies
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Session

LONGEST_NUMBER: Final = 200
"""Characters of an order number: a row of an index must fit in a page."""
_PLAIN: Final = (
    "id",
    "sender",
    "placer_order_number",
    "placer_issuer",
    "filler_order_number",
    "group_number",
    "accession_number",
    "accession_issuer",
    "control",
    "placer_status",
    "priority",
    "requesting_physician",
    "requesting_service",
    "institution",
    "clinical_information",
    "danger",
    "transport",
    "confidentiality",
    "comments",
    "issued_at",
    "sent_at",
    "awaited",
    "changed_after_start",
    "reported_at",
    "created_at",
    "changed_at",
    "further",
)
"""Columns that are called as in `Order`."""


def get(session: Session, order_id: int) -> Order:
    """Return one order.

    Raises
    ------
    NotFound
        There is none.
    """
    row = session.get(OrderRow, order_id)
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    return order_of(row)


def find_by_accession(session: Session, accession_number: str) -> Sequence[Order]:
    """Return the orders with this accession number, of whichever issuer; oldest first."""
    return _orders(session, OrderRow.accession_number == accession_number)


def find_by_placer_number(session: Session, number: str, sender: str = "") -> Sequence[Order]:
    """Return the orders with this placer order number, of `sender` if one is named."""
    wanted = [OrderRow.placer_order_number == number]
    return _orders(session, *wanted, *([OrderRow.sender == sender] if sender else []))


def find_by_number(session: Session, number: str) -> Sequence[Order]:
    """Return the orders of an accession number, or a placer or filler order number."""
    of = (
        OrderRow.accession_number == number,
        OrderRow.placer_order_number == number,
        OrderRow.filler_order_number == number,
    )
    return _orders(session, or_(*of)) if number else []


def newest(session: Session, limit: int, before: int | None = None) -> Sequence[Order]:
    """Return orders, the newest first, those below the id `before`."""
    statement = select(OrderRow).order_by(OrderRow.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(OrderRow.id < before)
    return [order_of(row) for row in session.scalars(statement)]


def message_of(session: Session, order_id: int) -> int:
    """Return the newest message in the ledger that was applied to an order, 0 for none."""
    return session.scalar(select(OrderRow.message_id).where(OrderRow.id == order_id)) or 0


def find_by_study(session: Session, study_instance_uid: str) -> Sequence[Order]:
    """Return the orders of which a requested procedure has this Study Instance UID."""
    those = select(ProcedureRow.order_ref).where(
        ProcedureRow.study_instance_uid == study_instance_uid
    )
    return _orders(session, OrderRow.id.in_(those))


def of_study(session: Session, study_instance_uid: str) -> Sequence[Order]:
    """Return the orders that a study belongs to, as rules or a person have attached it.

    Of a study that is attached to none (yet): those whose procedures have its UID, but for those
    from which it was taken.
    """
    attached, left = _attachments(session, [study_instance_uid])
    if attached:
        return _orders(session, OrderRow.id.in_(attached))
    return [one for one in find_by_study(session, study_instance_uid) if one.id not in left]


def attached_to(session: Session, study_instance_uid: str) -> Collection[int]:
    """Return the orders that rules or a person have attached a study to."""
    return _attachments(session, [study_instance_uid])[0]


def was_taken_from(session: Session, study_instance_uids: Collection[str]) -> Collection[int]:
    """Return the orders that one of these studies was attached to, and none of them is now."""
    attached, left = _attachments(session, study_instance_uids)
    return left - attached


def _attachments(
    session: Session, study_instance_uids: Collection[str]
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the orders that these studies are attached to, and those that they once were."""
    statement = select(AttachmentRow.order_ref, AttachmentRow.detached_at).where(
        AttachmentRow.study_instance_uid.in_({*study_instance_uids})
    )
    rows = session.execute(statement).all()
    attached = frozenset(order_id for order_id, detached_at in rows if detached_at is None)
    return attached, frozenset(order_id for order_id, _ in rows) - attached


def studies_of(session: Session, order_id: int) -> Sequence[str]:
    """Return the studies of an order: those attached to it, then the UIDs it gave out itself.

    The UID of a procedure whose study came under another one is left out: nothing has it.
    """
    statement = select(AttachmentRow).where(
        AttachmentRow.order_ref == order_id, AttachmentRow.detached_at.is_(None)
    )
    attached = session.scalars(statement.order_by(AttachmentRow.id)).all()
    done = {one.procedure_ref for one in attached}
    planned = [
        one.study_instance_uid
        for one in procedures_of(session, order_id)
        if one.id not in done and not one.canceled
    ]
    uids = [*(one.study_instance_uid for one in attached), *planned]
    return [*dict.fromkeys(filter(None, uids))]


def of_patient(session: Session, root: int) -> Sequence[Order]:
    """Return the orders of a patient and of those merged into him."""
    those = select(PatientRow.id).where(PatientRow.root_ref == root)
    return _orders(session, OrderRow.patient_ref.in_(those))


def procedures_of(session: Session, order_id: int) -> Sequence[RequestedProcedure]:
    """Return the requested procedures of an order, oldest first."""
    statement = select(ProcedureRow).where(ProcedureRow.order_ref == order_id)
    return [procedure_of(row) for row in session.scalars(statement.order_by(ProcedureRow.id))]


def procedures_of_all(
    session: Session, order_ids: Collection[int]
) -> Mapping[int, Sequence[RequestedProcedure]]:
    """Return the requested procedures of these orders that were not cancelled, by order."""
    statement = select(ProcedureRow).where(
        ProcedureRow.order_ref.in_({*order_ids}), ProcedureRow.canceled.is_(False)
    )
    found: dict[int, list[RequestedProcedure]] = {}
    for row in session.scalars(statement.order_by(ProcedureRow.id)):
        found.setdefault(row.order_ref, []).append(procedure_of(row))
    return found


def steps_of(session: Session, order_id: int) -> Sequence[ScheduledStep]:
    """Return the scheduled steps of an order, oldest first."""
    statement = select(StepRow).where(StepRow.order_ref == order_id).order_by(StepRow.id)
    return [step_of(row) for row in session.scalars(statement)]


def step(session: Session, step_id: int) -> ScheduledStep:
    """Return one scheduled step by its row id.

    Raises
    ------
    NotFound
        There is none.
    """
    row = session.get(StepRow, step_id)
    if row is None:
        raise NotFound(f"there is no scheduled step {step_id}")
    return step_of(row)


def ids_of_patients(session: Session, patient_ids: Collection[int]) -> Sequence[int]:
    """Return the orders of these patients, oldest first."""
    statement = select(OrderRow.id).where(OrderRow.patient_ref.in_({*patient_ids}))
    return session.scalars(statement.order_by(OrderRow.id)).all()


def has_images(session: Session, order_id: int) -> bool:
    """Return whether the archive shows a study of the order."""
    uids = select(ProcedureRow.study_instance_uid).where(ProcedureRow.order_ref == order_id)
    attached = select(AttachmentRow.id).where(
        AttachmentRow.order_ref == order_id, AttachmentRow.detached_at.is_(None)
    )
    if session.scalar(attached.limit(1)) is not None:
        return True
    return bool(studies.shown(session, session.scalars(uids).all()))


def step_became(session: Session, step_id: int, status: StepStatus) -> Order:
    """Note what performing it made of a step; the order follows, and others are told of it.

    An order that its placer cancelled or discontinued stays so, whatever is performed.

    Raises
    ------
    NotFound
        There is no such step.
    """
    row = session.get(StepRow, step_id)
    if row is None:
        raise NotFound(f"there is no scheduled step {step_id}")
    held = session.get_one(OrderRow, row.order_ref, with_for_update=True)
    row.status = status
    session.flush()
    if not _is_withdrawn(held):
        follow_steps(session, held)
    return order_of(held)


def _is_withdrawn(row: OrderRow) -> bool:
    """Return whether the placer took the order back; a device that gave up may try again."""
    if row.state == OrderState.DISCONTINUED:
        return row.control in {"DC", "OD"} or row.placer_status == "DC"
    return row.state == OrderState.CANCELED


def mark_reported(session: Session, order_id: int, at: datetime | None) -> None:
    """Note that a final report was signed, or with None that there is none any more.

    Raises
    ------
    NotFound
        There is no such order.
    """
    row = session.get(OrderRow, order_id, with_for_update=True)
    if row is None:
        raise NotFound(f"there is no order {order_id}")
    row.reported_at = at
    if at is None and row.state == OrderState.REPORTED:
        set_state(session, row, OrderState.COMPLETED)
    elif at is not None and row.state != OrderState.CANCELED:
        set_state(session, row, OrderState.REPORTED)


def follow_steps(session: Session, row: OrderRow, caused_by: str = "") -> None:
    """Set the state of an order by its steps; `caused_by` as in `set_state`."""
    statement = select(StepRow.status).where(StepRow.order_ref == row.id)
    statuses = [StepStatus(status) for status in session.scalars(statement)]
    state = transitions.state_of(statuses, reported=row.reported_at is not None)
    set_state(session, row, state, caused_by)


def set_state(session: Session, row: OrderRow, state: OrderState, caused_by: str = "") -> None:
    """Change the state of an order, and tell others of it.

    `caused_by` is the sender whose message asked for it, '' where it happened here.
    """
    if row.state == state:
        return
    told = row.state and ORDER_STATUS[OrderState(row.state)] == ORDER_STATUS[state]
    row.state, row.changed_at = state, utc_now()
    session.flush()
    if not told:
        outbox.enqueue_status(session, row.id, ORDER_STATUS[state], caused_by=caused_by)


def _orders(session: Session, *conditions: ColumnElement[bool]) -> Sequence[Order]:
    statement = select(OrderRow).where(*conditions).order_by(OrderRow.id)
    return [order_of(row) for row in session.scalars(statement)]


def order_of(row: OrderRow) -> Order:
    """Return the order of a row."""
    return Order(
        patient_id=row.patient_ref,
        visit_id=row.visit_ref,
        state=OrderState(row.state),
        reason=_code(row.reason_code, row.reason_meaning, row.reason_scheme),
        **{name: getattr(row, name) for name in _PLAIN},
    )


def procedure_of(row: ProcedureRow) -> RequestedProcedure:
    """Return the requested procedure of a row."""
    return RequestedProcedure(
        id=row.id,
        order_id=row.order_ref,
        requested_procedure_id=row.requested_procedure_id,
        study_instance_uid=row.study_instance_uid,
        code=_code(row.code, row.meaning, row.scheme),
        description=row.description,
        canceled=row.canceled,
        further=row.further,
    )


def step_of(row: StepRow) -> ScheduledStep:
    """Return the scheduled step of a row."""
    return ScheduledStep(
        id=row.id,
        procedure_id=row.procedure_ref,
        order_id=row.order_ref,
        scheduled_procedure_step_id=row.scheduled_procedure_step_id,
        status=StepStatus(row.status),
        modality=row.modality,
        station_ae_titles=tuple(row.station_ae_titles),
        station_name=row.station_name,
        location=row.location,
        start=row.start,
        end=row.end,
        protocol=_code(row.protocol_code, row.protocol_meaning, row.protocol_scheme),
        description=row.description,
        performing_physician=row.performing_physician,
        further=row.further,
    )


def _code(value: str, meaning: str, scheme: str) -> Code | None:
    return Code(value, meaning, scheme) if value or meaning else None
