"""When and where an order is to be done (SIU^S12 to S15), also before the order comes.

S15 takes the time back: the order stands, and a worklist that asks for a day does not show it.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Text, bindparam, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from ris import identity, orders
from ris.model import WAITING, StepStatus
from ris.requests import Applied, AppointmentRequest, Context
from ris.tables import AppointmentRow, OrderRow, StepRow
from storage.base.clock import utc_now
from storage.db.engine import Session

_WAITING: Final = (
    select(AppointmentRow)
    .where(
        AppointmentRow.order_ref.is_(None),
        AppointmentRow.sender == bindparam("its_sender"),
        or_(
            *(
                column.contains(bindparam(name, type_=ARRAY(Text)))
                for column, name in (
                    (AppointmentRow.placer_order_numbers, "placer"),
                    (AppointmentRow.filler_order_numbers, "filler"),
                )
            )
        ),
    )
    .order_by(AppointmentRow.sent_at.desc().nulls_last(), AppointmentRow.id.desc())
    .limit(1)
)


def appoint(session: Session, context: Context, request: AppointmentRequest) -> Applied:
    """Move or take back the time of an order; what nobody has ordered yet is remembered."""
    found = _orders(session, context, request)
    if not found:
        _add(session, context, request, None)
        return Applied("remembered", notes=("SCH-1: the order has not come yet",))
    told = [_appoint(session, context, request, order) for order in found]
    outcome = "cancelled" if request.cancelled else "changed"
    return Applied(
        outcome if any(moved for moved, _ in told) else "unchanged",
        found[0].placer_order_number,
        found[0].filler_order_number,
        notes=tuple(dict.fromkeys(note for _, note in told if note)),
    )


def _appoint(
    session: Session, context: Context, request: AppointmentRequest, order: OrderRow
) -> tuple[bool, str]:
    last = _last(session, order.id)
    if last is not None and identity.is_older(context.sent_at, last.sent_at):
        return False, "older than the appointment that is known"
    return _move(session, order, _add(session, context, request, order.id))


def meet(session: Session, order: OrderRow) -> bool:
    """Give a new order the appointment that came before it; return whether there was one."""
    row = _waiting(session, order)
    if row is None:
        return False
    row.order_ref = order.id
    _move(session, order, row)
    return True


def _orders(session: Session, context: Context, request: AppointmentRequest) -> Sequence[OrderRow]:
    """Return the orders that a number names, the likeliest number first."""
    for column, numbers in (
        (OrderRow.placer_order_number, request.placer_order_numbers),
        (OrderRow.filler_order_number, request.filler_order_numbers),
    ):
        for number in numbers:
            named = select(OrderRow).where(column == number, OrderRow.sender == context.sender)
            if found := session.scalars(named.order_by(OrderRow.id).with_for_update()).all():
                return found
    return []


def _waiting(session: Session, order: OrderRow) -> AppointmentRow | None:
    given = {
        "its_sender": order.sender,
        "placer": [order.placer_order_number],
        "filler": [order.filler_order_number],
    }
    return session.scalars(_WAITING, given).first()


def _last(session: Session, order_id: int) -> AppointmentRow | None:
    statement = select(AppointmentRow).where(AppointmentRow.order_ref == order_id)
    return session.scalars(statement.order_by(AppointmentRow.id.desc()).limit(1)).first()


def _add(
    session: Session, context: Context, request: AppointmentRequest, order_id: int | None
) -> AppointmentRow:
    row = AppointmentRow(
        order_ref=order_id,
        sender=context.sender,
        placer_order_numbers=_short(request.placer_order_numbers),
        filler_order_numbers=_short(request.filler_order_numbers),
        canceled=request.cancelled,
        start=request.start,
        station_ae_title=request.scheduled_station_ae_title,
        location=request.location,
        sent_at=context.sent_at,
        made_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def _short(numbers: Sequence[str]) -> list[str]:
    return [number for number in numbers if len(number) <= orders.LONGEST_NUMBER]


def _move(session: Session, order: OrderRow, row: AppointmentRow) -> tuple[bool, str]:
    """Apply an appointment to the steps that nobody began; return whether there are any."""
    open_ = [*WAITING, StepStatus.HELD]
    statement = select(StepRow).where(StepRow.order_ref == order.id, StepRow.status.in_(open_))
    steps = session.scalars(statement).all()
    for step in steps:
        if row.canceled:
            step.start = None
            continue
        step.start = row.start or step.start
        step.location = row.location or step.location
        if row.station_ae_title:
            step.station_ae_titles = [row.station_ae_title]
    session.flush()
    return bool(steps), "" if steps else "begun or over: its time is left as it is"
