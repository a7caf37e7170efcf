"""What a message says of an order, put into its rows: the order, its procedure, its steps.

None leaves a value as it is and '' deletes it, except where a message has no way to delete: there
'' is not sent. What was begun stays as it was shown at the machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import select

from ris.model import WAITING, StepStatus
from ris.requests import Code, Context, OrderRequest, StepRequest
from ris.tables import ORDER_NUMBERS, OrderRow, ProcedureRow, StepRow
from storage.base.clock import utc_now
from storage.db import together
from storage.db.engine import Session

_NULLABLE: Final = (
    "clinical_information",
    "requesting_physician",
    "requesting_service",
    "institution",
    "transport",
    "danger",
    "confidentiality",
    "comments",
)
_SENT_OR_NOT: Final = ("group_number", "priority", "placer_issuer")
_OPEN: Final = frozenset({*WAITING, StepStatus.HELD})


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of what was sent."""

    changed: bool
    """Anything differs from before."""
    left: bool
    """Something differs and was left, because it is begun or its images are here."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A new order that is not written yet; all rows have their numbers."""

    order: OrderRow
    procedure: ProcedureRow
    steps: Sequence[StepRow]


def draw(
    session: Session, context: Context, patient_id: int, request: OrderRequest, *, steps: bool
) -> Drawn:
    """Draw up an order, its number given out by us where the sender gave none."""
    count = len(_asked(request)) if steps else 0
    numbers = together.take(session, ORDER_NUMBERS, OrderRow, ProcedureRow, *[StepRow] * count)
    return draw_with(numbers, context, patient_id, request)


def draw_with(
    numbers: Sequence[int], context: Context, patient_id: int, request: OrderRequest
) -> Drawn:
    """Do so with numbers that were given out before: ours, the order's, the procedure's, steps'."""
    own, order_id, procedure_id, *step_ids = numbers
    asked = _asked(request) if step_ids else ()
    order = _order(context, patient_id, request, f"LT{own:010}")
    order.id = order_id
    procedure = _procedure(order, request, [])
    procedure.id = procedure_id
    _put(procedure, _procedure_values(request))
    drawn: list[StepRow] = []
    for step_id, one in zip(step_ids, asked, strict=True):
        held = _step_of(drawn, one, alone=len(asked) <= 1)
        if held is not None:  # two under one id are one
            _put(held, _step_values(one, request.procedure))
            continue
        told = _step_values(one, request.procedure)
        drawn.append(_step(context, procedure, one, told, len(drawn)))
        drawn[-1].id = step_id
    return Drawn(order, procedure, drawn)


def _asked(request: OrderRequest) -> Sequence[StepRequest]:
    return request.steps or (StepRequest(),)


def _order(context: Context, patient_id: int, request: OrderRequest, own: str) -> OrderRow:
    now = utc_now()
    row = OrderRow(
        patient_ref=patient_id,
        sender=context.sender,
        placer_order_number=request.placer_order_number,
        placer_issuer="",
        filler_order_number=request.filler_order_number or own,
        accession_number=request.accession_number or own,
        accession_issuer=_namespace(context, request) if request.accession_number else "",
        control=request.control,
        state="",
        message_id=context.message_id,
        sent_at=None,
        changed_after_start=False,
        reported_at=None,
        created_at=now,
        changed_at=now,
    )
    take_order(row, request)
    return row


def take_order(row: OrderRow, request: OrderRequest, *, blanks_only: bool = False) -> bool:
    """Take over what a message says of the order itself; return whether anything changed."""
    told: dict[str, Any] = {
        name: value for name in _NULLABLE if (value := getattr(request, name)) is not None
    }
    told.update({name: value for name in _SENT_OR_NOT if (value := getattr(request, name))})
    told.update(_code("reason_", request.reason))
    return _put(row, told, blanks_only=blanks_only)


def take_numbers(
    session: Session, context: Context, row: OrderRow, request: OrderRequest, *, begun: bool
) -> Taken:
    """Take over accession and order numbers; an accession stays once there are images."""
    told: dict[str, Any] = {}
    if request.placer_order_number:
        told["placer_order_number"] = request.placer_order_number
    if request.filler_order_number:
        told["filler_order_number"] = request.filler_order_number
    sent = request.accession_number
    if sent and sent != row.accession_number and not begun:
        told["accession_number"] = sent
        told["accession_issuer"] = _namespace(context, request)
    changed = _put(row, told)
    session.flush()
    return Taken(changed, left=bool(sent) and sent != row.accession_number)


def procedures_of(session: Session, row: OrderRow) -> list[ProcedureRow]:
    """Return the requested procedures of an order, oldest first."""
    statement = select(ProcedureRow).where(ProcedureRow.order_ref == row.id)
    return [*session.scalars(statement.order_by(ProcedureRow.id))]


def steps_of(session: Session, row: OrderRow) -> list[StepRow]:
    """Return the scheduled steps of an order, oldest first."""
    statement = select(StepRow).where(StepRow.order_ref == row.id).order_by(StepRow.id)
    return [*session.scalars(statement)]


def chosen(
    procedures: Sequence[ProcedureRow], context: Context, row: OrderRow, request: OrderRequest
) -> ProcedureRow | None:
    """Return the procedure that a message is about, None for one that is not known yet."""
    number = request.requested_procedure_id
    named = [one for one in procedures if number and one.requested_procedure_id == number]
    if named or not procedures:
        return named[0] if named else None
    if not number:
        return procedures[0] if len(procedures) == 1 else _with_code(procedures, request)
    # another id than before: a second procedure for who schedules (a filler) or sends both at
    # once; for a placer, whose id is nothing but a copy of some number, the same one
    same_message = context.message_id and row.message_id == context.message_id
    once_more = context.role == "filler" or same_message
    ours = procedures[0].requested_procedure_id == row.filler_order_number
    return procedures[0] if len(procedures) == 1 and (ours or not once_more) else None


def take_procedure(
    session: Session,
    row: OrderRow,
    procedure: ProcedureRow | None,
    request: OrderRequest,
    *,
    begun: bool = False,
    blanks_only: bool = False,
) -> tuple[ProcedureRow, Taken]:
    """Take over what is to be done; the study keeps its UID once there are images."""
    made = procedure is None
    if procedure is None:
        procedure = _procedure(row, request, procedures_of(session, row))
        session.add(procedure)
    told = _procedure_values(request)
    uid = request.study_instance_uid
    left = bool(uid) and begun and uid != procedure.study_instance_uid
    if left:
        del told["study_instance_uid"]
    changed = _put(procedure, told, blanks_only=blanks_only and not made)
    session.flush()
    return procedure, Taken(changed or made, left)


def take_steps(
    session: Session,
    context: Context,
    procedure: ProcedureRow,
    request: OrderRequest,
    *,
    blanks_only: bool = False,
) -> Taken:
    """Take over the steps; those that the message does not name stay, and so does what is begun."""
    statement = select(StepRow).where(StepRow.procedure_ref == procedure.id).order_by(StepRow.id)
    held = [*session.scalars(statement)]
    changed = left = False
    for asked in request.steps or (StepRequest(),):
        step = _step_of(held, asked, alone=len(request.steps) <= 1)
        told = _step_values(asked, request.procedure)
        if step is None:
            step = _step(context, procedure, asked, told, len(held))
            session.add(step)
            session.flush()
            held.append(step)
            changed = True
        elif StepStatus(step.status) not in _OPEN:
            left = left or any(getattr(step, name) != value for name, value in told.items())
        else:
            changed = _put(step, told, blanks_only=blanks_only) or changed
    session.flush()
    return Taken(changed, left)


def new_uid() -> str:
    """Return a new Study Instance UID (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"


def _procedure(
    order: OrderRow, request: OrderRequest, others: Sequence[ProcedureRow]
) -> ProcedureRow:
    return ProcedureRow(
        order_ref=order.id,
        requested_procedure_id=request.requested_procedure_id
        or _next_id(order.filler_order_number, len(others)),
        study_instance_uid=request.study_instance_uid or new_uid(),
        description="",
        canceled=False,
    )


def _procedure_values(request: OrderRequest) -> dict[str, Any]:
    """Return the columns of what a message says of a procedure."""
    told: dict[str, Any] = {**_code("", request.procedure)}
    if request.procedure is not None:
        told["description"] = request.procedure.meaning or request.procedure.value
    if request.requested_procedure_id:
        told["requested_procedure_id"] = request.requested_procedure_id
    if request.study_instance_uid:
        told["study_instance_uid"] = request.study_instance_uid
    return told


def _step_of(held: Sequence[StepRow], asked: StepRequest, *, alone: bool) -> StepRow | None:
    number = asked.scheduled_procedure_step_id
    named = [one for one in held if number and one.scheduled_procedure_step_id == number]
    if named:
        return named[0]
    return held[0] if len(held) == 1 and alone else None


def _step_values(asked: StepRequest, procedure: Code | None) -> dict[str, Any]:
    """Return the columns of what a message says of a step."""
    told: dict[str, Any] = {
        "scheduled_procedure_step_id": asked.scheduled_procedure_step_id,
        "modality": asked.modality,
        "station_name": asked.scheduled_station_name,
        "location": asked.location,
        "start": asked.start,
        "performing_physician": asked.performing_physician,
    }
    if asked.scheduled_station_ae_title:
        told["station_ae_titles"] = [asked.scheduled_station_ae_title]
    told.update(_code("protocol_", asked.protocol))
    shown = asked.protocol or procedure
    if shown is not None:
        told["description"] = shown.meaning or shown.value
    return {name: value for name, value in told.items() if value}


def _step(
    context: Context,
    procedure: ProcedureRow,
    asked: StepRequest,
    told: Mapping[str, Any],
    number: int,
) -> StepRow:
    return StepRow(
        procedure_ref=procedure.id,
        order_ref=procedure.order_ref,
        status=StepStatus.SCHEDULED,
        **{
            "modality": "",
            "station_ae_titles": [],
            "scheduled_procedure_step_id": _next_id(procedure.requested_procedure_id, number),
            "start": asked.start or context.sent_at,
            "description": procedure.description,
            **told,
        },
    )


def _next_id(number: str, count: int) -> str:
    """Return an id of VR SH for one more of a kind: the number itself, then with -2, -3."""
    if not count:
        return number
    suffix = f"-{count + 1}"
    return number[: 16 - len(suffix)] + suffix


def _with_code(procedures: Sequence[ProcedureRow], request: OrderRequest) -> ProcedureRow | None:
    """Return the only procedure of the code that is sent; the first when none is."""
    if request.procedure is None:
        return procedures[0]
    same = [one for one in procedures if one.code == request.procedure.value]
    return same[0] if same else None


def _namespace(context: Context, request: OrderRequest) -> str:
    return request.placer_issuer or context.sender


def _code(prefix: str, code: Code | None) -> dict[str, str]:
    if code is None:
        return {}
    parts = {"code": code.value, "meaning": code.meaning, "scheme": code.scheme}
    return {f"{prefix}{name}": value for name, value in parts.items()}


def _put(
    row: OrderRow | ProcedureRow | StepRow, told: Mapping[str, Any], *, blanks_only: bool = False
) -> bool:
    changed = False
    for name, value in told.items():
        held = getattr(row, name)
        if (held or "") == (value or "") or (blanks_only and held):
            continue
        setattr(row, name, value)
        changed = True
    return changed
