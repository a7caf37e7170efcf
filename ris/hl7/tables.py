"""The tables of the wire: who sends, what came, whom we tell, what waits to be told."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.db.columns import Base, Instant, Key


class SenderRow(Base):
    __tablename__ = "hl7_senders"

    name: Mapped[str] = mapped_column(primary_key=True)
    application: Mapped[str]
    """MSH-3.1; '' any."""
    facility: Mapped[str]
    """MSH-4.1; '' any."""
    addresses: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Networks it may send from; empty: any."""
    profile: Mapped[str]
    changes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Where it differs from that profile."""
    created_at: Mapped[Instant]


class MessageRow(Base):
    __tablename__ = "hl7_messages"

    id: Mapped[Key]
    received_at: Mapped[Instant]
    wire: Mapped[str]
    peer: Mapped[str]
    sender: Mapped[str]
    control_id: Mapped[str]
    kind: Mapped[str]
    """``ORM^O01``."""
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    charset: Mapped[str]
    charset_guessed: Mapped[bool]
    identity: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    """Digest of sender, control id and body; empty once it may come again as a new message."""
    keys: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """``patient:…``, ``order:…``, ``accession:…``: what people search by."""
    state: Mapped[str]
    attempts: Mapped[int]
    reason: Mapped[str]
    outcome: Mapped[str]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    answer_code: Mapped[str]
    settled_at: Mapped[datetime | None]
    applied_no: Mapped[int | None]
    """The order in which messages were applied."""
    repeats: Mapped[int]
    corrects: Mapped[int | None]
    """The dead letter of which this is the corrected copy."""

    __table_args__ = (
        Index("ix_hl7_messages_keys", "keys", postgresql_using="gin"),
        Index("ix_hl7_messages_received_at", "received_at"),
        Index("ix_hl7_messages_control_id", "control_id"),
        Index("ix_hl7_messages_open", "state", "id", postgresql_where=text("state <> 'applied'")),
    )


class DestinationRow(Base):
    __tablename__ = "hl7_destinations"

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    port: Mapped[int]
    options: Mapped[dict[str, Any]] = mapped_column(JSONB)
    paused: Mapped[bool]
    failures: Mapped[int]
    """Failed tries in a row; the circuit is open until `closed_until`."""
    closed_until: Mapped[datetime | None]
    leased_until: Mapped[datetime | None]
    leased_by: Mapped[str]
    """Who sends there until then."""
    created_at: Mapped[Instant]


class OutgoingRow(Base):
    __tablename__ = "hl7_outgoing"

    id: Mapped[Key]
    destination: Mapped[str]
    queue: Mapped[str]
    """Within one queue nothing overtakes: ``order:4711``."""
    control_id: Mapped[str]
    kind: Mapped[str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str]
    attempts: Mapped[int]
    next_try_at: Mapped[Instant]
    reason: Mapped[str]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    keys: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """``patient:…``, ``order:…``, ``accession:…``: what people search by."""
    created_at: Mapped[Instant]
    sent_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_hl7_outgoing_keys", "keys", postgresql_using="gin"),
        Index("ix_hl7_outgoing_created_at", "created_at"),
        Index(
            "ix_hl7_outgoing_open",
            "destination",
            "queue",
            "id",
            postgresql_where=text("state <> 'sent'"),
        ),
        Index(
            "ix_hl7_outgoing_waiting",
            "destination",
            "id",
            postgresql_where=text("state = 'waiting'"),
        ),
    )
