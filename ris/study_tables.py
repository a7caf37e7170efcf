"""The tables of what was performed, and of the studies that came of it.

    performed_steps ─< performed_step_items ─► scheduled_steps        ris_studies
                                    └────────► orders ◄──── study_orders ────┘
                                                            study_journal

A study of the archive is named by its UID: images may come before anything else is known.
"""

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from ris.tables import Flag, Local, Word
from storage.db.columns import Base, Instant, Key

Words = Annotated[list[str], mapped_column(ARRAY(Text(collation="C")), server_default=text("'{}'"))]
Found = Annotated[list[Any], mapped_column(JSONB, server_default=text("'[]'"))]
Later = Annotated[datetime | None, mapped_column(DateTime(timezone=True))]


class PerformedStepRow(Base):
    """One SOP Instance of Modality Performed Procedure Step."""

    __tablename__ = "performed_steps"

    id: Mapped[Key]
    sop_instance_uid: Mapped[Word] = mapped_column(Text(collation="C"), unique=True)
    status: Mapped[Word]
    reason: Mapped[Word]
    """Code of the discontinuation."""
    performed_procedure_step_id: Mapped[Word]
    modality: Mapped[Word]
    station_ae_title: Mapped[Word]
    calling_ae_title: Mapped[Word]
    patient_id: Mapped[Word]
    started: Mapped[Local]
    ended: Mapped[Local]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """As they were sent, what came later over what came before."""
    instance_uids: Mapped[Words]
    """The objects that it says it made."""
    assumed: Mapped[Flag]
    """Nobody ended it: it was taken for ended, or made up, when its study was quiet."""
    synthesised: Mapped[Flag]
    """No device told it: images came."""
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_performed_steps_patient_id", "patient_id", "id"),
        Index("ix_performed_steps_started", "started"),
        Index("ix_performed_steps_station", "station_ae_title", "started"),
    )


class PerformedItemRow(Base):
    """One item of the Scheduled Step Attributes Sequence (0040,0270)."""

    __tablename__ = "performed_step_items"

    id: Mapped[Key]
    performed_ref: Mapped[int] = mapped_column(ForeignKey("performed_steps.id"))
    study_instance_uid: Mapped[Word]
    accession_number: Mapped[Word]
    requested_procedure_id: Mapped[Word]
    scheduled_procedure_step_id: Mapped[Word]
    order_ref: Mapped[int | None] = mapped_column(ForeignKey("orders.id"))
    procedure_ref: Mapped[int | None] = mapped_column(ForeignKey("requested_procedures.id"))
    step_ref: Mapped[int | None] = mapped_column(ForeignKey("scheduled_steps.id"))
    linked_by: Mapped[Word]
    """How the order was found; '' while it is not."""

    __table_args__ = (
        Index("ix_performed_step_items_performed_ref", "performed_ref"),
        Index("ix_performed_step_items_study_instance_uid", "study_instance_uid"),
        Index("ix_performed_step_items_step_ref", "step_ref"),
        Index("ix_performed_step_items_order_ref", "order_ref"),
    )


class StudyRow(Base):
    """What the RIS knows of a study: whose it is, and whether it is complete."""

    __tablename__ = "ris_studies"

    study_instance_uid: Mapped[Word] = mapped_column(Text(collation="C"), primary_key=True)
    changed_at: Mapped[Instant]
    """The last news: an object, or a performed step."""
    watched: Mapped[Flag]
    """It is to be looked at again, at `look_at`."""
    look_at: Mapped[Later]
    standing: Mapped[Word]
    """A `reconcile.Standing`."""
    proposals: Mapped[Found]
    """Orders that it may belong to, each with its reasons."""
    considered_at: Mapped[Later]
    """When orders were looked for."""
    keys: Mapped[Words]
    """What an order that comes later is recognised by: ``study:…``, ``number:…``, ``patient:…``."""
    state: Mapped[Word]
    """A `verdict.State`."""
    evidence: Mapped[Found]
    assumed: Mapped[Flag]
    judged_at: Mapped[Later]

    __table_args__ = (
        Index("ix_ris_studies_watched", "study_instance_uid", postgresql_where=text("watched")),
        Index(
            "ix_ris_studies_open",
            "standing",
            "study_instance_uid",
            postgresql_where=text("standing IN ('provisional', 'proposed', 'conflict')"),
        ),
        Index(
            "ix_ris_studies_keys",
            "keys",
            postgresql_using="gin",
            postgresql_where=text("standing IN ('provisional', 'proposed', 'conflict')"),
        ),
        # a row changes with every batch of objects: room, so that no index has to know
        {"postgresql_with": {"fillfactor": "70"}},
    )


class AttachmentRow(Base):
    """A study that belongs to an order; several of each may."""

    __tablename__ = "study_orders"

    id: Mapped[Key]
    study_instance_uid: Mapped[Word]
    order_ref: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    procedure_ref: Mapped[int] = mapped_column(ForeignKey("requested_procedures.id"))
    reasons: Mapped[Found]
    attached_by: Mapped[Word]
    attached_at: Mapped[Instant]
    detached_at: Mapped[Later]

    __table_args__ = (
        Index(
            "uq_study_orders_attached",
            "study_instance_uid",
            "procedure_ref",
            unique=True,
            postgresql_where=text("detached_at IS NULL"),
        ),
        Index("ix_study_orders_order_ref", "order_ref"),
        Index("ix_study_orders_procedure_ref", "procedure_ref"),
    )


class JournalRow(Base):
    """What was done about a study and its orders; each entry can be undone while it is the last."""

    __tablename__ = "study_journal"

    id: Mapped[Key]
    action: Mapped[Word]
    study_instance_uid: Mapped[Word]
    before: Mapped[dict[str, Any]] = mapped_column(JSONB)
    after: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reason: Mapped[Word]
    made_by: Mapped[Word]
    made_at: Mapped[Instant]
    undone_at: Mapped[Later]
    undone_by: Mapped[Word]

    __table_args__ = (Index("ix_study_journal_study_instance_uid", "study_instance_uid", "id"),)
