"""The tables of lossless compression: by which rules, and what lies compressed.

compression_rules ─< compressions >─ instances
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.db.columns import Base


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _text(name: str) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False, server_default="")


compression_rules: Final = Table(
    "compression_rules",
    Base.metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # what it is for; empty: all
    _text("modality"),
    _text("source_ae_title"),
    _text("transfer_syntax_uid"),
    Column("older_than_days", Integer, nullable=False, server_default="0"),
    _text("target_transfer_syntax_uid"),
    Column("state", Text(collation="C"), nullable=False, server_default="active"),
    # every instance up to this one was looked at
    _count("walked_to"),
    # who works on it, until then
    Column("claimed_until", DateTime(timezone=True)),
    _count("compressed"),
    _count("bytes_before"),
    _count("bytes_after"),
    # reason → number of instances
    Column("left_as_is", JSONB, nullable=False, server_default="{}"),
    Column("added_at", DateTime(timezone=True), nullable=False),
)

compressions: Final = Table(
    "compressions",
    Base.metadata,
    Column(
        "instance_ref",
        BigInteger,
        ForeignKey("instances.id"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("rule_ref", BigInteger, ForeignKey("compression_rules.id"), nullable=False),
    # as it was received
    _text("transfer_syntax_uid"),
    _text("object_key"),
    Column("dataset_offset", BigInteger, nullable=False),
    Column("dataset_size", BigInteger, nullable=False),
    _text("dataset_sha256"),
    Column("compressed_at", DateTime(timezone=True), nullable=False),
    # the received object is deleted some minutes after this
    Column("released_at", DateTime(timezone=True)),
)
Index(
    "ix_compressions_kept",
    compressions.c.compressed_at,
    postgresql_where=compressions.c.released_at.is_(None),
)
