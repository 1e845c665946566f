"""API keys, administrators, revoked end-user tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Triggers, so that no statement can change a key without a notification. Writing its last use is not a change.
TRIGGERS = (
    """
    CREATE FUNCTION notify_api_key() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('api_keys', OLD.key_id);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER api_keys_notify
        AFTER DELETE OR UPDATE OF key_id, environment, secret_hash, permissions, ip_allow_list, rate_limit_per_minute,
            expires_at, revoked_at, rotated_to, grace_ends_at
        ON api_keys FOR EACH ROW EXECUTE FUNCTION notify_api_key()
    """,
    """
    CREATE FUNCTION notify_revoked_token() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('token_revocations', NEW.token_id);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER revoked_tokens_notify AFTER INSERT OR UPDATE ON revoked_tokens
        FOR EACH ROW EXECUTE FUNCTION notify_revoked_token()
    """,
    # A user's tokens are unknown here: an empty payload means all tokens.
    """
    CREATE FUNCTION notify_token_cutoff() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('token_revocations', '');
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER token_cutoffs_notify AFTER INSERT OR UPDATE OR DELETE ON token_cutoffs
        FOR EACH STATEMENT EXECUTE FUNCTION notify_token_cutoff()
    """,
)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False, comment="Argon2id of the whole key text"),
        sa.Column("permissions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("ip_allow_list", postgresql.ARRAY(postgresql.CIDR()), nullable=False, comment="empty: any address"),
        sa.Column("rate_limit_per_minute", sa.BigInteger(), nullable=True, comment="null: the configured default"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rotated_to", sa.Text(), nullable=True),
        sa.Column("grace_ends_at", sa.DateTime(timezone=True), nullable=True, comment="end of a rotated key"),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, comment="written at most once a minute"),
        sa.CheckConstraint("key_id ~ '^[0-9a-z]{16}$'", name=op.f("ck_api_keys_key_id")),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_api_keys_environment")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 255", name=op.f("ck_api_keys_name")),
        sa.CheckConstraint("secret_hash LIKE '$argon2id$%'", name=op.f("ck_api_keys_secret_hash")),
        sa.CheckConstraint(
            "cardinality(permissions) > 0"
            " AND permissions <@ ARRAY['billing:read', 'billing:write', 'billing:credit']::text[]",
            name=op.f("ck_api_keys_permissions"),
        ),
        sa.CheckConstraint("rate_limit_per_minute > 0", name=op.f("ck_api_keys_rate_limit_per_minute")),
        sa.CheckConstraint("(rotated_to IS NULL) = (grace_ends_at IS NULL)", name=op.f("ck_api_keys_rotation")),
        sa.ForeignKeyConstraint(
            ["rotated_to"], ["api_keys.key_id"], name=op.f("fk_api_keys_rotated_to_api_keys"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("rotated_to", name=op.f("uq_api_keys_rotated_to")),
    )
    op.create_table(
        "admin_users",
        sa.Column("admin_id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "email = lower(email) AND email LIKE '%_@_%' AND length(email) <= 254", name=op.f("ck_admin_users_email")
        ),
        sa.CheckConstraint("role IN ('viewer', 'support', 'admin')", name=op.f("ck_admin_users_role")),
        sa.PrimaryKeyConstraint("admin_id", name=op.f("pk_admin_users")),
        sa.UniqueConstraint("email", name=op.f("uq_admin_users_email")),
    )
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_revoked_tokens")),
    )
    op.create_index(op.f("ix_revoked_tokens_expires_at"), "revoked_tokens", ["expires_at"], unique=False)
    op.create_table(
        "token_cutoffs",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("oauth_provider", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_token_cutoffs_environment")),
        sa.PrimaryKeyConstraint("environment", "oauth_provider", "external_id", name=op.f("pk_token_cutoffs")),
    )
    for statement in TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("token_cutoffs")
    op.drop_table("revoked_tokens")
    op.drop_table("admin_users")
    op.drop_table("api_keys")
    for function in ("notify_token_cutoff", "notify_revoked_token", "notify_api_key"):
        op.execute(f"DROP FUNCTION {function}()")
