"""The table of storage commitments."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from storage.db.columns import Base

commitments: Final = Table(
    "commitments",
    Base.metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("transaction_uid", Text(collation="C"), nullable=False),
    Column("calling_ae_title", Text(collation="C"), nullable=False),
    Column("called_ae_title", Text(collation="C"), nullable=False),
    Column("instances", JSONB, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", JSONB(none_as_null=True)),
    Column("state", Text(collation="C"), nullable=False, server_default="waiting"),
    UniqueConstraint("calling_ae_title", "transaction_uid"),
)
Index("ix_commitments_due", commitments.c.due_at, postgresql_where=commitments.c.state == "waiting")
