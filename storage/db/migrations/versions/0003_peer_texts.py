"""How texts are written for each peer, and which stations' steps it sees."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "peers", sa.Column("text_profile", sa.Text(), nullable=False, server_default="utf8")
    )
    op.add_column("peers", sa.Column("text_length", sa.BigInteger(), nullable=True))
    op.add_column(
        "peers", sa.Column("every_station", sa.Boolean(), nullable=False, server_default="false")
    )
    op.alter_column("peers", "text_profile", server_default=None)
    op.alter_column("peers", "every_station", server_default=None)


def downgrade() -> None:
    op.drop_column("peers", "every_station")
    op.drop_column("peers", "text_length")
    op.drop_column("peers", "text_profile")
