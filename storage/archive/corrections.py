"""What is shown of a patient in place of what the objects say, and how to take it back.

    patients.received        what the objects say (matching goes by it, and by what is shown)
    patients.survivor_ref    who is shown instead: a merge
    studies.patient_ref      who is shown; studies.own_patient_ref  whom the objects name
    studies.correction       what is put into the objects on their way out
    series.changed_at        set with it: metadata objects that were made before are out of date

Whoever decides says how each patient shall be shown from now on (`show`), the whole of it; so the
same said twice changes nothing, and nothing said brings back what the objects say. Objects are
never touched.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Text,
    any_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from storage.archive import locks, rows, tables
from storage.archive.attributes import of_level
from storage.archive.model import Level
from storage.archive.rows import Value
from storage.base.clock import utc_now
from storage.db import together
from storage.db.engine import Session
from storage.db.together import Question

IDENTITY: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
)
"""What is corrected, always all of it: parts of two persons would be a third one."""
_PLAIN: Final = {
    row.keyword: row.column for row in of_level(Level.PATIENT) if row.keyword in IDENTITY
}
_COLUMNS: Final = (*_PLAIN.values(), "patient_name_key")

_patients, _studies, _series = tables.patients.c, tables.studies.c, tables.series.c
_OWN: Final[ColumnElement[int]] = func.coalesce(
    _studies.own_patient_ref, _studies.patient_ref, type_=BigInteger
)


@dataclass(frozen=True, slots=True)
class Held:
    """A patient of the archive as its objects name it."""

    id: int
    identity: Mapping[str, str]
    """By the keywords of `IDENTITY`."""


@dataclass(frozen=True, slots=True)
class Showing:
    """How a patient shall be shown."""

    id: int
    survivor: int | None = None
    """Another patient, under whom its studies are shown."""
    identity: Mapping[str, str] | None = None
    """By the keywords of `IDENTITY`, all of them; None: as its objects say."""


_NAMED: Final = (
    select(tables.patient_identifiers.c.patient_ref)
    .distinct()
    .where(
        tables.start_of(tables.patient_identifiers.c.identifier)
        == any_(bindparam("starts", type_=ARRAY(Text))),
        tables.patient_identifiers.c.identifier == any_(bindparam("wanted", type_=ARRAY(Text))),
    )
)


_NAMED_SQL: Final = together.written(_NAMED)


def named(session: Session, patient_ids: Collection[str]) -> list[Held]:
    """Return the patients whose objects bear one of these Patient IDs, oldest first."""
    given = _named(patient_ids)
    return held(session, session.scalars(_NAMED, given).all()) if given["wanted"] else []


def naming(patient_ids: Collection[str]) -> Question:
    """Return how to ask for the rows of patients whose objects bear one of these Patient IDs."""
    return Question(_NAMED_SQL, _named(patient_ids))


def _named(patient_ids: Collection[str]) -> dict[str, list[str]]:
    wanted = {rows.clean(text) for text in patient_ids} - {""}
    return {
        "starts": [text[: tables.INDEXED_CHARACTERS] for text in wanted],
        "wanted": [*wanted],
    }


def held(session: Session, ids: Collection[int]) -> list[Held]:
    """Return these patients, oldest first."""
    wanted = _patients.id == any_(literal([*ids], ARRAY(BigInteger)))
    statement = select(tables.patients).where(wanted).order_by(_patients.id)
    return [_held(row) for row in session.execute(statement).mappings()] if ids else []


def hold(session: Session, people: Iterable[Held]) -> None:
    """Keep the ingest from adding to these patients until the transaction ends."""
    names = {locks.patient(one.identity["PatientID"], _issuer(one)) for one in people}
    locks.take(session, names)


def arrived(session: Session, limit: int) -> Sequence[int]:
    """Return new patients that nobody has looked at, oldest first; hold them."""
    table = tables.arrived_patients
    statement = (
        select(table.c.patient_ref)
        .order_by(table.c.patient_ref)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return session.scalars(statement).all()


def seen(session: Session, ids: Collection[int]) -> None:
    """Note that somebody has looked at these new patients."""
    table = tables.arrived_patients
    session.execute(delete(table).where(table.c.patient_ref.in_(ids)))


def show(session: Session, showings: Sequence[Showing]) -> None:
    """Show each patient so from now on; survivors must be among them.

    The caller holds them (`hold`).
    """
    ordered = sorted(showings, key=lambda one: one.survivor is not None)
    shown: dict[int, RowMapping] = {}
    for showing in ordered:
        shown[showing.id] = _show_patient(session, showing)
    for showing in ordered:
        _show_studies(session, showing, shown[showing.survivor or showing.id])


def since(session: Session, ids: Collection[int], at: datetime) -> Sequence[str]:
    """Return the studies of these patients that came, or went on, since then."""
    statement = (
        select(_studies.study_instance_uid)
        .where(any_(literal([*ids], ARRAY(BigInteger))) == _OWN, _studies.changed_at >= at)
        .where(or_(_studies.patient_ref.in_(ids), _studies.own_patient_ref.in_(ids)))
        .order_by(_studies.id)
    )
    return session.scalars(statement).all() if ids else []


def _held(row: RowMapping) -> Held:
    said = {**row, **(row["received"] or {})}
    return Held(row["id"], {keyword: str(said[column]) for keyword, column in _PLAIN.items()})


def _issuer(one: Held) -> str:
    return one.identity["IssuerOfPatientID"]


def _show_patient(session: Session, showing: Showing) -> RowMapping:
    """Set what is shown of a patient itself; return its row as it is then."""
    statement = select(tables.patients).where(_patients.id == showing.id).with_for_update()
    row = session.execute(statement).mappings().one()
    said = {name: row[name] for name in _COLUMNS}
    if row["received"] is not None:
        said = {name: row["received"][name] for name in _COLUMNS}
    identity = showing.identity if showing.survivor is None else None
    wanted = _columns(identity) if identity is not None else said
    values: dict[str, Any] = {
        **wanted,
        "received": _whole(row) if identity is not None else None,
        "survivor_ref": showing.survivor,
        "correction": _text(showing.identity),
    }
    if row["received"] is not None and identity is None:
        values = {**{name: row["received"][name] for name in row["received"]}, **values}
    if all(row[name] == value for name, value in values.items()):
        return row
    changed = (
        update(tables.patients)
        .where(_patients.id == showing.id)
        .values(values)
        .returning(tables.patients)
    )
    return session.execute(changed).mappings().one()


def _whole(row: RowMapping) -> dict[str, Value]:
    """Return every attribute as the objects say it."""
    if row["received"] is not None:
        return dict(row["received"])
    return {name: row[name] for name in rows.values(Level.PATIENT, {})}


def _columns(identity: Mapping[str, str]) -> dict[str, Value]:
    values = rows.values(Level.PATIENT, identity)
    return {name: values[name] for name in _COLUMNS}


def _text(identity: Mapping[str, str] | None) -> str:
    if identity is None:
        return ""
    return json.dumps(dict(identity), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _show_studies(session: Session, showing: Showing, shown: RowMapping) -> None:
    """Show the studies of a patient under the one that is shown for it."""
    elsewhere = shown["id"] != showing.id
    values = {
        "patient_ref": shown["id"],
        "own_patient_ref": showing.id if elsewhere else None,
        "patient_id": shown["patient_id"],
        "patient_name_key": shown["patient_name_key"],
        "correction": _text(showing.identity),
    }
    differs = or_(*(_studies[name].is_distinct_from(value) for name, value in values.items()))
    changed = (
        update(tables.studies)
        .where(or_(_studies.patient_ref == showing.id, _studies.own_patient_ref == showing.id))
        .where(_OWN.in_([showing.id]), differs)
        .values(values)
        .returning(_studies.id)
    )
    ids = session.scalars(changed).all()
    if ids:
        of_them = _series.study_ref == any_(literal([*ids], ARRAY(BigInteger)))
        session.execute(update(tables.series).where(of_them).values(changed_at=utc_now()))
