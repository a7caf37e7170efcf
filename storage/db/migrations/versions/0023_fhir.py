"""Results of sorted searches, subscriptions, machines, deliveries, and indexes by time."""

from alembic import op

revision = "0023"
down_revision = "0019"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE listing_results (
        uid TEXT NOT NULL,
        kind TEXT NOT NULL,
        ids BIGINT[] NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_listing_results PRIMARY KEY (uid)
    )
    """,
    "CREATE INDEX ix_listing_results_made_at ON listing_results (made_at)",
    """
    CREATE TABLE subscriptions (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        uid TEXT NOT NULL,
        status TEXT NOT NULL,
        kind TEXT NOT NULL,
        criteria TEXT NOT NULL,
        reason TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        payload TEXT NOT NULL,
        headers TEXT[] NOT NULL,
        ends_at TIMESTAMP WITH TIME ZONE,
        failures BIGINT NOT NULL,
        failing_since TIMESTAMP WITH TIME ZONE,
        error TEXT NOT NULL,
        made_by TEXT NOT NULL,
        role TEXT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_subscriptions PRIMARY KEY (id),
        CONSTRAINT uq_subscriptions_uid UNIQUE (uid)
    )
    """,
    """
    CREATE TABLE resource_changes (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        kind TEXT NOT NULL,
        row_id BIGINT NOT NULL,
        CONSTRAINT pk_resource_changes PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE subscription_notices (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        subscription_id BIGINT NOT NULL,
        row_id BIGINT NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_subscription_notices PRIMARY KEY (id),
        CONSTRAINT fk_subscription_notices_subscription_id FOREIGN KEY (subscription_id)
            REFERENCES subscriptions (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX ix_subscription_notices_subscription_id
        ON subscription_notices (subscription_id, id)
    """,
    """
    CREATE TABLE machines (
        ae_title TEXT NOT NULL,
        machine_code TEXT NOT NULL,
        name TEXT NOT NULL,
        serial_number TEXT NOT NULL,
        circulation_number TEXT NOT NULL,
        room TEXT NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_machines PRIMARY KEY (ae_title)
    )
    """,
    """
    CREATE TABLE deliveries (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        uid TEXT NOT NULL,
        report_uid TEXT NOT NULL,
        report_version BIGINT,
        study_instance_uid TEXT NOT NULL,
        patient_id BIGINT,
        channel TEXT NOT NULL,
        recipient_kind TEXT NOT NULL,
        recipient TEXT NOT NULL,
        count BIGINT NOT NULL,
        delivered_at TIMESTAMP WITH TIME ZONE NOT NULL,
        evidence TEXT NOT NULL,
        note TEXT NOT NULL,
        revokes TEXT,
        source TEXT NOT NULL,
        recorded_by TEXT NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_deliveries PRIMARY KEY (id),
        CONSTRAINT uq_deliveries_uid UNIQUE (uid),
        CONSTRAINT uq_deliveries_revokes UNIQUE (revokes),
        CONSTRAINT fk_deliveries_revokes FOREIGN KEY (revokes) REFERENCES deliveries (uid)
    )
    """,
    "CREATE INDEX ix_deliveries_report_uid ON deliveries (report_uid, id)",
    "CREATE INDEX ix_deliveries_study_instance_uid ON deliveries (study_instance_uid, id)",
    "CREATE INDEX ix_deliveries_delivered_at ON deliveries (delivered_at)",
    "CREATE UNIQUE INDEX uq_deliveries_source ON deliveries (source) WHERE source > ''",
    # what is searched and counted by time
    """
    CREATE INDEX ix_report_versions_authored_at ON report_versions (authored_at)
        WHERE version > 0
    """,
    "CREATE INDEX ix_orders_issued_at ON orders (issued_at)",
    "CREATE INDEX ix_performed_steps_started ON performed_steps (started)",
    """
    CREATE INDEX ix_performed_steps_station ON performed_steps (station_ae_title, started)
    """,
    """
    CREATE INDEX ix_ris_patients_patient_birth_date ON ris_patients (patient_birth_date)
        WHERE patient_birth_date IS NOT NULL
    """,
    """
    CREATE INDEX ix_ris_patients_partial_birth_date ON ris_patients (patient_birth_date_sent)
        WHERE patient_birth_date IS NULL
    """,
    "CREATE INDEX ix_patients_patient_birth_date ON patients (patient_birth_date)",
    "CREATE INDEX ix_ris_patients_changed_at ON ris_patients (changed_at)",
)

# Nothing is ever taken out of the register: what was wrong is revoked by another entry.
_GUARD = """
CREATE FUNCTION keep_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('lienthong.purge', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the register of deliveries is only appended to' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER keep_delivery BEFORE UPDATE OR DELETE ON deliveries
    FOR EACH ROW EXECUTE FUNCTION keep_delivery();
CREATE TRIGGER keep_deliveries BEFORE TRUNCATE ON deliveries
    FOR EACH STATEMENT EXECUTE FUNCTION keep_delivery();
"""

# What changed, for subscriptions; nothing is written while nobody wants to know.
_CHANGES = """
CREATE FUNCTION note_resource_change() RETURNS trigger LANGUAGE plpgsql
    SET plan_cache_mode = auto  -- connections plan each statement anew, which costs more than this
AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM subscriptions
               WHERE kind = TG_ARGV[0] AND status IN ('active', 'error')) THEN
        IF TG_ARGV[0] = 'DiagnosticReport' AND TG_TABLE_NAME = 'report_versions' THEN
            INSERT INTO resource_changes (kind, row_id) VALUES (TG_ARGV[0], NEW.report_id);
        ELSE
            INSERT INTO resource_changes (kind, row_id) VALUES (TG_ARGV[0], NEW.id);
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER note_patient AFTER INSERT OR UPDATE ON ris_patients
    FOR EACH ROW EXECUTE FUNCTION note_resource_change('Patient');
CREATE TRIGGER note_order AFTER INSERT OR UPDATE ON orders
    FOR EACH ROW EXECUTE FUNCTION note_resource_change('ServiceRequest');
CREATE TRIGGER note_study AFTER INSERT OR UPDATE ON studies
    FOR EACH ROW EXECUTE FUNCTION note_resource_change('ImagingStudy');
CREATE TRIGGER note_report AFTER INSERT ON reports
    FOR EACH ROW EXECUTE FUNCTION note_resource_change('DiagnosticReport');
CREATE TRIGGER note_report_version AFTER INSERT ON report_versions
    FOR EACH ROW WHEN (NEW.version > 0)
    EXECUTE FUNCTION note_resource_change('DiagnosticReport');
"""
_TRIGGERS = (
    ("note_patient", "ris_patients"),
    ("note_order", "orders"),
    ("note_study", "studies"),
    ("note_report", "reports"),
    ("note_report_version", "report_versions"),
)
_INDEXES = (
    "ix_report_versions_authored_at",
    "ix_orders_issued_at",
    "ix_performed_steps_started",
    "ix_performed_steps_station",
    "ix_ris_patients_patient_birth_date",
    "ix_ris_patients_partial_birth_date",
    "ix_patients_patient_birth_date",
    "ix_ris_patients_changed_at",
)


def upgrade() -> None:
    for statement in (*_STATEMENTS, _GUARD, _CHANGES):
        op.execute(statement)


def downgrade() -> None:
    for trigger, table in _TRIGGERS:
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    op.execute("DROP FUNCTION note_resource_change")
    for index in _INDEXES:
        op.execute(f"DROP INDEX {index}")
    for table in (
        "deliveries",
        "machines",
        "subscription_notices",
        "resource_changes",
        "subscriptions",
        "listing_results",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION keep_delivery")
