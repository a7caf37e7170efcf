"""Performed steps as people and devices see them."""

from collections.abc import Sequence

from sqlalchemy import select

from ris.keys import Attributes
from ris.performed import rows
from ris.performed.model import PerformedItem, PerformedStep
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.verdict import PerformedStatus
from storage.archive import studies
from storage.db.engine import Session


def get(session: Session, uid: str) -> Attributes:
    """Return the attributes of a step (N-GET).

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    return rows.row(session, uid).attributes


def show(session: Session, uid: str) -> PerformedStep:
    """Return one step.

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    return _shown(session, [rows.row(session, uid)])[0]


def of_study(session: Session, study_instance_uid: str) -> list[PerformedStep]:
    """Return the steps that make a study, in the order in which they were begun."""
    return _shown(session, rows.rows_of_study(session, study_instance_uid))


def of_order(session: Session, order_id: int) -> list[PerformedStep]:
    """Return the steps that were performed for an order, in the order in which they were begun."""
    its = select(PerformedItemRow.performed_ref).where(PerformedItemRow.order_ref == order_id)
    statement = select(PerformedStepRow).where(PerformedStepRow.id.in_(its))
    return _shown(session, session.scalars(statement.order_by(PerformedStepRow.id)).all())


def newest(
    session: Session, limit: int, before: str | None = None, status: PerformedStatus | None = None
) -> list[PerformedStep]:
    """Return steps, the newest first, those behind the step `before`."""
    statement = select(PerformedStepRow).order_by(PerformedStepRow.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(PerformedStepRow.id < rows.row(session, before).id)
    if status is not None:
        statement = statement.where(PerformedStepRow.status == status)
    return _shown(session, session.scalars(statement).all())


def missing_objects(session: Session, uid: str) -> int:
    """Return how many of the objects that a step says it made are not in the archive.

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    return studies.missing(session, rows.row(session, uid).instance_uids)


def _shown(session: Session, given: Sequence[PerformedStepRow]) -> list[PerformedStep]:
    items: dict[int, list[PerformedItem]] = {}
    for item in rows.items_of(session, [row.id for row in given]):
        items.setdefault(item.performed_ref, []).append(
            PerformedItem(
                study_instance_uid=item.study_instance_uid,
                accession_number=item.accession_number,
                requested_procedure_id=item.requested_procedure_id,
                scheduled_procedure_step_id=item.scheduled_procedure_step_id,
                order_id=item.order_ref,
                procedure_id=item.procedure_ref,
                step_id=item.step_ref,
                linked_by=item.linked_by,
            )
        )
    return [
        PerformedStep(
            sop_instance_uid=row.sop_instance_uid,
            status=PerformedStatus(row.status),
            reason=row.reason,
            performed_procedure_step_id=row.performed_procedure_step_id,
            modality=row.modality,
            station_ae_title=row.station_ae_title,
            calling_ae_title=row.calling_ae_title,
            patient_id=row.patient_id,
            started=row.started,
            ended=row.ended,
            objects=len(row.instance_uids),
            assumed=row.assumed,
            synthesised=row.synthesised,
            created_at=row.created_at,
            changed_at=row.changed_at,
            items=tuple(items.get(row.id, ())),
        )
        for row in given
    ]
