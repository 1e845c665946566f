"""Double charges: a policy of API keys, and the purposes of the charges of keys that ask for it (ADR 36).

Also a mark of items of cost records that limits of models have counted (ADR 33): versions before did not count them. And
the limits that allowed a request, for its explanation.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

POLICY = "ck_api_keys_double_charges"
NOTIFY = """
    CREATE OR REPLACE TRIGGER api_keys_notify
        AFTER DELETE OR UPDATE OF key_id, environment, secret_hash, permissions, ip_allow_list, client_subject,
            identity_provider, event_source, usage_policy, debt_limit_nanos, max_cost_nanos, {further}
            rate_limit_per_minute, expires_at, revoked_at, rotated_to, grace_ends_at
        ON api_keys FOR EACH ROW EXECUTE FUNCTION notify_api_key()
"""


def _charge(column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id", column],
        ["charges.account_id", "charges.charge_id"],
        name=op.f(f"fk_charge_purposes_account_id_{column}_charges"),
        ondelete="RESTRICT",
    )


def upgrade() -> None:
    op.add_column(
        "api_keys", sa.Column("double_charges", sa.Text(), server_default=sa.text("'ignore'"), nullable=False)
    )
    rule = "double_charges IN ('ignore', 'flag', 'refuse')"
    op.create_check_constraint(op.f(POLICY), "api_keys", rule, postgresql_not_valid=True)
    op.execute(NOTIFY.format(further="double_charges,"))
    op.create_table(
        "charge_purposes",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("charge_id", sa.Uuid(), nullable=False),
        sa.Column(
            "purpose",
            sa.LargeBinary(),
            nullable=True,
            comment="digest, of the first charge with it; null: a double one, or the person was erased",
        ),
        sa.Column("double_of", sa.Uuid(), nullable=True, comment="the first charge with its purpose"),
        sa.CheckConstraint("double_of <> charge_id", name=op.f("ck_charge_purposes_double_of")),
        sa.CheckConstraint(
            "purpose IS NULL OR (octet_length(purpose) = 32 AND double_of IS NULL)",
            name=op.f("ck_charge_purposes_purpose"),
        ),
        _charge("charge_id"),
        _charge("double_of"),
        sa.PrimaryKeyConstraint("account_id", "charge_id", name=op.f("pk_charge_purposes")),
        sa.UniqueConstraint("account_id", "purpose", name=op.f("uq_charge_purposes_account_id_purpose")),
    )
    are_doubles = sa.text("double_of IS NOT NULL")
    op.create_index(
        "ix_charge_purposes_doubles", "charge_purposes", ["charge_id"], unique=False, postgresql_where=are_doubles
    )
    op.create_index(
        "ix_charge_purposes_doubles_of_account",
        "charge_purposes",
        ["account_id", "charge_id"],
        unique=False,
        postgresql_where=are_doubles,
    )
    op.create_table(
        "evaluated_limits",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("cause_id", sa.Uuid(), nullable=False, comment="the charge, hold or usage event"),
        sa.Column(
            "limits",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="of each limit: its id, its amount, and the count of its window with this request",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_evaluated_limits_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "cause_id", name=op.f("pk_evaluated_limits")),
    )
    op.create_index(op.f("ix_evaluated_limits_cause_id"), "evaluated_limits", ["cause_id"], unique=False)
    op.add_column(
        "cost_record_items",
        sa.Column(
            "is_counted",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="whether limits of its model count it",
        ),
    )
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE api_keys VALIDATE CONSTRAINT {POLICY}")


def downgrade() -> None:
    op.drop_column("cost_record_items", "is_counted")
    op.drop_table("evaluated_limits")
    op.drop_table("charge_purposes")
    op.execute(NOTIFY.format(further=""))
    op.drop_column("api_keys", "double_charges")
