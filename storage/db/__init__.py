"""PostgreSQL: the engine, the migrations and the embedded server."""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.base.settings import Settings
from storage.db.embedded import EmbeddedPostgres
from storage.db.engine import parse_url


@contextmanager
def open_database(settings: Settings) -> Iterator[str]:
    """Yield the SQLAlchemy URL of the node's database, which runs while the block lasts.

    Raises
    ------
    Malformed
        ``LIENTHONG_DATABASE_URL`` is not the URL of a PostgreSQL database.
    StoreUnavailable, NotSupported
        The embedded server cannot be started, or not on these data.
    """
    if configured := settings.database_url.get_secret_value():
        yield parse_url(configured).render_as_string(hide_password=False)
        return
    with EmbeddedPostgres(settings.data_dir / "postgres", settings.secrets_dir) as server:
        yield server.url
