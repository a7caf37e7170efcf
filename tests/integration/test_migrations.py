import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, inspect, text

from storage.base.errors import NotSupported, StoreUnavailable
from storage.db import migrations
from storage.db.columns import Base
from storage.db.engine import Engine, create
from tests.fixtures.database import temporary_database


def test_migrated_schema_is_the_one_of_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        differences = compare_metadata(context, Base.metadata)

    assert differences == []


def test_constraints_bear_the_names_of_the_convention(engine: Engine) -> None:
    found = inspect(engine)
    for table in Base.metadata.sorted_tables:
        assert found.get_pk_constraint(table.name)["name"] == table.primary_key.name


def test_upgrade_of_a_current_schema_changes_nothing(database_url: str) -> None:
    migrations.upgrade(database_url)

    current = create(database_url)
    migrations.require_head(current)
    current.dispose()


def test_two_processes_that_start_at_once_upgrade_one_after_the_other(
    database_server: URL,
) -> None:
    failures: list[BaseException] = []

    def upgrade(url: str) -> None:
        try:
            migrations.upgrade(url)
        except BaseException as error:  # noqa: BLE001 - the thread hands it to the test
            failures.append(error)

    with temporary_database(database_server) as url:
        threads = [threading.Thread(target=upgrade, args=[url]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fresh = create(url)
        revision = migrations.current(fresh)
        fresh.dispose()

    assert not failures
    assert revision == migrations.head()


def test_database_without_schema_is_named_and_told_how_to_mend(database_server: URL) -> None:
    with temporary_database(database_server) as url:
        fresh = create(url)
        try:
            with pytest.raises(StoreUnavailable, match=r"schema is empty .*lienthong migrate"):
                migrations.require_head(fresh)
        finally:
            fresh.dispose()


def test_schema_of_a_newer_version_is_refused(database_url: str) -> None:
    newer = create(database_url)
    with newer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(NotSupported, match="9999 was made by a newer version"):
        migrations.upgrade(database_url)

    newer.dispose()
