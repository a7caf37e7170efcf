"""User accounts: who signs in, their sessions, one-time codes and failed guesses."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("user_ref", sa.BigInteger(), nullable=False),
        sa.Column("parent_ref", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("secret_sha256"),
        sa.ForeignKeyConstraint(["user_ref"], ["users.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["parent_ref"], ["sessions.id"], ondelete="CASCADE"),
    )
    op.create_index(None, "sessions", ["user_ref"])
    op.create_index(None, "sessions", ["parent_ref"])
    op.create_index(None, "sessions", ["ends_at"])
    op.create_table(
        "codes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("user_ref", sa.BigInteger(), nullable=False),
        sa.Column("session_ref", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("secret_sha256"),
        sa.ForeignKeyConstraint(["user_ref"], ["users.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["session_ref"], ["sessions.id"], ondelete="CASCADE"),
    )
    op.create_index(None, "codes", ["user_ref"])
    op.create_index(None, "codes", ["session_ref"])
    op.create_table(
        "guesses",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(None, "guesses", ["last_at"])


def downgrade() -> None:
    for table in ("guesses", "codes", "sessions", "users"):
        op.drop_table(table)
