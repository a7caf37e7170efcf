"""The accession number that the objects of a study say, where that of its order is shown."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("own_accession_number", sa.Text(collation="C")))


def downgrade() -> None:
    op.drop_column("studies", "own_accession_number")
