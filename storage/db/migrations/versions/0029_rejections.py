"""Rejection notes, and which instances they hide."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # a constant default: no row is rewritten
    op.execute("""ALTER TABLE instances ADD COLUMN hidden TEXT COLLATE "C" DEFAULT '' NOT NULL""")
    op.execute(
        """
        CREATE TABLE rejection_notes (
            id BIGINT GENERATED ALWAYS AS IDENTITY,
            sop_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            title TEXT COLLATE "C" DEFAULT '' NOT NULL,
            author TEXT COLLATE "C" DEFAULT '' NOT NULL,
            reason TEXT COLLATE "C" DEFAULT '' NOT NULL,
            source_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
            fault TEXT COLLATE "C" DEFAULT '' NOT NULL,
            named INTEGER DEFAULT '0' NOT NULL,
            noted_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_rejection_notes PRIMARY KEY (id),
            CONSTRAINT uq_rejection_notes_sop_instance_uid UNIQUE (sop_instance_uid)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE rejections (
            note_ref BIGINT NOT NULL,
            sop_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            study_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            series_instance_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            sop_class_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            title TEXT COLLATE "C" DEFAULT '' NOT NULL,
            withdrawn_at TIMESTAMP WITH TIME ZONE,
            withdrawn_by TEXT COLLATE "C" DEFAULT '' NOT NULL,
            CONSTRAINT pk_rejections PRIMARY KEY (note_ref, sop_instance_uid),
            CONSTRAINT fk_rejections_note_ref
                FOREIGN KEY(note_ref) REFERENCES rejection_notes (id)
        )
        """
    )
    op.execute("CREATE INDEX ix_rejections_sop_instance_uid ON rejections (sop_instance_uid)")
    op.execute(
        "CREATE INDEX ix_rejection_notes_study_instance_uid ON rejection_notes (study_instance_uid)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE rejections")
    op.execute("DROP TABLE rejection_notes")
    op.drop_column("instances", "hidden")
