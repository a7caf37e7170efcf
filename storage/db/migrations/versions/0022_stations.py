"""Health stations: the registry, what was released to whom and why, what they send."""

from alembic import op

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE stations (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    wiped_at TIMESTAMP WITH TIME ZONE,
    hook_url TEXT DEFAULT '' NOT NULL,
    look_ups_a_day BIGINT NOT NULL,
    CONSTRAINT pk_stations PRIMARY KEY (id)
);
CREATE TABLE station_versions (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    station_ref BIGINT NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    national_id TEXT COLLATE "C" NOT NULL,
    parent_code TEXT NOT NULL,
    admin_unit TEXT NOT NULL,
    valid_from DATE NOT NULL,
    valid_to DATE,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_station_versions PRIMARY KEY (id),
    CONSTRAINT fk_station_versions_station_ref FOREIGN KEY (station_ref) REFERENCES stations (id)
);
CREATE INDEX ix_station_versions_code ON station_versions (code);
CREATE INDEX ix_station_versions_name_key ON station_versions (name_key);
CREATE INDEX ix_station_versions_national_id ON station_versions (national_id);
CREATE UNIQUE INDEX uq_station_versions_open ON station_versions (station_ref)
    WHERE valid_to IS NULL;
CREATE TABLE station_devices (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    uid TEXT NOT NULL,
    station_ref BIGINT NOT NULL,
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_station_devices PRIMARY KEY (id),
    CONSTRAINT uq_station_devices_uid UNIQUE (uid),
    CONSTRAINT fk_station_devices_station_ref FOREIGN KEY (station_ref) REFERENCES stations (id)
);
CREATE INDEX ix_station_devices_station_ref ON station_devices (station_ref);
CREATE TABLE station_users (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    station_ref BIGINT NOT NULL,
    name TEXT NOT NULL,
    full_name TEXT NOT NULL,
    role TEXT NOT NULL,
    licence TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    otp_secret BYTEA NOT NULL,
    otp_used BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    disabled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_station_users PRIMARY KEY (id),
    CONSTRAINT uq_station_users_name UNIQUE (name),
    CONSTRAINT fk_station_users_station_ref FOREIGN KEY (station_ref) REFERENCES stations (id)
);
CREATE INDEX ix_station_users_station_ref ON station_users (station_ref);
CREATE TABLE station_sessions (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    secret_sha256 BYTEA NOT NULL,
    device_ref BIGINT NOT NULL,
    user_ref BIGINT,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_station_sessions PRIMARY KEY (id),
    CONSTRAINT uq_station_sessions_secret_sha256 UNIQUE (secret_sha256),
    CONSTRAINT fk_station_sessions_device_ref FOREIGN KEY (device_ref)
        REFERENCES station_devices (id),
    CONSTRAINT fk_station_sessions_user_ref FOREIGN KEY (user_ref) REFERENCES station_users (id)
);
CREATE INDEX ix_station_sessions_ends_at ON station_sessions (ends_at);
CREATE TABLE station_assertions (
    digest BYTEA NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_station_assertions PRIMARY KEY (digest)
);
CREATE INDEX ix_station_assertions_ends_at ON station_assertions (ends_at);
CREATE TABLE station_counts (
    station_ref BIGINT NOT NULL,
    day DATE NOT NULL,
    what TEXT NOT NULL,
    amount BIGINT NOT NULL,
    CONSTRAINT pk_station_counts PRIMARY KEY (station_ref, day, what),
    CONSTRAINT fk_station_counts_station_ref FOREIGN KEY (station_ref) REFERENCES stations (id)
);
CREATE TABLE release_bases (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    uid TEXT NOT NULL,
    kind TEXT NOT NULL,
    station_ref BIGINT NOT NULL,
    patient_ref BIGINT,
    order_ref BIGINT,
    via TEXT NOT NULL,
    evidence TEXT NOT NULL,
    covers TEXT[] NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE,
    recorded_by TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    withdrawn_at TIMESTAMP WITH TIME ZONE,
    withdrawn_by TEXT DEFAULT '' NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    reviewed_at TIMESTAMP WITH TIME ZONE,
    reviewed_by TEXT DEFAULT '' NOT NULL,
    review TEXT DEFAULT '' NOT NULL,
    CONSTRAINT pk_release_bases PRIMARY KEY (id),
    CONSTRAINT uq_release_bases_uid UNIQUE (uid)
);
CREATE INDEX ix_release_bases_patient_ref ON release_bases (patient_ref);
CREATE INDEX ix_release_bases_order_ref ON release_bases (order_ref);
CREATE UNIQUE INDEX uq_release_bases_order ON release_bases (order_ref, station_ref)
    WHERE order_ref IS NOT NULL AND withdrawn_at IS NULL;
CREATE TABLE consent_codes (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    code_sha256 BYTEA NOT NULL,
    patient_ref BIGINT NOT NULL,
    covers TEXT[] NOT NULL,
    hours BIGINT NOT NULL,
    recorded_by TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_consent_codes PRIMARY KEY (id),
    CONSTRAINT uq_consent_codes_code_sha256 UNIQUE (code_sha256)
);
CREATE TABLE releases (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    station_ref BIGINT NOT NULL,
    report_uid TEXT NOT NULL,
    patient_ref BIGINT,
    basis_ref BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    position BIGINT,
    CONSTRAINT pk_releases PRIMARY KEY (id),
    CONSTRAINT uq_releases_station_ref_report_uid UNIQUE (station_ref, report_uid)
);
CREATE INDEX ix_releases_feed ON releases (station_ref, position);
CREATE INDEX ix_releases_report_uid ON releases (report_uid);
CREATE TABLE release_receipts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    station_ref BIGINT NOT NULL,
    report_uid TEXT NOT NULL,
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    happened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    device TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    CONSTRAINT pk_release_receipts PRIMARY KEY (id),
    CONSTRAINT uq_release_receipts_station_ref_report_uid_version_kind_key
        UNIQUE (station_ref, report_uid, version, kind, key)
);
CREATE INDEX ix_release_receipts_report_uid ON release_receipts (report_uid, id);
CREATE TABLE release_marks (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    report_uid TEXT NOT NULL,
    patient_ref BIGINT,
    sensitive TEXT NOT NULL,
    marked_by TEXT NOT NULL,
    marked_at TIMESTAMP WITH TIME ZONE NOT NULL,
    lifted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_release_marks PRIMARY KEY (id)
);
CREATE INDEX ix_release_marks_report_uid ON release_marks (report_uid);
CREATE INDEX ix_release_marks_patient_ref ON release_marks (patient_ref);
CREATE TABLE station_referrals (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    uid TEXT NOT NULL,
    station_ref BIGINT NOT NULL,
    content JSONB NOT NULL,
    sent_by JSONB NOT NULL,
    state TEXT NOT NULL,
    order_ref BIGINT,
    note TEXT NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_station_referrals PRIMARY KEY (id),
    CONSTRAINT uq_station_referrals_uid UNIQUE (uid)
);
CREATE INDEX ix_station_referrals_state ON station_referrals (state, id);
CREATE TABLE station_requests (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    station_ref BIGINT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    answer JSONB NOT NULL,
    answered_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_station_requests PRIMARY KEY (id),
    CONSTRAINT uq_station_requests_station_ref_key UNIQUE (station_ref, key)
);
CREATE TABLE station_alarms (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    station_ref BIGINT NOT NULL,
    kind TEXT NOT NULL,
    details JSONB NOT NULL,
    raised_at TIMESTAMP WITH TIME ZONE NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE,
    seen_by TEXT NOT NULL,
    CONSTRAINT pk_station_alarms PRIMARY KEY (id)
);
CREATE INDEX ix_station_alarms_station_ref ON station_alarms (station_ref, id);
CREATE SEQUENCE release_positions;
"""

# The place in the feed is given at the commit, one commit after the other: whoever has read up
# to a place has seen every change that committed before it, however long others stay open.
_FEED = """
CREATE FUNCTION place_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('lienthong commit order', 0));
    UPDATE releases SET position = nextval('release_positions') WHERE id = NEW.id;
    PERFORM pg_notify('lienthong_releases', NEW.station_ref::text);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER place_release AFTER INSERT OR UPDATE OF changed_at ON releases
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION place_release();
"""

_DROPPED = (
    *("station_alarms", "station_requests", "station_referrals", "release_marks"),
    *("release_receipts", "releases", "consent_codes", "release_bases", "station_counts"),
    *("station_assertions", "station_sessions", "station_users", "station_devices"),
    *("station_versions", "stations"),
)


def upgrade() -> None:
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(_FEED)


def downgrade() -> None:
    for table in _DROPPED:
        op.drop_table(table)
    op.execute("DROP FUNCTION place_release")
    op.execute("DROP SEQUENCE release_positions")
