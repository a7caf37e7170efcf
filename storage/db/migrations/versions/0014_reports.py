"""Reports: who writes them, their immutable versions, second readings, what is to be told."""

from alembic import op

revision = "0014"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE practitioners (
    code TEXT NOT NULL,
    name TEXT NOT NULL,
    qualification TEXT NOT NULL,
    licence_number TEXT NOT NULL,
    may_approve BOOLEAN NOT NULL,
    caller TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_practitioners PRIMARY KEY (code),
    CONSTRAINT uq_practitioners_caller UNIQUE (caller)
);
CREATE TABLE reports (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    uid TEXT NOT NULL,
    status TEXT NOT NULL,
    revision BIGINT NOT NULL,
    version BIGINT NOT NULL,
    study_instance_uids TEXT[] NOT NULL,
    accession_numbers TEXT[] NOT NULL,
    language TEXT NOT NULL,
    second_reading BOOLEAN NOT NULL,
    retraction_asked_by TEXT NOT NULL,
    locked_by TEXT NOT NULL,
    locked_name TEXT NOT NULL,
    locked_until TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_reports PRIMARY KEY (id),
    CONSTRAINT uq_reports_uid UNIQUE (uid)
);
CREATE INDEX ix_reports_status ON reports (status, id);
CREATE INDEX ix_reports_study_instance_uids ON reports USING gin (study_instance_uids);
CREATE INDEX ix_reports_accession_numbers ON reports USING gin (accession_numbers);
CREATE TABLE report_orders (
    report_id BIGINT NOT NULL,
    order_id BIGINT NOT NULL,
    live BOOLEAN NOT NULL,
    CONSTRAINT pk_report_orders PRIMARY KEY (report_id, order_id),
    CONSTRAINT fk_report_orders_report_id FOREIGN KEY (report_id) REFERENCES reports (id)
);
CREATE UNIQUE INDEX uq_report_orders_live ON report_orders (order_id) WHERE live;
CREATE TABLE report_versions (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    report_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    action TEXT NOT NULL,
    content JSONB NOT NULL,
    content_sha256 TEXT NOT NULL,
    author JSONB NOT NULL,
    reader JSONB NOT NULL,
    authored_at TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT NOT NULL,
    supersedes BIGINT,
    subject JSONB NOT NULL,
    images JSONB NOT NULL,
    verify_code TEXT,
    digest TEXT NOT NULL,
    CONSTRAINT pk_report_versions PRIMARY KEY (id),
    CONSTRAINT fk_report_versions_report_id FOREIGN KEY (report_id) REFERENCES reports (id),
    CONSTRAINT uq_report_versions_report_id_revision UNIQUE (report_id, revision),
    CONSTRAINT uq_report_versions_verify_code UNIQUE (verify_code)
);
CREATE UNIQUE INDEX uq_report_versions_version
    ON report_versions (report_id, version) WHERE version > 0;
CREATE TABLE report_second_readings (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    report_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    content_sha256 TEXT NOT NULL,
    reader JSONB NOT NULL,
    agreement TEXT NOT NULL,
    comment TEXT NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_report_second_readings PRIMARY KEY (id),
    CONSTRAINT fk_report_second_readings_report_id FOREIGN KEY (report_id) REFERENCES reports (id)
);
CREATE INDEX ix_report_second_readings_report_id ON report_second_readings (report_id);
CREATE TABLE report_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    report_uid TEXT NOT NULL,
    revision BIGINT NOT NULL,
    happened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    told_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_report_events PRIMARY KEY (id)
);
CREATE INDEX ix_report_events_untold ON report_events (id) WHERE told_at IS NULL;
"""

# Written once: a version is never changed, and deleted only by who says so in the transaction,
# when a retention period or the law ends its life.
_GUARD = """
CREATE FUNCTION keep_report_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('lienthong.purge', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'a version of a report is never changed' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER keep_report_version BEFORE UPDATE OR DELETE ON report_versions
    FOR EACH ROW EXECUTE FUNCTION keep_report_version();
"""


def upgrade() -> None:
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_GUARD)


def downgrade() -> None:
    for table in (
        "report_events",
        "report_second_readings",
        "report_versions",
        "report_orders",
        "reports",
        "practitioners",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION keep_report_version")
