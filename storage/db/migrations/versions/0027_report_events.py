"""The events of a version are found by it: whether it was told before its paper was there."""

from alembic import op

revision = "0027"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_report_events_report_uid", "report_events", ["report_uid", "revision"])


def downgrade() -> None:
    op.drop_index("ix_report_events_report_uid", "report_events")
