"""Studies whose reports are for no order, though they have one, are looked at again.

Reports that were opened for a study that came under another UID than its order gave out were told
to nobody; whoever looks after studies lets them follow (`ris.reports.attaching`).
"""

from alembic import op

revision = "0031"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        UPDATE ris_studies SET watched = true, look_at = NULL
        WHERE study_instance_uid IN (
            SELECT unnest(study_instance_uids) FROM reports
            WHERE NOT EXISTS (SELECT FROM report_orders WHERE report_id = reports.id)
                AND status NOT IN ('cancelled', 'retracted') AND source = ''
        ) AND EXISTS (
            SELECT FROM study_orders
            WHERE study_orders.study_instance_uid = ris_studies.study_instance_uid
                AND detached_at IS NULL
        )
    """)


def downgrade() -> None:
    """Nothing to take back: they were looked at."""
