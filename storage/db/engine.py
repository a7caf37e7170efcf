"""The door to PostgreSQL: connections that cannot hang, transactions, and a health check."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from storage.base.errors import Malformed, StoreUnavailable

__all__ = [
    "Engine",
    "Session",
    "check",
    "create",
    "database_errors",
    "line",
    "parse_url",
    "transaction",
]

CONNECT_TIMEOUT_S: Final = 2
POOL_TIMEOUT_S: Final = 30
"""How long an engine without a limit waits for a connection of its pool."""
PING_TIMEOUT_S: Final = 1.0
GRACE_S: Final = 0.5
"""How much longer than the server's own limit a client waits before it gives up."""

# A dead machine is noticed in seconds, not in the kernel's two hours.
_CONNECTION: Final[Mapping[str, object]] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "lienthong",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}

# What a transaction that was answered with success stands on.
_DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")

# Errors that psycopg does not count as operational, though a later try may succeed:
# read-only standby, idle transaction ended by the server, index or page found damaged.
_TRY_LATER: Final = frozenset({"25006", "25P03", "XX001", "XX002"})


class _Connection(psycopg.Connection[Any]):
    """A connection whose every wait ends, also when the server is frozen."""

    patience_s: float | None = None

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ANN401 - the signature of the parent
        limit = self.patience_s if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:  # not the server's word: nobody knows what it is doing
                self.pgconn.finish()
            raise


def create(url: str, pool_size: int = 8, statement_timeout_s: float = 5.0) -> Engine:
    """Return an engine for `url`; nothing is connected yet.

    Every statement, and every wait for a free connection, ends after `statement_timeout_s`
    (0: never), by the server's hand or, when that does not answer, by ours.

    Raises
    ------
    Malformed
        `url` is not the URL of a PostgreSQL database.
    """
    engine = create_engine(
        parse_url(url),
        pool_size=pool_size,
        pool_use_lifo=True,
        max_overflow=pool_size,
        pool_timeout=statement_timeout_s or POOL_TIMEOUT_S,
        hide_parameters=True,
    )
    patience_s = statement_timeout_s + GRACE_S if statement_timeout_s else None
    settings = f"-c statement_timeout={int(statement_timeout_s * 1000)}"
    settings += " -c plan_cache_mode=force_custom_plan"

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, args: Any, given: dict[str, Any]) -> _Connection:  # noqa: ANN401
        options = f"{settings} {given.pop('options', '')}".strip()
        connection = _Connection.connect(*args, **{**_CONNECTION, **given, "options": options})
        connection.patience_s = patience_s
        return connection

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: object) -> None:  # noqa: ANN401
        if record.info.setdefault("used", False):
            _ping(connection)
        record.info["used"] = True

    return engine


def parse_url(url: str) -> URL:
    """Return `url` with the driver that we use.

    Raises
    ------
    Malformed
        `url` is not the URL of a PostgreSQL database. The text does not repeat it.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Malformed("LIENTHONG_DATABASE_URL: not a URL") from None
    if parsed.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise Malformed("LIENTHONG_DATABASE_URL: must begin with postgresql://")
    return parsed.set(drivername="postgresql+psycopg")


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session in one transaction: committed when the block ends well, else undone.

    Raises
    ------
    StoreUnavailable
        The database did not answer, or asks to try again (deadlock, time-out, no room).
    Malformed
        A value cannot be held by the database, such as text with a NUL.
    """
    with database_errors(), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def line(engine: Engine) -> Iterator[Session]:
    """Yield a session for one transaction after the other (`session.begin`) on one connection.

    Raises as `transaction` does.
    """
    with (
        database_errors(),
        engine.connect() as connection,
        Session(connection, expire_on_commit=False) as session,
    ):
        yield session


def check(engine: Engine) -> None:
    """Raise `StoreUnavailable` unless the database answers and keeps what it commits."""
    query = text("SELECT name FROM pg_settings WHERE name = ANY(:names) AND setting = 'off'")
    with database_errors(), engine.connect() as connection:
        off = connection.scalars(query, {"names": [*_DURABLE]}).all()
    if off:
        raise StoreUnavailable(
            f"PostgreSQL would lose data in a power cut: {', '.join(sorted(off))} = off"
        )


@contextmanager
def database_errors() -> Iterator[None]:
    """Sort what the driver raises into our own errors; what is left is a defect."""
    try:
        yield
    except PoolTimeoutError as error:
        raise StoreUnavailable("database: every connection is busy") from error
    except DataError as error:
        raise Malformed(f"a value that the database cannot hold ({_state(error)})") from error
    except UnicodeEncodeError as error:
        raise Malformed("a text that is not Unicode") from error
    except DBAPIError as error:
        if not _may_succeed_later(error):
            raise
        raise StoreUnavailable(f"database: {_first_line(error)} ({_state(error)})") from error


def _may_succeed_later(error: DBAPIError) -> bool:
    known = isinstance(error, OperationalError | InterfaceError)
    return known or error.connection_invalidated or _state(error) in _TRY_LATER


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or type(error.orig).__name__


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]


def _ping(connection: Any) -> None:  # noqa: ANN401
    """Ask a connection from the pool whether it still lives; the pool opens another if not."""
    patience_s, connection.patience_s = connection.patience_s, PING_TIMEOUT_S
    try:
        connection.autocommit = True
        connection.execute("")
        connection.autocommit = False
    except psycopg.Error as error:
        raise DisconnectionError("the connection is gone") from error
    finally:
        connection.patience_s = patience_s
