"""The first migration lays the tables that the code reads."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from storage.archive import tables
from storage.db.columns import Base
from storage.db.engine import Engine

OURS = {
    table.name
    for table in (
        tables.patients,
        tables.patient_identifiers,
        tables.studies,
        tables.series,
        tables.instances,
        tables.disused_objects,
        tables.incidents,
        tables.quarantine,
    )
}


def test_migrated_database_is_what_the_tables_say(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _parent: kind != "table" or name in OURS,
            },
        )
        differences = compare_metadata(context, Base.metadata)

    assert [one for one in differences if not _of_others(one)] == []


def _of_others(difference: object) -> bool:
    """Tables of other packages are in the metadata and left out of the comparison."""
    return (
        isinstance(difference, tuple)
        and difference[0] in {"add_table", "add_index"}
        and getattr(difference[1], "table", difference[1]).name not in OURS
    )


def test_every_text_of_the_index_compares_by_code_point(engine: Engine) -> None:
    inspector = inspect(engine)
    for name in OURS:
        for column in inspector.get_columns(name):
            if str(column["type"]).startswith(("TEXT", "VARCHAR")):
                assert getattr(column["type"], "collation", "C") == "C", (name, column["name"])


def test_every_index_of_the_tables_is_there(engine: Engine) -> None:
    inspector = inspect(engine)
    for name in OURS:
        wanted = {index.name for index in Base.metadata.tables[name].indexes}
        assert wanted <= {index["name"] for index in inspector.get_indexes(name)}
