"""What is written of an access: in our words, and in those of DICOM (PS3.15 A.5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class Kind(StrEnum):
    """What was done, or tried."""

    SIGN_IN = "sign-in"
    LIST = "list"
    """One thing was named in a list: a report in a feed, a match of a search."""
    VIEW = "view"
    DOWNLOAD = "download"
    """A file was fetched: a paper, a picture."""
    PRINT = "print"
    RECEIPT = "receipt"
    """A station says what became of a report there."""
    LOOK_UP = "look-up"
    """A person was searched for."""
    REFER = "refer"
    EMERGENCY = "emergency"
    """Somebody broke the glass."""
    REVIEW = "review"
    """An emergency access was judged."""
    GRANT = "grant"
    """A legal basis was recorded."""
    WITHDRAW = "withdraw"
    """A legal basis came to its end."""
    REGISTRY = "registry"
    """A facility, a device, a user or their rights were changed."""
    ALARM = "alarm"
    """Something that a person has to look at: a cap was reached, a scope was tried."""
    REJECT = "reject"
    """Objects were rejected by a note: nobody is shown them any more."""
    RESTORE = "restore"
    """A rejection was withdrawn."""
    EXPORT = "export"
    """The journal, or a part of it, was given out."""


class Outcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    EMPTY = "empty"
    """Allowed, and nothing was found."""
    REFUSED = "refused"
    FAILED = "failed"
    """By our fault, or that of a part of ours."""


@dataclass(frozen=True, slots=True)
class Coded:
    """How PS3.15 A.5 (DICOM audit message, RFC 3881) calls a kind."""

    event_id: str
    """A code of PS3.16 CID 400, scheme DCM."""
    meaning: str
    action: str
    """EventActionCode: C create, R read, U update, D delete, E execute."""


_QUERY: Final = ("110112", "Query")
_EXPORT: Final = ("110106", "Export")
_PATIENT: Final = ("110110", "Patient Record")
_PROCEDURE: Final = ("110111", "Procedure Record")
_INSTANCES: Final = ("110103", "DICOM Instances Accessed")
_SECURITY: Final = ("110113", "Security Alert")

CODES: Final[Mapping[Kind, Coded]] = {
    Kind.SIGN_IN: Coded("110114", "User Authentication", "E"),
    Kind.LIST: Coded(*_QUERY, "E"),
    Kind.VIEW: Coded(*_PATIENT, "R"),
    Kind.DOWNLOAD: Coded(*_EXPORT, "R"),
    Kind.PRINT: Coded(*_EXPORT, "R"),
    Kind.RECEIPT: Coded(*_PROCEDURE, "U"),
    Kind.LOOK_UP: Coded(*_QUERY, "E"),
    Kind.REFER: Coded("110109", "Order Record", "C"),
    Kind.EMERGENCY: Coded(*_SECURITY, "E"),
    Kind.REVIEW: Coded(*_SECURITY, "U"),
    Kind.GRANT: Coded(*_PATIENT, "U"),
    Kind.WITHDRAW: Coded(*_PATIENT, "U"),
    Kind.REGISTRY: Coded("110100", "Application Activity", "U"),
    Kind.ALARM: Coded(*_SECURITY, "E"),
    Kind.REJECT: Coded(*_INSTANCES, "U"),
    Kind.RESTORE: Coded(*_INSTANCES, "U"),
    Kind.EXPORT: Coded("110101", "Audit Log Used", "R"),
}

INDICATORS: Final[Mapping[Outcome, str]] = {
    Outcome.SUCCESS: "0",
    Outcome.EMPTY: "0",
    Outcome.REFUSED: "4",
    Outcome.FAILED: "8",
}
"""EventOutcomeIndicator: 0 success, 4 minor failure, 8 serious failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of one access; '' and None: it does not apply or is not known.

    Nothing of it is a name or a number of a patient: `patient_id` is ours, and `details` holds
    codes and counts.
    """

    kind: Kind
    outcome: Outcome = Outcome.SUCCESS
    actor: str = ""
    """The user, or the token or device that acted alone."""
    actor_name: str = ""
    role: str = ""
    licence: str = ""
    """Of practice, of the actor."""
    station: str = ""
    """Code of the facility that asked."""
    device: str = ""
    address: str = ""
    """Where the request came from."""
    patient_id: int | None = None
    """Of `ris.patients`."""
    report_uid: str = ""
    report_version: int | None = None
    study_instance_uid: str = ""
    basis: str = ""
    """The kind of the legal basis."""
    evidence: str = ""
    """Id of what proves it."""
    size: int | None = None
    """Bytes that were given out."""
    request_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Entry):
    """One entry of the journal."""

    id: int
    recorded_at: datetime
    position: int
    """In the chain, from 1."""
    digest: str
    """SHA-256 over the digest before it, the id and the content, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which entries are wanted; what is None or empty is not asked for."""

    patient_id: int | None = None
    report_uid: str = ""
    study_instance_uid: str = ""
    station: str = ""
    actor: str = ""
    kinds: tuple[Kind, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    """Not inside."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain; noted elsewhere, it proves that nothing was cut off later."""

    position: int
    digest: str
