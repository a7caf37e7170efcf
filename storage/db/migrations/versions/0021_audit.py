"""The journal of who saw what, and its chain."""

from alembic import op

revision = "0021"
down_revision = "0018"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE audit_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    actor TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    role TEXT NOT NULL,
    licence TEXT NOT NULL,
    station TEXT NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    patient_id BIGINT,
    report_uid TEXT NOT NULL,
    report_version BIGINT,
    study_instance_uid TEXT NOT NULL,
    basis TEXT NOT NULL,
    evidence TEXT NOT NULL,
    size BIGINT,
    request_id TEXT NOT NULL,
    details JSONB NOT NULL,
    content_sha256 BYTEA NOT NULL,
    CONSTRAINT pk_audit_events PRIMARY KEY (id)
);
CREATE INDEX ix_audit_events_recorded_at ON audit_events (recorded_at);
CREATE INDEX ix_audit_events_patient_id ON audit_events (patient_id, id)
    WHERE patient_id IS NOT NULL;
CREATE INDEX ix_audit_events_report_uid ON audit_events (report_uid, id);
CREATE INDEX ix_audit_events_station ON audit_events (station, id);
CREATE TABLE audit_chain (
    position BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    CONSTRAINT pk_audit_chain PRIMARY KEY (position),
    CONSTRAINT fk_audit_chain_event_id FOREIGN KEY (event_id) REFERENCES audit_events (id),
    CONSTRAINT uq_audit_chain_event_id UNIQUE (event_id)
);
"""

# Nothing is changed or taken away, by nobody.
_GUARD = """
CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit journal is only appended to' USING ERRCODE = '42501';
END
$$;
CREATE TRIGGER keep_audit BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION keep_audit();
CREATE TRIGGER keep_audit_whole BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();
CREATE TRIGGER keep_audit BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION keep_audit();
CREATE TRIGGER keep_audit_whole BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();
"""

# The place in the chain is given at the commit. The lock is kept to the end of the transaction,
# which is the end of that commit, when others see the entry already.
_CHAIN = """
CREATE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last audit_chain%ROWTYPE;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('lienthong commit order', 0));
    SELECT * INTO last FROM audit_chain ORDER BY position DESC LIMIT 1;
    INSERT INTO audit_chain (position, event_id, digest) VALUES (
        coalesce(last.position, 0) + 1,
        NEW.id,
        sha256(coalesce(last.digest, decode(repeat('00', 32), 'hex'))
               || int8send(NEW.id) || NEW.content_sha256)
    );
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER chain_audit AFTER INSERT ON audit_events
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chain_audit();
"""


def upgrade() -> None:
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_GUARD)
    op.execute(_CHAIN)


def downgrade() -> None:
    op.drop_table("audit_chain")
    op.drop_table("audit_events")
    op.execute("DROP FUNCTION keep_audit")
    op.execute("DROP FUNCTION chain_audit")
