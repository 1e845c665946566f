"""Runtime configuration with all its versions, and the encrypted secrets of payment providers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE TRIGGER configuration_versions_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON configuration_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""
# Triggers, so that no statement can change the configuration without a notification.
NOTIFY = """
CREATE FUNCTION notify_configuration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('configuration', '');
    RETURN NULL;
END
$$
"""
NOTIFYING = (("configuration_versions", "INSERT"), ("payment_providers", "INSERT OR UPDATE OR DELETE"))


def upgrade() -> None:
    op.create_table(
        "configuration_versions",
        sa.Column("section", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document", postgresql.JSONB(none_as_null=True), nullable=True, comment="without secrets"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False, comment="an admin's e-mail address, at that time"),
        sa.Column("admin_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "section IN ('packs', 'products', 'defaults', 'provider_live', 'provider_test')",
            name=op.f("ck_configuration_versions_section"),
        ),
        sa.CheckConstraint("version > 0", name=op.f("ck_configuration_versions_version")),
        sa.ForeignKeyConstraint(
            ["admin_id"],
            ["admin_users.admin_id"],
            name=op.f("fk_configuration_versions_admin_id_admin_users"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("section", "version", name=op.f("pk_configuration_versions")),
    )
    op.create_table(
        "payment_providers",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("encryption_key_id", sa.Text(), nullable=False, comment="which of ENCRYPTION_KEYS sealed it"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False, comment="nonce and ciphertext"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_payment_providers_environment")),
        sa.PrimaryKeyConstraint("environment", name=op.f("pk_payment_providers")),
    )
    op.execute(APPEND_ONLY)
    op.execute(NOTIFY)
    for table, events in NOTIFYING:
        op.execute(
            f"CREATE TRIGGER {table}_notify AFTER {events} ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION notify_configuration()"
        )


def downgrade() -> None:
    op.drop_table("payment_providers")
    op.drop_table("configuration_versions")
    op.execute("DROP FUNCTION notify_configuration()")
