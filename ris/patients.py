"""Patients as others see them: their numbers, who stands for whom, and their visits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import select

from ris import identity
from ris.model import Patient, PatientIdentifier, Visit, VisitStatus
from ris.tables import IdentifierRow, PatientRow, VisitRow
from storage.base.errors import NotFound
from storage.db.engine import Session

_PLAIN: Final = (
    "patient_name",
    "patient_birth_date",
    "patient_birth_date_sent",
    "patient_sex",
    "mother_name",
    "patient_address",
    "patient_telephone",
    "ethnic_group",
    "merged_into",
)
"""Columns that are called as in `Patient`."""


def get(session: Session, patient_id: int) -> Patient:
    """Return one patient, merged away or not.

    Raises
    ------
    NotFound
        There is none.
    """
    found = load(session, [patient_id])
    if patient_id not in found:
        raise NotFound(f"there is no patient {patient_id}")
    return found[patient_id]


def shown(session: Session, patient_id: int) -> Patient:
    """Return the patient who stands for this one, which is itself unless it was merged away.

    Raises
    ------
    NotFound
        There is none.
    """
    return get(session, get(session, patient_id).root)


def load(session: Session, ids: Collection[int]) -> dict[int, Patient]:
    """Return these patients by id."""
    rows = session.scalars(select(PatientRow).where(PatientRow.id.in_({*ids}))).all()
    identifiers = identifiers_of(session, [row.id for row in rows])
    return {row.id: _patient(row, identifiers.get(row.id, ())) for row in rows}


def identifiers_of(
    session: Session, ids: Collection[int]
) -> Mapping[int, tuple[PatientIdentifier, ...]]:
    """Return the numbers of these patients, the one that is shown first."""
    statement = (
        select(IdentifierRow)
        .where(IdentifierRow.patient_ref.in_({*ids}))
        .order_by(IdentifierRow.retired, IdentifierRow.position, IdentifierRow.id)
    )
    found: dict[int, tuple[PatientIdentifier, ...]] = {}
    for row in session.scalars(statement):
        found[row.patient_ref] = (*found.get(row.patient_ref, ()), _identifier(row))
    return found


def known_as(session: Session, numbers: Collection[str]) -> set[int]:
    """Return who stands for the patients with one of these numbers, of whichever issuer."""
    keys = {key for number in numbers for key in identity.spellings(number)}
    if not keys:
        return set()
    statement = (
        select(PatientRow.root_ref)
        .join(IdentifierRow, IdentifierRow.patient_ref == PatientRow.id)
        .where(IdentifierRow.value_key.in_(keys))
    )
    return {root for root in session.scalars(statement) if root is not None}


def merged_into(session: Session, root: int) -> Sequence[int]:
    """Return the patients that `root` stands for, without itself."""
    statement = select(PatientRow.id).where(PatientRow.root_ref == root, PatientRow.id != root)
    return session.scalars(statement.order_by(PatientRow.id)).all()


def visit(session: Session, visit_id: int) -> Visit:
    """Return one visit.

    Raises
    ------
    NotFound
        There is none.
    """
    row = session.get(VisitRow, visit_id)
    if row is None:
        raise NotFound(f"there is no visit {visit_id}")
    return _visit(row)


def visits(session: Session, ids: Collection[int]) -> dict[int, Visit]:
    """Return these visits by id."""
    rows = session.scalars(select(VisitRow).where(VisitRow.id.in_({*ids}))) if ids else ()
    return {row.id: _visit(row) for row in rows}


def _patient(row: PatientRow, identifiers: Sequence[PatientIdentifier]) -> Patient:
    return Patient(
        id=row.id,
        identifiers=tuple(identifiers),
        root=row.root_ref or row.id,
        further=row.further,
        **{name: getattr(row, name) for name in _PLAIN},
    )


def _identifier(row: IdentifierRow) -> PatientIdentifier:
    return PatientIdentifier(
        value=row.value,
        issuer=row.issuer,
        kind=row.kind,
        identifies=row.identifies,
        retired=row.retired,
    )


def _visit(row: VisitRow) -> Visit:
    return Visit(
        id=row.id,
        patient_id=row.patient_ref,
        sender=row.sender,
        admission_id=row.admission_id,
        patient_class=row.patient_class,
        location=row.location,
        referring_physician=row.referring_physician,
        attending_physician=row.attending_physician,
        pregnant=row.pregnant,
        insurance_number=row.insurance_number,
        status=VisitStatus(row.status),
        further=row.further,
    )
