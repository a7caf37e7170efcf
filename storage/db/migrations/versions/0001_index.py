"""The index: patients, studies, series, instances; incidents and quarantine."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    """
    CREATE TABLE patients (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_name_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        issuer_of_patient_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_birth_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_birth_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_sex TEXT COLLATE "C" DEFAULT '' NOT NULL,
        other_patient_ids TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_comments TEXT COLLATE "C" DEFAULT '' NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_patients PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE patient_identifiers (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_ref BIGINT NOT NULL,
        identifier TEXT COLLATE "C" DEFAULT '' NOT NULL,
        issuer TEXT COLLATE "C" DEFAULT '' NOT NULL,
        type TEXT COLLATE "C" DEFAULT '' NOT NULL,
        CONSTRAINT pk_patient_identifiers PRIMARY KEY (id),
        CONSTRAINT fk_patient_identifiers_patient_ref
            FOREIGN KEY(patient_ref) REFERENCES patients (id)
    )
    """,
    """
    CREATE TABLE studies (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        patient_ref BIGINT NOT NULL,
        patient_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_name_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_time_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        accession_number TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_description TEXT COLLATE "C" DEFAULT '' NOT NULL,
        referring_physician_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        referring_physician_name_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        name_of_physicians_reading_study TEXT COLLATE "C" DEFAULT '' NOT NULL,
        name_of_physicians_reading_study_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        institution_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        admission_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_age TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_size TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_weight TEXT COLLATE "C" DEFAULT '' NOT NULL,
        timezone_offset_from_utc TEXT COLLATE "C" DEFAULT '' NOT NULL,
        modalities TEXT[] COLLATE "C" DEFAULT '{}' NOT NULL,
        sop_classes TEXT[] COLLATE "C" DEFAULT '{}' NOT NULL,
        number_of_series INTEGER DEFAULT '0' NOT NULL,
        number_of_instances INTEGER DEFAULT '0' NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_studies PRIMARY KEY (id),
        CONSTRAINT uq_studies_study_instance_uid UNIQUE (study_instance_uid),
        CONSTRAINT fk_studies_patient_ref
            FOREIGN KEY(patient_ref) REFERENCES patients (id)
    )
     WITH (fillfactor = 85)
    """,
    """
    CREATE TABLE series (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        study_ref BIGINT NOT NULL,
        series_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        modality TEXT COLLATE "C" DEFAULT '' NOT NULL,
        series_number INTEGER,
        series_description TEXT COLLATE "C" DEFAULT '' NOT NULL,
        series_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        series_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        series_time_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        body_part_examined TEXT COLLATE "C" DEFAULT '' NOT NULL,
        laterality TEXT COLLATE "C" DEFAULT '' NOT NULL,
        protocol_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performed_procedure_step_start_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performed_procedure_step_start_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performed_procedure_step_start_time_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performed_procedure_step_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performed_procedure_step_description TEXT COLLATE "C" DEFAULT '' NOT NULL,
        station_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        manufacturer TEXT COLLATE "C" DEFAULT '' NOT NULL,
        manufacturer_model_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        institution_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        institutional_department_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        operators_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        operators_name_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performing_physician_name TEXT COLLATE "C" DEFAULT '' NOT NULL,
        performing_physician_name_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        frame_of_reference_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        scheduled_procedure_step_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        requested_procedure_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        number_of_instances INTEGER DEFAULT '0' NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE NOT NULL,
        changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_series PRIMARY KEY (id),
        CONSTRAINT uq_series_series_instance_uid UNIQUE (series_instance_uid),
        CONSTRAINT fk_series_study_ref
            FOREIGN KEY(study_ref) REFERENCES studies (id)
    )
     WITH (fillfactor = 85)
    """,
    """
    CREATE TABLE instances (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        series_ref BIGINT NOT NULL,
        sop_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        sop_class_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        instance_number INTEGER,
        content_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        content_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        content_time_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        acquisition_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        acquisition_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        acquisition_time_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        acquisition_number INTEGER,
        image_type TEXT COLLATE "C" DEFAULT '' NOT NULL,
        rows INTEGER,
        columns INTEGER,
        bits_allocated INTEGER,
        number_of_frames INTEGER,
        instance_creation_date TEXT COLLATE "C" DEFAULT '' NOT NULL,
        instance_creation_time TEXT COLLATE "C" DEFAULT '' NOT NULL,
        instance_creation_time_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        transfer_syntax_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        object_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        dataset_offset BIGINT NOT NULL,
        dataset_size BIGINT NOT NULL,
        dataset_sha256 TEXT COLLATE "C" DEFAULT '' NOT NULL,
        source_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
        received_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_instances PRIMARY KEY (id),
        CONSTRAINT uq_instances_sop_instance_uid UNIQUE (sop_instance_uid),
        CONSTRAINT fk_instances_series_ref
            FOREIGN KEY(series_ref) REFERENCES series (id)
    )
    """,
    """
    CREATE TABLE incidents (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        kind TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        patient_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        other_patient_id TEXT COLLATE "C" DEFAULT '' NOT NULL,
        detail TEXT COLLATE "C" DEFAULT '' NOT NULL,
        noticed_at TIMESTAMP WITH TIME ZONE NOT NULL,
        resolved_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_incidents PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE quarantine (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        received_at TIMESTAMP WITH TIME ZONE NOT NULL,
        reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
        detail TEXT COLLATE "C" DEFAULT '' NOT NULL,
        wire TEXT COLLATE "C" DEFAULT '' NOT NULL,
        source_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
        address TEXT COLLATE "C" DEFAULT '' NOT NULL,
        sop_class_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        sop_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        transfer_syntax_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
        object_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
        dataset_offset BIGINT NOT NULL,
        dataset_size BIGINT NOT NULL,
        dataset_sha256 TEXT COLLATE "C" DEFAULT '' NOT NULL,
        state TEXT COLLATE "C" DEFAULT 'held' NOT NULL,
        CONSTRAINT pk_quarantine PRIMARY KEY (id),
        CONSTRAINT uq_quarantine_object_key UNIQUE (object_key)
    )
    """,
)

# What is indexed of an identifier is bounded, so that no row is too long for a page.
INDEXES = (
    "CREATE INDEX ix_patients_order ON patients (patient_name_key, id)",
    "CREATE INDEX ix_patients_patient_id ON patients (left(patient_id, 64))",
    """
    CREATE INDEX ix_patients_trigrams ON patients
    USING gin (patient_name_key gin_trgm_ops, patient_id gin_trgm_ops)
    """,
    """
    CREATE INDEX ix_patient_identifiers_identifier ON patient_identifiers
    (left(identifier, 64))
    """,
    "CREATE INDEX ix_patient_identifiers_patient_ref ON patient_identifiers (patient_ref)",
    "CREATE INDEX ix_studies_accession_number ON studies (left(accession_number, 64))",
    "CREATE INDEX ix_studies_modalities ON studies USING gin (modalities)",
    "CREATE INDEX ix_studies_order ON studies (study_date, study_time_key, id)",
    "CREATE INDEX ix_studies_patient_id ON studies (left(patient_id, 64))",
    "CREATE INDEX ix_studies_patient_name_key ON studies (patient_name_key)",
    "CREATE INDEX ix_studies_patient_ref ON studies (patient_ref)",
    """
    CREATE INDEX ix_studies_trigrams ON studies
    USING gin (
        patient_name_key gin_trgm_ops,
        patient_id gin_trgm_ops,
        accession_number gin_trgm_ops,
        study_description gin_trgm_ops,
        referring_physician_name_key gin_trgm_ops
    )
    """,
    """
    CREATE INDEX ix_series_order ON series
    (study_ref, coalesce(series_number, 2147483647), id)
    """,
    """
    CREATE INDEX ix_instances_order ON instances
    (series_ref, coalesce(instance_number, 2147483647), id)
    """,
    """
    CREATE UNIQUE INDEX uq_incidents_open ON incidents
    (kind, study_instance_uid, left(patient_id, 64), left(other_patient_id, 64))
    WHERE resolved_at IS NULL
    """,
    "CREATE INDEX ix_quarantine_order ON quarantine (received_at, id)",
)


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for statement in (*TABLES, *INDEXES):
        op.execute(statement)
    # names decide between the index of words and a walk through the newest studies
    for table in ("patients", "studies"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN patient_name_key SET STATISTICS 1000")


def downgrade() -> None:
    for table in (
        "quarantine",
        "incidents",
        "instances",
        "series",
        "studies",
        "patient_identifiers",
        "patients",
    ):
        op.execute(f"DROP TABLE {table}")
