"""The tables of health stations: what they are called when, their devices, their people."""

from datetime import date, datetime

from sqlalchemy import Date, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key

Word = Text(collation="C")


class StationRow(Base):
    """A facility itself; everything that changes with time is in its versions."""

    __tablename__ = "stations"

    id: Mapped[Key]
    created_at: Mapped[Instant]
    revoked_at: Mapped[datetime | None]
    wiped_at: Mapped[datetime | None]
    """Since then its devices are told to delete every copy."""
    hook_url: Mapped[str] = mapped_column(server_default="")
    look_ups_a_day: Mapped[int]


class StationVersionRow(Base):
    """What a facility was called from one day to another."""

    __tablename__ = "station_versions"

    id: Mapped[Key]
    station_ref: Mapped[int] = mapped_column(ForeignKey("stations.id"))
    code: Mapped[str] = mapped_column(Word)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Word)
    """Folded, to find by."""
    kind: Mapped[str]
    national_id: Mapped[str] = mapped_column(Word)
    parent_code: Mapped[str]
    admin_unit: Mapped[str]
    valid_from: Mapped[date] = mapped_column(Date)
    valid_to: Mapped[date | None] = mapped_column(Date)
    """The first day on which it is not so any more."""
    recorded_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_station_versions_code", "code"),
        Index("ix_station_versions_name_key", "name_key"),
        Index("ix_station_versions_national_id", "national_id"),
        Index(
            "uq_station_versions_open",
            "station_ref",
            unique=True,
            postgresql_where=text("valid_to IS NULL"),
        ),
    )


class DeviceRow(Base):
    """A device, known by its public key."""

    __tablename__ = "station_devices"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    station_ref: Mapped[int] = mapped_column(ForeignKey("stations.id"), index=True)
    name: Mapped[str]
    public_key: Mapped[str]
    """PEM."""
    created_at: Mapped[Instant]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class StationUserRow(Base):
    """A named person who works at a station."""

    __tablename__ = "station_users"

    id: Mapped[Key]
    station_ref: Mapped[int] = mapped_column(ForeignKey("stations.id"), index=True)
    name: Mapped[str] = mapped_column(unique=True)
    full_name: Mapped[str]
    role: Mapped[str]
    licence: Mapped[str]
    password_hash: Mapped[str]
    otp_secret: Mapped[bytes] = mapped_column(LargeBinary)
    otp_used: Mapped[int]
    """The time step of the last one-time password: none is taken twice."""
    created_at: Mapped[Instant]
    disabled_at: Mapped[datetime | None]


class StationSessionRow(Base):
    """A short token of a device, and perhaps of a person at it."""

    __tablename__ = "station_sessions"

    id: Mapped[Key]
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    device_ref: Mapped[int] = mapped_column(ForeignKey("station_devices.id"))
    user_ref: Mapped[int | None] = mapped_column(ForeignKey("station_users.id"))
    ends_at: Mapped[Instant] = mapped_column(index=True)


class AssertionRow(Base):
    """An assertion that was taken once, so that it is not taken again."""

    __tablename__ = "station_assertions"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    ends_at: Mapped[Instant] = mapped_column(index=True)


class CountRow(Base):
    """How much a station has done of something on one day."""

    __tablename__ = "station_counts"

    station_ref: Mapped[int] = mapped_column(ForeignKey("stations.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int]
