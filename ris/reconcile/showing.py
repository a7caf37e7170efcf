"""What is known of studies and their orders, for people."""

from sqlalchemy import select

from ris import orders
from ris.reconcile import rows
from ris.reconcile.model import OPEN, Attachment, Entry, Proposal, Reconciled, Standing
from ris.study_tables import AttachmentRow, JournalRow, StudyRow
from storage.archive import studies
from storage.base.errors import NotFound
from storage.db.engine import Session


def show(session: Session, study_instance_uid: str) -> Reconciled:
    """Return what the RIS knows of a study.

    Raises
    ------
    NotFound
        Nothing is known of it.
    """
    row = session.get(StudyRow, study_instance_uid, populate_existing=True)
    if row is not None:
        return _shown(session, row)
    held = studies.describe(session, study_instance_uid)
    if held is None:
        raise NotFound("nothing is known of a study of that UID")
    return Reconciled(
        study_instance_uid=study_instance_uid,
        standing=Standing.NEW,
        attachments=(),
        proposals=(),
        state="",
        evidence=(),
        assumed=False,
        changed_at=held.changed_at,
        considered_at=None,
        judged_at=None,
        held=held,
    )


def list_open(
    session: Session, limit: int, standing: Standing | None = None, after: str = ""
) -> list[Reconciled]:
    """Return the studies that wait for a person, by UID, those behind the UID `after`."""
    wanted = [standing] if standing else [*OPEN]
    statement = (
        select(StudyRow)
        .where(StudyRow.standing.in_(wanted), StudyRow.study_instance_uid > after)
        .order_by(StudyRow.study_instance_uid)
        .limit(limit)
    )
    return [_shown(session, row) for row in session.scalars(statement)]


def attached_to(session: Session, order_id: int) -> list[str]:
    """Return the studies that belong to an order."""
    statement = select(AttachmentRow.study_instance_uid).where(
        AttachmentRow.order_ref == order_id, AttachmentRow.detached_at.is_(None)
    )
    return [*session.scalars(statement.order_by(AttachmentRow.id))]


def journal(session: Session, study_instance_uid: str) -> list[Entry]:
    """Return what was done about a study, oldest first."""
    statement = select(JournalRow).where(JournalRow.study_instance_uid == study_instance_uid)
    return [rows.entry(row) for row in session.scalars(statement.order_by(JournalRow.id))]


def _shown(session: Session, row: StudyRow) -> Reconciled:
    uid = row.study_instance_uid
    return Reconciled(
        study_instance_uid=uid,
        standing=Standing(row.standing),
        attachments=tuple(_attachment(session, one) for one in rows.attachment_rows(session, uid)),
        proposals=tuple(Proposal(**one) for one in row.proposals),
        state=row.state,
        evidence=row.evidence,
        assumed=row.assumed,
        changed_at=row.changed_at,
        considered_at=row.considered_at,
        judged_at=row.judged_at,
        held=studies.describe(session, uid),
    )


def _attachment(session: Session, row: AttachmentRow) -> Attachment:
    order = orders.get(session, row.order_ref)
    return Attachment(
        procedure_id=row.procedure_ref,
        order_id=order.id,
        accession_number=order.accession_number,
        placer_order_number=order.placer_order_number,
        order_state=order.state,
        reasons=row.reasons,
        attached_by=row.attached_by,
        attached_at=row.attached_at,
    )
