"""Received objects that are kept aside until a person decides.

Their bytes lie in the object store under a key of their own; nothing here
touches the index.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, RowMapping, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from storage.archive.rows import clean
from storage.archive.tables import quarantine as table
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session

MAX_TEXT: Final = 500
"""Characters of any one text: what is held here is not known to be sound."""


class Reason(StrEnum):
    """Why a received object is kept aside."""

    NOT_DICOM = "not_dicom"
    MALFORMED = "malformed"
    MISSING_UID = "missing_uid"
    UID_MISMATCH = "uid_mismatch"
    """The command and the dataset name different SOP Classes or Instances."""
    DUPLICATE_UID = "duplicate_uid"
    """The SOP Instance UID is held already, with other bytes."""
    OTHER_PARENT = "other_parent"
    """The SOP Instance UID is held already, in another series or study."""
    SERIES_MISMATCH = "series_mismatch"
    """The Series Instance UID is held already, in another study."""
    PATIENT_MISMATCH = "patient_mismatch"
    """The study is held already, of another patient."""
    NOT_PERMITTED = "not_permitted"
    UNPROCESSABLE = "unprocessable"


class State(StrEnum):
    """What a person decided about a held object."""

    HELD = "held"
    RELEASED = "released"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Held:
    """One object that is kept aside; texts are there as far as they are known."""

    received_at: datetime
    reason: Reason
    object_key: str
    dataset_offset: int
    dataset_size: int
    dataset_sha256: str
    detail: str = ""
    """Names the fault and no patient data."""
    wire: str = ""
    source_ae_title: str = ""
    address: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    state: State = State.HELD
    id: int = 0
    """Given by the archive."""


_COLUMNS: Final = tuple(table.c[field.name] for field in fields(Held))


def hold(session: Session, held: Held) -> None:
    """Keep `held` aside; an object whose key is there already is left as it is."""
    row = {
        field.name: _bounded(getattr(held, field.name))
        for field in fields(Held)
        if field.name != "id"
    }
    session.execute(insert(table).values(row).on_conflict_do_nothing())


def list_held(
    session: Session,
    *,
    limit: int = 100,
    after: int | None = None,
    state: State | None = State.HELD,
    reason: Reason | None = None,
    study_instance_uid: str | None = None,
) -> list[Held]:
    """Return the newest `limit` objects that fit every filter; `after` is the last id seen."""
    statement = (
        select(*_COLUMNS)
        .where(*_filters(state, reason, study_instance_uid))
        .order_by(table.c.received_at.desc(), table.c.id.desc())
        .limit(limit)
    )
    if after is not None:
        last = select(table.c.received_at).where(table.c.id == after).scalar_subquery()
        statement = statement.where(
            tuple_(table.c.received_at, table.c.id) < tuple_(last, literal(after))
        )
    return [_held(row) for row in session.execute(statement).mappings()]


def count(
    session: Session, *, state: State | None = State.HELD, reason: Reason | None = None
) -> int:
    """Return how many objects fit every filter."""
    statement = select(func.count()).select_from(table).where(*_filters(state, reason, None))
    return session.execute(statement).scalar_one()


def get(session: Session, held_id: int) -> Held:
    """Return one object.

    Raises
    ------
    NotFound
        There is none with this id.
    """
    row = session.execute(select(*_COLUMNS).where(table.c.id == held_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"nothing is held under id {held_id}")
    return _held(row)


def mark_released(session: Session, held_id: int) -> None:
    """Note that the object went into the archive after all.

    Raises
    ------
    NotFound
        There is none with this id.
    Conflict
        It was discarded.
    """
    _mark(session, held_id, State.RELEASED)


def mark_discarded(session: Session, held_id: int) -> None:
    """Note that a person does not want the object; its bytes stay.

    Raises
    ------
    NotFound
        There is none with this id.
    Conflict
        It was released.
    """
    _mark(session, held_id, State.DISCARDED)


def _mark(session: Session, held_id: int, state: State) -> None:
    marked = session.execute(
        update(table)
        .where(table.c.id == held_id, table.c.state.in_([State.HELD, state]))
        .values(state=state)
        .returning(table.c.id)
    ).one_or_none()
    if marked is None:
        raise Conflict(f"the object held under id {held_id} is {get(session, held_id).state}")


def _filters(
    state: State | None, reason: Reason | None, study_instance_uid: str | None
) -> list[ColumnElement[bool]]:
    wanted: Mapping[str, str | None] = {
        "state": state,
        "reason": reason,
        "study_instance_uid": study_instance_uid,
    }
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def _bounded(value: object) -> object:
    return clean(value[:MAX_TEXT]) if isinstance(value, str) else value


def _held(row: RowMapping) -> Held:
    typed = {"reason": Reason(row["reason"]), "state": State(row["state"])}
    return Held(**{**row, **typed})
