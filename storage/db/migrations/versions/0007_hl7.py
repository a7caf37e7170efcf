"""HL7: senders, the ledger of what came, destinations, what waits to be sent."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hl7_senders",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("facility", sa.Text(), nullable=False),
        sa.Column("addresses", ARRAY(sa.Text()), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("changes", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "hl7_messages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("wire", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("charset", sa.Text(), nullable=False),
        sa.Column("charset_guessed", sa.Boolean(), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=True),
        sa.Column("keys", ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("answer_code", sa.Text(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("applied_no", sa.BigInteger(), nullable=True),
        sa.Column("repeats", sa.BigInteger(), nullable=False),
        sa.Column("corrects", sa.BigInteger(), nullable=True),
        sa.UniqueConstraint("identity"),
    )
    op.execute("CREATE SEQUENCE hl7_applied")
    op.create_index("ix_hl7_messages_keys", "hl7_messages", ["keys"], postgresql_using="gin")
    op.create_index("ix_hl7_messages_control_id", "hl7_messages", ["control_id"])
    op.create_index("ix_hl7_messages_received_at", "hl7_messages", ["received_at"])
    op.create_index(
        "ix_hl7_messages_open",
        "hl7_messages",
        ["state", "id"],
        postgresql_where=sa.text("state <> 'applied'"),
    )
    op.create_table(
        "hl7_destinations",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.BigInteger(), nullable=False),
        sa.Column("options", JSONB(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("closed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "hl7_outgoing",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index(
        "ix_hl7_outgoing_open",
        "hl7_outgoing",
        ["destination", "queue", "id"],
        postgresql_where=sa.text("state <> 'sent'"),
    )
    op.create_index(
        "ix_hl7_outgoing_waiting",
        "hl7_outgoing",
        ["destination", "id"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "order_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("control", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index(
        "ix_order_events_untold",
        "order_events",
        ["id"],
        postgresql_where=sa.text("told_at IS NULL"),
    )


def downgrade() -> None:
    for table in (
        "order_events",
        "hl7_outgoing",
        "hl7_destinations",
        "hl7_messages",
        "hl7_senders",
    ):
        op.drop_table(table)
    op.execute("DROP SEQUENCE hl7_applied")
