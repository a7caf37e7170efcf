"""Templates of reports, critical results and who was told, key images."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE report_templates (
        code TEXT NOT NULL,
        title TEXT NOT NULL,
        language TEXT NOT NULL,
        service_codes TEXT[] NOT NULL,
        modality TEXT NOT NULL,
        sex TEXT NOT NULL,
        least_age_months BIGINT NOT NULL,
        most_age_months BIGINT,
        sections JSONB NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_report_templates PRIMARY KEY (code)
    )
    """,
    """
    CREATE TABLE critical_results (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        uid TEXT NOT NULL,
        report_id BIGINT NOT NULL,
        level TEXT NOT NULL,
        finding TEXT NOT NULL,
        recognised_at TIMESTAMP WITH TIME ZONE NOT NULL,
        recognised_by JSONB NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE NOT NULL,
        escalations BIGINT NOT NULL,
        acknowledged_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_critical_results PRIMARY KEY (id),
        CONSTRAINT uq_critical_results_uid UNIQUE (uid),
        CONSTRAINT fk_critical_results_report_id FOREIGN KEY (report_id) REFERENCES reports (id)
    )
    """,
    "CREATE INDEX ix_critical_results_report_id ON critical_results (report_id)",
    """
    CREATE INDEX ix_critical_results_open ON critical_results (due_at)
        WHERE acknowledged_at IS NULL
    """,
    """
    CREATE TABLE critical_notices (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        critical_id BIGINT NOT NULL,
        told TEXT NOT NULL,
        channel TEXT NOT NULL,
        read_back BOOLEAN NOT NULL,
        acknowledged BOOLEAN NOT NULL,
        told_by JSONB NOT NULL,
        told_at TIMESTAMP WITH TIME ZONE NOT NULL,
        note TEXT NOT NULL,
        CONSTRAINT pk_critical_notices PRIMARY KEY (id),
        CONSTRAINT fk_critical_notices_critical_id FOREIGN KEY (critical_id)
            REFERENCES critical_results (id)
    )
    """,
    "CREATE INDEX ix_critical_notices_critical_id ON critical_notices (critical_id)",
    """
    CREATE TABLE report_key_images (
        report_id BIGINT NOT NULL,
        position BIGINT NOT NULL,
        study_instance_uid TEXT NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        frame BIGINT NOT NULL,
        label TEXT NOT NULL,
        for_provider BOOLEAN NOT NULL,
        CONSTRAINT pk_report_key_images PRIMARY KEY (report_id, position),
        CONSTRAINT fk_report_key_images_report_id FOREIGN KEY (report_id) REFERENCES reports (id)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "report_key_images",
        "critical_notices",
        "critical_results",
        "report_templates",
    ):
        op.drop_table(table)
