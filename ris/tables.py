"""The tables of the RIS.

    ris_patients ─< ris_patient_identifiers      patient_merges    the journal, oldest first
       │   └──────< patient_changes              ris_archive_patients   bridge to the archive
       ├─< visits
       └─< orders ─< requested_procedures ─< scheduled_steps
             └────< appointments

A patient who is merged away keeps its row, its numbers and its orders; `root_ref` says who stands
for it. Text is never NULL and compares by code point.
"""

from datetime import date, datetime
from typing import Annotated, Any, Final

from sqlalchemy import Date, DateTime, ForeignKey, Index, Sequence, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key

ORDER_NUMBERS: Final = Sequence("ris_order_numbers", metadata=Base.metadata)
"""For accession and filler order numbers that we give out."""

Word = Annotated[str, mapped_column(Text(collation="C"), server_default="")]
"""Text that is compared: numbers, codes, names of states."""
Prose = Annotated[str, mapped_column(Text, server_default="")]
Further = Annotated[dict[str, Any], mapped_column(JSONB, server_default=text("'{}'"))]
"""DICOM keyword → text."""
Local = Annotated[datetime | None, mapped_column(DateTime(timezone=False))]
"""The hospital's wall clock."""
PatientRef = Annotated[int, mapped_column(ForeignKey("ris_patients.id"))]
Flag = Annotated[bool, mapped_column(server_default=text("false"))]


class PatientRow(Base):
    __tablename__ = "ris_patients"

    id: Mapped[Key]
    patient_name: Mapped[Word]
    patient_name_key: Mapped[Word]
    """Folded, to search by."""
    patient_birth_date: Mapped[date | None] = mapped_column(Date)
    patient_birth_date_sent: Mapped[Word]
    patient_sex: Mapped[Word]
    mother_name: Mapped[Prose]
    patient_address: Mapped[Prose]
    patient_telephone: Mapped[Prose]
    ethnic_group: Mapped[Prose]
    further: Mapped[Further]
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("ris_patients.id"))
    root_ref: Mapped[int | None] = mapped_column(ForeignKey("ris_patients.id"))
    """Who stands for it; itself when it is not merged away. NULL only while it is inserted."""
    sent_at: Mapped[Local]
    """When the newest demographics were sent, by the clock of `sent_by`."""
    sent_by: Mapped[Word]
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_ris_patients_root_ref", "root_ref"),
        Index(
            "ix_ris_patients_merged_into",
            "merged_into",
            postgresql_where=text("merged_into IS NOT NULL"),
        ),
        Index(
            "ix_ris_patients_name",
            "patient_name_key",
            postgresql_using="gin",
            postgresql_ops={"patient_name_key": "gin_trgm_ops"},
        ),
        Index(
            "ix_ris_patients_patient_birth_date",
            "patient_birth_date",
            postgresql_where=text("patient_birth_date IS NOT NULL"),
        ),
        Index(
            "ix_ris_patients_partial_birth_date",
            "patient_birth_date_sent",
            postgresql_where=text("patient_birth_date IS NULL"),
        ),
        Index("ix_ris_patients_changed_at", "changed_at"),
    )


class IdentifierRow(Base):
    __tablename__ = "ris_patient_identifiers"

    id: Mapped[Key]
    patient_ref: Mapped[PatientRef]
    value: Mapped[Word]
    issuer: Mapped[Word]
    kind: Mapped[Word]
    value_key: Mapped[Word]
    """Normalised, to find by."""
    loose_key: Mapped[Word]
    """The same without leading zeros."""
    issuer_key: Mapped[Word]
    """Normalised; the sender's own name where nobody said who gave the number out."""
    identifies: Mapped[Flag]
    retired: Mapped[Flag]
    position: Mapped[int] = mapped_column(server_default="0")
    """The lowest is shown."""

    __table_args__ = (
        Index(
            "uq_ris_patient_identifiers_identity",
            "value_key",
            "issuer_key",
            unique=True,
            postgresql_where=text("identifies"),
        ),
        Index("ix_ris_patient_identifiers_value_key", "value_key"),
        Index("ix_ris_patient_identifiers_loose_key", "loose_key"),
        Index("ix_ris_patient_identifiers_patient_ref", "patient_ref"),
    )


class PatientChangeRow(Base):
    """What was told of a patient; his row is the sum of those that are not undone."""

    __tablename__ = "patient_changes"

    id: Mapped[Key]
    patient_ref: Mapped[PatientRef]
    told_of: Mapped[PatientRef]
    """Whom the message named: the patient, or one that was merged into him by then."""
    changed: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Column → value."""
    sender: Mapped[Word]
    message_id: Mapped[int]
    made_at: Mapped[Instant]
    undone_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_patient_changes_patient_ref", "patient_ref", "id"),
        Index("ix_patient_changes_told_of", "told_of", "id"),
    )


class MergeRow(Base):
    """The journal: what made one patient of two, and what undid it."""

    __tablename__ = "patient_merges"

    id: Mapped[Key]
    kind: Mapped[Word]
    prior_ref: Mapped[PatientRef]
    survivor_ref: Mapped[PatientRef]
    details: Mapped[Further]
    sender: Mapped[Word]
    message_id: Mapped[int]
    made_at: Mapped[Instant]
    undone_at: Mapped[datetime | None]
    undone_by: Mapped[int | None]
    """The message that undid it; 0: a person."""

    __table_args__ = (
        Index("ix_patient_merges_prior_ref", "prior_ref"),
        Index("ix_patient_merges_survivor_ref", "survivor_ref"),
    )


class ArchivePatientRow(Base):
    """Which patient of the RIS a patient of the archive is."""

    __tablename__ = "ris_archive_patients"

    archive_patient: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """The row of `storage.archive`."""
    patient_ref: Mapped[PatientRef]
    known_as: Mapped[Further]
    """The demographics of ours that its objects agreed with."""
    linked_at: Mapped[Instant]

    __table_args__ = (Index("ix_ris_archive_patients_patient_ref", "patient_ref"),)


class VisitRow(Base):
    __tablename__ = "visits"

    id: Mapped[Key]
    patient_ref: Mapped[PatientRef]
    sender: Mapped[Word]
    admission_id: Mapped[Word]
    patient_class: Mapped[Word]
    location: Mapped[Prose]
    referring_physician: Mapped[Prose]
    attending_physician: Mapped[Prose]
    pregnant: Mapped[Flag]
    insurance_number: Mapped[Word]
    status: Mapped[Word]
    further: Mapped[Further]
    sent_at: Mapped[Local]
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_visits_patient_ref", "patient_ref", "id"),
        Index("ix_visits_admission_id", "admission_id"),
    )


class OrderRow(Base):
    __tablename__ = "orders"

    id: Mapped[Key]
    patient_ref: Mapped[PatientRef]
    visit_ref: Mapped[int | None] = mapped_column(ForeignKey("visits.id"))
    sender: Mapped[Word]
    placer_order_number: Mapped[Word]
    placer_issuer: Mapped[Word]
    filler_order_number: Mapped[Word]
    group_number: Mapped[Word]
    accession_number: Mapped[Word]
    accession_issuer: Mapped[Word]
    control: Mapped[Word]
    placer_status: Mapped[Word]
    state: Mapped[Word]
    priority: Mapped[Word]
    requesting_physician: Mapped[Prose]
    requesting_service: Mapped[Prose]
    institution: Mapped[Prose]
    reason_code: Mapped[Word]
    reason_scheme: Mapped[Word]
    reason_meaning: Mapped[Prose]
    clinical_information: Mapped[Prose]
    danger: Mapped[Prose]
    transport: Mapped[Prose]
    confidentiality: Mapped[Prose]
    comments: Mapped[Prose]
    further: Mapped[Further]
    issued_at: Mapped[Local]
    sent_at: Mapped[Local]
    message_id: Mapped[int] = mapped_column(server_default="0")
    """The newest message that was applied."""
    awaited: Mapped[Flag]
    changed_after_start: Mapped[Flag]
    reported_at: Mapped[datetime | None]
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_orders_placer_order_number", "placer_order_number"),
        Index("ix_orders_filler_order_number", "filler_order_number"),
        Index("ix_orders_accession_number", "accession_number"),
        Index("ix_orders_group_number", "group_number", postgresql_where=text("group_number > ''")),
        Index("ix_orders_patient_ref", "patient_ref"),
        Index("ix_orders_changed_at", "changed_at"),
        Index("ix_orders_issued_at", "issued_at"),
        Index("ix_orders_visit_ref", "visit_ref"),
    )


class ProcedureRow(Base):
    __tablename__ = "requested_procedures"

    id: Mapped[Key]
    order_ref: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    requested_procedure_id: Mapped[Word]
    study_instance_uid: Mapped[Word]
    code: Mapped[Word]
    scheme: Mapped[Word]
    meaning: Mapped[Prose]
    description: Mapped[Prose]
    canceled: Mapped[Flag]
    further: Mapped[Further]

    __table_args__ = (
        Index("ix_requested_procedures_order_ref", "order_ref"),
        Index("ix_requested_procedures_study_instance_uid", "study_instance_uid"),
        Index("ix_requested_procedures_requested_procedure_id", "requested_procedure_id"),
    )


OPEN: Final = text("status IN ('SCHEDULED', 'ARRIVED', 'READY', 'STARTED')")
"""What a worklist may show: the indexes hold nothing else."""


class StepRow(Base):
    __tablename__ = "scheduled_steps"

    id: Mapped[Key]
    procedure_ref: Mapped[int] = mapped_column(ForeignKey("requested_procedures.id"))
    order_ref: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    scheduled_procedure_step_id: Mapped[Word]
    status: Mapped[Word]
    modality: Mapped[Word]
    station_ae_titles: Mapped[list[str]] = mapped_column(
        ARRAY(Text(collation="C")), server_default=text("'{}'")
    )
    station_name: Mapped[Prose]
    location: Mapped[Prose]
    start: Mapped[Local]
    end: Mapped[Local]
    protocol_code: Mapped[Word]
    protocol_scheme: Mapped[Word]
    protocol_meaning: Mapped[Prose]
    description: Mapped[Prose]
    performing_physician: Mapped[Prose]
    further: Mapped[Further]

    __table_args__ = (
        Index("ix_scheduled_steps_start", "start", "id", postgresql_where=OPEN),
        Index("ix_scheduled_steps_modality", "modality", "start", "id", postgresql_where=OPEN),
        Index(
            "ix_scheduled_steps_stations",
            "station_ae_titles",
            postgresql_using="gin",
            postgresql_where=OPEN,
        ),
        Index("ix_scheduled_steps_order_ref", "order_ref"),
        Index("ix_scheduled_steps_procedure_ref", "procedure_ref"),
        Index("ix_scheduled_steps_step_id", "scheduled_procedure_step_id"),
    )


class AppointmentRow(Base):
    """When and where an order is to be done (SIU); it may come before the order."""

    __tablename__ = "appointments"

    id: Mapped[Key]
    order_ref: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))
    sender: Mapped[Word]
    placer_order_numbers: Mapped[list[str]] = mapped_column(ARRAY(Text(collation="C")))
    filler_order_numbers: Mapped[list[str]] = mapped_column(ARRAY(Text(collation="C")))
    canceled: Mapped[Flag]
    start: Mapped[Local]
    station_ae_title: Mapped[Word]
    location: Mapped[Prose]
    sent_at: Mapped[Local]
    made_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_appointments_order_ref", "order_ref"),
        Index(
            "ix_appointments_placer_order_numbers",
            "placer_order_numbers",
            postgresql_using="gin",
            postgresql_where=text("order_ref IS NULL"),
        ),
        Index(
            "ix_appointments_filler_order_numbers",
            "filler_order_numbers",
            postgresql_using="gin",
            postgresql_where=text("order_ref IS NULL"),
        ),
    )
