"""The tables of the index; the columns of the attributes come from `attributes`.

    patients ─< patient_identifiers
        └────< studies ─< series ─< instances          incidents    quarantine

A patient whose demographics were corrected, or who is shown as another one, keeps what came with
the objects in `received` (`corrections`); the columns are what is shown. So do a study and its
series that belong to an order (`ordered`).

Text is never NULL and compares by code point (COLLATE "C"), so that prefixes and
ranges use indexes whatever the locale of the server. A date is kept as YYYYMMDD
and a time also as HHMMSS.FFFFFF: as text they sort as they should, and an empty
one needs no NULL in a keyset.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Function,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    or_,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from storage.archive.attributes import Attribute, Matching, of_level
from storage.archive.model import Level
from storage.db.columns import Base

KEY_SUFFIX: Final = "_key"
INDEXED_CHARACTERS: Final = 64
"""How much of an identifier is indexed: all of a lawful one, and no row is too long for a page."""
ROOM: Final = {"fillfactor": "85"}
"""Leaves room in each page, so that a counter is updated without touching the indexes."""
LAST_NUMBER: Final = 2**31 - 1
"""Sorts what has no number behind what has one."""


def _text(name: str) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False, server_default="")


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _list(name: str) -> Column[list[str]]:
    return Column(name, ARRAY(Text(collation="C")), nullable=False, server_default=text("'{}'"))


def _instant(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False)


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _ref(name: str, target: str) -> Column[int]:
    return Column(name, BigInteger, ForeignKey(target), nullable=False)


def key_column(attribute: Attribute) -> str | None:
    """Return the column that the attribute is matched by when it is not its own."""
    matched_by_key = attribute.matching in {Matching.NAME, Matching.TIME}
    return attribute.column + KEY_SUFFIX if matched_by_key else None


def _attributes(level: Level) -> Iterator[Column[object]]:
    for attribute in of_level(level):
        if not attribute.received:
            continue
        yield (
            Column(attribute.column, Integer) if attribute.number else _text(attribute.column)  # type: ignore[misc]
        )
        if key := key_column(attribute):
            yield _text(key)  # type: ignore[misc]


patients: Final = Table(
    "patients",
    Base.metadata,
    # taken from the sequence beforehand: a patient has no other name to find the new row by
    Column("id", BigInteger, Identity(), primary_key=True),
    *_attributes(Level.PATIENT),
    _instant("received_at"),
    # what the objects say, where something else is shown
    Column("received", JSONB),
    Column("survivor_ref", BigInteger, ForeignKey("patients.id")),
    _text("correction"),
)

arrived_patients: Final = Table(
    "arrived_patients",
    Base.metadata,
    Column("patient_ref", BigInteger, ForeignKey("patients.id"), primary_key=True),
)
"""New patients that nobody has looked at yet."""

patient_identifiers: Final = Table(
    "patient_identifiers",
    Base.metadata,
    _id(),
    _ref("patient_ref", "patients.id"),
    _text("identifier"),
    _text("issuer"),
    _text("type"),
)

studies: Final = Table(
    "studies",
    Base.metadata,
    _id(),
    _ref("patient_ref", "patients.id"),
    # the patient that its objects name, when it is shown under another
    Column("own_patient_ref", BigInteger, ForeignKey("patients.id")),
    # keyword → text as JSON: what is put into its objects on their way out
    _text("correction"),
    # the same from its order, and what the objects say of that (`ordered`)
    _text("order_correction"),
    Column("received", JSONB),
    # copies of the patient's, so that a search by them walks one table
    _text("patient_id"),
    _text("patient_name_key"),
    *_attributes(Level.STUDY),
    _list("modalities"),
    _list("sop_classes"),
    _number("number_of_series"),
    _number("number_of_instances"),
    _instant("received_at"),
    _instant("changed_at"),
    UniqueConstraint("study_instance_uid"),
    postgresql_with=ROOM,
)

series: Final = Table(
    "series",
    Base.metadata,
    _id(),
    _ref("study_ref", "studies.id"),
    *_attributes(Level.SERIES),
    # what the objects say, where its order says something else
    Column("received", JSONB),
    _number("number_of_instances"),
    _instant("received_at"),
    _instant("changed_at"),
    # the metadata object of the series, and the state of the series that it was made of
    _text("metadata_key"),
    Column("metadata_changed_at", DateTime(timezone=True)),
    _number("metadata_instances"),
    UniqueConstraint("series_instance_uid"),
    postgresql_with=ROOM,
)

instances: Final = Table(
    "instances",
    Base.metadata,
    _id(),
    _ref("series_ref", "series.id"),
    *_attributes(Level.IMAGE),
    _text("transfer_syntax_uid"),
    _text("object_key"),
    Column("dataset_offset", BigInteger, nullable=False),
    Column("dataset_size", BigInteger, nullable=False),
    _text("dataset_sha256"),
    _text("source_ae_title"),
    _instant("received_at"),
    # why nobody is shown it, '' of all others (`rejection_rules`)
    _text("hidden"),
    UniqueConstraint("sop_instance_uid"),
)

disused_objects: Final = Table(
    "disused_objects",
    Base.metadata,
    Column("object_key", Text(collation="C"), primary_key=True),
    _instant("noticed_at"),
)

incidents: Final = Table(
    "incidents",
    Base.metadata,
    _id(),
    _text("kind"),
    _text("study_instance_uid"),
    _text("patient_id"),
    _text("other_patient_id"),
    _text("detail"),
    _instant("noticed_at"),
    Column("resolved_at", DateTime(timezone=True)),
)

quarantine: Final = Table(
    "quarantine",
    Base.metadata,
    _id(),
    _instant("received_at"),
    _text("reason"),
    _text("detail"),
    _text("wire"),
    _text("source_ae_title"),
    _text("address"),
    _text("sop_class_uid"),
    _text("sop_instance_uid"),
    _text("study_instance_uid"),
    _text("transfer_syntax_uid"),
    _text("object_key"),
    Column("dataset_offset", BigInteger, nullable=False),
    Column("dataset_size", BigInteger, nullable=False),
    _text("dataset_sha256"),
    Column("state", Text(collation="C"), nullable=False, server_default="held"),
    UniqueConstraint("object_key"),
)


def start_of(column: Column[str]) -> Function[str]:
    """Return the indexed start of an identifier, as the index has it."""
    return func.left(column, literal_column(str(INDEXED_CHARACTERS)), type_=Text(collation="C"))


def number_or_last(column: Column[int]) -> Function[int]:
    """Return a number for the order of answers, as the index has it."""
    return func.coalesce(column, literal_column(str(LAST_NUMBER)), type_=Integer)


SERIES_NUMBER: Final = number_or_last(series.c.series_number)
INSTANCE_NUMBER: Final = number_or_last(instances.c.instance_number)
# whoever looks for objects asks for this, and the counters count no others
SHOWN: Final[Mapping[Level, ColumnElement[bool]]] = {
    Level.STUDY: studies.c.number_of_instances > literal_column("0"),
    Level.SERIES: series.c.number_of_instances > literal_column("0"),
    Level.IMAGE: instances.c.hidden == literal_column("''"),
}
"""What is not rejected, by level: a series or study is shown while one of its objects is."""
UNSETTLED: Final = or_(
    series.c.metadata_changed_at.is_distinct_from(series.c.changed_at),
    series.c.metadata_instances != series.c.number_of_instances,
)
"""The series has changed since its metadata object was made."""


def _trigrams(name: str, *columns: Column[str]) -> Index:
    operators = {column.name: "gin_trgm_ops" for column in columns}
    return Index(name, *columns, postgresql_using="gin", postgresql_ops=operators)


Index("ix_patients_order", patients.c.patient_name_key, patients.c.id)
Index("ix_patients_patient_birth_date", patients.c.patient_birth_date)
Index("ix_patients_patient_id", start_of(patients.c.patient_id))
_trigrams("ix_patients_trigrams", patients.c.patient_name_key, patients.c.patient_id)

Index("ix_patient_identifiers_identifier", start_of(patient_identifiers.c.identifier))
Index("ix_patient_identifiers_patient_ref", patient_identifiers.c.patient_ref)

Index("ix_studies_order", studies.c.study_date, studies.c.study_time_key, studies.c.id)
Index("ix_studies_patient_ref", studies.c.patient_ref)
Index(
    "ix_studies_own_patient_ref",
    studies.c.own_patient_ref,
    postgresql_where=studies.c.own_patient_ref.is_not(None),
)
Index("ix_studies_patient_id", start_of(studies.c.patient_id))
Index("ix_studies_accession_number", start_of(studies.c.accession_number))
Index("ix_studies_patient_name_key", studies.c.patient_name_key)
Index("ix_studies_modalities", studies.c.modalities, postgresql_using="gin")
_trigrams(
    "ix_studies_trigrams",
    studies.c.patient_name_key,
    studies.c.patient_id,
    studies.c.accession_number,
    studies.c.study_description,
    studies.c.referring_physician_name_key,
)

Index("ix_series_order", series.c.study_ref, SERIES_NUMBER, series.c.id)
Index("ix_series_unsettled", series.c.changed_at, postgresql_where=UNSETTLED)
Index("ix_instances_order", instances.c.series_ref, INSTANCE_NUMBER, instances.c.id)

Index(
    "uq_incidents_open",
    incidents.c.kind,
    incidents.c.study_instance_uid,
    start_of(incidents.c.patient_id),
    start_of(incidents.c.other_patient_id),
    unique=True,
    postgresql_where=incidents.c.resolved_at.is_(None),
)
Index("ix_quarantine_order", quarantine.c.received_at, quarantine.c.id)
