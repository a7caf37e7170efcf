"""The tables of the attributes that an operator adds to the index.

custom_attributes ─< custom_values >─ (studies, series or instances, by the level)
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from storage.archive.tables import start_of
from storage.db.columns import Base

custom_attributes: Final = Table(
    "custom_attributes",
    Base.metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text(collation="C"), nullable=False),
    Column("creator", Text(collation="C"), nullable=False, server_default=""),
    Column("vr", Text(collation="C"), nullable=False),
    Column("level", Text(collation="C"), nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False),
    # instances were stored before it was added up to the one number, and are read up to the other
    Column("last_instance", BigInteger, nullable=False),
    Column("read_to", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("name", "creator"),
)

custom_values: Final = Table(
    "custom_values",
    Base.metadata,
    Column(
        "attribute_ref",
        BigInteger,
        ForeignKey("custom_attributes.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("owner", BigInteger, primary_key=True, autoincrement=False),
    Column("position", SmallInteger, primary_key=True, autoincrement=False),
    Column("value", Text(collation="C"), nullable=False),
    Column("key", Text(collation="C"), nullable=False),
)

Index("ix_custom_values_key", custom_values.c.attribute_ref, start_of(custom_values.c.key))
