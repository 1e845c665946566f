"""Refunds by id, Stripe's time of a dispute's decision, and the cursor of events about refunds."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "purchase_refunds",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("purchase_id", sa.Uuid(), nullable=False),
        sa.Column("refund_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="at Stripe"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'requires_action', 'succeeded', 'failed', 'canceled')",
            name=op.f("ck_purchase_refunds_status"),
        ),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("ck_purchase_refunds_amount_minor")),
        sa.ForeignKeyConstraint(
            ["account_id", "purchase_id"],
            ["purchases.account_id", "purchases.purchase_id"],
            name=op.f("fk_purchase_refunds_account_id_purchase_id_purchases"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "purchase_id", "refund_id", name=op.f("pk_purchase_refunds")),
    )
    op.add_column(
        "purchases",
        sa.Column(
            "refunds_reported_minor",
            sa.BigInteger(),
            nullable=True,
            comment="largest total of refunds that Stripe reported; null: refunded_minor",
        ),
    )
    op.add_column(
        "purchase_disputes",
        sa.Column(
            "decided_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Stripe's time of the decision; null: none, or a version that did not store it",
        ),
    )
    op.add_column(
        "payment_cursors",
        sa.Column(
            "refunds_read_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="up to when events about refunds have been read; null: never",
        ),
    )


def downgrade() -> None:
    op.drop_column("payment_cursors", "refunds_read_until")
    op.drop_column("purchase_disputes", "decided_at")
    op.drop_column("purchases", "refunds_reported_minor")
    op.drop_table("purchase_refunds")
