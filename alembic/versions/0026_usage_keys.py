"""API keys that report usage: permissions, the provider of their user ids, a stable event source, and bounds of money.

The trigger gives the successor of a rotated key the event source of its predecessor. It does so for rotations by the
version before as well, which does not know the column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

OLD_PERMISSIONS = ("billing:read", "billing:write", "billing:credit")
PERMISSIONS = (
    *OLD_PERMISSIONS,
    *("usage:read", "usage:write", "usage:set_cost", "money:credit", "limits:write", "payments:redeem"),
)
COLUMNS = (
    sa.Column(
        "identity_provider", sa.Text(), nullable=True, comment="provider of the external ids that `user_id` names"
    ),
    sa.Column("event_source", sa.Text(), nullable=True, comment="source of usage events; null: api-key:<key id>"),
    sa.Column("usage_policy", sa.Text(), server_default=sa.text("'refuse'"), nullable=False),
    sa.Column("debt_limit_nanos", sa.BigInteger(), nullable=True, comment="most debt of an account by usage"),
    sa.Column("max_cost_nanos", sa.BigInteger(), nullable=True, comment="largest stated cost of an event"),
)
CHECKS = {
    "identity_provider": "identity_provider ~ '^oauth:.' AND length(identity_provider) <= 255",
    "event_source": "event_source ~ '^[!-~]{1,255}$'",
    "usage_policy": "usage_policy = 'refuse' OR (usage_policy = 'debt' AND debt_limit_nanos IS NOT NULL)",
    "debt_limit_nanos": "debt_limit_nanos >= 0",
    "max_cost_nanos": "max_cost_nanos >= 0",
    "stated_cost": "max_cost_nanos IS NOT NULL OR NOT 'usage:set_cost' = ANY (permissions)",
}
MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""The same statement replaces it by one that allows more."""
REPLACE = """
    ALTER TABLE api_keys DROP CONSTRAINT ck_api_keys_permissions,
        ADD CONSTRAINT ck_api_keys_permissions
        CHECK (cardinality(permissions) > 0 AND permissions <@ ARRAY[{names}]::text[]) NOT VALID
"""
NOTIFY = """
    CREATE OR REPLACE TRIGGER api_keys_notify
        AFTER DELETE OR UPDATE OF key_id, environment, secret_hash, permissions, ip_allow_list, client_subject,
            {further} rate_limit_per_minute, expires_at, revoked_at, rotated_to, grace_ends_at
        ON api_keys FOR EACH ROW EXECUTE FUNCTION notify_api_key()
"""
FURTHER = "identity_provider, event_source, usage_policy, debt_limit_nanos, max_cost_nanos,"
INHERIT = (
    """
    CREATE FUNCTION inherit_event_source() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE api_keys SET event_source = coalesce(NEW.event_source, 'api-key:' || NEW.key_id)
         WHERE key_id = NEW.rotated_to AND event_source IS NULL;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER api_keys_inherit_event_source AFTER UPDATE OF rotated_to ON api_keys
        FOR EACH ROW WHEN (NEW.rotated_to IS NOT NULL) EXECUTE FUNCTION inherit_event_source()
    """,
)
INHERITED_SO_FAR = """
    WITH RECURSIVE chain AS (
        SELECT key_id AS first_id, rotated_to FROM api_keys
         WHERE rotated_to IS NOT NULL AND key_id NOT IN (SELECT rotated_to FROM api_keys WHERE rotated_to IS NOT NULL)
         UNION ALL
        SELECT chain.first_id, api_keys.rotated_to FROM chain JOIN api_keys ON api_keys.key_id = chain.rotated_to)
    UPDATE api_keys SET event_source = 'api-key:' || chain.first_id FROM chain WHERE api_keys.key_id = chain.rotated_to
"""


def _permissions(names: tuple[str, ...]) -> str:
    return REPLACE.lstrip().format(names=", ".join(f"'{name}'" for name in names))


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("api_keys", column)
    for name, rule in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_api_keys_{name}"), "api_keys", rule, postgresql_not_valid=True)
    op.execute(MAY_DROP + _permissions(PERMISSIONS))
    for statement in INHERIT:
        op.execute(statement)
    op.execute(NOTIFY.format(further=FURTHER))
    op.execute(INHERITED_SO_FAR)
    with op.get_context().autocommit_block():
        for name in ("permissions", *CHECKS):
            op.execute(f"ALTER TABLE api_keys VALIDATE CONSTRAINT ck_api_keys_{name}")


def downgrade() -> None:
    """Fails where a key has a permission that earlier versions do not have."""
    op.execute(_permissions(OLD_PERMISSIONS))
    op.execute("ALTER TABLE api_keys VALIDATE CONSTRAINT ck_api_keys_permissions")
    op.execute(NOTIFY.format(further=""))
    op.execute("DROP TRIGGER api_keys_inherit_event_source ON api_keys")
    op.execute("DROP FUNCTION inherit_event_source()")
    for column in reversed(COLUMNS):
        op.drop_column("api_keys", column.name)
