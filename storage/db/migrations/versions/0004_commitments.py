"""Storage commitments that were asked for."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE commitments (
            id BIGINT GENERATED ALWAYS AS IDENTITY,
            transaction_uid TEXT COLLATE "C" NOT NULL,
            calling_ae_title TEXT COLLATE "C" NOT NULL,
            called_ae_title TEXT COLLATE "C" NOT NULL,
            instances JSONB NOT NULL,
            requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
            due_at TIMESTAMP WITH TIME ZONE NOT NULL,
            attempts INTEGER DEFAULT '0' NOT NULL,
            failures JSONB,
            state TEXT COLLATE "C" DEFAULT 'waiting' NOT NULL,
            CONSTRAINT pk_commitments PRIMARY KEY (id),
            CONSTRAINT uq_commitments_calling_ae_title_transaction_uid
                UNIQUE (calling_ae_title, transaction_uid)
        )
        """
    )
    op.execute("CREATE INDEX ix_commitments_due ON commitments (due_at) WHERE state = 'waiting'")


def downgrade() -> None:
    op.drop_table("commitments")
