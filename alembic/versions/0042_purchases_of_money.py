"""Purchases of money beside packs of credits (ADR 39). Only adds, and allows purchases without credits.

Each statement commits alone, or may run again. The columns' defaults are constant, so adding them rewrites nothing. The
constraint on `credits` keeps its name, because versions before look for it when they verify the ledger. They write no
purchase that it refuses, and read no purchase of money: the mark of the oldest running version excludes them first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def _nanos(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0", comment=comment)


COLUMNS = (
    sa.Column(
        "unit",
        sa.Text(),
        nullable=False,
        server_default="credit",
        comment="credit, or the currency of the money that it sells",
    ),
    _nanos("money_nanos", "money that the account receives; the price can be lower"),
    _nanos("money_refunded_nanos", "money taken back for refunds"),
    _nanos("money_disputed_nanos", "money taken back for disputes"),
    sa.Column(
        "discount_percent",
        sa.Numeric(),
        nullable=False,
        server_default="0",
        comment="of the buyer's plan, on the price of money",
    ),
    sa.Column("buyer", sa.Text(), comment="the user's id, as Stripe's page gets it"),
    sa.Column("success_url", sa.Text(), comment="where Stripe's page returns to after the payment"),
    sa.Column("cancel_url", sa.Text(), comment="where Stripe's page returns to without a payment"),
    sa.Column("checkout_session_id", sa.Text(), comment="of Stripe's page that takes the payment"),
    sa.Column("receipt_url", sa.Text(), comment="Stripe's page with the receipt"),
)
COMMENTS = (
    ("pack", sa.Text(), "Money: it sells money", None),
    ("credits", sa.BigInteger(), "0: it sells money", None),
    ("credit_id", sa.Uuid(), "the credit, or the credit of money, that it became", "the credit that it became"),
)
CREDITS = "CASE WHEN unit = 'credit' THEN credits > 0 AND money_nanos = 0 ELSE credits = 0 AND money_nanos > 0 END"
CHECKS = (
    ("unit", "unit = 'credit' OR unit = currency"),
    ("discount_percent", "discount_percent BETWEEN 0 AND 99"),
    (
        "money_taken_back",
        "money_refunded_nanos >= 0 AND money_disputed_nanos >= 0"
        " AND money_refunded_nanos + money_disputed_nanos <= money_nanos",
    ),
    ("money_credited_first", "credit_id IS NOT NULL OR money_refunded_nanos + money_disputed_nanos = 0"),
)
MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""The same statement replaces it by one that allows more, or that was not validated yet."""
REPLACE = """
    ALTER TABLE purchases DROP CONSTRAINT IF EXISTS ck_purchases_{name},
        ADD CONSTRAINT ck_purchases_{name} CHECK ({rule}) NOT VALID
"""


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("purchases", column, if_not_exists=True)
    for name, kind, comment, before in COMMENTS:
        op.alter_column("purchases", name, existing_type=kind, comment=comment, existing_comment=before)
    for name, rule in (("credits", CREDITS), *CHECKS):
        op.execute(MAY_DROP + REPLACE.lstrip().format(name=name, rule=rule))
    with op.get_context().autocommit_block():
        for name in ("credits", *(name for name, _ in CHECKS)):
            op.execute(f"ALTER TABLE purchases VALIDATE CONSTRAINT ck_purchases_{name}")


def downgrade() -> None:
    """Fails where money was bought: earlier schemas cannot hold it."""
    op.execute(REPLACE.format(name="credits", rule="credits > 0"))
    op.execute("ALTER TABLE purchases VALIDATE CONSTRAINT ck_purchases_credits")
    for name, _ in reversed(CHECKS):
        op.drop_constraint(op.f(f"ck_purchases_{name}"), "purchases")
    for name, kind, comment, before in COMMENTS:
        op.alter_column("purchases", name, existing_type=kind, comment=before, existing_comment=comment)
    for column in reversed(COLUMNS):
        op.drop_column("purchases", column.name)
