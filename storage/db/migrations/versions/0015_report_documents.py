"""Jobs, the papers of reports, the letterhead, keys of signers at their provider."""

from alembic import op

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE jobs (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        name TEXT NOT NULL,
        arguments JSONB NOT NULL,
        state TEXT NOT NULL,
        attempts BIGINT NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE NOT NULL,
        reason TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_jobs PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX ix_jobs_due_at ON jobs (due_at, id) WHERE state = 'waiting'",
    """
    CREATE TABLE report_documents (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        report_id BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        object_key TEXT NOT NULL,
        size BIGINT NOT NULL,
        sha256 TEXT NOT NULL,
        method TEXT NOT NULL,
        qualified BOOLEAN NOT NULL,
        level TEXT NOT NULL,
        algorithm TEXT NOT NULL,
        subject TEXT NOT NULL,
        issuer TEXT NOT NULL,
        serial_number TEXT NOT NULL,
        certificate BYTEA NOT NULL,
        signed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        time_stamped_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_report_documents PRIMARY KEY (id),
        CONSTRAINT fk_report_documents_report_id FOREIGN KEY (report_id) REFERENCES reports (id),
        CONSTRAINT uq_report_documents_report_id_revision UNIQUE (report_id, revision)
    )
    """,
    """
    CREATE TABLE report_letterheads (
        name TEXT NOT NULL,
        texts JSONB NOT NULL,
        logo BYTEA NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_report_letterheads PRIMARY KEY (name)
    )
    """,
    "ALTER TABLE practitioners ADD COLUMN credential TEXT DEFAULT '' NOT NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.drop_column("practitioners", "credential")
    for table in ("report_letterheads", "report_documents", "jobs"):
        op.drop_table(table)
