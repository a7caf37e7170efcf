"""Merges as people see them, and undone by hand: where no A37 comes, or one cannot say which.

    journal ─ preview ─ undo

A preview is the undo itself, looked at and taken back: what it shows is what will be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from ris import archive_patients, merges, patients
from ris.model import Merge, MergeKind, Patient
from ris.orders import of_patient
from ris.requests import Context
from ris.tables import MergeRow
from storage.db.engine import Session


@dataclass(frozen=True, slots=True)
class Side:
    """One of two patients as it is after the undo."""

    patient: Patient
    """Who stands for it then."""
    order_ids: Sequence[int]
    study_instance_uids: Sequence[str]
    """Of the archive, by what their objects say."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an undo would make of two patients."""

    merge: Merge
    prior: Side
    survivor: Side
    later_study_instance_uids: Sequence[str]
    """Studies with objects that came while they were one: a person says whose they are."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A merge of the journal with the patients it is of."""

    merge: Merge
    prior: Patient
    survivor: Patient


def journal(
    session: Session, limit: int, *, number: str = "", before: int | None = None
) -> Sequence[Listed]:
    """Return merges, the newest first, those below the id `before`; of a patient if one is named.

    `number` is any number of a patient, whoever stands for it by now.
    """
    statement = select(MergeRow.id).where(MergeRow.kind == MergeKind.MERGE)
    if number:
        group = merges.one_with(session, patients.known_as(session, [number]))
        statement = statement.where(
            MergeRow.prior_ref.in_(group) | MergeRow.survivor_ref.in_(group)
        )
    if before is not None:
        statement = statement.where(MergeRow.id < before)
    ids = session.scalars(statement.order_by(MergeRow.id.desc()).limit(limit)).all()
    found = [merges.get(session, merge_id) for merge_id in ids]
    people = patients.load(session, {one for it in found for one in (it.prior_id, it.survivor_id)})
    return [Listed(one, people[one.prior_id], people[one.survivor_id]) for one in found]


def preview(session: Session, merge_id: int) -> Preview:
    """Return what the undo of a merge would bring; nothing is done.

    Raises
    ------
    NotFound
        The journal has no such merge, or it was undone.
    """
    with session.begin_nested() as tried:
        merge = _undo(session, merge_id, "")
        found = Preview(
            merge,
            _side(session, merge.prior_id),
            _side(session, merge.survivor_id),
            archive_patients.later_images(
                session, {merge.prior_id, merge.survivor_id}, merge.made_at
            ),
        )
        tried.rollback()
    return found


def undo(session: Session, merge_id: int, by: str = "") -> Merge:
    """Undo a merge as a person decided, whose name `by` is.

    Raises
    ------
    NotFound
        The journal has no such merge, or it was undone.
    """
    merge = _undo(session, merge_id, by)
    follow(session, merge)
    return merge


def follow(session: Session, undone: Merge) -> None:
    """Let the archive show two patients apart again, and tell people of what came meanwhile."""
    both = {undone.prior_id, undone.survivor_id}
    archive_patients.follow(session, both)
    archive_patients.tell_later_images(session, both, undone.made_at)


def _undo(session: Session, merge_id: int, by: str) -> Merge:
    return merges.undo(session, Context(sender="", sent_at=None), merge_id, by)


def _side(session: Session, patient_id: int) -> Side:
    shown = patients.shown(session, patient_id)
    return Side(
        shown,
        [order.id for order in of_patient(session, shown.id)],
        archive_patients.studies_of(session, shown.id),
    )
