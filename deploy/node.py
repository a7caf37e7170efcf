"""What every process of a node opens: database, object store and spool."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.base.errors import StoreUnavailable
from storage.base.settings import Settings
from storage.db import migrations, open_database
from storage.db.engine import Engine, create
from storage.objects import open_store
from storage.objects.store import ObjectStore
from storage.spool import Spool


@dataclass(frozen=True, slots=True)
class Node:
    """The opened parts of one node, for as long as a process runs."""

    settings: Settings
    engine: Engine
    store: ObjectStore
    spool: Spool

    @staticmethod
    @contextmanager
    def of(settings: Settings) -> Iterator["Node"]:
        """Open everything that `settings` name; close it in the reverse order.

        Raises
        ------
        StoreUnavailable
            The database or the object store cannot be reached.
        Malformed
            A URL among the settings cannot be read.
        """
        with open_database(settings) as url:
            engine = create(url)
            try:
                store = open_store(settings)
                spool = Spool(settings.spool_dir, reserve_bytes=settings.spool_reserve_bytes)
                yield Node(settings, engine, store, spool)
            finally:
                engine.dispose()


@contextmanager
def prepare(settings: Settings) -> Iterator[None]:
    """Make the data folder and bring the schema up to date; keep the database up meanwhile."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailable(f"LIENTHONG_DATA_DIR {settings.data_dir}: {error}") from error
    with open_database(settings) as url:
        migrations.upgrade(url)
        yield
