"""The tables of who may come in and whom we call."""

from datetime import datetime

from sqlalchemy import LargeBinary
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
