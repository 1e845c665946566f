"""Sums of the books by day, and idempotent LLM reports."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Indexes of large, busy tables. (table, name, columns, unique)
INDEXES = (
    ("product_usage_log", "ix_product_usage_log_usage_log_id", ["usage_log_id"], False),
    ("llm_usage", "ix_llm_usage_usage_log_id", ["usage_log_id"], False),
    (
        "llm_usage",
        "uq_llm_usage_account_id_interaction_id_call_id",
        ["account_id", "interaction_id", "call_id"],
        True,
    ),
)


def sums(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Numeric(), nullable=False) for name in names]


def upgrade() -> None:
    # First the statements that cannot be in a transaction: if one fails, the migration can be repeated.
    op.add_column(
        "llm_usage",
        sa.Column("call_id", sa.Text(), nullable=True, comment="of the report: the same one again is no other"),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        for table, name, columns, unique in INDEXES:
            op.create_index(name, table, columns, unique=unique, postgresql_concurrently=True, if_not_exists=True)
    op.create_table(
        "rollup_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rolled_up_to", sa.Uuid(), nullable=False, comment="what has a lower id is in the sums"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rollup_state")),
    )
    op.execute("INSERT INTO rollup_state VALUES ('analytics', '00000000-0000-0000-0000-000000000000')")
    op.create_table(
        "usage_days",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("product_type", sa.Text(), nullable=False, comment="empty: the charge of an interaction"),
        sa.Column("key_id", sa.Text(), nullable=False, comment="empty: not by an API key"),
        sa.Column("agent_id", sa.Text(), nullable=False, comment="empty: not named"),
        sa.Column("currency", sa.Text(), nullable=False, comment="of the account"),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        *sums("daily_free", "free", "paid"),
        sa.Column("product_free", sa.BigInteger(), nullable=False),
        sa.Column("product_paid", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "environment", "day", "product_type", "key_id", "agent_id", "currency", name=op.f("pk_usage_days")
        ),
    )
    op.create_table(
        "account_days",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("cohort_week", sa.Date(), nullable=False, comment="Monday of the week in which the account was made"),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False, comment="spent from the main pools"),
        sa.Column(
            "previous_day",
            sa.Date(),
            server_default=sa.text("'-infinity'"),
            nullable=False,
            comment="the last day before on which the account used something",
        ),
        sa.PrimaryKeyConstraint("account_id", "day", name=op.f("pk_account_days")),
    )
    op.create_index(
        "ix_account_days_environment_day",
        "account_days",
        ["environment", "day"],
        unique=False,
        postgresql_include=["account_id", "uses", "credits"],
    )
    op.create_table(
        "active_days",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("previous_day", sa.Date(), nullable=False),
        sa.Column("accounts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("environment", "day", "previous_day", name=op.f("pk_active_days")),
    )
    op.create_table(
        "cohort_weeks",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("cohort_week", sa.Date(), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("active", sa.BigInteger(), nullable=False),
        *sums("credits"),
        sa.PrimaryKeyConstraint("environment", "cohort_week", "week", name=op.f("pk_cohort_weeks")),
    )
    op.create_table(
        "llm_interactions",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False, comment="of the account"),
        sa.Column("day", sa.Date(), nullable=False, comment="of its first report"),
        sa.Column("model", sa.Text(), nullable=False, comment="all its models, joined"),
        sa.Column("first_usage_log_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        *sums("llm_calls", "prompt_tokens", "completion_tokens", "cost_cents"),
        sa.PrimaryKeyConstraint("account_id", "interaction_id", name=op.f("pk_llm_interactions")),
    )
    for column in ("day", "cost_cents"):
        op.create_index(
            op.f(f"ix_llm_interactions_environment_{column}_first_usage_log_id"),
            "llm_interactions",
            ["environment", column, "first_usage_log_id"],
            unique=False,
        )
    op.create_table(
        "llm_days",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("interactions", sa.BigInteger(), nullable=False),
        *sums("llm_calls", "prompt_tokens", "completion_tokens", "cost_cents"),
        sa.PrimaryKeyConstraint("environment", "day", "currency", "model", name=op.f("pk_llm_days")),
    )


def downgrade() -> None:
    for table, name, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_column("llm_usage", "call_id")
    for table in (
        "llm_days",
        "llm_interactions",
        "cohort_weeks",
        "active_days",
        "account_days",
        "usage_days",
        "rollup_state",
    ):
        op.drop_table(table)
