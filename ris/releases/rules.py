"""Which basis shows which report: pure, and default deny."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from ris.releases.model import Basis, BasisKind, Facts, Reason, Sensitive, State

ADULT: Final = 16
"""Years; the age up to which a patient's report is one of a minor."""
_ALWAYS: Final[Mapping[BasisKind, frozenset[Sensitive]]] = {
    # who sent a child knows the child
    BasisKind.REFERRAL: frozenset({Sensitive.MINOR}),
    BasisKind.EMERGENCY: frozenset({Sensitive.MINOR}),
    BasisKind.CONSENT: frozenset(),
    BasisKind.STATUTE: frozenset(),
}
"""Sensitive classes that a basis covers without saying so."""

# HL7 table 0177 and words that HIS write in ORC-28
_CODES: Final[Mapping[str, Sensitive]] = {
    "HIV": Sensitive.HIV,
    "PSY": Sensitive.PSYCHIATRIC,
    "VIP": Sensitive.VIP,
    "ABUSE": Sensitive.ABUSE,
    "R": Sensitive.RESTRICTED,
    "V": Sensitive.RESTRICTED,
    "UWM": Sensitive.RESTRICTED,
    "AID": Sensitive.HIV,
}
_USUAL: Final = frozenset({"", "U", "N", "L", "M", "USUAL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What was released of a report to one station."""

    station_id: int
    basis: Basis
    revision: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has to be written for one station."""

    station_id: int
    basis: Basis
    state: State
    reason: Reason = Reason.NONE


def sensitive_of(confidentiality: str, born: date | None, on: date) -> frozenset[Sensitive]:
    """Return the classes that follow from an order and from the patient's age.

    A code of confidentiality that nobody knows counts as restricted.
    """
    code = confidentiality.strip().upper()
    found = set() if code in _USUAL else {_CODES.get(code, Sensitive.RESTRICTED)}
    if born is not None and _years(born, on) < ADULT:
        found.add(Sensitive.MINOR)
    return frozenset(found)


def holds(basis: Basis, now: datetime) -> bool:
    """Return whether a basis is one at `now`."""
    begun = basis.starts_at <= now
    return begun and basis.withdrawn_at is None and (basis.ends_at is None or now < basis.ends_at)


def covers(basis: Basis, facts: Facts, now: datetime) -> bool:
    """Return whether a basis shows this report to its station."""
    if not holds(basis, now):
        return False
    about = (
        basis.order_id in facts.order_ids
        if basis.order_id is not None
        else basis.patient_id in facts.patient_ids
    )
    return about and facts.sensitive <= basis.covers | _ALWAYS[basis.kind]


def entitled(bases: Iterable[Basis], facts: Facts, now: datetime) -> Mapping[int, Basis]:
    """Return by station the strongest basis that shows the report."""
    order = [*BasisKind]
    found: dict[int, Basis] = {}
    for basis in sorted(bases, key=lambda one: (order.index(one.kind), one.id)):
        if covers(basis, facts, now):
            found.setdefault(basis.station_id, basis)
    return found


def changes(
    present: Sequence[Present], bases: Sequence[Basis], facts: Facts, now: datetime
) -> list[Change]:
    """Return what has to be written so that exactly the entitled stations have the report."""
    known = {one.station_id: one for one in present}
    allowed = {} if facts.state is State.DELETED else entitled(bases, facts, now)
    found = [
        Change(station_id=station, basis=basis, state=facts.state)
        for station, basis in allowed.items()
        if _is_news(known.get(station), facts)
    ]
    return found + [
        Change(
            station_id=one.station_id,
            basis=one.basis,
            state=State.DELETED,
            reason=_reason(one, facts, now),
        )
        for one in present
        if one.station_id not in allowed and one.state is not State.DELETED
    ]


def rebased(
    present: Sequence[Present], bases: Sequence[Basis], facts: Facts, now: datetime
) -> Mapping[int, Basis]:
    """Return by station the basis of a copy that stays, where it is another one now."""
    allowed = entitled(bases, facts, now)
    return {
        one.station_id: allowed[one.station_id]
        for one in present
        if one.station_id in allowed and allowed[one.station_id].id != one.basis.id
    }


def _is_news(present: Present | None, facts: Facts) -> bool:
    if present is None:
        return facts.state is State.RELEASED  # nothing to delete or to suspend there
    return (present.revision, present.state) != (facts.revision, facts.state)


def _reason(present: Present, facts: Facts, now: datetime) -> Reason:
    if facts.state is State.DELETED:
        return Reason.RETRACTED
    basis = present.basis
    if basis.withdrawn_at is not None:
        return Reason.WITHDRAWN if basis.kind is BasisKind.CONSENT else Reason.ENDED
    if not holds(basis, now):
        return Reason.ENDED
    return Reason.RESTRICTED if facts.sensitive - basis.covers else Reason.MOVED


def _years(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))
