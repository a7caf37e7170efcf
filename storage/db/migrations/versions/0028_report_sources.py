"""Which system of another maker a report comes from, and of when its newest version is."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE reports
            ADD COLUMN source TEXT DEFAULT '' NOT NULL,
            ADD COLUMN source_at TIMESTAMP WITHOUT TIME ZONE
    """)


def downgrade() -> None:
    for column in ("source_at", "source"):
        op.drop_column("reports", column)
