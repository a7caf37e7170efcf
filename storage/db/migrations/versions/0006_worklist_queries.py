"""The last worklist query of each console."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "worklist_queries",
        sa.Column("calling_ae_title", sa.Text(), primary_key=True),
        sa.Column("keys", JSONB(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("matches", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("worklist_queries")
