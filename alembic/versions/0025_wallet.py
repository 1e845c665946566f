"""Money and grants: balances and sums on the account, open grants, and their indexes (ADR 26).

Each statement commits alone and may run again, so a migration that failed is repeated as a whole. Columns have constant
defaults: adding them rewrites nothing, and the version before does not name them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

MAX_CREDITS = 92233720368547758
AMOUNTS = {
    "money_nanos": "spendable money that never expires, in nanos of the currency",
    "money_debt_nanos": "money that was used or taken back, and not paid",
    "grants_credits": "sum of what remains of the grants of credits",
    "grants_money_nanos": "sum of what remains of the grants of money",
    "held_credits": "sum of the credits in open holds",
    "held_money_nanos": "sum of the money in open holds",
    "money_purchased_nanos": "money bought in all, less what was taken back",
    "money_granted_nanos": "money given in all",
    "money_used_nanos": "money used in all, paid or owed",
}
TIMES = {
    "grants_expire_at": "the earliest expiry of an open grant",
    "holds_expire_at": "the earliest expiry of an open hold",
}
FLAGS = {
    "has_limits": ("false", "whether limits have to be read"),
    "billing_enabled": ("true", "false: usage is recorded and priced, and never charged"),
}
CHECKS = (
    (
        "accounts",
        "money",
        "least(money_nanos, money_debt_nanos, money_purchased_nanos, money_granted_nanos, money_used_nanos) >= 0",
    ),
    (
        "accounts",
        "sums",
        "least(grants_credits, grants_money_nanos, held_credits, held_money_nanos) >= 0"
        f" AND grants_credits + held_credits <= {MAX_CREDITS}",
    ),
    ("grants", "closed_at", "(closed_at IS NOT NULL) = (remaining = 0)"),
    ("grants", "caller_kind", "caller_kind IN ('key', 'user', 'admin')"),
)
GRANT_COLUMNS = (
    ("closed_at", sa.DateTime(timezone=True), "when nothing remained; null: open"),
    ("idempotency_key", sa.Text(), "null: none was given, or the person was erased"),
    ("caller_kind", sa.Text(), "key, user or admin: the caller of the idempotency key"),
)
KEY = "uq_grants_account_id_idempotency_key_caller_kind"
# (index, columns, unique, condition)
INDEXES = (
    (KEY, ["account_id", "idempotency_key", "caller_kind"], True, None),
    ("ix_grants_grant_id", ["grant_id"], False, None),
    ("ix_grants_open", ["account_id"], False, "closed_at IS NULL"),
    ("ix_grants_due", ["expires_at"], False, "closed_at IS NULL AND expires_at IS NOT NULL"),
)
USES = "COMMENT ON COLUMN accounts.total_uses IS '{}'"
MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""Only what an earlier try of this migration added, which no version looks for yet."""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, comment in AMOUNTS.items():
            _add("accounts", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False, comment=comment))
        for name, comment in TIMES.items():
            _add("accounts", sa.Column(name, sa.DateTime(timezone=True), nullable=True, comment=comment))
        for name, (default, comment) in FLAGS.items():
            flag = sa.Column(name, sa.Boolean(), server_default=sa.text(default), nullable=False, comment=comment)
            _add("accounts", flag)
        for name, type_, comment in GRANT_COLUMNS:
            _add("grants", sa.Column(name, type_, nullable=True, comment=comment))
        for table in ("charges", "credits"):
            after = "grants of credits right after it, beside paid_after"
            _add(table, sa.Column("grants_after", sa.BigInteger(), server_default="0", nullable=False, comment=after))
        _create_money_credits()
        op.execute(USES.format("credits spent from daily_free, free, paid and grants"))
        for table, name, condition in CHECKS:
            _check(table, name, condition)
        op.execute(f"{MAY_DROP}ALTER TABLE grants DROP CONSTRAINT IF EXISTS {KEY}")
        for index, columns, unique, condition in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")  # an earlier run may have left an invalid one
            op.create_index(
                index,
                "grants",
                columns,
                unique=unique,
                postgresql_where=None if condition is None else sa.text(condition),
                postgresql_concurrently=True,
            )
        op.execute(f"ALTER TABLE grants ADD CONSTRAINT {KEY} UNIQUE USING INDEX {KEY}")


def _create_money_credits() -> None:
    op.create_table(
        "money_credits",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("money_credit_id", sa.Uuid(), nullable=False),
        sa.Column(
            "entry_no",
            sa.BigInteger(),
            nullable=False,
            comment="its last ledger entry: the account's order of events",
        ),
        sa.Column("transaction_type", sa.Text(), nullable=False, comment="the kind of its entries"),
        sa.Column(
            "amount_nanos", sa.BigInteger(), nullable=False, comment="in nanos of the currency; negative: taken back"
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="the account's"),
        sa.Column(
            "balance_after_nanos",
            sa.BigInteger(),
            nullable=False,
            comment="money and live grants right after it",
        ),
        sa.Column(
            "idempotency_key", sa.Text(), nullable=True, comment="null: none was given, or the person was erased"
        ),
        sa.Column(
            "caller_kind",
            sa.Text(),
            nullable=True,
            comment="key, user or admin: the caller of the idempotency key; null: a payment provider's booking",
        ),
        sa.Column("external_transaction_id", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount_nanos <> 0", name=op.f("ck_money_credits_amount_nanos")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_money_credits_currency")),
        sa.CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name=op.f("ck_money_credits_caller_kind")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_money_credits_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "money_credit_id", name=op.f("pk_money_credits")),
        sa.UniqueConstraint("account_id", "entry_no", name=op.f("uq_money_credits_account_id_entry_no")),
        sa.UniqueConstraint(
            "account_id",
            "idempotency_key",
            "caller_kind",
            name=op.f("uq_money_credits_account_id_idempotency_key_caller_kind"),
        ),
        if_not_exists=True,
    )


def _add(table: str, column: "sa.Column[object]") -> None:
    op.add_column(table, column, if_not_exists=True)


def _check(table: str, name: str, condition: str) -> None:
    constraint = f"ck_{table}_{name}"
    op.execute(f"{MAY_DROP}ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {constraint}")
    op.create_check_constraint(op.f(constraint), table, condition, postgresql_not_valid=True)
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}")


def downgrade() -> None:
    """Deletes money credits and the balances of money."""
    op.drop_table("money_credits")
    op.drop_constraint(KEY, "grants")
    for index, _, _, _ in reversed(INDEXES[1:]):
        op.drop_index(index, table_name="grants")
    for table, name, _ in reversed(CHECKS):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.execute(USES.format("credits spent from daily_free, free and paid"))
    for table in ("credits", "charges"):
        op.drop_column(table, "grants_after")
    for name, _, _ in reversed(GRANT_COLUMNS):
        op.drop_column("grants", name)
    for name in (*FLAGS, *TIMES, *AMOUNTS):
        op.drop_column("accounts", name)
