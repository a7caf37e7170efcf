"""What performed steps make of scheduled ones, and of orders."""

from collections.abc import Collection, Sequence

from sqlalchemy import select

from ris import locks, orders
from ris.model import StepStatus
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.tables import StepRow
from ris.verdict import PerformedStatus, step_status
from storage.db.engine import Session


def step_ids(session: Session, performed_refs: Sequence[int]) -> list[int]:
    """Return the scheduled steps that these performed ones are for."""
    statement = select(PerformedItemRow.step_ref).where(
        PerformedItemRow.performed_ref.in_(performed_refs), PerformedItemRow.step_ref.is_not(None)
    )
    return [one for one in session.scalars(statement.distinct()) if one is not None]


def perform(session: Session, step_ids: Collection[int]) -> None:
    """Bring scheduled steps to where their performed steps say; orders follow, the HIS is told."""
    steps = session.scalars(
        select(StepRow)
        .where(StepRow.id.in_(step_ids))
        .order_by(StepRow.order_ref, StepRow.id)
        .execution_options(populate_existing=True)
    ).all()
    locks.lock_orders(session, {step.order_ref for step in steps})
    for step in steps:
        session.refresh(step)
        told = session.execute(
            select(PerformedStepRow.status, PerformedStepRow.reason)
            .join(PerformedItemRow, PerformedItemRow.performed_ref == PerformedStepRow.id)
            .where(PerformedItemRow.step_ref == step.id)
        ).all()
        statuses = [PerformedStatus(status) for status, _ in told]
        reasons = [reason for _, reason in told]
        becomes = step_status(_unperformed(step.status), statuses, reasons)
        if becomes != step.status:
            orders.step_became(session, step.id, StepStatus(becomes))


def _unperformed(status: str) -> str:
    """Return where a scheduled step is without what was performed."""
    performed = {StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.DISCONTINUED}
    return StepStatus.SCHEDULED.value if status in performed else status
