"""Run by Alembic: the metadata of every table, and the connection that `upgrade` hands over."""

from importlib import import_module
from typing import Final

from alembic import context

from storage.db.columns import Base

# The only imports by name in the product: `storage.db` lies below the owners of the tables.
TABLES: Final = ("storage.archive.tables", "storage.access.tables")

for name in TABLES:
    import_module(name)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
