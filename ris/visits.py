"""Stays and calls of patients: where they are, and who sent them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, cast

from sqlalchemy import Table, bindparam, insert, select
from sqlalchemy.orm import aliased

from ris import identity
from ris.model import VisitStatus
from ris.requests import Context, VisitRequest
from ris.tables import PatientRow, VisitRow
from storage.base.clock import utc_now
from storage.db.engine import Session

# HL7 table 0003 → what the event makes of a visit; others leave it
_AFTER: Final[Mapping[str, VisitStatus]] = {
    "A01": VisitStatus.PRESENT,
    "A04": VisitStatus.PRESENT,
    "A05": VisitStatus.EXPECTED,
    "A06": VisitStatus.PRESENT,
    "A07": VisitStatus.PRESENT,
    "A10": VisitStatus.PRESENT,
    "A13": VisitStatus.PRESENT,
    "A14": VisitStatus.EXPECTED,
    "A03": VisitStatus.DISCHARGED,
    "A11": VisitStatus.CANCELED,
    "A27": VisitStatus.CANCELED,
    "A38": VisitStatus.CANCELED,
}
_TEXTS: Final = tuple(
    field.name for field in fields(VisitRequest) if field.name not in {"admission_id", "pregnant"}
)
CONFIRMED: Final = (*_TEXTS, "pregnant", "sent_at")
"""What of a visit `confirms` looks at."""
_PERSON: Final = aliased(PatientRow)
_OF_PATIENT: Final = (
    select(VisitRow)
    .where(
        VisitRow.sender == bindparam("its_sender"),
        VisitRow.patient_ref.in_(
            select(PatientRow.id).where(
                PatientRow.root_ref
                == select(_PERSON.root_ref)
                .where(_PERSON.id == bindparam("patient"))
                .scalar_subquery()
            )
        ),
    )
    .order_by(VisitRow.id.desc())
    .limit(1)
)
_NUMBERED: Final = _OF_PATIENT.where(VisitRow.admission_id == bindparam("number"))
_GOING_ON: Final = _OF_PATIENT.where(
    VisitRow.status.not_in([VisitStatus.DISCHARGED, VisitStatus.CANCELED])
)
_TABLE: Final = cast("Table", VisitRow.__table__)
_INSERT: Final = insert(_TABLE).returning(_TABLE.c.id)
_LONGEST_KEY: Final = 200
"""Characters of an admission id that are kept: a row of an index must fit in a page."""


def note(
    session: Session,
    context: Context,
    patient_id: int,
    request: VisitRequest,
    event: str = "",
    *,
    first: bool = False,
) -> tuple[int | None, bool]:
    """Write down what a message says of a visit; `event` is that of an ADT message, or ''.

    `first` is for a patient that was made just now, who has none yet.

    Returns
    -------
    tuple
        The visit, None when there is none, and whether anything of it changed.
    """
    status = _AFTER.get(event)
    told = _told(request)
    row = None if first else _find(session, context, patient_id, request)
    if row is None:
        if not told and not request.admission_id and status in {None, VisitStatus.CANCELED}:
            return None, False
        return _add(session, context, patient_id, request, status), True
    if identity.is_older(context.sent_at, row.sent_at):
        return row.id, False
    if status is not None:
        told["status"] = status
    changed = {name: value for name, value in told.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    if changed:
        row.changed_at = utc_now()
    row.sent_at = context.sent_at or row.sent_at
    session.flush()
    return row.id, bool(changed)


def introduced(
    context: Context, visit_id: int, patient_id: int, request: VisitRequest
) -> VisitRow | None:
    """Return a new visit as an order tells of it, None where it tells of none."""
    if not request.admission_id and not _told(request):
        return None
    return VisitRow(id=visit_id, **_values(context, patient_id, request, VisitStatus.PRESENT))


def confirms(held: Mapping[str, Any], context: Context, request: VisitRequest) -> bool:
    """Return whether an order tells of a visit what is known of it, and is not older."""
    told = _told(request)
    same = all(held[name] == value for name, value in told.items())
    return same and not identity.is_older(context.sent_at, held["sent_at"])


def number_of(request: VisitRequest) -> str:
    """Return the admission id that a visit is found by, '' for none."""
    return (request.admission_id or "")[:_LONGEST_KEY]


def _told(request: VisitRequest) -> dict[str, Any]:
    told = {name: value for name in _TEXTS if (value := getattr(request, name)) is not None}
    # that a patient is not pregnant is nowhere said: what was told once stays for the visit
    return {**told, "pregnant": True} if request.pregnant else told


def _find(
    session: Session, context: Context, patient_id: int, request: VisitRequest
) -> VisitRow | None:
    """Return the visit of that number, else the one that is going on."""
    given: dict[str, Any] = {"patient": patient_id, "its_sender": context.sender}
    if not request.admission_id:
        return session.scalars(_GOING_ON, given).one_or_none()
    given["number"] = number_of(request)
    return session.scalars(_NUMBERED, given).one_or_none()


def _add(
    session: Session,
    context: Context,
    patient_id: int,
    request: VisitRequest,
    status: VisitStatus | None,
) -> int:
    values = _values(context, patient_id, request, status or VisitStatus.PRESENT)
    made: int = session.execute(_INSERT, values).scalar_one()
    return made


def _values(
    context: Context, patient_id: int, request: VisitRequest, status: VisitStatus
) -> dict[str, Any]:
    now = utc_now()
    return {
        "patient_ref": patient_id,
        "sender": context.sender,
        "admission_id": number_of(request),
        "status": status,
        "sent_at": context.sent_at,
        "created_at": now,
        "changed_at": now,
        **_told(request),
    }
