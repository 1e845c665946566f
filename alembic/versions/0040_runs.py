"""Runs with budgets, and the run of charges and tool uses (ADR 37). Only adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)
NAMED = sa.text("run_id IS NOT NULL")
INDEXES = (
    ("charges", "charge_id"),
    ("product_usage_log", "usage_log_id"),
    ("usage_events", "usage_id"),
    ("holds", "hold_id"),
    ("cost_records", "record_id"),
)
"""The tables whose rows a run's receipt lists, with their ids."""


MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""The same statement replaces it by one that allows more."""
REPLACE = """
    ALTER TABLE alerts DROP CONSTRAINT ck_alerts_rule,
        ADD CONSTRAINT ck_alerts_rule CHECK (rule IN ({rules})) NOT VALID
"""
VALIDATE = "ALTER TABLE alerts VALIDATE CONSTRAINT ck_alerts_rule"
RULES = "'accounts_per_key', 'purchases_per_card', 'refunds_per_account', 'spend_spike'"


def minute_columns() -> list[sa.Column[object]]:
    """Return the counters of the burn-rate brake."""
    return [
        sa.Column("minute_start", TIMESTAMP, comment="of the counts of the burn-rate brake"),
        sa.Column(
            "minute_credits", sa.BigInteger(), nullable=False, server_default="0", comment="spent since minute_start"
        ),
        sa.Column(
            "minute_nanos", sa.BigInteger(), nullable=False, server_default="0", comment="spent since minute_start"
        ),
    ]


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("run_uuid", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Text(), comment="as the caller names it; null: the person was erased"),
        sa.Column("parent_uuid", sa.Uuid()),
        sa.Column("ancestors", postgresql.ARRAY(sa.Uuid()), nullable=False, comment="from the root down to the parent"),
        sa.Column("unit", sa.Text(), comment="of the budget: credit, or the account's currency"),
        sa.Column("budget", sa.BigInteger(), comment="credits or nanos; null: unlimited"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("pause_reason", sa.Text()),
        sa.Column(
            "spent_credits",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="with open holds and cost records, and with the runs below it",
        ),
        sa.Column(
            "spent_nanos",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="as spent_credits, of money",
        ),
        sa.Column(
            "uses",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="charges, tool uses, usage events, holds and cost records",
        ),
        *minute_columns(),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="of the request that registered it"),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            server_default=sa.text("'{}'::jsonb"),
        ),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("closed_at", TIMESTAMP),
        sa.CheckConstraint("cardinality(ancestors) < 32", name=op.f("ck_runs_depth")),
        sa.CheckConstraint(
            "parent_uuid IS NOT DISTINCT FROM ancestors[cardinality(ancestors)]", name=op.f("ck_runs_parent")
        ),
        sa.CheckConstraint("unit = 'credit' OR unit ~ '^[A-Z]{3}$'", name=op.f("ck_runs_unit")),
        sa.CheckConstraint(
            "(unit IS NULL) = (budget IS NULL) AND (budget IS NULL OR budget >= 0)", name=op.f("ck_runs_budget")
        ),
        sa.CheckConstraint("least(spent_credits, spent_nanos, uses) >= 0", name=op.f("ck_runs_spent")),
        sa.CheckConstraint("least(minute_credits, minute_nanos) >= 0", name=op.f("ck_runs_minute")),
        sa.CheckConstraint("status IN ('open', 'paused', 'closed')", name=op.f("ck_runs_status")),
        sa.CheckConstraint("(status = 'paused') = (pause_reason IS NOT NULL)", name=op.f("ck_runs_paused")),
        sa.CheckConstraint("(status = 'closed') = (closed_at IS NOT NULL)", name=op.f("ck_runs_closed_at")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_runs_account_id_accounts"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "parent_uuid"],
            ["runs.account_id", "runs.run_uuid"],
            name=op.f("fk_runs_account_id_parent_uuid_runs"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "run_uuid", name=op.f("pk_runs")),
        sa.UniqueConstraint("account_id", "run_id", name=op.f("uq_runs_account_id_run_id")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_runs_open", "runs", ["account_id"], postgresql_where=sa.text("status <> 'closed'"), if_not_exists=True
    )
    op.create_index(
        "ix_runs_parent",
        "runs",
        ["account_id", "parent_uuid"],
        postgresql_where=sa.text("parent_uuid IS NOT NULL"),
        if_not_exists=True,
    )
    op.create_table(
        "key_uses",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="empty: the user's own token"),
        *minute_columns(),
        sa.Column("paused_at", TIMESTAMP, comment="null: it may spend"),
        sa.CheckConstraint("least(minute_credits, minute_nanos) >= 0", name=op.f("ck_key_uses_minute")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_key_uses_account_id_accounts"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "key_id", name=op.f("pk_key_uses")),
        if_not_exists=True,
    )
    op.execute(MAY_DROP + REPLACE.lstrip().format(rules=f"{RULES}, 'burn_rate'"))
    for table in ("charges", "product_usage_log"):
        op.add_column(table, sa.Column("run_id", sa.Text(), comment="the run that it belongs to"), if_not_exists=True)
    with op.get_context().autocommit_block():
        op.execute(VALIDATE)
        for table, key in INDEXES:
            op.create_index(
                f"ix_{table}_run_id",
                table,
                ["account_id", "run_id", key],
                postgresql_where=NAMED,
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    for table, _ in INDEXES:
        op.drop_index(f"ix_{table}_run_id", table_name=table, if_exists=True)
    for table in ("product_usage_log", "charges"):
        op.drop_column(table, "run_id")
    op.execute("DELETE FROM alerts WHERE rule = 'burn_rate'")
    op.execute(REPLACE.format(rules=RULES))
    op.execute(VALIDATE)
    op.drop_table("key_uses")
    op.drop_table("runs")
