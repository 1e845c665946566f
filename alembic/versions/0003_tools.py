"""Product credits and the log of tool use."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "product_inventory",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("product_type", sa.Text(), nullable=False),
        sa.Column("free", sa.BigInteger(), nullable=False, comment="free uses left on free_day"),
        sa.Column("free_day", sa.Date(), nullable=False, comment="UTC day up to which free uses have accrued"),
        sa.Column("paid", sa.BigInteger(), nullable=False, comment="paid uses left"),
        sa.Column("total_uses", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("free BETWEEN 0 AND 92233720368547758", name=op.f("ck_product_inventory_free")),
        sa.CheckConstraint("paid BETWEEN 0 AND 92233720368547758", name=op.f("ck_product_inventory_paid")),
        sa.CheckConstraint("total_uses >= 0", name=op.f("ck_product_inventory_total_uses")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_product_inventory_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "product_type", name=op.f("pk_product_inventory")),
    )
    op.create_table(
        "product_usage_log",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("usage_log_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("product_type", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("charge_id", sa.Uuid(), nullable=True),
        sa.Column("result", postgresql.JSONB(), nullable=False, comment="the reply, as a replay repeats it"),
        sa.Column("actor_type", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(source = 'main_pool') = (charge_id IS NOT NULL)", name=op.f("ck_product_usage_log_charge_id")
        ),
        sa.CheckConstraint("source IN ('free', 'paid', 'main_pool')", name=op.f("ck_product_usage_log_source")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_product_usage_log_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "usage_log_id", name=op.f("pk_product_usage_log")),
        sa.UniqueConstraint(
            "account_id", "idempotency_key", name=op.f("uq_product_usage_log_account_id_idempotency_key")
        ),
    )


def downgrade() -> None:
    op.drop_table("product_usage_log")
    op.drop_table("product_inventory")
