"""The schema, brought up to date by Alembic, one process at a time."""

from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text

from storage.base.errors import NotSupported, StoreUnavailable
from storage.db.engine import Engine, create, database_errors

LOCK: Final = 0x4C49454E54484F4E
"""The advisory lock that an upgrade holds."""


def upgrade(url: str) -> None:
    """Bring the schema of the database at `url` to `head`; another upgrade is waited for.

    Raises
    ------
    NotSupported
        A newer version of this product made the schema.
    StoreUnavailable
        The database did not answer.
    """
    engine = create(url, pool_size=1, statement_timeout_s=0)
    try:
        with database_errors(), engine.connect() as guard, guard.begin():
            guard.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            with engine.connect() as connection:
                _upgrade(connection)
    finally:
        engine.dispose()


def head() -> str:
    """Return the revision that this version of the product needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(engine: Engine) -> str:
    """Return the revision of the database, '' when it has no schema of ours."""
    with database_errors(), engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def require_head(engine: Engine) -> None:
    """Raise `StoreUnavailable` unless the schema is the one that this version needs."""
    found, wanted = current(engine), head()
    if found != wanted:
        raise StoreUnavailable(
            f"the database schema is {found or 'empty'} and must be {wanted}: "
            "run `lienthong migrate`"
        )


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    found = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    if found == head():
        return
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise NotSupported(
            f"the database schema {found} was made by a newer version: {error}"
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "storage.db:migrations")
    config.set_main_option("path_separator", "os")
    return config
