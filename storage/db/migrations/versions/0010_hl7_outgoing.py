"""HL7: who sends to a destination now; what people find messages of ours by."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0010"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "hl7_destinations",
        sa.Column("leased_by", sa.Text(), nullable=False, server_default=""),
    )
    op.alter_column("hl7_destinations", "leased_by", server_default=None)
    op.add_column(
        "hl7_outgoing",
        sa.Column("keys", ARRAY(sa.Text()), nullable=False, server_default="{}"),
    )
    op.alter_column("hl7_outgoing", "keys", server_default=None)
    op.create_index("ix_hl7_outgoing_keys", "hl7_outgoing", ["keys"], postgresql_using="gin")
    op.create_index("ix_hl7_outgoing_created_at", "hl7_outgoing", ["created_at"])


def downgrade() -> None:
    op.drop_index("ix_hl7_outgoing_created_at", "hl7_outgoing")
    op.drop_index("ix_hl7_outgoing_keys", "hl7_outgoing")
    op.drop_column("hl7_outgoing", "keys")
    op.drop_column("hl7_destinations", "leased_by")
