"""Which scheduled steps an item of a performed step means."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, false, or_, select

from ris import patients
from ris.performed import rows
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from storage.db.engine import Session

SENT: Final = ("step", "study", "accession")
"""How an item is linked by what its device sent: what the rules of `link` are called."""
ADDED: Final = ("added", "images")
"""How items are linked that no device sent."""
_Candidate = tuple[StepRow, ProcedureRow, OrderRow]


def link(session: Session, row: PerformedStepRow) -> None:
    """Link the items of a step that are not linked yet."""
    for item in rows.items_of(session, [row.id]):
        if item.procedure_ref is None:
            _link_item(session, row, item)
    session.flush()


def _link_item(session: Session, row: PerformedStepRow, item: PerformedItemRow) -> None:
    found = _candidates(session, row, item)
    same_study = [one for one in found if one[1].study_instance_uid == item.study_instance_uid]
    for how, meant in (
        ("step", [one for one in found if _names_step(item, one) and _names_order(item, one)]),
        ("study", [one for one in same_study if _names_order(item, one)]),
        ("accession", [one for one in found if _same_accession(item, one)]),
        ("study", same_study),
    ):
        if not meant:
            continue
        of_modality = [one for one in meant if one[0].modality == row.modality]
        first, *others = _of_one_order(of_modality or meant, item)
        _point(item, first[0], how)
        for step, _, _ in others:
            session.add(item_of(row.id, item.study_instance_uid, step, how))
        return


def _candidates(
    session: Session, row: PerformedStepRow, item: PerformedItemRow
) -> Sequence[_Candidate]:
    """Return the scheduled steps of the study, and those of the patient under a number of it."""
    numbers = []
    if item.accession_number:
        numbers.append(OrderRow.accession_number == item.accession_number)
    if item.scheduled_procedure_step_id and row.patient_id:
        number = StepRow.scheduled_procedure_step_id
        numbers.append(number == item.scheduled_procedure_step_id)
    wanted = or_(false(), *numbers)
    if row.patient_id:
        people = patients.known_as(session, [row.patient_id])
        wanted = and_(wanted, PatientRow.root_ref.in_(people))
    statement = (
        select(StepRow, ProcedureRow, OrderRow)
        .join(ProcedureRow, ProcedureRow.id == StepRow.procedure_ref)
        .join(OrderRow, OrderRow.id == StepRow.order_ref)
        .join(PatientRow, PatientRow.id == OrderRow.patient_ref)
        .where(or_(ProcedureRow.study_instance_uid == item.study_instance_uid, wanted))
        .order_by(StepRow.start, StepRow.id)
    )
    return session.execute(statement).all()


def _names_step(item: PerformedItemRow, candidate: _Candidate) -> bool:
    number = item.scheduled_procedure_step_id
    return bool(number) and candidate[0].scheduled_procedure_step_id == number


def _names_order(item: PerformedItemRow, candidate: _Candidate) -> bool:
    """Whether the rest of the item does not speak of another order."""
    sent = item.accession_number
    return not sent or sent == candidate[2].accession_number


def _same_accession(item: PerformedItemRow, candidate: _Candidate) -> bool:
    return bool(item.accession_number) and candidate[2].accession_number == item.accession_number


def _of_one_order(found: Sequence[_Candidate], item: PerformedItemRow) -> Sequence[_Candidate]:
    """Return the candidates of the order that the item names; of the first, where it names none.

    Several orders of one study are each named by an item of their own (IHE group case).
    """
    named = [one for one in found if _same_accession(item, one)]
    first = (named or found)[0]
    return [one for one in found if one[2].id == first[2].id]


def _point(item: PerformedItemRow, step: StepRow, how: str) -> None:
    item.step_ref, item.procedure_ref, item.order_ref = step.id, step.procedure_ref, step.order_ref
    item.linked_by = how


def item_of(
    performed_ref: int, study_instance_uid: str, step: StepRow, how: str
) -> PerformedItemRow:
    """Return a new item of a performed step, for a scheduled one."""
    item = PerformedItemRow(
        performed_ref=performed_ref,
        study_instance_uid=study_instance_uid,
        scheduled_procedure_step_id=step.scheduled_procedure_step_id,
    )
    _point(item, step, how)
    return item


def count_for(
    session: Session, row: PerformedStepRow, study_instance_uid: str, procedure_id: int
) -> None:
    """Point a free item of a performed step at a procedure, or add one."""
    steps = session.scalars(
        select(StepRow).where(StepRow.procedure_ref == procedure_id).order_by(StepRow.id)
    ).all()
    meant = [one for one in steps if one.modality == row.modality] or steps
    free = [
        item
        for item in rows.items_of(session, [row.id])
        if item.procedure_ref is None and item.study_instance_uid == study_instance_uid
    ]
    for step in meant:
        if free:
            _point(free.pop(0), step, "attached")
        else:
            session.add(item_of(row.id, study_instance_uid, step, "added"))
    session.flush()
