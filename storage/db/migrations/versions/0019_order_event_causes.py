"""Whose message an event of an order is the effect of."""

from alembic import op

revision = "0019"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE order_events ADD COLUMN caused_by TEXT NOT NULL DEFAULT ''")


def downgrade() -> None:
    op.execute("ALTER TABLE order_events DROP COLUMN caused_by")
