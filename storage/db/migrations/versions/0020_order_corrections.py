"""What is shown of a study and its series from the order that it belongs to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE studies
            ADD COLUMN order_correction TEXT COLLATE "C" DEFAULT '' NOT NULL,
            ADD COLUMN received JSONB
    """)
    op.add_column("series", sa.Column("received", JSONB))
    op.execute("""
        UPDATE studies SET received = jsonb_build_object('accession_number', own_accession_number),
            order_correction = json_build_object('AccessionNumber', accession_number)::text
        WHERE own_accession_number IS NOT NULL
    """)
    op.drop_column("studies", "own_accession_number")


def downgrade() -> None:
    op.add_column("studies", sa.Column("own_accession_number", sa.Text(collation="C")))
    op.execute("""
        UPDATE studies SET
            own_accession_number = received->>'accession_number',
            study_description = coalesce(received->>'study_description', study_description),
            referring_physician_name =
                coalesce(received->>'referring_physician_name', referring_physician_name),
            referring_physician_name_key =
                coalesce(received->>'referring_physician_name_key', referring_physician_name_key)
        WHERE received IS NOT NULL
    """)
    op.execute("""
        UPDATE series SET
            requested_procedure_id = received->>'requested_procedure_id',
            scheduled_procedure_step_id = received->>'scheduled_procedure_step_id'
        WHERE received IS NOT NULL
    """)
    op.drop_column("series", "received")
    op.drop_column("studies", "received")
    op.drop_column("studies", "order_correction")
