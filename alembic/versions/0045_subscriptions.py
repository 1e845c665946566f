"""Customers at payment providers, and subscriptions (ADR 42). Only adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)
TABLES = (
    *("subscribers", "period_grants", "subscription_invoices", "subscription_terms", "subscriptions"),
    *("subscription_orders", "provider_objects", "payment_customers"),
)


def upgrade() -> None:
    op.create_table(
        "payment_customers",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False, comment="the payment provider whose ids the row holds"),
        sa.Column("environment", sa.Text(), nullable=False, comment="the account's"),
        sa.Column("customer_id", sa.Text(), comment="at the provider; null: not created, or not noted"),
        sa.Column(
            "attempt",
            sa.BigInteger(),
            nullable=False,
            server_default="1",
            comment="to create it at the provider; part of the key that we send",
        ),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_payment_customers_environment")),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_payment_customers_provider")),
        sa.CheckConstraint("attempt > 0", name=op.f("ck_payment_customers_attempt")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_payment_customers_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "provider", name=op.f("pk_payment_customers")),
    )
    op.create_table(
        "provider_objects",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False, comment="at the provider"),
        sa.Column("kind", sa.Text(), nullable=False, comment="customer, subscription, invoice or payment"),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Text(), comment="of a payment: its invoice"),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_provider_objects_environment")),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_provider_objects_provider")),
        sa.CheckConstraint(
            "kind IN ('customer', 'subscription', 'invoice', 'payment')", name=op.f("ck_provider_objects_kind")
        ),
        sa.CheckConstraint("(kind = 'payment') = (parent_id IS NOT NULL)", name=op.f("ck_provider_objects_parent_id")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_provider_objects_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("environment", "provider", "object_id", name=op.f("pk_provider_objects")),
    )
    op.create_index(op.f("ix_provider_objects_account_id"), "provider_objects", ["account_id"])
    _create_subscriptions()
    _create_books()
    op.add_column(
        "payment_cursors",
        sa.Column(
            "subscriptions_read_until",
            TIMESTAMP,
            comment="up to when events about subscriptions have been read; null: never",
        ),
        if_not_exists=True,
    )


def _create_subscriptions() -> None:
    op.create_table(
        "subscription_orders",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("price_id", sa.Text(), nullable=False, comment="at the provider"),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("plan_interval", sa.Text(), nullable=False),
        sa.Column("terms", postgresql.JSONB(), nullable=False, comment="the plan as it was offered"),
        sa.Column("success_url", sa.Text(), nullable=True, comment="null: subscribed without a page, or erased"),
        sa.Column("cancel_url", sa.Text(), nullable=True),
        sa.Column(
            "session_id", sa.Text(), nullable=True, comment="of the provider's page; null: not opened, or no page"
        ),
        sa.Column("subscription_id", sa.Text(), nullable=True, comment="that it became"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "attempt",
            sa.BigInteger(),
            server_default=sa.text("1"),
            nullable=False,
            comment="to open it at the provider; part of the key that we send",
        ),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_subscription_orders_environment")),
        sa.CheckConstraint("plan_interval IN ('month', 'year')", name=op.f("ck_subscription_orders_plan_interval")),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_subscription_orders_provider")),
        sa.CheckConstraint("status IN ('open', 'closed')", name=op.f("ck_subscription_orders_status")),
        sa.CheckConstraint("attempt > 0", name=op.f("ck_subscription_orders_attempt")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_subscription_orders_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "order_id", name=op.f("pk_subscription_orders")),
    )
    op.create_index(
        "ix_subscription_orders_due",
        "subscription_orders",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(
        "uq_subscription_orders_open",
        "subscription_orders",
        ["account_id"],
        unique=True,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False, comment="at the provider"),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("at", TIMESTAMP, nullable=False, comment="the provider's time of the state"),
        sa.Column("seen_at", TIMESTAMP, nullable=False, comment="the latest time of which anything is known"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("price_id", sa.Text(), nullable=True, comment="the present price; invoices say what was paid for"),
        sa.Column("price_item_id", sa.Text(), nullable=True),
        sa.Column("period_start", TIMESTAMP, nullable=True),
        sa.Column("period_end", TIMESTAMP, nullable=True),
        sa.Column("anchor", TIMESTAMP, nullable=False, comment="the start of a period, from which others are counted"),
        sa.Column("started_at", TIMESTAMP, nullable=False),
        sa.Column("ended_at", TIMESTAMP, nullable=True),
        sa.Column("cancel_at", TIMESTAMP, nullable=True, comment="when it will end"),
        sa.Column("order_id", sa.Uuid(), nullable=True, comment="the order that it fulfills"),
        sa.Column("due_at", TIMESTAMP, nullable=True, comment="when something is next to be done; null: never"),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_subscriptions_environment")),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_subscriptions_provider")),
        sa.CheckConstraint(
            "status IN ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete_expired', 'canceled')",
            name=op.f("ck_subscriptions_status"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_subscriptions_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "provider", "subscription_id", name=op.f("pk_subscriptions")),
    )
    op.create_index(
        "ix_subscriptions_due",
        "subscriptions",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "subscription_terms",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("price_id", sa.Text(), nullable=False),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("plan_interval", sa.Text(), nullable=False),
        sa.Column("terms", postgresql.JSONB(), nullable=False, comment="the plan"),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("plan_interval IN ('month', 'year')", name=op.f("ck_subscription_terms_plan_interval")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_subscription_terms_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint(
            "account_id", "provider", "subscription_id", "price_id", name=op.f("pk_subscription_terms")
        ),
    )


def _create_books() -> None:
    op.create_table(
        "subscription_invoices",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False, comment="at the provider"),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("at", TIMESTAMP, nullable=False, comment="the provider's time of the state"),
        sa.Column("seen_at", TIMESTAMP, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_due_minor", sa.BigInteger(), nullable=False),
        sa.Column("amount_paid_minor", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False, comment="when it was due"),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="to pay it"),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=True),
        sa.Column("lines", postgresql.JSONB(), nullable=False, comment="prices and the periods that they pay"),
        sa.Column("payment_ids", postgresql.JSONB(), nullable=False, comment="the payments that are known to pay it"),
        sa.Column("refunds", postgresql.JSONB(), nullable=False, comment="by id"),
        sa.Column("disputes", postgresql.JSONB(), nullable=False, comment="by id"),
        sa.Column(
            "refunds_reported",
            postgresql.JSONB(),
            nullable=False,
            comment="by payment: the largest total of refunds that was reported",
        ),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_minor", sa.BigInteger(), nullable=False, comment="by disputes"),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_subscription_invoices_provider")),
        sa.CheckConstraint(
            "status IN ('draft', 'open', 'uncollectible', 'void', 'paid')", name=op.f("ck_subscription_invoices_status")
        ),
        sa.CheckConstraint(
            "amount_due_minor >= 0 AND amount_paid_minor >= 0", name=op.f("ck_subscription_invoices_amounts")
        ),
        sa.CheckConstraint(
            "refunded_minor >= 0 AND withdrawn_minor >= 0", name=op.f("ck_subscription_invoices_money_back")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_subscription_invoices_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "provider", "invoice_id", name=op.f("pk_subscription_invoices")),
    )
    op.create_index(
        op.f("ix_subscription_invoices_account_id_provider_subscription_id"),
        "subscription_invoices",
        ["account_id", "provider", "subscription_id"],
        unique=False,
    )
    op.create_table(
        "period_grants",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("period_start", TIMESTAMP, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="the grant's key in its plan, such as USD:month"),
        sa.Column("period_end", TIMESTAMP, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False, comment="that paid for the period"),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False, comment="credit, or the currency of money"),
        sa.Column(
            "amount", sa.BigInteger(), nullable=False, comment="in credits or nanos, including the carried amount"
        ),
        sa.Column("carried", sa.BigInteger(), nullable=False, comment="from the period before"),
        sa.Column("grant_id", sa.Uuid(), nullable=True, comment="null: it had expired before the period was known"),
        sa.Column(
            "refunded", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="taken back for refunds"
        ),
        sa.Column(
            "disputed", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="taken back for disputes"
        ),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.CheckConstraint("amount >= 0 AND carried >= 0", name=op.f("ck_period_grants_amount")),
        sa.CheckConstraint("carried <= amount", name=op.f("ck_period_grants_carried")),
        sa.CheckConstraint(
            "grant_id IS NOT NULL OR refunded + disputed = 0", name=op.f("ck_period_grants_given_first")
        ),
        sa.CheckConstraint("period_start < period_end", name=op.f("ck_period_grants_period")),
        sa.CheckConstraint(
            "refunded >= 0 AND disputed >= 0 AND refunded + disputed <= amount",
            name=op.f("ck_period_grants_taken_back"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "grant_id"],
            ["grants.account_id", "grants.grant_id"],
            name=op.f("fk_period_grants_account_id_grant_id_grants"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_period_grants_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "period_start", "kind", name=op.f("pk_period_grants")),
    )
    op.create_index(
        op.f("ix_period_grants_account_id_provider_invoice_id"),
        "period_grants",
        ["account_id", "provider", "invoice_id"],
        unique=False,
    )
    op.create_table(
        "subscribers",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("plan_before", sa.Text(), nullable=False, comment="plan_name without a subscription"),
        sa.Column("plan_name", sa.Text(), nullable=True, comment="by the subscription; null: none is entitled"),
        sa.Column("subscription_id", sa.Text(), nullable=True, comment="that gives the plan"),
        sa.Column("price_id", sa.Text(), nullable=True),
        sa.Column("limits", postgresql.JSONB(), nullable=False, comment="amounts of the plan's limits, by their ids"),
        sa.Column("updated_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_subscribers_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_subscribers")),
    )


def downgrade() -> None:
    op.drop_column("payment_cursors", "subscriptions_read_until")
    for table in TABLES:
        op.drop_table(table)
