"""Patients, visits, orders and scheduled steps of the RIS."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE ris_patients (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_name_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_birth_date DATE,
        patient_birth_date_sent TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_sex TEXT COLLATE "C" DEFAULT '' NOT NULL,
        mother_name TEXT DEFAULT '' NOT NULL,
        patient_address TEXT DEFAULT '' NOT NULL,
        patient_telephone TEXT DEFAULT '' NOT NULL,
        ethnic_group TEXT DEFAULT '' NOT NULL,
        further JSONB DEFAULT '{}' NOT NULL,
        merged_into BIGINT,
        root_ref BIGINT,
        sent_at TIMESTAMP WITHOUT TIME ZONE,
        sent_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_ris_patients PRIMARY KEY (id),
        CONSTRAINT fk_ris_patients_merged_into FOREIGN KEY(merged_into)
            REFERENCES ris_patients (id),
        CONSTRAINT fk_ris_patients_root_ref FOREIGN KEY(root_ref)
            REFERENCES ris_patients (id)
    )
    """,
    """
    CREATE TABLE ris_patient_identifiers (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_ref BIGINT NOT NULL,
        value TEXT COLLATE "C" DEFAULT '' NOT NULL,
        issuer TEXT COLLATE "C" DEFAULT '' NOT NULL,
        kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
        value_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        loose_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        issuer_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        identifies BOOLEAN DEFAULT false NOT NULL,
        retired BOOLEAN DEFAULT false NOT NULL,
        position BIGINT DEFAULT '0' NOT NULL,
        CONSTRAINT pk_ris_patient_identifiers PRIMARY KEY (id),
        CONSTRAINT fk_ris_patient_identifiers_patient_ref FOREIGN KEY(patient_ref)
            REFERENCES ris_patients (id)
    )
    """,
    """
    CREATE TABLE patient_changes (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_ref BIGINT NOT NULL,
        told_of BIGINT NOT NULL,
        changed JSONB NOT NULL,
        sender TEXT COLLATE "C" DEFAULT '' NOT NULL,
        message_id BIGINT NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        undone_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_patient_changes PRIMARY KEY (id),
        CONSTRAINT fk_patient_changes_patient_ref FOREIGN KEY(patient_ref)
            REFERENCES ris_patients (id),
        CONSTRAINT fk_patient_changes_told_of FOREIGN KEY(told_of)
            REFERENCES ris_patients (id)
    )
    """,
    """
    CREATE TABLE patient_merges (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
        prior_ref BIGINT NOT NULL,
        survivor_ref BIGINT NOT NULL,
        details JSONB DEFAULT '{}' NOT NULL,
        sender TEXT COLLATE "C" DEFAULT '' NOT NULL,
        message_id BIGINT NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        undone_at TIMESTAMP WITH TIME ZONE,
        undone_by BIGINT,
        last_change BIGINT DEFAULT '0' NOT NULL,
        CONSTRAINT pk_patient_merges PRIMARY KEY (id),
        CONSTRAINT fk_patient_merges_prior_ref FOREIGN KEY(prior_ref)
            REFERENCES ris_patients (id),
        CONSTRAINT fk_patient_merges_survivor_ref FOREIGN KEY(survivor_ref)
            REFERENCES ris_patients (id)
    )
    """,
    """
    CREATE TABLE ris_archive_patients (
        archive_patient BIGINT NOT NULL,
        patient_ref BIGINT NOT NULL,
        known_as JSONB DEFAULT '{}' NOT NULL,
        linked_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_ris_archive_patients PRIMARY KEY (archive_patient),
        CONSTRAINT fk_ris_archive_patients_patient_ref FOREIGN KEY(patient_ref)
            REFERENCES ris_patients (id)
    )
    """,
    """
    CREATE TABLE visits (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_ref BIGINT NOT NULL,
        sender TEXT COLLATE "C" DEFAULT '' NOT NULL,
        admission_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_class TEXT COLLATE "C" DEFAULT '' NOT NULL,
        location TEXT DEFAULT '' NOT NULL,
        referring_physician TEXT DEFAULT '' NOT NULL,
        attending_physician TEXT DEFAULT '' NOT NULL,
        pregnant BOOLEAN DEFAULT false NOT NULL,
        insurance_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        status TEXT COLLATE "C" DEFAULT '' NOT NULL,
        further JSONB DEFAULT '{}' NOT NULL,
        sent_at TIMESTAMP WITHOUT TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_visits PRIMARY KEY (id),
        CONSTRAINT fk_visits_patient_ref FOREIGN KEY(patient_ref)
            REFERENCES ris_patients (id)
    )
    """,
    """
    CREATE TABLE orders (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_ref BIGINT NOT NULL,
        visit_ref BIGINT,
        sender TEXT COLLATE "C" DEFAULT '' NOT NULL,
        placer_order_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        placer_issuer TEXT COLLATE "C" DEFAULT '' NOT NULL,
        filler_order_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        group_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        accession_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        accession_issuer TEXT COLLATE "C" DEFAULT '' NOT NULL,
        control TEXT COLLATE "C" DEFAULT '' NOT NULL,
        placer_status TEXT COLLATE "C" DEFAULT '' NOT NULL,
        state TEXT COLLATE "C" DEFAULT '' NOT NULL,
        priority TEXT COLLATE "C" DEFAULT '' NOT NULL,
        requesting_physician TEXT DEFAULT '' NOT NULL,
        requesting_service TEXT DEFAULT '' NOT NULL,
        institution TEXT DEFAULT '' NOT NULL,
        reason_code TEXT COLLATE "C" DEFAULT '' NOT NULL,
        reason_scheme TEXT COLLATE "C" DEFAULT '' NOT NULL,
        reason_meaning TEXT DEFAULT '' NOT NULL,
        clinical_information TEXT DEFAULT '' NOT NULL,
        danger TEXT DEFAULT '' NOT NULL,
        transport TEXT DEFAULT '' NOT NULL,
        confidentiality TEXT DEFAULT '' NOT NULL,
        comments TEXT DEFAULT '' NOT NULL,
        further JSONB DEFAULT '{}' NOT NULL,
        issued_at TIMESTAMP WITHOUT TIME ZONE,
        sent_at TIMESTAMP WITHOUT TIME ZONE,
        message_id BIGINT DEFAULT '0' NOT NULL,
        awaited BOOLEAN DEFAULT false NOT NULL,
        changed_after_start BOOLEAN DEFAULT false NOT NULL,
        reported_at TIMESTAMP WITH TIME ZONE,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_orders PRIMARY KEY (id),
        CONSTRAINT fk_orders_patient_ref FOREIGN KEY(patient_ref)
            REFERENCES ris_patients (id),
        CONSTRAINT fk_orders_visit_ref FOREIGN KEY(visit_ref)
            REFERENCES visits (id)
    )
    """,
    """
    CREATE TABLE requested_procedures (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        order_ref BIGINT NOT NULL,
        requested_procedure_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        code TEXT COLLATE "C" DEFAULT '' NOT NULL,
        scheme TEXT COLLATE "C" DEFAULT '' NOT NULL,
        meaning TEXT DEFAULT '' NOT NULL,
        description TEXT DEFAULT '' NOT NULL,
        canceled BOOLEAN DEFAULT false NOT NULL,
        further JSONB DEFAULT '{}' NOT NULL,
        CONSTRAINT pk_requested_procedures PRIMARY KEY (id),
        CONSTRAINT fk_requested_procedures_order_ref FOREIGN KEY(order_ref)
            REFERENCES orders (id)
    )
    """,
    """
    CREATE TABLE scheduled_steps (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        procedure_ref BIGINT NOT NULL,
        order_ref BIGINT NOT NULL,
        scheduled_procedure_step_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        status TEXT COLLATE "C" DEFAULT '' NOT NULL,
        modality TEXT COLLATE "C" DEFAULT '' NOT NULL,
        station_ae_titles TEXT[] COLLATE "C" DEFAULT '{}' NOT NULL,
        station_name TEXT DEFAULT '' NOT NULL,
        location TEXT DEFAULT '' NOT NULL,
        start TIMESTAMP WITHOUT TIME ZONE,
        "end" TIMESTAMP WITHOUT TIME ZONE,
        protocol_code TEXT COLLATE "C" DEFAULT '' NOT NULL,
        protocol_scheme TEXT COLLATE "C" DEFAULT '' NOT NULL,
        protocol_meaning TEXT DEFAULT '' NOT NULL,
        description TEXT DEFAULT '' NOT NULL,
        performing_physician TEXT DEFAULT '' NOT NULL,
        further JSONB DEFAULT '{}' NOT NULL,
        CONSTRAINT pk_scheduled_steps PRIMARY KEY (id),
        CONSTRAINT fk_scheduled_steps_procedure_ref FOREIGN KEY(procedure_ref)
            REFERENCES requested_procedures (id),
        CONSTRAINT fk_scheduled_steps_order_ref FOREIGN KEY(order_ref)
            REFERENCES orders (id)
    )
    """,
    """
    CREATE TABLE appointments (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        order_ref BIGINT,
        sender TEXT COLLATE "C" DEFAULT '' NOT NULL,
        placer_order_numbers TEXT[] COLLATE "C" NOT NULL,
        filler_order_numbers TEXT[] COLLATE "C" NOT NULL,
        canceled BOOLEAN DEFAULT false NOT NULL,
        start TIMESTAMP WITHOUT TIME ZONE,
        station_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
        location TEXT DEFAULT '' NOT NULL,
        sent_at TIMESTAMP WITHOUT TIME ZONE,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_appointments PRIMARY KEY (id),
        CONSTRAINT fk_appointments_order_ref FOREIGN KEY(order_ref)
            REFERENCES orders (id)
    )
    """,
)
INDEXES = (
    """
    CREATE INDEX ix_ris_patients_merged_into
    ON ris_patients (merged_into)
    WHERE merged_into IS NOT NULL
    """,
    """
    CREATE INDEX ix_ris_patients_name
    ON ris_patients USING gin (patient_name_key gin_trgm_ops)
    """,
    "CREATE INDEX ix_ris_patients_root_ref ON ris_patients (root_ref)",
    "CREATE INDEX ix_ris_patient_identifiers_loose_key ON ris_patient_identifiers (loose_key)",
    """
    CREATE INDEX ix_ris_patient_identifiers_patient_ref
    ON ris_patient_identifiers (patient_ref)
    """,
    "CREATE INDEX ix_ris_patient_identifiers_value_key ON ris_patient_identifiers (value_key)",
    """
    CREATE UNIQUE INDEX uq_ris_patient_identifiers_identity
    ON ris_patient_identifiers (value_key, issuer_key)
    WHERE identifies
    """,
    "CREATE INDEX ix_patient_changes_patient_ref ON patient_changes (patient_ref, id)",
    "CREATE INDEX ix_patient_changes_told_of ON patient_changes (told_of, id)",
    "CREATE INDEX ix_patient_merges_prior_ref ON patient_merges (prior_ref)",
    "CREATE INDEX ix_patient_merges_survivor_ref ON patient_merges (survivor_ref)",
    "CREATE INDEX ix_ris_archive_patients_patient_ref ON ris_archive_patients (patient_ref)",
    "CREATE INDEX ix_visits_admission_id ON visits (admission_id)",
    "CREATE INDEX ix_visits_patient_ref ON visits (patient_ref, id)",
    "CREATE INDEX ix_orders_accession_number ON orders (accession_number)",
    "CREATE INDEX ix_orders_filler_order_number ON orders (filler_order_number)",
    "CREATE INDEX ix_orders_group_number ON orders (group_number) WHERE group_number > ''",
    "CREATE INDEX ix_orders_patient_ref ON orders (patient_ref)",
    "CREATE INDEX ix_orders_placer_order_number ON orders (placer_order_number)",
    "CREATE INDEX ix_orders_visit_ref ON orders (visit_ref)",
    "CREATE INDEX ix_requested_procedures_order_ref ON requested_procedures (order_ref)",
    """
    CREATE INDEX ix_requested_procedures_requested_procedure_id
    ON requested_procedures (requested_procedure_id)
    """,
    """
    CREATE INDEX ix_requested_procedures_study_instance_uid
    ON requested_procedures (study_instance_uid)
    """,
    """
    CREATE INDEX ix_scheduled_steps_modality
    ON scheduled_steps (modality, start, id)
    WHERE status IN ('SCHEDULED', 'ARRIVED', 'READY', 'STARTED')
    """,
    "CREATE INDEX ix_scheduled_steps_order_ref ON scheduled_steps (order_ref)",
    "CREATE INDEX ix_scheduled_steps_procedure_ref ON scheduled_steps (procedure_ref)",
    """
    CREATE INDEX ix_scheduled_steps_start
    ON scheduled_steps (start, id)
    WHERE status IN ('SCHEDULED', 'ARRIVED', 'READY', 'STARTED')
    """,
    """
    CREATE INDEX ix_scheduled_steps_stations
    ON scheduled_steps USING gin (station_ae_titles)
    WHERE status IN ('SCHEDULED', 'ARRIVED', 'READY', 'STARTED')
    """,
    "CREATE INDEX ix_scheduled_steps_step_id ON scheduled_steps (scheduled_procedure_step_id)",
    """
    CREATE INDEX ix_appointments_filler_order_numbers
    ON appointments USING gin (filler_order_numbers)
    WHERE order_ref IS NULL
    """,
    "CREATE INDEX ix_appointments_order_ref ON appointments (order_ref)",
    """
    CREATE INDEX ix_appointments_placer_order_numbers
    ON appointments USING gin (placer_order_numbers)
    WHERE order_ref IS NULL
    """,
)


def upgrade() -> None:
    op.execute("CREATE SEQUENCE ris_order_numbers")
    for statement in (*TABLES, *INDEXES):
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "appointments",
        "scheduled_steps",
        "requested_procedures",
        "orders",
        "visits",
        "ris_archive_patients",
        "patient_merges",
        "patient_changes",
        "ris_patient_identifiers",
        "ris_patients",
    ):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE ris_order_numbers")
