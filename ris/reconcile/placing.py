"""A study put under the orders that it belongs to, with all that follows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from ris import coercing, judging, locks, performed
from ris.model import OrderState
from ris.reconcile import rows
from ris.reconcile.model import RULES, Deed, Standing
from ris.study_tables import AttachmentRow
from ris.tables import OrderRow, ProcedureRow
from storage.base.errors import Conflict
from storage.db.engine import Session


def put(
    session: Session,
    deed: Deed,
    wanted: Collection[int],
    now: datetime,
    zone: tzinfo,
    *,
    reasons: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """Attach a study to these requested procedures and to no others, with all that follows."""
    uid = deed.study_instance_uid
    held = rows.attachment_rows(session, uid)
    gone = [one for one in held if one.procedure_ref not in wanted]
    added = sorted({*wanted} - {one.procedure_ref for one in held})
    procedures = [session.get_one(ProcedureRow, procedure_id) for procedure_id in added]
    locks.lock_orders(
        session, {*(one.order_ref for one in gone), *(p.order_ref for p in procedures)}
    )
    for one in gone:
        if session.get_one(OrderRow, one.order_ref).state == OrderState.REPORTED:
            raise Conflict("the report of the order is signed: it has to be retracted first")
        one.detached_at = now
    session.add_all(
        AttachmentRow(
            study_instance_uid=uid,
            order_ref=procedure.order_ref,
            procedure_ref=procedure.id,
            reasons=[*(reasons or {}).get(procedure.id, ())],
            attached_by=deed.by,
            attached_at=now,
        )
        for procedure in procedures
    )
    row = rows.row(session, uid)
    if wanted:
        row.standing, row.proposals = Standing.ATTACHED, []
    session.flush()
    if gone:
        performed.detach(session, uid, [one.procedure_ref for one in gone])
    if added:
        performed.attach(session, uid, added)
    if deed.by != RULES:  # else whoever looks after studies does it, in a transaction of its own
        coercing.follow(session, uid)
    judging.judge(session, uid, now, zone)
    if deed.by != RULES:  # its reports follow too, when whoever looks after studies looks at it
        row.watched, row.look_at = True, None
