"""Legal bases: recorded, withdrawn, reviewed; each by a person and with its evidence."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import insert

from ris.releases.model import Basis, BasisKind, Sensitive
from ris.releases.tables import BasisRow
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Session
from storage.jobs import queue

END: Final = "ris.end_basis"
"""Done when a basis ends by itself."""
FOLLOW: Final = "ris.follow_patient"
"""Done when a patient was merged, or taken apart again."""
FOLLOWED_AFTER: Final = timedelta(seconds=5)
"""Whoever saw the patients as they were before has committed by then."""
LONGEST: Final = 500
_PATIENT: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('release ' || :id, 0))")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBasis:
    """What is to be recorded."""

    kind: BasisKind
    station_id: int
    patient_id: int | None = None
    order_id: int | None = None
    via: str
    evidence: str
    covers: frozenset[Sensitive] = frozenset()
    ends_at: datetime | None = None
    recorded_by: str
    reason: str = ""


def lock(session: Session, patient_id: int | None) -> None:
    """Have one transaction at a time change what may be seen of a patient.

    Who signs and who gives or withdraws consent both hold it to their end: neither can act on
    what the other is about to make untrue.
    """
    if patient_id is not None:
        session.execute(_PATIENT, {"id": str(patient_id)})


def follow(session: Session, *patient_ids: int) -> None:
    """Have somebody see anew, soon, who may see the reports of these patients."""
    for patient_id in patient_ids:
        queue.enqueue(session, FOLLOW, utc_now() + FOLLOWED_AFTER, patient_id=patient_id)


def record(session: Session, new: NewBasis) -> Basis:
    """Write a basis down; the patient has to be locked. A referral that is known stays as it is.

    Raises
    ------
    Malformed
        It is about nobody, or its evidence is missing or too long.
    """
    if new.patient_id is None and new.order_id is None:
        raise Malformed("a basis is about a patient or an order")
    evidence = new.evidence.replace("\0", "").strip()
    if not 0 < len(evidence) <= LONGEST or len(new.reason) > LONGEST:
        raise Malformed(f"a basis has an evidence of at most {LONGEST} characters")
    now = utc_now()
    values = {
        "uid": uuid4().hex,
        "kind": new.kind,
        "station_ref": new.station_id,
        "patient_ref": new.patient_id,
        "order_ref": new.order_id,
        "via": new.via,
        "evidence": evidence,
        "covers": sorted(new.covers),
        "starts_at": now,
        "ends_at": new.ends_at,
        "recorded_by": new.recorded_by,
        "recorded_at": now,
        "reason": new.reason.replace("\0", ""),
    }
    statement = insert(BasisRow).values(**values).on_conflict_do_nothing().returning(BasisRow.id)
    made = session.scalar(statement)
    if made is None:
        [known] = _rows(
            session,
            BasisRow.order_ref == new.order_id,
            BasisRow.station_ref == new.station_id,
            BasisRow.withdrawn_at.is_(None),
        )
        return basis_of(known)
    if new.ends_at is not None:
        queue.enqueue(session, END, new.ends_at, basis_id=made)
    return get(session, made)


def withdraw(session: Session, uid: str, by: str, reason: str = "") -> Basis:
    """End a basis; one that is over is left as it is. The patient has to be locked.

    Raises
    ------
    NotFound
        There is no such basis.
    """
    row = _held(session, uid)
    if row.withdrawn_at is None:
        row.withdrawn_at, row.withdrawn_by = utc_now(), by
        row.reason = reason.replace("\0", "")[:LONGEST] or row.reason
        session.flush()
    return basis_of(row)


def review(session: Session, uid: str, by: str, verdict: str) -> Basis:
    """Note what a person thinks of an emergency access.

    Raises
    ------
    NotFound
        There is no such emergency.
    """
    row = _held(session, uid)
    if row.kind != BasisKind.EMERGENCY:
        raise NotFound("there is no such emergency access")
    row.reviewed_at, row.reviewed_by, row.review = utc_now(), by, verdict[:LONGEST]
    session.flush()
    return basis_of(row)


def get(session: Session, basis_id: int) -> Basis:
    """Return one basis by its id."""
    return basis_of(session.get_one(BasisRow, basis_id, populate_existing=True))


def find(session: Session, uid: str) -> Basis:
    """Return one basis.

    Raises
    ------
    NotFound
        There is none.
    """
    rows = _rows(session, BasisRow.uid == uid.replace("\0", ""))
    if not rows:
        raise NotFound("there is no such basis")
    return basis_of(rows[0])


def load(session: Session, ids: Collection[int]) -> dict[int, Basis]:
    """Return these bases by id."""
    return {row.id: basis_of(row) for row in _rows(session, BasisRow.id.in_({*ids}))}


def about(
    session: Session, patient_ids: Iterable[int], order_ids: Iterable[int]
) -> Sequence[Basis]:
    """Return every basis that may be one for these, over or not, oldest first."""
    wanted = or_(BasisRow.patient_ref.in_({*patient_ids}), BasisRow.order_ref.in_({*order_ids}))
    return [basis_of(row) for row in _rows(session, wanted)]


def list_kind(session: Session, kind: BasisKind, limit: int = 200) -> Sequence[Basis]:
    """Return the newest bases of a kind."""
    statement = select(BasisRow).where(BasisRow.kind == kind).order_by(BasisRow.id.desc())
    return [basis_of(row) for row in session.scalars(statement.limit(limit))]


def basis_of(row: BasisRow) -> Basis:
    """Return a basis."""
    return Basis(
        id=row.id,
        uid=row.uid,
        kind=BasisKind(row.kind),
        station_id=row.station_ref,
        patient_id=row.patient_ref,
        order_id=row.order_ref,
        via=row.via,
        evidence=row.evidence,
        covers=frozenset(map(Sensitive, row.covers)),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        recorded_by=row.recorded_by,
        recorded_at=row.recorded_at,
        withdrawn_at=row.withdrawn_at,
        withdrawn_by=row.withdrawn_by,
        reason=row.reason,
        reviewed_at=row.reviewed_at,
        reviewed_by=row.reviewed_by,
        review=row.review,
    )


def _held(session: Session, uid: str) -> BasisRow:
    statement = select(BasisRow).where(BasisRow.uid == uid.replace("\0", "")).with_for_update()
    row = session.scalar(statement.execution_options(populate_existing=True))
    if row is None:
        raise NotFound("there is no such basis")
    return row


def _rows(session: Session, *conditions: object) -> Sequence[BasisRow]:
    statement = select(BasisRow).where(*conditions).order_by(BasisRow.id)  # type: ignore[arg-type]
    return session.scalars(statement.execution_options(populate_existing=True)).all()
