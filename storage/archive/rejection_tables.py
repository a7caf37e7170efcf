"""The rejection notes that were received, and which objects each of them names."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from storage.db.columns import Base


def _text(name: str) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False, server_default="")


rejection_notes: Final = Table(
    "rejection_notes",
    Base.metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _text("sop_instance_uid"),
    _text("study_instance_uid"),
    _text("title"),
    _text("author"),
    _text("reason"),
    _text("source_ae_title"),
    _text("fault"),
    Column("named", Integer, nullable=False, server_default="0"),
    Column("noted_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("sop_instance_uid"),
)

rejections: Final = Table(
    "rejections",
    Base.metadata,
    Column("note_ref", BigInteger, ForeignKey("rejection_notes.id"), nullable=False),
    # the object may not be here yet, or never come
    _text("sop_instance_uid"),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("sop_class_uid"),
    # of the note, again: what arrives is asked for here alone
    _text("title"),
    Column("withdrawn_at", DateTime(timezone=True)),
    _text("withdrawn_by"),
    PrimaryKeyConstraint("note_ref", "sop_instance_uid"),
)

Index("ix_rejections_sop_instance_uid", rejections.c.sop_instance_uid)
Index("ix_rejection_notes_study_instance_uid", rejection_notes.c.study_instance_uid)
