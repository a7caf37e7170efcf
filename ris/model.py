"""The nouns of the RIS: patients, visits, orders and what they consist of. Plain frozen data.

    Patient ─< Visit
       └────< Order ─< RequestedProcedure ─< ScheduledStep

An order is an imaging service request (PS3.3 C.4.12) with one accession number. Text is never
None: '' is empty. `further` holds what a worklist may show beside it, by DICOM keyword
(PS3.4 Table K.6-1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from ris.requests import Code
from storage.base.errors import Conflict


class Cycle(Conflict):
    """What is asked for would turn in a circle."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a hospital decides for itself."""

    ignore_leading_zeros: bool = False
    """``0000123456`` and ``123456`` of one issuer are one patient."""


class OrderState(StrEnum):
    """Where an order is."""

    SCHEDULED = "SCHEDULED"
    HELD = "HELD"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    REPORTED = "REPORTED"
    """A final report was signed."""
    CANCELED = "CANCELED"
    DISCONTINUED = "DISCONTINUED"


ORDER_STATUS: Final[Mapping[OrderState, str]] = {
    OrderState.SCHEDULED: "SC",
    OrderState.HELD: "HD",
    OrderState.IN_PROGRESS: "IP",
    OrderState.COMPLETED: "CM",
    OrderState.REPORTED: "CM",
    OrderState.CANCELED: "CA",
    OrderState.DISCONTINUED: "DC",
}
"""ORC-5 (HL7 table 0038)."""


class StepStatus(StrEnum):
    """Scheduled Procedure Step Status (0040,0020), and what HL7 knows beyond it."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    STARTED = "STARTED"
    HELD = "HELD"
    """Not on the worklist until it is released."""
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELED = "CANCELED"


WAITING: Final = frozenset({StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY})
"""Steps that nobody began: the worklist shows them."""
OVER: Final = frozenset({StepStatus.COMPLETED, StepStatus.DISCONTINUED, StepStatus.CANCELED})


class VisitStatus(StrEnum):
    """Visit Status ID (0038,0008)."""

    EXPECTED = "SCHEDULED"
    """Pre-admitted (ADT^A05)."""
    PRESENT = "ADMITTED"
    DISCHARGED = "DISCHARGED"
    CANCELED = "CANCELED"


class MergeKind(StrEnum):
    """What the journal of patients tells."""

    MERGE = "merge"
    RENUMBER = "renumber"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientIdentifier:
    """A number of a patient."""

    value: str
    """As it came first, never re-formatted."""
    issuer: str
    kind: str
    """CX-5."""
    identifies: bool
    """Patients are found by it; else it is only told (health card, citizen number)."""
    retired: bool = False
    """Another number took its place (ADT^A47)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A patient of the RIS."""

    id: int
    identifiers: tuple[PatientIdentifier, ...]
    """The one that is shown comes first."""
    patient_name: str
    """In VR PN."""
    patient_birth_date: date | None
    patient_birth_date_sent: str
    """As sent, also what is no whole date (``1951``)."""
    patient_sex: str
    mother_name: str
    patient_address: str
    patient_telephone: str
    ethnic_group: str
    merged_into: int | None
    """The patient that this one was merged into, directly."""
    root: int
    """The patient that stands for this one: its own id, or the end of the chain of merges."""
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def identifier(self) -> PatientIdentifier:
        """The number that is shown as Patient ID."""
        return self.identifiers[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A stay or a call of a patient (PS3.3 C.3.2 and C.3.3)."""

    id: int
    patient_id: int
    sender: str
    admission_id: str
    patient_class: str
    location: str
    referring_physician: str
    attending_physician: str
    pregnant: bool
    insurance_number: str
    status: VisitStatus
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An imaging service request (PS3.3 C.4.12)."""

    id: int
    patient_id: int
    """The patient as it was ordered; `patients.shown` follows merges."""
    visit_id: int | None
    sender: str
    placer_order_number: str
    """As sent, never re-formatted; '' when a filler does not know it."""
    placer_issuer: str
    filler_order_number: str
    group_number: str
    accession_number: str
    accession_issuer: str
    """'' for one that we gave out."""
    control: str
    """The last ORC-1 that was applied."""
    placer_status: str
    """ORC-5 as sent."""
    state: OrderState
    priority: str
    requesting_physician: str
    requesting_service: str
    institution: str
    reason: Code | None
    clinical_information: str
    danger: str
    transport: str
    confidentiality: str
    comments: str
    issued_at: datetime | None
    """Local time."""
    sent_at: datetime | None
    """Local time of the newest message that was applied."""
    awaited: bool
    """Something was told of it (a change, a cancellation), but the order itself has not come."""
    changed_after_start: bool
    reported_at: datetime | None
    created_at: datetime
    changed_at: datetime
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedProcedure:
    """What is to be done as one study (PS3.3 C.4.11)."""

    id: int
    order_id: int
    requested_procedure_id: str
    study_instance_uid: str
    code: Code | None
    description: str
    canceled: bool
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStep:
    """What is to be done at one machine (PS3.3 C.4.10)."""

    id: int
    procedure_id: int
    order_id: int
    scheduled_procedure_step_id: str
    status: StepStatus
    modality: str
    station_ae_titles: tuple[str, ...]
    """Empty: any machine of the modality."""
    station_name: str
    location: str
    start: datetime | None
    """Local time."""
    end: datetime | None
    protocol: Code | None
    description: str
    performing_physician: str
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """One entry of the journal of patients."""

    id: int
    kind: MergeKind
    prior_id: int
    survivor_id: int
    sender: str
    message_id: int
    """In the ledger of HL7; 0: a person did it."""
    made_at: datetime
    undone_at: datetime | None
    undone_by: str = ""
    """The person who undid it; '' where a message did."""
