"""The tables of reports; a version is written once (a trigger of migration 0014 sees to it)."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key

PURGE: Final = "lienthong.purge"
"""Versions are deleted only in a transaction that has set this to ``on``."""


class PractitionerRow(Base):
    __tablename__ = "practitioners"

    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    qualification: Mapped[str]
    licence_number: Mapped[str]
    may_approve: Mapped[bool]
    caller: Mapped[str | None] = mapped_column(unique=True)
    """The token or account that acts as this person."""
    credential: Mapped[str] = mapped_column(server_default="")
    """Names the person's key at the signing provider."""
    created_at: Mapped[Instant]


class ReportRow(Base):
    __tablename__ = "reports"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str]
    revision: Mapped[int]
    version: Mapped[int]
    study_instance_uids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    accession_numbers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    language: Mapped[str]
    second_reading: Mapped[bool]
    retraction_asked_by: Mapped[str]
    locked_by: Mapped[str]
    locked_name: Mapped[str]
    locked_until: Mapped[datetime | None]
    source: Mapped[str] = mapped_column(server_default="")
    """The sender of HL7 that writes it; '' it is written here."""
    source_at: Mapped[datetime | None] = mapped_column(DateTime)
    """Local time that the sender gave its newest version."""
    created_at: Mapped[Instant]
    changed_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_reports_status", "status", "id"),
        Index("ix_reports_study_instance_uids", "study_instance_uids", postgresql_using="gin"),
        Index("ix_reports_accession_numbers", "accession_numbers", postgresql_using="gin"),
    )


class ReportOrderRow(Base):
    __tablename__ = "report_orders"

    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"), primary_key=True)
    order_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    live: Mapped[bool]
    """The report was neither cancelled nor retracted."""

    __table_args__ = (
        Index("uq_report_orders_live", "order_id", unique=True, postgresql_where=text("live")),
    )


class VersionRow(Base):
    __tablename__ = "report_versions"

    id: Mapped[Key]
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    revision: Mapped[int]
    version: Mapped[int]
    status: Mapped[str]
    action: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    content_sha256: Mapped[str]
    author: Mapped[dict[str, Any]] = mapped_column(JSONB)
    reader: Mapped[dict[str, Any]] = mapped_column(JSONB)
    authored_at: Mapped[Instant]
    reason: Mapped[str]
    supersedes: Mapped[int | None]
    subject: Mapped[dict[str, Any]] = mapped_column(JSONB)
    images: Mapped[dict[str, Any]] = mapped_column(JSONB)
    verify_code: Mapped[str | None] = mapped_column(unique=True)
    digest: Mapped[str]

    __table_args__ = (
        UniqueConstraint("report_id", "revision"),
        Index(
            "uq_report_versions_version",
            "report_id",
            "version",
            unique=True,
            postgresql_where=text("version > 0"),
        ),
        Index(
            "ix_report_versions_authored_at",
            "authored_at",
            postgresql_where=text("version > 0"),
        ),
    )


class SecondReadingRow(Base):
    __tablename__ = "report_second_readings"

    id: Mapped[Key]
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    revision: Mapped[int]
    content_sha256: Mapped[str]
    reader: Mapped[dict[str, Any]] = mapped_column(JSONB)
    agreement: Mapped[str]
    comment: Mapped[str]
    read_at: Mapped[Instant]

    __table_args__ = (Index("ix_report_second_readings_report_id", "report_id"),)


class DocumentRow(Base):
    """The signed paper of one version, and the evidence of its signature."""

    __tablename__ = "report_documents"

    id: Mapped[Key]
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    revision: Mapped[int]
    object_key: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    method: Mapped[str]
    qualified: Mapped[bool]
    level: Mapped[str]
    algorithm: Mapped[str]
    subject: Mapped[str]
    issuer: Mapped[str]
    serial_number: Mapped[str]
    certificate: Mapped[bytes] = mapped_column(LargeBinary)
    signed_at: Mapped[Instant]
    time_stamped_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("report_id", "revision"),)


class LetterheadRow(Base):
    __tablename__ = "report_letterheads"

    name: Mapped[str] = mapped_column(primary_key=True)
    texts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    logo: Mapped[bytes] = mapped_column(LargeBinary)
    changed_at: Mapped[Instant]


class TemplateRow(Base):
    __tablename__ = "report_templates"

    code: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    language: Mapped[str]
    service_codes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    modality: Mapped[str]
    sex: Mapped[str]
    least_age_months: Mapped[int]
    most_age_months: Mapped[int | None]
    sections: Mapped[dict[str, Any]] = mapped_column(JSONB)
    changed_at: Mapped[Instant]


class CriticalRow(Base):
    __tablename__ = "critical_results"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"))
    level: Mapped[str]
    finding: Mapped[str]
    recognised_at: Mapped[Instant]
    recognised_by: Mapped[dict[str, Any]] = mapped_column(JSONB)
    due_at: Mapped[Instant]
    """Somebody has to have taken notice by then."""
    escalations: Mapped[int]
    acknowledged_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_critical_results_report_id", "report_id"),
        Index(
            "ix_critical_results_open",
            "due_at",
            postgresql_where=text("acknowledged_at IS NULL"),
        ),
    )


class NoticeRow(Base):
    __tablename__ = "critical_notices"

    id: Mapped[Key]
    critical_id: Mapped[int] = mapped_column(ForeignKey("critical_results.id"))
    told: Mapped[str]
    channel: Mapped[str]
    read_back: Mapped[bool]
    acknowledged: Mapped[bool]
    told_by: Mapped[dict[str, Any]] = mapped_column(JSONB)
    told_at: Mapped[Instant]
    note: Mapped[str]

    __table_args__ = (Index("ix_critical_notices_critical_id", "critical_id"),)


class KeyImageRow(Base):
    __tablename__ = "report_key_images"

    report_id: Mapped[int] = mapped_column(ForeignKey("reports.id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    study_instance_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    frame: Mapped[int]
    label: Mapped[str]
    for_provider: Mapped[bool]
