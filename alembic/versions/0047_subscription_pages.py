"""The object that an inbox event is about, and indexes of the back office's lists of subscriptions. Only adds."""

import sqlalchemy as sa
from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

INDEXES: tuple[tuple[str, str, list[str], str | None], ...] = (
    ("ix_payment_events_object_id", "payment_events", ["object_id"], "object_id IS NOT NULL"),
    ("ix_subscriptions_started_at", "subscriptions", ["started_at", "subscription_id"], None),
    ("ix_subscriptions_status", "subscriptions", ["status", "started_at", "subscription_id"], None),
    ("ix_subscription_terms_plan_name", "subscription_terms", ["plan_name"], None),
    ("ix_subscription_invoices_created_at", "subscription_invoices", ["created_at"], None),
    (
        "ix_subscription_invoices_unpaid",
        "subscription_invoices",
        ["created_at", "account_id"],
        "status IN ('open', 'uncollectible') AND attempts > 0",
    ),
    ("ix_refill_settings_declined", "refill_settings", ["last_declined_at", "account_id"], "declines > 0"),
)


def upgrade() -> None:
    op.add_column(
        "payment_events",
        sa.Column(
            "object_id", sa.Text(), comment="the subscription or invoice; null: a payment, or an earlier version"
        ),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        for name, table, columns, where in INDEXES:
            op.create_index(
                name,
                table,
                columns,
                postgresql_where=None if where is None else sa.text(where),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
    op.drop_column("payment_events", "object_id")
