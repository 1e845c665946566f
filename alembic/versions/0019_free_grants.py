"""Grants of credits into the one-time free pool."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "free_grants",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("entry_no", sa.BigInteger(), nullable=False, comment="of its ledger entry"),
        sa.Column("idempotency_key", sa.Text(), nullable=True, comment="null: the person was erased"),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("free_after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("credits > 0", name=op.f("ck_free_grants_credits")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_free_grants_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "grant_id", name=op.f("pk_free_grants")),
        sa.UniqueConstraint("account_id", "entry_no", name=op.f("uq_free_grants_account_id_entry_no")),
        sa.UniqueConstraint("account_id", "idempotency_key", name=op.f("uq_free_grants_account_id_idempotency_key")),
    )


def downgrade() -> None:
    op.drop_table("free_grants")
