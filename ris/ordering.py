"""One order message applied: which order it is about, and what becomes of it.

which      the sender's placer order number (with its issuer), else the filler's;
of several lines under one number by requested procedure id or accession number
when       news that are older than what was applied are left, whatever came first
what       `transitions`, by the control code and where the order is
for whom   another patient than before: moved before anything was begun, else a person decides
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Select, bindparam, select, update

from ris import (
    appointments,
    contents,
    identity,
    orders,
    outbox,
    patients,
    registration,
    transitions,
    visits,
)
from ris.contents import Drawn, Taken
from ris.model import ORDER_STATUS, OrderState, Rules, StepStatus
from ris.outbox import OrderEventRow
from ris.registration import Known
from ris.requests import Applied, Context, OrderRequest, PatientRequest, VisitRequest
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from ris.transitions import Effect
from storage.archive import incidents
from storage.archive.incidents import Kind
from storage.base.clock import utc_now
from storage.base.errors import Malformed
from storage.db import together
from storage.db.engine import Session

NEW: Final = frozenset({"NW", "SN", "RO", "CH"})
"""Control codes that bring an order; what else comes first of it announces it."""
BEGUN: Final = frozenset({OrderState.IN_PROGRESS, OrderState.COMPLETED, OrderState.REPORTED})
_GONE: Final = frozenset({OrderState.CANCELED, OrderState.DISCONTINUED})
_TAKING: Final = frozenset({Effect.CHANGE, Effect.CHANGE_BEGUN, Effect.REVIVE})
_WORDS: Final = {
    Effect.CREATE: "created",
    Effect.CREATE_HELD: "created",
    Effect.CHANGE: "changed",
    Effect.CHANGE_BEGUN: "changed",
    Effect.REVIVE: "created",
    Effect.AWAIT: "remembered",
    Effect.CANCEL: "cancelled",
    Effect.CANCEL_BEGUN: "cancelled",
    Effect.DISCONTINUE: "discontinued",
    Effect.HOLD: "held",
    Effect.RELEASE: "released",
    Effect.BEGIN: "begun",
    Effect.COMPLETE: "completed",
    Effect.KEEP: "unchanged",
    Effect.REFUSE: "refused",
}
_HELD: Final = (
    select(OrderRow)
    .where(OrderRow.sender == bindparam("its_sender"))
    .order_by(OrderRow.id)
    .with_for_update()
    .execution_options(populate_existing=True)
)
_BY_PLACER: Final = _HELD.where(OrderRow.placer_order_number == bindparam("number"))
_BY_FILLER: Final = _HELD.where(OrderRow.filler_order_number == bindparam("number"))


@dataclass(slots=True)
class _Doing:
    """One message on its way into the rows of one order."""

    session: Session
    context: Context
    known: Known
    visit_id: int | None
    request: OrderRequest
    notes: list[str] = field(default_factory=list)


def apply(
    session: Session,
    context: Context,
    rules: Rules,
    patient: PatientRequest,
    visit: VisitRequest,
    request: OrderRequest,
) -> tuple[Known, Applied]:
    """Do with one order what its control code says, for the patient that the message names.

    Raises
    ------
    Malformed
        An identifier or number is longer than any may be.
    """
    if max(map(len, (request.placer_order_number, request.filler_order_number))) > (
        orders.LONGEST_NUMBER
    ):
        raise Malformed(f"ORC-2: longer than {orders.LONGEST_NUMBER} characters")
    known = registration.know(session, context, rules, patient, [name(context, request)])
    visit_id, _ = visits.note(session, context, known.id, visit, first=known.created)
    doing = _Doing(session, context, known, visit_id, request, [*known.notes])
    rows = _lines(doing, _named(doing))
    applied = [_apply(doing, row) for row in rows] or [_make(doing)]
    return known, Applied(
        outcome=" ".join(dict.fromkeys(one.outcome for one in applied)),
        placer_order_number=applied[0].placer_order_number,
        filler_order_number=applied[0].filler_order_number,
        control=applied[0].control,
        notes=tuple(dict.fromkeys(doing.notes)),
    )


def arrived(session: Session, patient_id: int) -> None:
    """Note that a patient came (ADT^A10): what waits for him is ARRIVED."""
    root = select(PatientRow.root_ref).where(PatientRow.id == patient_id).scalar_subquery()
    persons = select(PatientRow.id).where(PatientRow.root_ref == root)
    of_patient = select(OrderRow.id).where(OrderRow.patient_ref.in_(persons))
    statement = (
        update(StepRow)
        .where(StepRow.order_ref.in_(of_patient), StepRow.status == StepStatus.SCHEDULED)
        .values(status=StepStatus.ARRIVED)
    )
    session.execute(statement.execution_options(synchronize_session="fetch"))


# Which order


def name(context: Context, request: OrderRequest) -> str:
    """Return what is held, so that nobody else makes an order of that number meanwhile."""
    return f"order\n{context.sender}\n{request.placer_order_number or request.filler_order_number}"


def _named(doing: _Doing) -> Sequence[OrderRow]:
    """Return the orders under the number that is sent, oldest first."""
    request = doing.request
    placer, filler = request.placer_order_number, request.filler_order_number
    found = _rows(doing, _BY_PLACER, placer) if placer else []
    if not found and filler:
        by_filler = _rows(doing, _BY_FILLER, filler)
        found = [row for row in by_filler if not placer or not row.placer_order_number]
    issuer = request.placer_issuer
    return [row for row in found if not issuer or row.placer_issuer in ("", issuer)]


def _rows(doing: _Doing, wanted: Select[OrderRow], number: str) -> Sequence[OrderRow]:
    doing.session.flush()
    given = {"number": number, "its_sender": doing.context.sender}
    return doing.session.scalars(wanted, given).all()


def _lines(doing: _Doing, rows: Sequence[OrderRow]) -> Sequence[OrderRow]:
    """Return which of the orders under one number a message is about; none: a new line."""
    request = doing.request
    if not rows:
        return []
    named = _by_procedure(doing, rows) or [
        row
        for row in rows
        if request.accession_number and row.accession_number == request.accession_number
    ]
    if named:
        return named
    names_line = bool(request.requested_procedure_id or request.accession_number)
    if not names_line and request.control not in NEW:
        return rows
    if len(rows) > 1:
        return [] if names_line else rows[:1]
    return [] if request.control in NEW and _is_another_line(doing, rows[0]) else rows


def _by_procedure(doing: _Doing, rows: Sequence[OrderRow]) -> list[OrderRow]:
    number = doing.request.requested_procedure_id
    if not number:
        return []
    statement = select(ProcedureRow.order_ref).where(
        ProcedureRow.requested_procedure_id == number,
        ProcedureRow.order_ref.in_([row.id for row in rows]),
    )
    those = {*doing.session.scalars(statement)}
    return [row for row in rows if row.id in those]


def _is_another_line(doing: _Doing, row: OrderRow) -> bool:
    """Return whether a new order under the number of `row` is one of its own."""
    if row.awaited:
        return False
    sent = doing.request.accession_number
    return bool(sent and row.accession_issuer and sent != row.accession_number)


# What becomes of it


def _apply(doing: _Doing, row: OrderRow) -> Applied:
    request = doing.request
    if identity.is_older(doing.context.sent_at, row.sent_at):
        return _late(doing, row)
    state = OrderState(row.state)
    begun = state in BEGUN or (state not in _GONE and orders.has_images(doing.session, row.id))
    situation = OrderState.IN_PROGRESS if begun and state not in BEGUN else state
    effect = transitions.effect(request.control, request.status, situation)
    if effect is Effect.REVIVE and not _is_newer(doing, row):
        if row.awaited:
            return _late(doing, row)
        doing.notes.append("cancelled before: an order that is not newer does not bring it back")
        effect = Effect.KEEP
    if not _is_of_patient(doing, row, effect, begun=begun):
        return _applied(doing, row, Effect.REFUSE)
    return _do(doing, row, effect, begun=begun)


def _make(doing: _Doing) -> Applied:
    """Write down an order that nobody has seen."""
    request = doing.request
    effect = transitions.effect(request.control, request.status, None)
    if effect is Effect.KEEP:
        doing.notes.append("ORC-2: no such order; nothing to do")
        numbers = request.placer_order_number, request.filler_order_number
        unable = transitions.answer(request.control, able=False)
        return Applied("unchanged", *numbers, control=unable)
    awaits = effect is Effect.AWAIT
    drawn = contents.draw(doing.session, doing.context, doing.known.id, request, steps=not awaits)
    row = drawn.order
    told = complete(drawn, doing.context, request, doing.visit_id, effect)
    together.write(doing.session, [row, drawn.procedure, *drawn.steps, *([] if awaits else [told])])
    if awaits:
        doing.notes.append("cancelled before it came: remembered")
    else:
        _tell_sharers(doing, row, drawn.procedure)
        _tell_unschedulable(doing, row, drawn.steps, settled=False)
        appointments.meet(doing.session, row)
    if request.control in {"SC", "SS"}:  # it is known now; then what the status says of it
        then = transitions.effect(request.control, request.status, OrderState(row.state))
        if then in {Effect.BEGIN, Effect.COMPLETE}:
            _finish(doing, row, then)
    return _applied(doing, row, effect)


def complete(
    drawn: Drawn, context: Context, request: OrderRequest, visit_id: int | None, effect: Effect
) -> OrderEventRow:
    """Bring a new order to where the effect leads; return what others shall be told of it."""
    row = drawn.order
    row.visit_ref = visit_id
    row.awaited = request.control not in NEW
    row.issued_at = context.sent_at
    row.state = transitions.STATE_AFTER[effect]
    _put_steps(drawn.steps, effect)
    _sign(context, request, row)
    status = ORDER_STATUS[OrderState(row.state)]
    return outbox.status_event(row.id, status, caused_by=context.sender)


def _late(doing: _Doing, row: OrderRow) -> Applied:
    """Leave what is known; an order that was only announced gets what it lacks."""
    if not row.awaited or doing.request.control not in NEW:
        doing.notes.append("older than what is known: left as it is")
        return _applied(doing, row, Effect.KEEP, able=doing.request.control in NEW)
    _take(doing, row, begun=False, blanks_only=True)
    row.awaited = False
    row.issued_at = row.issued_at or doing.context.sent_at
    if row.state not in _GONE:
        doing.notes.append("older than what is known: only blanks are filled")
        return _applied(doing, row, Effect.CHANGE)
    doing.notes.append("cancelled before it came")
    _put_steps(contents.steps_of(doing.session, row), Effect.CANCEL)
    doing.session.flush()
    return _applied(doing, row, Effect.CANCEL)


def _do(doing: _Doing, row: OrderRow, effect: Effect, *, begun: bool) -> Applied:
    request = doing.request
    if effect is Effect.REFUSE:
        _tell_refusal(doing, row)
        return _applied(doing, row, effect)
    taken = Taken(changed=False, left=False)
    if effect in _TAKING:
        taken = _take(doing, row, begun=begun)
        row.awaited = row.awaited and request.control not in NEW
        if effect is Effect.CHANGE and not taken.changed:
            effect = Effect.KEEP
    if effect is Effect.CHANGE_BEGUN:
        effect = _take_begun(doing, row, taken)
    if effect is Effect.CANCEL_BEGUN:
        doing.notes.append("cancelled after its exam was begun: a person must look")
        detail = "cancelled after images or a performed step"
        _notice(doing, row, Kind.CANCELED_AFTER_IMAGES, detail)
    _finish(doing, row, effect)
    if request.control in {"XO", "XX"} and doing.context.role == "filler":
        # IHE RAD-13: a scheduler says by a change that it is done
        then = transitions.effect("SC", request.status, OrderState(row.state))
        if then is Effect.COMPLETE:
            _finish(doing, row, then)
    return _applied(doing, row, effect)


def _take(doing: _Doing, row: OrderRow, *, begun: bool, blanks_only: bool = False) -> Taken:
    """Take over what is sent, to the order, the procedure and the steps."""
    session, context, request = doing.session, doing.context, doing.request
    procedures = contents.procedures_of(session, row)
    procedure = contents.chosen(procedures, context, row, request)
    all_taken = [Taken(contents.take_order(row, request, blanks_only=blanks_only), left=False)]
    all_taken.append(contents.take_numbers(session, context, row, request, begun=begun))
    procedure, of_procedure = contents.take_procedure(
        session, row, procedure, request, begun=begun, blanks_only=blanks_only
    )
    all_taken.append(of_procedure)
    all_taken.append(
        contents.take_steps(session, context, procedure, request, blanks_only=blanks_only)
    )
    if doing.visit_id is not None and row.visit_ref != doing.visit_id:
        row.visit_ref = doing.visit_id
    _tell_sharers(doing, row, procedure)
    return Taken(any(one.changed for one in all_taken), any(one.left for one in all_taken))


def _take_begun(doing: _Doing, row: OrderRow, taken: Taken) -> Effect:
    """Mark an order that was changed after its exam was begun."""
    if not taken.changed and not taken.left:
        return Effect.KEEP
    row.changed_after_start = True
    doing.notes.append("changed after start: what was begun is left as it was")
    _notice(doing, row, Kind.CHANGED_AFTER_START, "the order was changed after its exam was begun")
    return Effect.CHANGE_BEGUN


def _finish(doing: _Doing, row: OrderRow, effect: Effect) -> None:
    """Bring the steps and the state of the order to where the effect leads."""
    session = doing.session
    steps, whole = contents.steps_of(session, row), True
    if effect in {Effect.CANCEL, Effect.CANCEL_BEGUN, Effect.DISCONTINUE}:
        steps, whole = _concerned(doing, row, steps)
    if effect in _TAKING and row.state == OrderState.HELD:
        effect = Effect.HOLD  # what is new waits as the rest does
    _put_steps(steps, effect)
    session.flush()
    state = transitions.STATE_AFTER.get(effect)
    if effect in _TAKING or not whole:
        orders.follow_steps(session, row, doing.context.sender)
    elif state is not None:
        orders.set_state(session, row, state, doing.context.sender)
    _sign(doing.context, doing.request, row)
    session.flush()
    steps = contents.steps_of(session, row)
    _tell_unschedulable(doing, row, steps, settled=effect is not Effect.KEEP)


def _concerned(doing: _Doing, row: OrderRow, steps: list[StepRow]) -> tuple[list[StepRow], bool]:
    """Return the steps that a cancellation means, and whether nothing else is left."""
    procedures = contents.procedures_of(doing.session, row)
    number = doing.request.requested_procedure_id
    meant = [one for one in procedures if number and one.requested_procedure_id == number]
    if not meant or len(procedures) == 1:
        for procedure in procedures:
            procedure.canceled = True
        return steps, True
    for procedure in meant:
        procedure.canceled = True
    ids = {one.id for one in meant}
    return [one for one in steps if one.procedure_ref in ids], all(
        one.canceled for one in procedures
    )


def _put_steps(steps: Collection[StepRow], effect: Effect) -> None:
    for step in steps:
        step.status = transitions.step_after(effect, StepStatus(step.status))


def _sign(context: Context, request: OrderRequest, row: OrderRow) -> None:
    """Note which message the order is as it is by."""
    row.control, row.placer_status = request.control, request.status[:16]
    if row.sent_at is None or (context.sent_at and context.sent_at > row.sent_at):
        row.sent_at = context.sent_at
    row.message_id = context.message_id
    row.changed_at = utc_now()


def _applied(doing: _Doing, row: OrderRow, effect: Effect, *, able: bool | None = None) -> Applied:
    done = effect is not Effect.REFUSE if able is None else able
    return answered(row, doing.request, effect, able=done)


def answered(row: OrderRow, request: OrderRequest, effect: Effect, *, able: bool = True) -> Applied:
    """Return what the sender is told of an order."""
    return Applied(
        _WORDS[effect],
        row.placer_order_number,
        row.filler_order_number,
        transitions.answer(request.control, able=able),
    )


def _is_newer(doing: _Doing, row: OrderRow) -> bool:
    sent_at = doing.context.sent_at
    return sent_at is not None and row.sent_at is not None and sent_at > row.sent_at


# For whom


def _is_of_patient(doing: _Doing, row: OrderRow, effect: Effect, *, begun: bool) -> bool:
    """Return whether the message may change the order; move it to another patient if it may."""
    held = doing.session.get_one(PatientRow, row.patient_ref)
    if held.root_ref == doing.known.root:
        return True
    shown = patients.identifiers_of(doing.session, [held.id])[held.id][0].value
    facts = {"one": shown, "other": doing.known.identifier.value}
    if begun:
        doing.notes.append("PID-3: another patient than before; left for a person to decide")
        detail = "the order came again for another patient; its images stay where they are"
        _notice(doing, row, Kind.ORDER_OF_ANOTHER_PATIENT, detail, **facts)
        return False
    if effect in _TAKING:
        doing.notes.append("PID-3: another patient than before; the order was moved")
        detail = "the order came again for another patient, and was moved"
        _notice(doing, row, Kind.ORDER_OF_ANOTHER_PATIENT, detail, **facts)
        row.patient_ref, row.visit_ref = doing.known.id, doing.visit_id
        for procedure in contents.procedures_of(doing.session, row):
            # no console may go on with a study that it began to show for somebody else
            procedure.study_instance_uid = contents.new_uid()
        doing.session.flush()
    else:
        doing.notes.append("PID-3: another patient than the order's")
        detail = f"{doing.request.control} came for another patient than the order's"
        _notice(doing, row, Kind.ORDER_OF_ANOTHER_PATIENT, detail, **facts)
    return True


# What people are told


def _notice(doing: _Doing, row: OrderRow, kind: Kind, detail: str, **facts: str) -> None:
    procedures = contents.procedures_of(doing.session, row)
    study = procedures[0].study_instance_uid if procedures else ""
    given = {"one": doing.known.identifier.value, **facts}
    registration.notice(doing.session, kind, f"order {row.id}: {detail}", study=study, **given)


def _tell_refusal(doing: _Doing, row: OrderRow) -> None:
    doing.notes.append(f"not done: the order is {row.state}")
    if row.state == OrderState.REPORTED:
        detail = "to be cancelled after its report was signed: only its author can retract"
        _notice(doing, row, Kind.CANCEL_REFUSED, detail)
        outbox.enqueue_status(
            doing.session, row.id, ORDER_STATUS[OrderState(row.state)], control="UC"
        )


def _tell_sharers(doing: _Doing, row: OrderRow, procedure: ProcedureRow) -> None:
    """Tell of another order with the same study: a group, unless it is another patient's."""
    if not doing.request.study_instance_uid:
        return
    statement = (
        select(PatientRow.root_ref)
        .join(OrderRow, OrderRow.patient_ref == PatientRow.id)
        .join(ProcedureRow, ProcedureRow.order_ref == OrderRow.id)
        .where(
            ProcedureRow.study_instance_uid == procedure.study_instance_uid,
            OrderRow.id != row.id,
        )
    )
    roots = {*doing.session.scalars(statement)}
    if roots - {doing.known.root}:
        doing.notes.append("study instance UID is of another patient's order too")
        detail = "its Study Instance UID is of another patient's order too"
        _notice(doing, row, Kind.SHARED_STUDY, detail)
    elif roots:
        doing.notes.append("shares its study with another order")


def is_unschedulable(steps: Collection[StepRow]) -> bool:
    """Whether one of these steps is due and no worklist can show it."""
    return any(
        step.status == StepStatus.SCHEDULED and not step.modality and not step.station_ae_titles
        for step in steps
    )


def _tell_unschedulable(
    doing: _Doing, row: OrderRow, steps: Collection[StepRow], *, settled: bool
) -> None:
    """Tell people of a step that no worklist can show, and of it no longer once one can."""
    if is_unschedulable(steps):
        doing.notes.append("no modality and no station: no worklist can show it")
        _notice(doing, row, Kind.NO_MODALITY, "neither modality nor station")
    elif settled:
        for procedure in contents.procedures_of(doing.session, row):
            incidents.settle(doing.session, Kind.NO_MODALITY, procedure.study_instance_uid)
