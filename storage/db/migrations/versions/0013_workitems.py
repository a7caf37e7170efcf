"""Workitems (Unified Procedure Steps), who watches them, and what watchers are told."""

from alembic import op

revision = "0013"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE workitems (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    sop_instance_uid TEXT NOT NULL,
    state TEXT NOT NULL,
    transaction_uid TEXT NOT NULL,
    performer TEXT NOT NULL,
    dataset JSONB NOT NULL,
    worklist_label TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    study_instance_uids TEXT[] NOT NULL,
    start TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_workitems PRIMARY KEY (id),
    CONSTRAINT uq_workitems_sop_instance_uid UNIQUE (sop_instance_uid)
);
CREATE INDEX ix_workitems_state_start ON workitems (state, start, id);
CREATE INDEX ix_workitems_patient_id ON workitems (patient_id);
CREATE INDEX ix_workitems_study_instance_uids ON workitems USING gin (study_instance_uids);
CREATE TABLE workitem_subscribers (
    workitem_id BIGINT NOT NULL,
    ae_title TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    deletion_lock BOOLEAN NOT NULL,
    CONSTRAINT pk_workitem_subscribers PRIMARY KEY (workitem_id, ae_title),
    CONSTRAINT fk_workitem_subscribers_workitem_id FOREIGN KEY (workitem_id)
        REFERENCES workitems (id) ON DELETE CASCADE
);
CREATE INDEX ix_workitem_subscribers_ae_title ON workitem_subscribers (ae_title);
CREATE TABLE workitem_subscriptions (
    ae_title TEXT NOT NULL,
    filtered BOOLEAN NOT NULL,
    deletion_lock BOOLEAN NOT NULL,
    keys JSONB NOT NULL,
    CONSTRAINT pk_workitem_subscriptions PRIMARY KEY (ae_title, filtered)
);
CREATE TABLE workitem_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    ae_title TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    event_type_id BIGINT NOT NULL,
    content JSONB NOT NULL,
    happened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_workitem_events PRIMARY KEY (id)
);
CREATE INDEX ix_workitem_events_ae_title ON workitem_events (ae_title, id);
CREATE INDEX ix_workitem_events_happened_at ON workitem_events (happened_at);
CREATE TABLE workitem_mailboxes (
    ae_title TEXT NOT NULL,
    told_id BIGINT NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    attempts BIGINT NOT NULL,
    CONSTRAINT pk_workitem_mailboxes PRIMARY KEY (ae_title)
)
"""


def upgrade() -> None:
    for statement in _TABLES.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "workitem_mailboxes",
        "workitem_events",
        "workitem_subscriptions",
        "workitem_subscribers",
        "workitems",
    ):
        op.drop_table(table)
