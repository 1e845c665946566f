"""Comments of columns in plain words. Nothing else changes."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# (table, column): before, after
COMMENTS = {
    ("purchases", "next_action"): (
        "Stripe's type of what the buyer has to do; counts while the status is requires_action",
        "Stripe's type of the buyer's next step; counts while the status is requires_action",
    ),
    ("purchases", "card_brand"): (
        "as Stripe names it; of what is no card, the kind of payment",
        "as Stripe names it; without a card, the kind of payment",
    ),
    ("purchases", "caller_kind"): (
        "key, user or admin: whose idempotency key it is; null: unknown, so it matches every kind",
        "key, user or admin: the idempotency key's kind of caller; null: unknown, so it matches every kind",
    ),
    ("alerts", "observed"): ("the most that was seen", "the highest value seen"),
    ("alerts", "usual"): (
        "what the account spends on a day, for a spike",
        "for a spike: the account's usual spending on a day",
    ),
    ("alerts", "account_ids"): ("that can be stopped for it", "accounts that can be stopped for it"),
    ("alerts", "exempt_ids"): (
        "accounts that stopped does not cover: a person let them go on",
        "accounts that an admin released, which stopped does not cover",
    ),
    ("alerts", "stopped"): (
        "hold or suspend: what its accounts are under",
        "hold or suspend: how its accounts are stopped",
    ),
}


def _comment(table: str, column: str, text: str) -> None:
    quoted = text.replace("'", "''")
    op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{quoted}'")


def upgrade() -> None:
    for (table, column), (_, after) in COMMENTS.items():
        _comment(table, column, after)


def downgrade() -> None:
    for (table, column), (before, _) in COMMENTS.items():
        _comment(table, column, before)
