"""Moved accounts: what an import found about an account beside its money. Only adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moved_accounts",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False, comment="z-billing or secondlayer"),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="limits, grant flags, refill and provider customers, as exported",
        ),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, comment="first import"),
        sa.CheckConstraint("origin IN ('z-billing', 'secondlayer')", name=op.f("ck_moved_accounts_origin")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_moved_accounts_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "origin", name=op.f("pk_moved_accounts")),
    )


def downgrade() -> None:
    op.drop_table("moved_accounts")
