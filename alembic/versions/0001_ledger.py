"""Accounts, identities, charges, credits and the ledger."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The ledger's second protection beside privileges: it applies to the table's owner as well.
REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$
"""
APPEND_ONLY = """
CREATE TRIGGER ledger_entries_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""


def upgrade() -> None:
    op.create_table(
        "account_identities",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("oauth_provider", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_account_identities_environment")),
        sa.PrimaryKeyConstraint("environment", "oauth_provider", "external_id", name=op.f("pk_account_identities")),
    )
    op.create_index(op.f("ix_account_identities_account_id"), "account_identities", ["account_id"], unique=False)
    op.create_index(
        "ix_account_identities_external_id",
        "account_identities",
        [sa.func.lower(sa.literal_column("external_id")).label("lowered")],
        unique=False,
        postgresql_ops={"lowered": "text_pattern_ops"},
    )
    op.create_table(
        "account_profiles",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("wa_id", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("customer_email", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("user_role", sa.Text(), nullable=True),
        sa.Column("agent_id", sa.Text(), nullable=True),
        sa.Column("marketing_opt_in", sa.Boolean(), nullable=True),
        sa.Column("marketing_opt_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("marketing_opt_in_source", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_profiles")),
    )
    for column in ("customer_email", "display_name"):
        op.create_index(
            f"ix_account_profiles_{column}",
            "account_profiles",
            [sa.func.lower(sa.literal_column(column)).label("lowered")],
            unique=False,
            postgresql_ops={"lowered": "text_pattern_ops"},
        )
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'active'"), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("daily_free", sa.BigInteger(), nullable=False, comment="free uses left of the day daily_free_day"),
        sa.Column("daily_free_day", sa.Date(), nullable=True, comment="UTC day of the last daily allowance"),
        sa.Column("free", sa.BigInteger(), nullable=False, comment="one-time free uses left"),
        sa.Column("paid", sa.BigInteger(), nullable=False, comment="paid credits left"),
        sa.Column("debt", sa.BigInteger(), nullable=False, comment="credits taken back after they were spent"),
        sa.Column(
            "total_uses",
            sa.BigInteger(),
            nullable=False,
            comment="credits spent from daily_free, free and paid",
        ),
        sa.Column("last_entry_no", sa.BigInteger(), nullable=False, comment="number of ledger entries"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(status = 'suspended') = (status_reason IS NOT NULL)", name=op.f("ck_accounts_status_reason")
        ),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_accounts_environment")),
        sa.CheckConstraint("status IN ('active', 'suspended', 'closed')", name=op.f("ck_accounts_status")),
        sa.CheckConstraint("daily_free BETWEEN 0 AND 92233720368547758", name=op.f("ck_accounts_daily_free")),
        sa.CheckConstraint("debt BETWEEN 0 AND 92233720368547758", name=op.f("ck_accounts_debt")),
        sa.CheckConstraint("free BETWEEN 0 AND 92233720368547758", name=op.f("ck_accounts_free")),
        sa.CheckConstraint("last_entry_no >= 0", name=op.f("ck_accounts_last_entry_no")),
        sa.CheckConstraint("paid BETWEEN 0 AND 92233720368547758", name=op.f("ck_accounts_paid")),
        sa.CheckConstraint("total_uses >= 0", name=op.f("ck_accounts_total_uses")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(op.f("ix_accounts_environment_account_id"), "accounts", ["environment", "account_id"], unique=False)
    for name, condition in (("ix_accounts_not_active", "status <> 'active'"), ("ix_accounts_debt", "debt > 0")):
        op.create_index(name, "accounts", ["account_id"], unique=False, postgresql_where=sa.text(condition))
    op.create_table(
        "charges",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("charge_id", sa.Uuid(), nullable=False),
        sa.Column(
            "entry_no",
            sa.BigInteger(),
            nullable=False,
            comment="its last ledger entry: the account's order of events",
        ),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("from_daily_free", sa.BigInteger(), nullable=False),
        sa.Column("from_free", sa.BigInteger(), nullable=False),
        sa.Column("from_paid", sa.BigInteger(), nullable=False),
        sa.Column("paid_after", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_charges_amount_minor")),
        sa.CheckConstraint("cost = from_daily_free + from_free + from_paid AND cost > 0", name=op.f("ck_charges_cost")),
        sa.CheckConstraint("from_daily_free >= 0 AND from_free >= 0 AND from_paid >= 0", name=op.f("ck_charges_parts")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_charges_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "charge_id", name=op.f("pk_charges")),
        sa.UniqueConstraint("account_id", "entry_no", name=op.f("uq_charges_account_id_entry_no")),
        sa.UniqueConstraint(
            "account_id",
            "operation",
            "idempotency_key",
            name=op.f("uq_charges_account_id_operation_idempotency_key"),
        ),
    )
    op.create_index(op.f("ix_charges_charge_id"), "charges", ["charge_id"], unique=False)
    op.create_table(
        "credits",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("credit_id", sa.Uuid(), nullable=False),
        sa.Column(
            "entry_no",
            sa.BigInteger(),
            nullable=False,
            comment="its last ledger entry: the account's order of events",
        ),
        sa.Column("transaction_type", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("external_transaction_id", sa.Text(), nullable=True),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("paid_after", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("credits <> 0", name=op.f("ck_credits_credits")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_credits_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "credit_id", name=op.f("pk_credits")),
        sa.UniqueConstraint("account_id", "entry_no", name=op.f("uq_credits_account_id_entry_no")),
        sa.UniqueConstraint("account_id", "idempotency_key", name=op.f("uq_credits_account_id_idempotency_key")),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("entry_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), server_default=sa.text("'credit'"), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("balance_after", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("cause_type", sa.Text(), nullable=False),
        sa.Column("cause_id", sa.Uuid(), nullable=False),
        sa.Column("actor_type", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "balance_after BETWEEN 0 AND 92233720368547758", name=op.f("ck_ledger_entries_balance_after")
        ),
        sa.CheckConstraint("delta <> 0", name=op.f("ck_ledger_entries_delta")),
        sa.CheckConstraint("entry_no > 0", name=op.f("ck_ledger_entries_entry_no")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_ledger_entries_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "entry_no", name=op.f("pk_ledger_entries")),
    )
    op.create_table(
        "llm_usage",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("usage_log_id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Text(), nullable=False),
        sa.Column("total_llm_calls", sa.BigInteger(), nullable=False),
        sa.Column("total_prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("total_completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("models_used", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("actual_cost_cents", sa.Numeric(precision=20, scale=10), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("error_count", sa.BigInteger(), nullable=False),
        sa.Column("fallback_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "total_llm_calls >= 0 AND total_prompt_tokens >= 0 AND total_completion_tokens >= 0 AND actual_cost_cents >= 0 AND duration_ms >= 0 AND error_count >= 0 AND fallback_count >= 0",
            name=op.f("ck_llm_usage_not_negative"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_llm_usage_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "usage_log_id", name=op.f("pk_llm_usage")),
    )
    op.create_index(
        op.f("ix_llm_usage_account_id_interaction_id"),
        "llm_usage",
        ["account_id", "interaction_id"],
        unique=False,
    )
    op.execute(REFUSE_CHANGE)
    op.execute(APPEND_ONLY)


def downgrade() -> None:

    op.drop_index(op.f("ix_llm_usage_account_id_interaction_id"), table_name="llm_usage")
    op.drop_table("llm_usage")
    op.drop_table("ledger_entries")
    op.drop_table("credits")
    op.drop_index(op.f("ix_charges_charge_id"), table_name="charges")
    op.drop_table("charges")
    op.drop_table("accounts")
    op.drop_table("account_profiles")
    op.drop_index(op.f("ix_account_identities_account_id"), table_name="account_identities")
    op.drop_table("account_identities")
    op.execute("DROP FUNCTION refuse_change")
