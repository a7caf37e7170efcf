"""What every table of ours is made of: the metadata, its names and its column types."""

from datetime import datetime
from typing import Annotated, Final

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, mapped_column

# Constraints get names that do not depend on the server, so that migrations can name them.
_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Key = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
"""A number the database gives out; never shown outside."""

Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
"""An instant of ours: aware, UTC."""

ClinicalTime = Annotated[datetime, mapped_column(DateTime(timezone=False))]
"""What a device's wall clock said: naive."""


class Base(DeclarativeBase):
    """The parent of every mapped row; text is ``text``, integers are ``bigint``."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {str: Text, int: BigInteger, datetime: DateTime(timezone=True)}  # noqa: RUF012
