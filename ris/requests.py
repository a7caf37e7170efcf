"""What a message asks for, in our words: between the reading of HL7 and the verbs of `ris`.

Everywhere: None is "not sent, leave it"; '' is HL7's null, "delete it".
"""

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Identifier:
    """A patient's number and who gave it out (CX)."""

    value: str
    issuer: str = ""
    kind: str = ""
    """CX-5: ``PI`` of the hospital, ``HC`` health card, ``NI`` citizen …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRequest:
    """PID, and who the patient is to us: the first identifier."""

    identifier: Identifier
    other_identifiers: tuple[Identifier, ...] = ()
    patient_name: str | None = None
    """In VR PN."""
    patient_birth_date: date | None = None
    patient_birth_date_sent: str | None = None
    """As sent, for what is no whole date."""
    patient_sex: str | None = None
    mother_name: str | None = None
    patient_address: str | None = None
    patient_telephone: str | None = None
    ethnic_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRequest:
    """PV1: where the patient is, and why."""

    admission_id: str | None = None
    patient_class: str | None = None
    location: str | None = None
    referring_physician: str | None = None
    attending_physician: str | None = None
    pregnant: bool = False
    insurance_number: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value (CE): code, meaning, scheme."""

    value: str
    meaning: str = ""
    scheme: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """One scheduled procedure step."""

    scheduled_procedure_step_id: str = ""
    modality: str = ""
    scheduled_station_ae_title: str = ""
    scheduled_station_name: str = ""
    location: str = ""
    start: datetime | None = None
    """Local time."""
    protocol: Code | None = None
    performing_physician: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """ORC, OBR and their company."""

    control: str
    """ORC-1 by the sender's map: ``NW XO CA DC OC HD RL SC RP SN`` …"""
    status: str = ""
    """ORC-5."""
    placer_order_number: str = ""
    """As sent, never re-formatted."""
    placer_issuer: str = ""
    filler_order_number: str = ""
    group_number: str = ""
    accession_number: str = ""
    requested_procedure_id: str = ""
    study_instance_uid: str = ""
    procedure: Code | None = None
    priority: str = ""
    """STAT, HIGH, ROUTINE, MEDIUM, LOW (0040,1003); '' when none is sent."""
    reason: Code | None = None
    clinical_information: str | None = None
    requesting_physician: str | None = None
    requesting_service: str | None = None
    institution: str | None = None
    transport: str | None = None
    danger: str | None = None
    confidentiality: str | None = None
    comments: str | None = None
    steps: tuple[StepRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Two identifiers of one person."""

    survivor: PatientRequest
    prior: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class AppointmentRequest:
    """SIU^S12 to S15: when and where an order is to be done."""

    cancelled: bool
    placer_order_numbers: tuple[str, ...]
    """What may be the number of the order, likeliest first."""
    filler_order_numbers: tuple[str, ...]
    start: datetime | None = None
    scheduled_station_ae_title: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRequest:
    """One OBR of an ORU^R01 with its OBX: what another system reports."""

    placer_order_number: str
    filler_order_number: str
    accession_number: str
    study_instance_uid: str
    status: str
    """OBR-25."""
    withdrawn: bool
    """Every OBX says that it is wrong or to be deleted."""
    findings: str
    impression: str
    recommendation: str
    author_id: str
    author_name: str
    reported_at: datetime | None
    """Local time: OBR-22, else OBX-14 or MSH-7."""
    part: int
    """Which OBR of the message, from 0."""
    paper_sha256: str
    """Of the PDF in it; '' none."""


Request = (
    Identifier
    | PatientRequest
    | VisitRequest
    | OrderRequest
    | MergeRequest
    | AppointmentRequest
    | ResultRequest
)
"""Whatever a message is read as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Of which message it is."""

    sender: str
    sent_at: datetime | None
    """Local time of the event: ORC-9 or EVN-2, else MSH-7."""
    message_id: int = 0
    """In the ledger."""
    role: str = "placer"


@dataclass(frozen=True, slots=True)
class Applied:
    """What a verb did."""

    outcome: str
    """One word: ``created``, ``changed``, ``unchanged``, ``cancelled`` …"""
    placer_order_number: str = ""
    filler_order_number: str = ""
    control: str = ""
    """ORC-1 of the answer: ``CR`` cancelled, ``UC`` unable to cancel … (table 0119); '' is OK."""
    notes: tuple[str, ...] = field(default=())
