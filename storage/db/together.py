"""Rows of several tables written in one round trip.

    take     SELECT nextval(…), nextval(…)                       numbers, for rows that are named
    write    WITH a AS (INSERT …), b AS (INSERT …) INSERT …      all rows, or none
    pouring  the same, each INSERT … SELECT … FROM json          any number of rows of each kind
    ask      several statements sent before the first is answered

For what is made at once by nearly every message: a flush of the session sends one statement for
each row and waits for its number. PostgreSQL checks foreign keys at the end of the statement.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import (
    ClauseElement,
    Connection,
    Dialect,
    FromClause,
    TextClause,
    inspect,
    make_url,
    text,
)
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.sql.elements import KeyedColumnElement

from storage.base.errors import Malformed
from storage.db.columns import Base
from storage.db.engine import Session

_Shape = tuple[type[Base], tuple[str, ...]]
"""A kind of row and which of its columns are given."""
_CACHED: Final = 512
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""In JSON; an even number of backslashes before it are letters of the text."""
_DIALECT: Final = make_url("postgresql+psycopg://").get_dialect()()


@dataclass(frozen=True, slots=True)
class Question:
    """A statement in the driver's words, and what is put into it."""

    statement: str
    given: Sequence[object] | Mapping[str, object] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a statement."""

    rows: Sequence[Any]
    """Named tuples."""
    count: int
    """Of the rows that it wrote, or found."""


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


def pouring(rows: Mapping[type[Base], Sequence[Base]]) -> Question:
    """Return how to insert many new rows of some kinds, those first that others refer to.

    What is not given becomes the column's default. The statement is the same for the same kinds,
    however many rows there are, so that the server plans it once.
    """
    statement, columns = _insert_all(tuple(rows))
    given = [
        as_json([{name: row.__dict__[name] for name in its if name in row.__dict__} for row in own])
        for own, its in zip(rows.values(), columns, strict=True)
    ]
    return Question(statement, given)


def ask(session: Session, *questions: Question, commit: bool = False) -> list[Answer]:
    """Send several statements in one round trip; return what each answers.

    Each sees what those before it did, and what others committed meanwhile. When one fails, those
    after it are not done. With `commit` they are the last of the transaction.
    """
    connection = session.connection()
    raw = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        with raw.pipeline():
            cursors = [_send(connection, raw, one) for one in questions]
            if commit:
                raw.commit()
    except psycopg.Error as error:
        gone = bool(raw.closed)
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=gone
        ) from error
    return [Answer(one.fetchall() if one.description else (), one.rowcount) for one in cursors]


def _send(
    connection: Connection, raw: psycopg.Connection[Any], question: Question
) -> psycopg.Cursor[Any]:
    cursor = raw.cursor(row_factory=namedtuple_row)
    connection.dispatch.before_cursor_execute(
        connection, cursor, question.statement, question.given, None, executemany=False
    )
    return cursor.execute(question.statement, question.given)


def written(statement: ClauseElement) -> str:
    """Return a statement in the driver's words, with the names of what is put into it."""
    return str(statement.compile(dialect=_DIALECT))


def as_json(records: Iterable[Mapping[str, object]]) -> str:
    """Return records as `json_to_recordset` reads them: times, dates and bytes as PostgreSQL does.

    Raises
    ------
    Malformed
        A text has a NUL in it. PostgreSQL would say so, too, and quote what stands around it.
    """
    made = json.dumps([*records], default=_plain, ensure_ascii=False, separators=(",", ":"))
    if "\\u0000" in made and _NUL.search(made):
        raise Malformed("a text with a NUL")
    return made


def _plain(value: object) -> str:
    if isinstance(value, date):  # and what is one with a time of day
        return value.isoformat()
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"{type(value).__name__} is no value of a column")


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


@lru_cache(_CACHED)
def _insert_all(
    kinds: Sequence[type[Base]],
) -> tuple[str, Sequence[frozenset[str]]]:
    """Return the statement for rows of these kinds, and which columns each has."""
    tables = [inspect(kind).local_table for kind in kinds]
    *others, last = [_from_json(table) for table in tables]
    parts = ", ".join(f"w{number} AS ({one})" for number, one in enumerate(others))
    columns = [frozenset(column.name for column in table.columns) for table in tables]
    return (f"WITH {parts} {last}" if others else last), columns


def _from_json(table: FromClause) -> str:
    quote = _DIALECT.identifier_preparer.quote
    own = [(quote(one.name), one) for one in table.columns]
    names = ", ".join(name for name, _ in own)
    typed = ", ".join(f"{name} {one.type.compile(_DIALECT)}" for name, one in own)
    values = ", ".join(_given_or_default(table, name, one) for name, one in own)
    return (
        f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE "  # noqa: S608 - names of ours
        f"SELECT {values} FROM json_to_recordset(%s::json) AS x({typed})"
    )


def _given_or_default(table: FromClause, name: str, column: KeyedColumnElement[Any]) -> str:
    if getattr(column, "identity", None) is not None:
        return f"COALESCE(x.{name}, nextval(pg_get_serial_sequence('{table}', '{column.name}')))"
    default = getattr(column.server_default, "arg", None)
    if default is None:
        return f"x.{name}"
    written = default.text if isinstance(default, TextClause) else f"'{default}'"
    return f"COALESCE(x.{name}, {written})"
