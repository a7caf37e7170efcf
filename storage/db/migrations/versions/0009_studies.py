"""What was performed, and the studies that came of it."""

from alembic import op

revision = "0009"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE performed_steps (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        sop_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        status TEXT COLLATE "C" DEFAULT '' NOT NULL,
        reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performed_procedure_step_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        modality TEXT COLLATE "C" DEFAULT '' NOT NULL,
        station_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
        calling_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        started TIMESTAMP WITHOUT TIME ZONE,
        ended TIMESTAMP WITHOUT TIME ZONE,
        attributes JSONB NOT NULL,
        instance_uids TEXT[] COLLATE "C" DEFAULT '{}' NOT NULL,
        assumed BOOLEAN DEFAULT false NOT NULL,
        synthesised BOOLEAN DEFAULT false NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_performed_steps PRIMARY KEY (id),
        CONSTRAINT uq_performed_steps_sop_instance_uid UNIQUE (sop_instance_uid)
    )
    """,
    """
    CREATE TABLE performed_step_items (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        performed_ref BIGINT NOT NULL,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        accession_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        requested_procedure_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        scheduled_procedure_step_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        order_ref BIGINT,
        procedure_ref BIGINT,
        step_ref BIGINT,
        linked_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
        CONSTRAINT pk_performed_step_items PRIMARY KEY (id),
        CONSTRAINT fk_performed_step_items_performed_ref FOREIGN KEY(performed_ref)
                REFERENCES performed_steps (id),
        CONSTRAINT fk_performed_step_items_order_ref FOREIGN KEY(order_ref)
                REFERENCES orders (id),
        CONSTRAINT fk_performed_step_items_procedure_ref FOREIGN KEY(procedure_ref)
                REFERENCES requested_procedures (id),
        CONSTRAINT fk_performed_step_items_step_ref FOREIGN KEY(step_ref)
                REFERENCES scheduled_steps (id)
    )
    """,
    """
    CREATE TABLE ris_studies (
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        watched BOOLEAN DEFAULT false NOT NULL,
        look_at TIMESTAMP WITH TIME ZONE,
        standing TEXT COLLATE "C" DEFAULT '' NOT NULL,
        proposals JSONB DEFAULT '[]' NOT NULL,
        considered_at TIMESTAMP WITH TIME ZONE,
        keys TEXT[] COLLATE "C" DEFAULT '{}' NOT NULL,
        state TEXT COLLATE "C" DEFAULT '' NOT NULL,
        evidence JSONB DEFAULT '[]' NOT NULL,
        assumed BOOLEAN DEFAULT false NOT NULL,
        judged_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_ris_studies PRIMARY KEY (study_instance_uid)
    )
     WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE study_orders (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        order_ref BIGINT NOT NULL,
        procedure_ref BIGINT NOT NULL,
        reasons JSONB DEFAULT '[]' NOT NULL,
        attached_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
        attached_at TIMESTAMP WITH TIME ZONE NOT NULL,
        detached_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_study_orders PRIMARY KEY (id),
        CONSTRAINT fk_study_orders_order_ref FOREIGN KEY(order_ref)
                REFERENCES orders (id),
        CONSTRAINT fk_study_orders_procedure_ref FOREIGN KEY(procedure_ref)
                REFERENCES requested_procedures (id)
    )
    """,
    """
    CREATE TABLE study_journal (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        action TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        before JSONB NOT NULL,
        after JSONB NOT NULL,
        reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
        made_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        undone_at TIMESTAMP WITH TIME ZONE,
        undone_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
        CONSTRAINT pk_study_journal PRIMARY KEY (id)
    )
    """,
)
INDEXES = (
    """
    CREATE INDEX ix_orders_changed_at ON orders (changed_at)
    """,
    """
    CREATE INDEX ix_ris_studies_keys
        ON ris_studies USING gin (keys)
        WHERE standing IN ('provisional', 'proposed', 'conflict')
    """,
    """
    CREATE INDEX ix_performed_steps_patient_id ON performed_steps (patient_id, id)
    """,
    """
    CREATE INDEX ix_performed_step_items_order_ref ON performed_step_items (order_ref)
    """,
    """
    CREATE INDEX ix_performed_step_items_performed_ref ON performed_step_items (performed_ref)
    """,
    """
    CREATE INDEX ix_performed_step_items_step_ref ON performed_step_items (step_ref)
    """,
    """
    CREATE INDEX ix_performed_step_items_study_instance_uid
        ON performed_step_items (study_instance_uid)
    """,
    """
    CREATE INDEX ix_ris_studies_open
        ON ris_studies (standing, study_instance_uid)
        WHERE standing IN ('provisional', 'proposed', 'conflict')
    """,
    """
    CREATE INDEX ix_ris_studies_watched ON ris_studies (study_instance_uid) WHERE watched
    """,
    """
    CREATE INDEX ix_study_orders_order_ref ON study_orders (order_ref)
    """,
    """
    CREATE INDEX ix_study_orders_procedure_ref ON study_orders (procedure_ref)
    """,
    """
    CREATE UNIQUE INDEX uq_study_orders_attached
        ON study_orders (study_instance_uid, procedure_ref)
        WHERE detached_at IS NULL
    """,
    """
    CREATE INDEX ix_study_journal_study_instance_uid ON study_journal (study_instance_uid, id)
    """,
)


def upgrade() -> None:
    for statement in (*TABLES, *INDEXES):
        op.execute(statement)


def downgrade() -> None:
    op.drop_index("ix_orders_changed_at", table_name="orders")
    for name in (
        "study_journal",
        "study_orders",
        "ris_studies",
        "performed_step_items",
        "performed_steps",
    ):
        op.drop_table(name)
