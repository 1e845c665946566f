"""Approvals of requests above a limit and of runs (ADR 38). Only adds."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("approval_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("limit_id", sa.Uuid()),
        sa.Column("run_uuid", sa.Uuid(), comment="the run that refused"),
        sa.Column(
            "unit",
            sa.Text(),
            nullable=False,
            comment="of the amounts: credit, use, or the currency of money, in nanos",
        ),
        sa.Column("key_id", sa.Text(), comment="the API key that asked"),
        sa.Column("agent_id", sa.Text(), comment="the agent that asked"),
        sa.Column("model", sa.Text()),
        sa.Column("tool", sa.Text()),
        sa.Column("run_id", sa.Text(), comment="the run that asked; null after the person was erased"),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="asked for"),
        sa.Column("allowed", sa.BigInteger(), comment="the most that the request may need"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=False, comment="from then on it cannot be decided or used"),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("decided_at", TIMESTAMP),
        sa.Column("decided_by_type", sa.Text(), comment="user or admin"),
        sa.Column("decided_by", sa.Text()),
        sa.Column("used_at", TIMESTAMP),
        sa.CheckConstraint("kind IN ('limit', 'resume', 'budget')", name=op.f("ck_approvals_kind")),
        sa.CheckConstraint("(kind = 'limit') = (limit_id IS NOT NULL)", name=op.f("ck_approvals_limit_id")),
        sa.CheckConstraint("(kind = 'limit') = (run_uuid IS NULL)", name=op.f("ck_approvals_run_uuid")),
        sa.CheckConstraint("unit IN ('credit', 'use') OR unit ~ '^[A-Z]{3}$'", name=op.f("ck_approvals_unit")),
        sa.CheckConstraint("status IN ('pending', 'approved', 'denied', 'used')", name=op.f("ck_approvals_status")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_approvals_amount")),
        sa.CheckConstraint("allowed > 0", name=op.f("ck_approvals_allowed")),
        sa.CheckConstraint(
            "(status IN ('approved', 'used')) = (allowed IS NOT NULL)", name=op.f("ck_approvals_is_allowed")
        ),
        sa.CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name=op.f("ck_approvals_decided_at")),
        sa.CheckConstraint("(status = 'used') = (used_at IS NOT NULL)", name=op.f("ck_approvals_used_at")),
        sa.ForeignKeyConstraint(
            ["account_id", "limit_id"],
            ["limits.account_id", "limits.limit_id"],
            name=op.f("fk_approvals_account_id_limit_id_limits"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "run_uuid"],
            ["runs.account_id", "runs.run_uuid"],
            name=op.f("fk_approvals_account_id_run_uuid_runs"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "approval_id", name=op.f("pk_approvals")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_approvals_open",
        "approvals",
        ["account_id", "expires_at"],
        postgresql_where=sa.text("status <> 'used'"),
        if_not_exists=True,
    )
    op.create_index("ix_approvals_approval_id", "approvals", ["approval_id"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("approvals")
