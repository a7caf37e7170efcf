"""Bases, releases and receipts as they leave this package."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class BasisKind(StrEnum):
    """Why a station may see something; the strongest comes first."""

    REFERRAL = "referral"
    """It sent the patient: continuity of care."""
    CONSENT = "consent"
    """The patient, or who stands for him, asked for it."""
    STATUTE = "statute"
    """A law or circular says so."""
    EMERGENCY = "emergency"
    """Somebody broke the glass."""


class Sensitive(StrEnum):
    """What makes a report one that only a basis shows that says so."""

    HIV = "hiv"
    ABUSE = "abuse"
    PSYCHIATRIC = "psychiatric"
    MINOR = "minor"
    VIP = "vip"
    RESTRICTED = "restricted"


class State(StrEnum):
    """What a station has to do with its copy."""

    RELEASED = "released"
    SUSPENDED = "suspended"
    """Approval was withdrawn: the text must not be used until a correction comes."""
    DELETED = "deleted"
    """The copy has to be deleted."""


class Reason(StrEnum):
    """Why a copy has to be deleted."""

    NONE = ""
    RETRACTED = "retracted"
    WITHDRAWN = "consent_withdrawn"
    ENDED = "basis_ended"
    RESTRICTED = "restricted"
    MOVED = "moved"


class ReceiptKind(StrEnum):
    """What became of a report at a station."""

    DELIVERED = "delivered"
    READ = "read"
    PRINTED = "printed"
    HANDED_OVER = "handed_over"
    """Given to the patient."""
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """One legal basis."""

    id: int
    uid: str
    kind: BasisKind
    station_id: int
    patient_id: int | None
    """Of him and of who is merged with him; None: the order alone counts."""
    order_id: int | None
    """None: all of the patient."""
    via: str
    """How it was given: written, electronic, otp, qr, order, referral, desk."""
    evidence: str
    covers: frozenset[Sensitive]
    starts_at: datetime
    ends_at: datetime | None
    recorded_by: str
    recorded_at: datetime
    withdrawn_at: datetime | None
    withdrawn_by: str
    reason: str
    reviewed_at: datetime | None
    reviewed_by: str
    review: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What of a report decides who may see it."""

    report_uid: str
    revision: int
    """Of the newest issued version."""
    version: int
    state: State
    """Of the report itself: whether its text may be used at all."""
    patient_id: int | None
    """Who stands for the patient; None: no order tells."""
    patient_ids: frozenset[int]
    """He and all who are merged with him."""
    order_ids: frozenset[int]
    sensitive: frozenset[Sensitive]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One report at one station, as it is now."""

    station_id: int
    report_uid: str
    patient_id: int | None
    revision: int
    version: int
    state: State
    reason: Reason
    basis_id: int
    since: datetime
    changed_at: datetime
    position: int
    """In the feed: later changes have higher ones, in the order of their commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof that a version arrived, was read, printed or handed over."""

    id: int
    station_id: int
    report_uid: str
    version: int
    kind: ReceiptKind
    happened_at: datetime
    """By the station's clock, put right by what it knows of ours."""
    received_at: datetime
    actor: str
    actor_name: str
    device: str
    sha256: str
    """Of the paper that arrived; '' not told."""
