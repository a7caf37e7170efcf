"""The tables of releases; a trigger of migration 0022 gives each change its place in the feed."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class BasisRow(Base):
    __tablename__ = "release_bases"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    station_ref: Mapped[int]
    patient_ref: Mapped[int | None]
    order_ref: Mapped[int | None]
    via: Mapped[str]
    evidence: Mapped[str]
    covers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    starts_at: Mapped[Instant]
    ends_at: Mapped[datetime | None]
    recorded_by: Mapped[str]
    recorded_at: Mapped[Instant]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str] = mapped_column(server_default="")
    reason: Mapped[str] = mapped_column(server_default="")
    reviewed_at: Mapped[datetime | None]
    reviewed_by: Mapped[str] = mapped_column(server_default="")
    review: Mapped[str] = mapped_column(server_default="")

    __table_args__ = (
        Index("ix_release_bases_patient_ref", "patient_ref"),
        Index("ix_release_bases_order_ref", "order_ref"),
        Index(
            "uq_release_bases_order",
            "order_ref",
            "station_ref",
            unique=True,
            postgresql_where=text("order_ref IS NOT NULL AND withdrawn_at IS NULL"),
        ),
    )


class ConsentCodeRow(Base):
    """What a patient shows at the desk of a station, once; not used yet, it is no basis."""

    __tablename__ = "consent_codes"

    id: Mapped[Key]
    code_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    patient_ref: Mapped[int]
    covers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    hours: Mapped[int]
    """How long the basis lasts that it opens."""
    recorded_by: Mapped[str]
    recorded_at: Mapped[Instant]
    ends_at: Mapped[Instant]
    used_at: Mapped[datetime | None]


class ReleaseRow(Base):
    __tablename__ = "releases"

    id: Mapped[Key]
    station_ref: Mapped[int]
    report_uid: Mapped[str]
    patient_ref: Mapped[int | None]
    basis_ref: Mapped[int]
    revision: Mapped[int]
    version: Mapped[int]
    state: Mapped[str]
    reason: Mapped[str]
    since: Mapped[Instant]
    changed_at: Mapped[Instant]
    position: Mapped[int | None] = mapped_column(BigInteger)
    """NULL only until the transaction commits that made the change."""

    __table_args__ = (
        UniqueConstraint("station_ref", "report_uid"),
        Index("ix_releases_feed", "station_ref", "position"),
        Index("ix_releases_report_uid", "report_uid"),
    )


class ReceiptRow(Base):
    __tablename__ = "release_receipts"

    id: Mapped[Key]
    station_ref: Mapped[int]
    report_uid: Mapped[str]
    version: Mapped[int]
    kind: Mapped[str]
    key: Mapped[str]
    """Tells two prints of one version apart; a receipt that is sent again has the same."""
    happened_at: Mapped[Instant]
    received_at: Mapped[Instant]
    actor: Mapped[str]
    actor_name: Mapped[str]
    device: Mapped[str]
    sha256: Mapped[str]

    __table_args__ = (
        UniqueConstraint("station_ref", "report_uid", "version", "kind", "key"),
        Index("ix_release_receipts_report_uid", "report_uid", "id"),
    )


class MarkRow(Base):
    """A person has said that a report, or all of a patient, is sensitive."""

    __tablename__ = "release_marks"

    id: Mapped[Key]
    report_uid: Mapped[str]
    patient_ref: Mapped[int | None]
    sensitive: Mapped[str]
    marked_by: Mapped[str]
    marked_at: Mapped[Instant]
    lifted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_release_marks_report_uid", "report_uid"),
        Index("ix_release_marks_patient_ref", "patient_ref"),
    )
