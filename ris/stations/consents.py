"""Consent: given at the hospital, for a station or as a code that is shown at a desk once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select

from ris.model import Patient
from ris.releases import bases
from ris.releases.bases import NewBasis
from ris.releases.model import Basis, BasisKind, Sensitive
from ris.releases.tables import ConsentCodeRow
from ris.reports import releasing as settling
from ris.stations.faults import NotAllowed, fault
from storage.access import random_secrets
from storage.access.station_sessions import Visitor
from storage.base.clock import utc_now
from storage.db.engine import Session

LONGEST_HOURS: Final = 24 * 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a patient has agreed to."""

    patient_id: int
    station_id: int
    via: str
    """written, electronic."""
    evidence: str
    """Of the paper or the record that proves it."""
    covers: frozenset[Sensitive] = frozenset()
    ends_at: datetime | None = None


def give(session: Session, consent: Consent, by: str) -> Basis:
    """Record a consent and release what it shows.

    Raises
    ------
    NotFound
        There is no such patient.
    Malformed
        Its evidence is missing.
    """
    root = settling.lock_patient(session, consent.patient_id)
    basis = bases.record(
        session,
        NewBasis(
            kind=BasisKind.CONSENT,
            station_id=consent.station_id,
            patient_id=root,
            via=consent.via,
            evidence=consent.evidence,
            covers=consent.covers,
            ends_at=consent.ends_at,
            recorded_by=by,
        ),
    )
    settling.settle_patient(session, root)
    return basis


def withdraw(session: Session, uid: str, by: str, reason: str = "") -> Basis:
    """End a basis of any kind; what nothing else shows is to be deleted at the station.

    Raises
    ------
    NotFound
        There is no such basis.
    """
    return _end(session, bases.find(session, uid), by, reason)


def ended(session: Session, basis_id: int) -> Basis:
    """Do what is to be done when a basis ends by itself."""
    basis = bases.get(session, basis_id)
    _settle(session, basis)
    return basis


def code(
    session: Session,
    patient_id: int,
    by: str,
    *,
    hours: int = 24,
    covers: frozenset[Sensitive] = frozenset(),
) -> str:
    """Return a code that opens the patient's reports to the first station where he shows it.

    Raises
    ------
    NotFound
        There is no such patient.
    """
    root = settling.lock_patient(session, patient_id)
    secret = random_secrets.new()
    now = utc_now()
    session.add(
        ConsentCodeRow(
            code_sha256=random_secrets.digest(secret),
            patient_ref=root,
            covers=sorted(covers),
            hours=min(hours, LONGEST_HOURS),
            recorded_by=by,
            recorded_at=now,
            ends_at=now + timedelta(days=30),
        )
    )
    session.flush()
    return secret


def redeem(session: Session, visitor: Visitor, patient: Patient | None, secret: str) -> Basis:
    """Take a code that a patient shows.

    Raises
    ------
    NotAllowed
        It is not this patient's, was used or is over; which of these is not told.
    """
    row = session.scalar(
        select(ConsentCodeRow)
        .where(ConsentCodeRow.code_sha256 == random_secrets.digest(secret))
        .with_for_update()
    )
    now = utc_now()
    valid = row is not None and row.used_at is None and row.ends_at > now
    if row is None or not valid or patient is None:
        raise NotAllowed(fault("bad_consent", "/evidence"))
    if settling.lock_patient(session, row.patient_ref) != patient.id:
        raise NotAllowed(fault("bad_consent", "/evidence"))
    row.used_at = now
    basis = bases.record(
        session,
        NewBasis(
            kind=BasisKind.CONSENT,
            station_id=visitor.station.id,
            patient_id=patient.id,
            via="code",
            evidence=f"code {row.id}",
            covers=frozenset(map(Sensitive, row.covers)),
            ends_at=now + timedelta(hours=row.hours),
            recorded_by=visitor.actor,
        ),
    )
    settling.settle_patient(session, patient.id)
    return basis


def _end(session: Session, basis: Basis, by: str, reason: str) -> Basis:
    if basis.patient_id is not None:
        settling.lock_patient(session, basis.patient_id)
    elif basis.order_id is not None:
        settling.lock_order(session, basis.order_id)
    over = bases.withdraw(session, basis.uid, by, reason)
    _settle(session, basis)
    return over


def _settle(session: Session, basis: Basis) -> None:
    if basis.patient_id is not None:
        settling.settle_patient(session, basis.patient_id)
    elif basis.order_id is not None:
        settling.settle_order(session, basis.order_id)
