"""Rows of several tables written in one round trip.

    take     SELECT nextval(…), nextval(…)                       numbers, for rows that are named
    write    WITH a AS (INSERT …), b AS (INSERT …) INSERT …      all rows, or none

For what is made at once by nearly every message: a flush of the session sends one statement for
each row and waits for its number. PostgreSQL checks foreign keys at the end of the statement.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Dialect, FromClause, TextClause, inspect, text
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.orm import make_transient_to_detached

from storage.db.columns import Base
from storage.db.engine import Session

_Shape = tuple[type[Base], tuple[str, ...]]
"""A kind of row and which of its columns are given."""
_CACHED: Final = 512


def take(session: Session, *kinds: type[Base] | DatabaseSequence) -> Sequence[int]:
    """Return a number for a new row of each of these kinds, in their order; also of sequences."""
    return tuple(session.connection().execute(_numbers(kinds)).one())


def write(session: Session, rows: Sequence[Base]) -> None:
    """Insert new rows; those that have their numbers are of the session from then on.

    What is not given becomes the column's default, and is read when it is asked for. A row without
    a number gets one that nobody is told.
    """
    session.flush()
    connection = session.connection()
    shapes = tuple(_shape(row) for row in rows)
    statement, columns = _insert(shapes, connection.dialect)
    values = tuple(
        process(row.__dict__[name]) if process else row.__dict__[name]
        for row, its in zip(rows, columns, strict=True)
        for name, process in its
    )
    connection.exec_driver_sql(statement, values)
    for row in rows:
        if "id" in row.__dict__:
            make_transient_to_detached(row)
            session.add(row)


@lru_cache(_CACHED)
def _numbers(kinds: Sequence[type[Base] | DatabaseSequence]) -> TextClause:
    return text(f"SELECT {', '.join(f'nextval({_sequence(kind)})' for kind in kinds)}")


def _sequence(kind: type[Base] | DatabaseSequence) -> str:
    if isinstance(kind, DatabaseSequence):
        return f"'{kind.name}'"
    return f"pg_get_serial_sequence('{inspect(kind).local_table}', 'id')"


def _shape(row: Base) -> _Shape:
    kind = type(row)
    return kind, tuple(one.key for one in inspect(kind).column_attrs if one.key in row.__dict__)


@lru_cache(_CACHED)
def _insert(
    shapes: Sequence[_Shape], dialect: Dialect
) -> tuple[str, Sequence[Sequence[tuple[str, Any]]]]:
    """Return the statement for rows of these shapes, and how each value is made ready for it."""
    inserts, columns = [], []
    for kind, names in shapes:
        mapper = inspect(kind)
        own = {name: mapper.column_attrs[name].columns[0] for name in names}
        inserts.append(_one(mapper.local_table, [one.name for one in own.values()], dialect))
        columns.append(
            [
                (name, one.type.dialect_impl(dialect).bind_processor(dialect))
                for name, one in own.items()
            ]
        )
    *others, last = inserts
    parts = ", ".join(f"w{number} AS ({one})" for number, one in enumerate(others))
    return (f"WITH {parts} {last}" if others else last), columns


def _one(table: FromClause, columns: Sequence[str], dialect: Dialect) -> str:
    quote = dialect.identifier_preparer.quote
    names = ", ".join(map(quote, columns))
    places = ", ".join("%s" for _ in columns)
    return f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({places})"  # noqa: S608 - names of ours
