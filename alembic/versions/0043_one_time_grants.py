"""One-time grants: what an account got once, and who invited it (ADR 40). Only adds tables."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "grant_claims",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="signup, daily, referral"),
        sa.Column(
            "occasion",
            sa.Text(),
            nullable=False,
            comment="a day, or the other account of a referral; else empty",
        ),
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind ~ '^[a-z][a-z_]{0,31}$'", name=op.f("ck_grant_claims_kind")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_grant_claims_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "grant_id"],
            ["grants.account_id", "grants.grant_id"],
            name=op.f("fk_grant_claims_account_id_grant_id_grants"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "kind", "occasion", name=op.f("pk_grant_claims")),
    )
    op.create_table(
        "referrals",
        sa.Column("account_id", sa.Uuid(), nullable=False, comment="the invited account"),
        sa.Column("inviter_id", sa.Uuid(), nullable=False, comment="the other account, which may be on another shard"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since it has settled a payment; null: it waits",
        ),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True, comment="when both had their grants"),
        sa.CheckConstraint("inviter_id <> account_id", name=op.f("ck_referrals_inviter")),
        sa.CheckConstraint("paid_at IS NULL OR due_at IS NOT NULL", name=op.f("ck_referrals_paid_at")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_referrals_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_referrals")),
    )
    op.create_index(
        "ix_referrals_due",
        "referrals",
        ["account_id"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL AND paid_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("referrals")
    op.drop_table("grant_claims")
