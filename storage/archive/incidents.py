"""What a person should look at, though every object concerned is stored.

Names stay out of the rows: Patient IDs and the Study Instance UID lead to them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.archive.tables import incidents as table
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Session


class Kind(StrEnum):
    """What was noticed."""

    PATIENT_CONFLICT = "patient_conflict"
    """One Patient ID came with the demographics of different persons."""
    OTHER_PATIENT_ID = "other_patient_id"
    """One study came with different Patient IDs of the same person."""
    CHARACTER_SET = "character_set"
    """An object names a character set that nobody knows; its texts are a guess."""
    LOOK_ALIKE = "look_alike"
    """Patient IDs of two patients differ by leading zeros alone."""
    SHARED_NUMBER = "shared_number"
    """Two patients came with one citizen number, or with each other's number."""
    CANCELED_AFTER_IMAGES = "canceled_after_images"
    """An order was cancelled though its study is here, or its exam was begun."""
    CANCEL_REFUSED = "cancel_refused"
    """An order was to be cancelled after its final report was signed."""
    CHANGED_AFTER_START = "changed_after_start"
    """An order was changed after its exam was begun."""
    ORDER_OF_ANOTHER_PATIENT = "order_of_another_patient"
    """An order came again for another patient."""
    SHARED_STUDY = "shared_study"
    """Orders of two patients name one Study Instance UID."""
    NO_MODALITY = "no_modality"
    """An order says neither modality nor station: no worklist can show it."""
    UNMERGED_WITH_LATER_IMAGES = "unmerged_with_later_images"
    """Images came while two patients were one: somebody must say whose they are."""
    REJECTION_NOTE = "rejection_note"
    """A rejection note names nothing that can be rejected."""


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing to look at."""

    kind: Kind
    study_instance_uid: str
    patient_id: str
    """As the archive has it."""
    other_patient_id: str
    """As the object has it."""
    detail: str
    noticed_at: datetime
    resolved_at: datetime | None = None
    id: int = 0
    """Given by the archive."""


_COLUMNS: Final = tuple(table.c[field.name] for field in fields(Incident))


def note(session: Session, noticed: Sequence[Incident]) -> None:
    """Note incidents; one that is open already with the same facts is not repeated."""
    rows = [
        {name: value for name, value in asdict(incident).items() if name != "id"}
        for incident in noticed
    ]
    if rows:
        session.execute(insert(table).values(rows).on_conflict_do_nothing())


def list_open(session: Session, *, limit: int = 100, before: int | None = None) -> list[Incident]:
    """Return the newest `limit` incidents that nobody resolved; `before` is the last id seen."""
    statement = select(*_COLUMNS).where(table.c.resolved_at.is_(None))
    if before is not None:
        statement = statement.where(table.c.id < before)
    statement = statement.order_by(table.c.id.desc()).limit(limit)
    return [_incident(row) for row in session.execute(statement).mappings()]


def resolve(session: Session, incident_id: int) -> None:
    """Note that a person has dealt with the incident.

    Raises
    ------
    NotFound
        No open incident has this id.
    """
    resolved = session.execute(
        update(table)
        .where(table.c.id == incident_id, table.c.resolved_at.is_(None))
        .values(resolved_at=utc_now())
        .returning(table.c.id)
    ).one_or_none()
    if resolved is None:
        raise NotFound(f"no open incident has id {incident_id}")


def settle(session: Session, kind: Kind, study_instance_uid: str) -> None:
    """Resolve what has settled by itself: the open incidents of that kind about a study."""
    statement = update(table).where(
        table.c.kind == kind,
        table.c.study_instance_uid == study_instance_uid,
        table.c.resolved_at.is_(None),
    )
    session.execute(statement.values(resolved_at=utc_now()))


def _incident(row: RowMapping) -> Incident:
    return Incident(**{**row, "kind": Kind(row["kind"])})
