"""What is shown of a patient in place of what the objects say."""

from alembic import op

revision = "0016"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE patients
            ADD COLUMN received JSONB,
            ADD COLUMN survivor_ref BIGINT,
            ADD COLUMN correction TEXT COLLATE "C" DEFAULT '' NOT NULL,
            ADD CONSTRAINT fk_patients_survivor_ref
                FOREIGN KEY(survivor_ref) REFERENCES patients (id)
        """
    )
    op.execute(
        """
        ALTER TABLE studies
            ADD COLUMN own_patient_ref BIGINT,
            ADD COLUMN correction TEXT COLLATE "C" DEFAULT '' NOT NULL,
            ADD CONSTRAINT fk_studies_own_patient_ref
                FOREIGN KEY(own_patient_ref) REFERENCES patients (id)
        """
    )
    op.execute(
        """
        CREATE INDEX ix_studies_own_patient_ref ON studies (own_patient_ref)
        WHERE own_patient_ref IS NOT NULL
        """
    )
    op.execute(
        """
        CREATE TABLE arrived_patients (
            patient_ref BIGINT NOT NULL,
            CONSTRAINT pk_arrived_patients PRIMARY KEY (patient_ref),
            CONSTRAINT fk_arrived_patients_patient_ref
                FOREIGN KEY(patient_ref) REFERENCES patients (id)
        )
        """
    )
    op.execute("INSERT INTO arrived_patients SELECT id FROM patients")
    op.execute("ALTER TABLE patient_merges DROP COLUMN last_change")


def downgrade() -> None:
    op.execute("ALTER TABLE patient_merges ADD COLUMN last_change BIGINT DEFAULT '0' NOT NULL")
    op.execute("DROP TABLE arrived_patients")
    for column in ("correction", "own_patient_ref"):
        op.execute(f"ALTER TABLE studies DROP COLUMN {column}")
    for column in ("correction", "survivor_ref", "received"):
        op.execute(f"ALTER TABLE patients DROP COLUMN {column}")
