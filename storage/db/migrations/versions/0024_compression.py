"""Rules for lossless compression, and which instances lie compressed."""

from alembic import op

revision = "0024"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE compression_rules (
            id BIGINT GENERATED ALWAYS AS IDENTITY,
            modality TEXT COLLATE "C" DEFAULT '' NOT NULL,
            source_ae_title TEXT COLLATE "C" DEFAULT '' NOT NULL,
            transfer_syntax_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            older_than_days INTEGER DEFAULT '0' NOT NULL,
            target_transfer_syntax_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            state TEXT COLLATE "C" DEFAULT 'active' NOT NULL,
            walked_to BIGINT DEFAULT '0' NOT NULL,
            claimed_until TIMESTAMP WITH TIME ZONE,
            compressed BIGINT DEFAULT '0' NOT NULL,
            bytes_before BIGINT DEFAULT '0' NOT NULL,
            bytes_after BIGINT DEFAULT '0' NOT NULL,
            left_as_is JSONB DEFAULT '{}' NOT NULL,
            added_at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_compression_rules PRIMARY KEY (id)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE compressions (
            instance_ref BIGINT NOT NULL,
            rule_ref BIGINT NOT NULL,
            transfer_syntax_uid TEXT COLLATE "C" DEFAULT '' NOT NULL,
            object_key TEXT COLLATE "C" DEFAULT '' NOT NULL,
            dataset_offset BIGINT NOT NULL,
            dataset_size BIGINT NOT NULL,
            dataset_sha256 TEXT COLLATE "C" DEFAULT '' NOT NULL,
            compressed_at TIMESTAMP WITH TIME ZONE NOT NULL,
            released_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT pk_compressions PRIMARY KEY (instance_ref),
            CONSTRAINT fk_compressions_instance_ref
                FOREIGN KEY(instance_ref) REFERENCES instances (id),
            CONSTRAINT fk_compressions_rule_ref
                FOREIGN KEY(rule_ref) REFERENCES compression_rules (id)
        )
        """
    )
    op.execute(
        """
        CREATE INDEX ix_compressions_kept ON compressions (compressed_at)
        WHERE released_at IS NULL
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE compressions")
    op.execute("DROP TABLE compression_rules")
