"""Which object holds the metadata of a series, and which objects may go."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE series
            ADD COLUMN metadata_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
            ADD COLUMN metadata_changed_at TIMESTAMP WITH TIME ZONE,
            ADD COLUMN metadata_instances INTEGER DEFAULT '0' NOT NULL
        """
    )
    op.execute(
        """
        CREATE INDEX ix_series_unsettled ON series (changed_at)
        WHERE metadata_changed_at IS DISTINCT FROM changed_at
            OR metadata_instances != number_of_instances
        """
    )
    op.execute(
        """
        CREATE TABLE disused_objects (
            object_key TEXT COLLATE "C" NOT NULL,
            noticed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_disused_objects PRIMARY KEY (object_key)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE disused_objects")
    op.execute("DROP INDEX ix_series_unsettled")
    for column in ("metadata_instances", "metadata_changed_at", "metadata_key"):
        op.execute(f"ALTER TABLE series DROP COLUMN {column}")
