"""The card that paid for a purchase, the author and reason of a refund, and indexes for the purchases' filters."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COLUMNS = (
    ("purchases", "card_brand", "as Stripe names it; of what is no card, the kind of payment"),
    ("purchases", "card_last4", "its last four digits, as far as Stripe tells them"),
    ("purchase_refunds", "request_key", "of the request in the audit log that asked for it; null: asked for elsewhere"),
    ("purchase_refunds", "reason", "as Stripe says it"),
)
# Purchases are listed by their ids, which increase with time. (name, columns, condition)
INDEXES = (
    ("ix_purchases_purchase_id", ["purchase_id"], None),
    ("ix_purchases_created_at", ["created_at"], None),
    ("ix_purchases_status_purchase_id", ["status", "purchase_id"], None),
    ("ix_purchases_amount_minor_purchase_id", ["amount_minor", "purchase_id"], None),
    ("ix_purchases_card_last4", ["card_last4", "purchase_id"], "card_last4 IS NOT NULL"),
)


def upgrade() -> None:
    for table, name, comment in COLUMNS:
        op.add_column(table, sa.Column(name, sa.Text(), nullable=True, comment=comment), if_not_exists=True)
    with op.get_context().autocommit_block():
        for name, columns, condition in INDEXES:
            op.create_index(
                name,
                "purchases",
                columns,
                unique=False,
                postgresql_where=None if condition is None else sa.text(condition),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    for name, _, _ in reversed(INDEXES):
        op.drop_index(name, table_name="purchases")
    for table, name, _ in reversed(COLUMNS):
        op.drop_column(table, name)
