"""The rows of performed steps and of their items."""

from collections.abc import Collection, Sequence

from sqlalchemy import select

from ris.study_tables import PerformedItemRow, PerformedStepRow
from storage.base.errors import NotFound
from storage.db.engine import Session


def row(session: Session, uid: str) -> PerformedStepRow:
    """Return one step; raise `NotFound` when there is none of that UID."""
    statement = select(PerformedStepRow).where(PerformedStepRow.sop_instance_uid == uid)
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise NotFound("there is no performed step of that UID")
    return found


def studies_of(session: Session, uid: str) -> set[str]:
    """Return the studies that a step makes."""
    return {item.study_instance_uid for item in items_of(session, [row(session, uid).id])}


def items_of(session: Session, performed_refs: Collection[int]) -> Sequence[PerformedItemRow]:
    """Return the items of these steps, in their order."""
    statement = select(PerformedItemRow).where(PerformedItemRow.performed_ref.in_(performed_refs))
    return session.scalars(statement.order_by(PerformedItemRow.id)).all()


def rows_of_study(session: Session, study_instance_uid: str) -> Sequence[PerformedStepRow]:
    """Return the steps that make a study, in the order in which they were begun."""
    its = select(PerformedItemRow.performed_ref).where(
        PerformedItemRow.study_instance_uid == study_instance_uid
    )
    statement = select(PerformedStepRow).where(PerformedStepRow.id.in_(its))
    return session.scalars(statement.order_by(PerformedStepRow.id)).all()
