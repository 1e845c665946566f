"""Limits of an account's spending, and their counters (ADR 33). Only adds."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "limits",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("limit_id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column(
            "scope_value", sa.Text(), nullable=False, comment="the key, agent, model or tool; empty: the whole account"
        ),
        sa.Column("time_window", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False, comment="credit, use, or the currency of money, counted in nanos"),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="the most that a window may count, in the unit"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False, comment="user or operator; each changes their own only"),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.Column("removed_at", TIMESTAMP, comment="null: it is in force"),
        sa.CheckConstraint("scope IN ('account', 'key', 'agent', 'model', 'tool')", name=op.f("ck_limits_scope")),
        sa.CheckConstraint("(scope = 'account') = (scope_value = '')", name=op.f("ck_limits_scope_value")),
        sa.CheckConstraint(
            "time_window IN ('minute', 'hour', 'day', 'month', 'lifetime')", name=op.f("ck_limits_time_window")
        ),
        sa.CheckConstraint("unit IN ('credit', 'use') OR unit ~ '^[A-Z]{3}$'", name=op.f("ck_limits_unit")),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_limits_amount")),
        sa.CheckConstraint("action IN ('refuse', 'notify', 'ask')", name=op.f("ck_limits_action")),
        sa.CheckConstraint("owner IN ('user', 'operator')", name=op.f("ck_limits_owner")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_limits_account_id_accounts"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "limit_id", name=op.f("pk_limits")),
        if_not_exists=True,
    )
    op.create_index(
        "uq_limits_in_force",
        "limits",
        ["account_id", "scope", "scope_value", "time_window", "unit", "action", "owner"],
        unique=True,
        postgresql_where=sa.text("removed_at IS NULL"),
        if_not_exists=True,
    )
    op.create_table(
        "limit_counters",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("limit_id", sa.Uuid(), nullable=False),
        sa.Column("window_start", TIMESTAMP, nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False, comment="in the limit's unit"),
        sa.Column("crossed_at", TIMESTAMP, comment="when it first exceeded the amount"),
        sa.CheckConstraint("counted >= 0", name=op.f("ck_limit_counters_counted")),
        sa.ForeignKeyConstraint(
            ["account_id", "limit_id"],
            ["limits.account_id", "limits.limit_id"],
            name=op.f("fk_limit_counters_account_id_limit_id_limits"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "limit_id", "window_start", name=op.f("pk_limit_counters")),
        if_not_exists=True,
    )
    op.create_index("ix_limit_counters_window_start", "limit_counters", ["window_start"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("limit_counters")
    op.drop_table("limits")
