"""Attributes that an operator adds to the index, and their values."""

from alembic import op

revision = "0012"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE custom_attributes (
            id BIGINT GENERATED ALWAYS AS IDENTITY NOT NULL,
            name TEXT COLLATE "C" NOT NULL,
            creator TEXT COLLATE "C" DEFAULT '' NOT NULL,
            vr TEXT COLLATE "C" NOT NULL,
            level TEXT COLLATE "C" NOT NULL,
            added_at TIMESTAMP WITH TIME ZONE NOT NULL,
            last_instance BIGINT NOT NULL,
            read_to BIGINT DEFAULT '0' NOT NULL,
            CONSTRAINT pk_custom_attributes PRIMARY KEY (id),
            CONSTRAINT uq_custom_attributes_name_creator UNIQUE (name, creator)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE custom_values (
            attribute_ref BIGINT NOT NULL,
            owner BIGINT NOT NULL,
            position SMALLINT NOT NULL,
            value TEXT COLLATE "C" NOT NULL,
            key TEXT COLLATE "C" NOT NULL,
            CONSTRAINT pk_custom_values PRIMARY KEY (attribute_ref, owner, position),
            CONSTRAINT fk_custom_values_attribute_ref_custom_attributes
                FOREIGN KEY (attribute_ref) REFERENCES custom_attributes (id) ON DELETE CASCADE
        )
        """
    )
    op.execute(
        """
        CREATE INDEX ix_custom_values_key ON custom_values (attribute_ref, "left"(key, 64))
        """
    )


def downgrade() -> None:
    op.drop_table("custom_values")
    op.drop_table("custom_attributes")
