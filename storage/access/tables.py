"""The tables of who may come in and whom we call."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class PeerRow(Base):
    __tablename__ = "peers"

    ae_title: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    port: Mapped[int]
    description: Mapped[str]
    created_at: Mapped[Instant]
    text_profile: Mapped[str]
    text_length: Mapped[int | None]
    every_station: Mapped[bool]


class TokenRow(Base):
    __tablename__ = "tokens"

    id: Mapped[Key]
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    role: Mapped[str]
    label: Mapped[str]
    station: Mapped[str | None]
    created_at: Mapped[Instant]
    used_at: Mapped[datetime | None]
    """Of the last use, some minutes coarse: not every call writes."""
    revoked_at: Mapped[datetime | None]


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[Key]
    name: Mapped[str] = mapped_column(unique=True)
    full_name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str | None]
    """None: nobody has set one yet, and only a one-time link lets its bearer do so."""
    created_at: Mapped[Instant]
    disabled_at: Mapped[datetime | None]


class SessionRow(Base):
    __tablename__ = "sessions"

    id: Mapped[Key]
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_ref: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    parent_ref: Mapped[int | None] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True
    )
    """The viewer's session hangs on the one of the pages, and ends with it."""
    seen_at: Mapped[Instant]
    """Of the last request, some minutes coarse; on a session of the pages, for both."""
    ends_at: Mapped[Instant] = mapped_column(index=True)


class CodeRow(Base):
    __tablename__ = "codes"

    id: Mapped[Key]
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    user_ref: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    session_ref: Mapped[int | None] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True
    )
    """The session that is handed over; None: the code lets its bearer set a password."""
    state: Mapped[str]
    """What the browser that asked for a handover has to show; '' for the other kind."""
    ends_at: Mapped[Instant]


class GuessRow(Base):
    __tablename__ = "guesses"

    key: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[Instant] = mapped_column(index=True)
