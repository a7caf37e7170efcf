"""Look a patient up at the desk of a station, and break the glass.

A look-up shows what was released to the station already; a consent code that the patient brings
releases more. Whoever is found by number and year of birth, and has nothing for this station, is
answered as if nobody was found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from ris import patients
from ris.model import Patient
from ris.releases import bases, releasing
from ris.releases.bases import NewBasis
from ris.releases.model import Basis, BasisKind, Sensitive
from ris.reports import releasing as settling
from ris.stations import alarms, consents, feed
from ris.stations.alarms import AlarmKind
from ris.stations.faults import Invalid, Missing, NotAllowed, fault
from ris.stations.feed import Item
from storage.access.station_sessions import Visitor
from storage.base.clock import utc_now
from storage.db.engine import Session

EMERGENCY_LASTS: Final = timedelta(hours=4)
_CARD: Final = 15
_INSURED: Final = 10
"""Digits at the end of the first 15 characters of a health insurance card: the number itself."""


class Number(StrEnum):
    """Which number of a patient is given."""

    CCCD = "cccd"
    BHYT = "bhyt"
    MA_BN = "ma_bn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who stands at the desk."""

    number: Number
    value: str
    birth_year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look-up brought; `patient` may be known where `items` are empty."""

    patient: Patient | None
    items: Sequence[Item]
    basis: Basis | None = None
    """A basis that was made by it."""


def look_up(
    session: Session, visitor: Visitor, wanted: Wanted, kind: BasisKind, evidence: str
) -> Found:
    """Return what the station may see of a patient.

    Raises
    ------
    NotAllowed
        The basis is not open to stations, or the consent code is not right.
    """
    if kind is BasisKind.STATUTE:
        raise NotAllowed(fault("not_open", "/basis"))
    patient = find(session, wanted)
    made = None
    if kind is BasisKind.CONSENT:
        made = consents.redeem(session, visitor, patient, evidence)
    if patient is None:
        return Found(patient=None, items=())
    shown = _shown(session, visitor.station.id, patient.id)
    return Found(patient=patient, items=shown, basis=made)


def break_glass(
    session: Session,
    visitor: Visitor,
    wanted: Wanted,
    reason: str,
    covers: frozenset[Sensitive] = frozenset(),
) -> Found:
    """Release everything of a patient to a station for `EMERGENCY_LASTS`, and raise an alarm.

    Raises
    ------
    Missing
        Nobody is found.
    Invalid
        No reason is given.
    """
    if not reason.strip():
        raise Invalid(fault("required", "/reason"))
    patient = find(session, wanted)
    if patient is None:
        raise Missing(fault("no_patient"))
    settling.lock_patient(session, patient.id)
    basis = bases.record(
        session,
        NewBasis(
            kind=BasisKind.EMERGENCY,
            station_id=visitor.station.id,
            patient_id=patient.id,
            via="desk",
            evidence=f"{visitor.actor} {visitor.device}"[: bases.LONGEST],
            covers=covers,
            ends_at=utc_now() + EMERGENCY_LASTS,
            recorded_by=visitor.actor,
            reason=reason.strip()[: bases.LONGEST],
        ),
    )
    settling.settle_patient(session, patient.id)
    alarms.raise_(
        session,
        visitor.station.id,
        AlarmKind.EMERGENCY,
        basis=basis.uid,
        actor=visitor.actor,
        patient=patient.id,
    )
    return Found(
        patient=patient, items=_shown(session, visitor.station.id, patient.id), basis=basis
    )


def find(session: Session, wanted: Wanted) -> Patient | None:
    """Return the one patient with that number and year of birth; None: nobody, or several."""
    roots = patients.known_as(session, {*_spellings(wanted)})
    found = [
        one for one in patients.load(session, roots).values() if _year(one) == wanted.birth_year
    ]
    return found[0] if len(found) == 1 else None


def _shown(session: Session, station_id: int, patient_id: int) -> Sequence[Item]:
    uids = settling.reports_of(session, patient_id)
    return feed.items(session, releasing.of_reports(session, station_id, uids))


def _spellings(wanted: Wanted) -> Iterator[str]:
    yield wanted.value
    if wanted.number is Number.BHYT:
        bare = "".join(wanted.value.split())
        yield bare[:_CARD]
        yield bare[:_CARD][-_INSURED:]


def _year(patient: Patient) -> int | None:
    if patient.patient_birth_date is not None:
        return patient.patient_birth_date.year
    year = patient.patient_birth_date_sent[:4]
    return int(year) if year.isdecimal() else None
