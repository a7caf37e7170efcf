"""The rows of studies, of what they belong to, and of what was done about them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from ris.reconcile.model import Action, Deed, Entry, Standing
from ris.study_tables import AttachmentRow, JournalRow, StudyRow
from storage.archive import studies
from storage.base.errors import NotFound
from storage.db.engine import Session


def row(session: Session, uid: str) -> StudyRow:
    """Return the row of a study, made where there is none; raise `NotFound` for an unknown one."""
    found = session.get(StudyRow, uid, populate_existing=True, with_for_update=True)
    if found is not None:
        return found
    held = studies.describe(session, uid)
    if held is None:
        raise NotFound("nothing is known of a study of that UID")
    made = StudyRow(study_instance_uid=uid, changed_at=held.changed_at, standing=Standing.NEW)
    session.add(made)
    session.flush()
    return made


def attachment_rows(session: Session, uid: str) -> Sequence[AttachmentRow]:
    """Return the orders that a study belongs to, in the order in which they were attached."""
    statement = select(AttachmentRow).where(
        AttachmentRow.study_instance_uid == uid, AttachmentRow.detached_at.is_(None)
    )
    return session.scalars(statement.order_by(AttachmentRow.id)).all()


def attached(session: Session, uid: str) -> set[int]:
    """Return the requested procedures that a study belongs to."""
    return {one.procedure_ref for one in attachment_rows(session, uid)}


def state(session: Session, uid: str) -> dict[str, Any]:
    """Return what the journal keeps of a study."""
    return {
        "standing": row(session, uid).standing,
        "procedures": sorted(attached(session, uid)),
    }


def write(session: Session, deed: Deed, before: Mapping[str, Any], now: datetime) -> Entry:
    """Write into the journal what was done about a study, which was `before`."""
    session.flush()
    written = JournalRow(
        action=deed.action,
        study_instance_uid=deed.study_instance_uid,
        before={**before},
        after=state(session, deed.study_instance_uid),
        reason=deed.reason,
        made_by=deed.by,
        made_at=now,
        undone_by="",
    )
    session.add(written)
    session.flush()
    return entry(written)


def entry(written: JournalRow) -> Entry:
    """Return an entry as people see it."""
    return Entry(
        id=written.id,
        action=Action(written.action),
        study_instance_uid=written.study_instance_uid,
        before=written.before,
        after=written.after,
        reason=written.reason,
        made_by=written.made_by,
        made_at=written.made_at,
        undone_at=written.undone_at,
        undone_by=written.undone_by,
    )
