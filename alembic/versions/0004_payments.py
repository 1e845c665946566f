"""Purchases, disputes, and the inbox of Stripe's events."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payment_cursors",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("events_read_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_payment_cursors_environment")),
        sa.PrimaryKeyConstraint("environment", name=op.f("pk_payment_cursors")),
    )
    op.create_table(
        "payment_events",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payment_intent_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="at Stripe"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_payment_events_environment")),
        sa.CheckConstraint("outcome IN ('applied', 'ignored', 'review')", name=op.f("ck_payment_events_outcome")),
        sa.PrimaryKeyConstraint("environment", "event_id", name=op.f("pk_payment_events")),
    )
    op.create_index(op.f("ix_payment_events_payment_intent_id"), "payment_events", ["payment_intent_id"], unique=False)
    op.create_table(
        "purchases",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("purchase_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("pack", sa.Text(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="price in minor units of the currency"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("payment_intent_id", sa.Text(), nullable=True),
        sa.Column(
            "attempt",
            sa.BigInteger(),
            server_default=sa.text("1"),
            nullable=False,
            comment="to open it at Stripe; part of the key that we send",
        ),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=False, comment="Stripe's time of the status"),
        sa.Column("received_minor", sa.BigInteger(), nullable=True, comment="null: not paid"),
        sa.Column("received_currency", sa.Text(), nullable=True),
        sa.Column("review_reason", sa.Text(), nullable=True, comment="why a person has to look at it"),
        sa.Column("credit_id", sa.Uuid(), nullable=True, comment="the credit that it became"),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False, comment="money given back so far"),
        sa.Column("credits_refunded", sa.BigInteger(), nullable=False, comment="credits taken back for refunds"),
        sa.Column("credits_disputed", sa.BigInteger(), nullable=False, comment="credits taken back for disputes"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(status = 'succeeded') = (credit_id IS NOT NULL)", name=op.f("ck_purchases_succeeded")),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_purchases_environment")),
        sa.CheckConstraint(
            "status IN ('pending', 'requires_payment_method', 'requires_confirmation', 'requires_action', 'requires_capture', 'processing', 'succeeded', 'failed', 'canceled', 'unknown')",
            name=op.f("ck_purchases_status"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_purchases_amount_minor")),
        sa.CheckConstraint(
            "credit_id IS NOT NULL OR credits_refunded + credits_disputed = 0", name=op.f("ck_purchases_credited_first")
        ),
        sa.CheckConstraint("credits > 0", name=op.f("ck_purchases_credits")),
        sa.CheckConstraint(
            "credits_refunded >= 0 AND credits_disputed >= 0 AND credits_refunded + credits_disputed <= credits",
            name=op.f("ck_purchases_credits_taken_back"),
        ),
        sa.CheckConstraint("refunded_minor >= 0", name=op.f("ck_purchases_refunded_minor")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_purchases_account_id_accounts"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "purchase_id", name=op.f("pk_purchases")),
        sa.UniqueConstraint("account_id", "idempotency_key", name=op.f("uq_purchases_account_id_idempotency_key")),
        sa.UniqueConstraint("account_id", "payment_intent_id", name=op.f("uq_purchases_account_id_payment_intent_id")),
    )
    op.create_index(op.f("ix_purchases_payment_intent_id"), "purchases", ["payment_intent_id"], unique=False)
    op.create_index(
        "ix_purchases_unsettled",
        "purchases",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("credit_id IS NULL AND status <> 'canceled'"),
    )
    op.create_table(
        "purchase_disputes",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("purchase_id", sa.Uuid(), nullable=False),
        sa.Column("dispute_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('warning', 'open', 'won', 'lost')", name=op.f("ck_purchase_disputes_status")),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("ck_purchase_disputes_amount_minor")),
        sa.ForeignKeyConstraint(
            ["account_id", "purchase_id"],
            ["purchases.account_id", "purchases.purchase_id"],
            name=op.f("fk_purchase_disputes_account_id_purchase_id_purchases"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "purchase_id", "dispute_id", name=op.f("pk_purchase_disputes")),
    )


def downgrade() -> None:
    op.drop_table("purchase_disputes")
    op.drop_index(
        "ix_purchases_unsettled",
        table_name="purchases",
        postgresql_where=sa.text("credit_id IS NULL AND status <> 'canceled'"),
    )
    op.drop_index(op.f("ix_purchases_payment_intent_id"), table_name="purchases")
    op.drop_table("purchases")
    op.drop_index(op.f("ix_payment_events_payment_intent_id"), table_name="payment_events")
    op.drop_table("payment_events")
    op.drop_table("payment_cursors")
