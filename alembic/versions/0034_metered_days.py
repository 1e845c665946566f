"""Sums by day of usage events, and of the credits that grants paid; indexes for reports on money and grants (ADR 6).

The sums have a separate mark, so a worker of an older version, which does not add to them, does no harm. Each statement
commits alone and may run again, so a migration that failed is repeated as a whole. Columns have constant defaults: adding
them rewrites nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

ZERO = sa.text("'00000000-0000-0000-0000-000000000000'")
NOT_NAMED = "empty: not named"
MARK_COMMENT = "what has a lower id is in the sums of usage events and grants; never above rolled_up_to"
# Charges and usage events write no row of this index.
ENTRIES = """
    pool IN ('grant', 'money', 'money_debt')
    AND cause_type NOT IN ('charge', 'tool_usage', 'usage_event', 'cost_record', 'hold')
    AND (pool = 'money_debt' OR cause_type <> 'money_credit')"""
# Until grants or usage events exist, nothing below the mark of the other sums is missing in these.
MARK = """
    UPDATE rollup_state SET metered_up_to = rolled_up_to
     WHERE NOT EXISTS (SELECT FROM grants) AND NOT EXISTS (SELECT FROM usage_events)"""


def _text(name: str, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)


def _sum(name: str, type_: "sa.types.TypeEngine[object]", comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, type_, nullable=False, comment=comment)


def _added(name: str, type_: "sa.types.TypeEngine[object]", comment: str) -> sa.Column[object]:
    return sa.Column(name, type_, server_default=sa.text("0"), nullable=False, comment=comment)


def upgrade() -> None:
    mark = sa.Column("metered_up_to", sa.Uuid(), server_default=ZERO, nullable=False, comment=MARK_COMMENT)
    with op.get_context().autocommit_block():
        _add("rollup_state", mark)
        _add("usage_days", _added("grants", sa.Numeric(), "credits paid by grants, up to metered_up_to"))
        _add("account_days", _added("events", sa.BigInteger(), "recorded usage events, up to metered_up_to"))
        _add("account_days", _added("cost_nanos", sa.Numeric(), "of these events, charged or owed"))
        _create_days()
        op.execute(MARK)
        for index in ("ix_charges_from_grants", "ix_money_credits_created_at", "ix_ledger_entries_wallet"):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")  # an earlier run may have left an invalid one
        _create_indexes()


def _add(table: str, column: "sa.Column[object]") -> None:
    op.add_column(table, column, if_not_exists=True)


def _create_days() -> None:
    op.create_table(
        "metered_days",
        _text("environment"),
        sa.Column("day", sa.Date(), nullable=False, comment="of the events' own time"),
        _text("currency"),
        _text("meter"),
        _text("provider", NOT_NAMED),
        _text("model", NOT_NAMED),
        _text("agent_id", NOT_NAMED),
        _text("key_id", "empty: not by an API key"),
        _sum("events", sa.BigInteger(), "recorded; without refused ones"),
        _sum("refused", sa.BigInteger()),
        _sum("cost_nanos", sa.Numeric(), "charged or owed"),
        _sum("recorded_nanos", sa.Numeric(), "of accounts that are not billed"),
        _sum("debt_nanos", sa.Numeric(), "part of the cost that accounts owed"),
        _sum("provider_cost_nanos", sa.Numeric(), "at list prices, as far as known"),
        _sum("margin_nanos", sa.Numeric(), "charged less the cost at list prices, where it is known"),
        _sum("without_provider_cost", sa.BigInteger(), "events that the margin leaves out"),
        sa.PrimaryKeyConstraint(
            *("environment", "day", "currency", "meter", "provider", "model", "agent_id", "key_id"),
            name=op.f("pk_metered_days"),
        ),
        if_not_exists=True,
    )


def _create_indexes() -> None:
    op.create_index(
        "ix_charges_from_grants",
        "charges",
        ["charge_id"],
        postgresql_where=sa.text("from_grants > 0"),
        postgresql_concurrently=True,
    )
    op.create_index(
        "ix_money_credits_created_at",
        "money_credits",
        ["created_at"],
        postgresql_include=["account_id", "transaction_type", "amount_nanos", "currency"],
        postgresql_concurrently=True,
    )
    op.create_index(
        "ix_ledger_entries_wallet",
        "ledger_entries",
        ["created_at"],
        postgresql_include=["account_id", "pool", "unit", "kind", "cause_type", "delta"],
        postgresql_where=sa.text(ENTRIES),
        postgresql_concurrently=True,
    )


def downgrade() -> None:
    """Account days that only usage events made stay; they have no uses."""
    op.drop_index("ix_ledger_entries_wallet", table_name="ledger_entries")
    op.drop_index("ix_money_credits_created_at", table_name="money_credits")
    op.drop_index("ix_charges_from_grants", table_name="charges")
    op.drop_table("metered_days")
    op.drop_column("account_days", "cost_nanos")
    op.drop_column("account_days", "events")
    op.drop_column("usage_days", "grants")
    op.drop_column("rollup_state", "metered_up_to")
