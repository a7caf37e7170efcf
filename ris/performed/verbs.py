"""Performed steps begun, changed and ended; made up, attached and detached."""

from collections.abc import Collection
from datetime import datetime
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from ris import locks, news
from ris.keys import Attributes
from ris.performed import linking, rows
from ris.performed.attributes import STATUS, columns, items, of_made, stored
from ris.performed.model import Made
from ris.performed.outcome import perform, step_ids
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.tables import StepRow
from ris.verdict import PerformedStatus
from storage.base.errors import Conflict
from storage.db.engine import Session


def create(
    session: Session, uid: str, attributes: Attributes, calling_ae_title: str, at: datetime
) -> None:
    """Begin a step (N-CREATE).

    Raises
    ------
    Conflict
        There is a step of that UID.
    """
    told = stored(attributes)
    sent = [*items(told)]
    made = {item["study_instance_uid"] for item in sent}
    locks.lock_studies(session, made)
    statement = (
        insert(PerformedStepRow)
        .values(
            sop_instance_uid=uid,
            calling_ae_title=calling_ae_title,
            created_at=at,
            changed_at=at,
            **columns(told),
        )
        .on_conflict_do_nothing(index_elements=["sop_instance_uid"])
        .returning(PerformedStepRow.id)
    )
    performed_ref = session.scalar(statement)
    if performed_ref is None:
        raise Conflict("there is a performed step of that UID")
    session.add_all(PerformedItemRow(performed_ref=performed_ref, **item) for item in sent)
    session.flush()
    linking.link(session, session.get_one(PerformedStepRow, performed_ref))
    perform(session, step_ids(session, [performed_ref]))
    news.notice(session, made, at)


def update(session: Session, uid: str, attributes: Attributes, at: datetime) -> None:
    """Change a step, or bring it to its end (N-SET).

    A step that we took for ended, because nobody ended it, may still be ended by its device.

    Raises
    ------
    NotFound
        There is no step of that UID.
    Conflict
        It is at its end: it may no longer be updated (PS3.4 F.7.2.2.2).
    """
    made = rows.studies_of(session, uid)
    locks.lock_studies(session, made)
    row = session.scalars(
        select(PerformedStepRow)
        .where(PerformedStepRow.sop_instance_uid == uid)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if row.status != PerformedStatus.IN_PROGRESS and not row.assumed:
        raise Conflict("it is at its end and may no longer be updated")
    changed = {**row.attributes, **stored(attributes)}
    for name, value in columns(changed).items():
        setattr(row, name, value)
    row.assumed = row.assumed and STATUS not in attributes
    row.changed_at = at
    session.flush()
    perform(session, step_ids(session, [row.id]))
    news.notice(session, made, at)


def close(session: Session, uid: str) -> None:
    """Take a step for completed that nobody ended.

    Raises
    ------
    NotFound
        There is no step of that UID.
    """
    row = rows.row(session, uid)
    row.status, row.assumed = PerformedStatus.COMPLETED, True
    row.attributes = {**row.attributes, STATUS: row.status}
    session.flush()
    perform(session, step_ids(session, [row.id]))


def synthesise(session: Session, made: Made, scheduled: Collection[int], at: datetime) -> str:
    """Make the performed step that no device told, completed, for these scheduled steps.

    Returns
    -------
    str
        Its SOP Instance UID.
    """
    uid = f"2.25.{uuid4().int}"
    row = PerformedStepRow(
        sop_instance_uid=uid,
        calling_ae_title="",
        created_at=at,
        changed_at=at,
        assumed=True,
        synthesised=True,
        **columns(of_made(made)),
    )
    session.add(row)
    session.flush()
    for step in session.scalars(select(StepRow).where(StepRow.id.in_(scheduled))):
        session.add(linking.item_of(row.id, made.study_instance_uid, step, "images"))
    session.flush()
    perform(session, scheduled)
    return uid


def attach(session: Session, study_instance_uid: str, procedure_ids: Collection[int]) -> None:
    """Let the performed steps of a study count for these requested procedures.

    Items that already name a scheduled step of one of them stay as they are.
    """
    steps = rows.rows_of_study(session, study_instance_uid)
    for procedure_id in sorted(procedure_ids):
        held = {
            item.performed_ref
            for item in rows.items_of(session, [row.id for row in steps])
            if item.procedure_ref == procedure_id
        }
        for row in steps:
            if row.id not in held:
                linking.count_for(session, row, study_instance_uid, procedure_id)
    session.flush()
    perform(session, step_ids(session, [row.id for row in steps]))


def detach(session: Session, study_instance_uid: str, procedure_ids: Collection[int]) -> None:
    """Let the performed steps of a study count for these procedures no longer.

    What was made up for a study goes; steps of which nothing is left are to be done again.
    """
    steps = rows.rows_of_study(session, study_instance_uid)
    items = [
        item
        for item in rows.items_of(session, [row.id for row in steps])
        if item.procedure_ref in procedure_ids and item.study_instance_uid == study_instance_uid
    ]
    freed = sorted({item.step_ref for item in items if item.step_ref})
    made_up = {row.id for row in steps if row.synthesised}
    for item in items:
        if item.performed_ref in made_up or item.linked_by in linking.ADDED:
            session.delete(item)
        else:
            item.order_ref = item.procedure_ref = item.step_ref = None
            item.linked_by = ""
    session.flush()
    for row in steps:
        if row.id in made_up and not rows.items_of(session, [row.id]):
            session.delete(row)
    session.flush()
    perform(session, freed)
