"""Which patient an object belongs to: never two persons in one row.

A patient is found by Patient ID and its issuer *and* by demographics that do not
contradict each other. The first value of an attribute stays, blanks are filled.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import RowMapping, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from storage.archive import rows, tables
from storage.archive.model import Level
from storage.archive.rows import Value
from storage.base import names
from storage.db.engine import Session

Identifier = tuple[str, str]
"""Patient ID and its issuer; a Patient ID of '' identifies nobody."""

_TABLE = tables.patients
_SURVIVOR = tables.patients.alias("survivors")


@dataclass(slots=True, eq=False)
class Patient:
    """A patient of the index, or one about to be in it."""

    values: dict[str, Value]
    """Every column of the attributes."""
    id: int | None = None
    """None until the row is written."""
    filled: dict[str, Value] = field(default_factory=dict)
    shown: "Patient | None" = None
    """Who it is shown as, when that is not what its objects say: see `corrections`."""
    correction: str = ""
    """What is put into its objects on their way out, as JSON."""

    @property
    def patient_id(self) -> str:
        """The first Patient ID this patient came with."""
        return str(self.values["patient_id"])

    @property
    def identifier(self) -> Identifier:
        """The Patient ID with its issuer."""
        return self.patient_id, str(self.values["issuer_of_patient_id"])

    @property
    def copied(self) -> dict[str, Value]:
        """What a study keeps a copy of."""
        values = (self.shown or self).values
        return {name: values[name] for name in ("patient_id", "patient_name_key")}


class Likeness(StrEnum):
    """How the demographics of two records compare."""

    SAME = "same"
    """Name and birth date are given in both and equal, or empty in both."""
    COMPATIBLE = "compatible"
    """What is given in both is equal."""
    OTHER = "other"


def identifier(attributes: Mapping[str, str]) -> Identifier:
    """Return the identifier that an object gives its patient."""
    return (
        rows.clean(attributes.get("PatientID", "")),
        rows.clean(attributes.get("IssuerOfPatientID", "")),
    )


def likeness(one: Mapping[str, Value], other: Mapping[str, Value]) -> Likeness:
    """Compare name (folded, in any order) and birth date; PatientSex is too often wrong."""
    ours, theirs = str(one["patient_name"]), str(other["patient_name"])
    born, also_born = one["patient_birth_date"], other["patient_birth_date"]
    if not names.same_person_name(ours, theirs) or (born and also_born and born != also_born):
        return Likeness.OTHER
    same_words = bool(one["patient_name_key"]) == bool(other["patient_name_key"])
    return Likeness.SAME if same_words and born == also_born else Likeness.COMPATIBLE


def alike(patient: Patient, values: Mapping[str, Value]) -> Likeness:
    """Compare an object with what those before it said, and with what the patient is shown as."""
    if patient.shown is None:
        return likeness(patient.values, values)
    found = {likeness(one.values, values) for one in (patient, patient.shown)}
    return next(one for one in Likeness if one in found)


def certainly_same(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Return whether name and birth date are given in both records and equal."""
    given = one["patient_name_key"] and one["patient_birth_date"]
    return bool(given) and likeness(one, other) is Likeness.SAME


def is_certainly(patient: Patient, values: Mapping[str, Value]) -> bool:
    """Return whether an object is certainly of a patient, by what it is shown as as well."""
    known = (patient, patient.shown) if patient.shown else (patient,)
    return any(certainly_same(one.values, values) for one in known)


def choose(candidates: Sequence[Patient], values: Mapping[str, Value]) -> Patient | None:
    """Return the one of `candidates`, all with the same identifier, that `values` describe.

    None when they describe another person, or when a blank leaves it open which.
    """
    found = {id(one): alike(one, values) for one in candidates}
    same = [one for one in candidates if found[id(one)] is Likeness.SAME]
    if same:
        return same[0]
    compatible = [one for one in candidates if found[id(one)] is Likeness.COMPATIBLE]
    return compatible[0] if len(compatible) == 1 else None


def load(session: Session, ids: Collection[int]) -> dict[int, Patient]:
    """Return the patients with these row ids."""
    wanted = [*ids]
    if not wanted:
        return {}
    statement = select(_TABLE, _SURVIVOR).outerjoin(
        _SURVIVOR, _SURVIVOR.c.id == _TABLE.c.survivor_ref
    )
    found = session.execute(
        statement.where(_TABLE.c.id == any_(literal(wanted, ARRAY(BigInteger))))
    ).mappings()
    return {row[_TABLE.c.id]: _patient(row) for row in found}


def _patient(row: RowMapping) -> Patient:
    columns = {column.name: row[column] for column in _TABLE.c}
    patient = Patient({**columns, **(columns["received"] or {})}, columns["id"])
    patient.correction = str(columns["correction"])
    if columns["survivor_ref"] is not None:
        survivor = {column.name: row[column] for column in _SURVIVOR.c}
        patient.shown = Patient(survivor, survivor["id"])
    elif columns["received"] is not None:
        patient.shown = Patient(columns, columns["id"])
    return patient


def ids_of(session: Session, identifiers: Iterable[Identifier]) -> dict[Identifier, list[int]]:
    """Return the row ids of the patients that each identifier is of, oldest first."""
    known = tables.patient_identifiers
    wanted = {identifier for identifier in identifiers if identifier[0]}
    starts = literal([text[: tables.INDEXED_CHARACTERS] for text, _ in wanted], ARRAY(Text))
    statement = (
        select(known.c.identifier, known.c.issuer, known.c.patient_ref)
        .where(tables.start_of(known.c.identifier) == any_(starts))
        .order_by(known.c.patient_ref)
    )
    found: dict[Identifier, list[int]] = {}
    for text, issuer, patient_ref in session.execute(statement) if wanted else ():
        if (text, issuer) in wanted:
            found.setdefault((text, issuer), []).append(patient_ref)
    return found


def fill(patient: Patient, attributes: Mapping[str, str]) -> None:
    """Fill the blanks of `patient` from an object of the same person.

    Its Patient ID is that of `patient`, or `patient` has none: so whoever fills holds
    the lock of that identifier. An issuer is never added to an identifier that had none.
    """
    found = rows.fills(Level.PATIENT, patient.values, attributes)
    if "patient_id" not in found:
        found.pop("issuer_of_patient_id", None)
    patient.values.update(found)
    patient.filled.update(found)
