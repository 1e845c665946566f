"""Units of ledger entries, grants as lots, and holds (ADR 24). Nothing writes grants or holds yet.

Each statement commits alone, so no two tables that charges write are locked together. Each may run again, so a
migration that failed is repeated as a whole.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

MAX_CREDITS = 92233720368547758
UNIT = "unit = 'credit' OR unit ~ '^[A-Z]{3}$'"
# (table, constraint, condition). Earlier versions look for these names when they verify the ledger, so a constraint is
# replaced under its old name, and at no moment is it missing or not validated.
REPLACED = (
    (
        "ledger_entries",
        "balance_after",
        f"balance_after >= 0 AND (unit <> 'credit' OR balance_after <= {MAX_CREDITS})",
        f"balance_after BETWEEN 0 AND {MAX_CREDITS}",
    ),
    (
        "charges",
        "cost",
        "cost = from_daily_free + from_free + from_paid + from_grants AND cost > 0",
        "cost = from_daily_free + from_free + from_paid AND cost > 0",
    ),
    (
        "charges",
        "parts",
        "from_daily_free >= 0 AND from_free >= 0 AND from_paid >= 0 AND from_grants >= 0",
        "from_daily_free >= 0 AND from_free >= 0 AND from_paid >= 0",
    ),
)
ADDED = (
    ("unit", "unit = 'credit' OR pool !~ '^(daily_free|free|paid|debt|.*/.*)$' AND unit ~ '^[A-Z]{3}$'"),
    ("grant_id", "(pool = 'grant') = (grant_id IS NOT NULL)"),
)
GRANT_OF_ENTRY = "fk_ledger_entries_account_id_grant_id_grants"
MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""Only what an earlier try of this migration added, which no version looks for yet."""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _create_tables()
        op.add_column(
            "ledger_entries",
            sa.Column("grant_id", sa.Uuid(), nullable=True, comment="the lot that moved; only in the pool grant"),
            if_not_exists=True,
        )
        op.add_column(
            "charges",
            sa.Column("from_grants", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
            if_not_exists=True,
        )
        _constrain_entries()
        for table, name, condition, _ in REPLACED:
            _replace(table, name, condition)


def _create_tables() -> None:
    op.create_table(
        "grants",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("grant_id", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False, comment="credit, or the account's currency: then nanos of it"),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="at first"),
        sa.Column("remaining", sa.BigInteger(), nullable=False, comment="not spent, held or expired"),
        sa.Column("priority", sa.BigInteger(), nullable=False, comment="lower numbers pay first"),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="why it was given, such as signup or a plan's period"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="from then on it cannot pay"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(UNIT, name=op.f("ck_grants_unit")),
        sa.CheckConstraint(
            f"amount > 0 AND (unit <> 'credit' OR amount <= {MAX_CREDITS})", name=op.f("ck_grants_amount")
        ),
        sa.CheckConstraint("remaining BETWEEN 0 AND amount", name=op.f("ck_grants_remaining")),
        sa.CheckConstraint(
            "category IN ('promotional', 'subscription', 'purchased', 'compensation')", name=op.f("ck_grants_category")
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_grants_account_id_accounts"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "grant_id", name=op.f("pk_grants")),
        if_not_exists=True,
    )
    op.create_table(
        "holds",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False, comment="credit, or the account's currency: then nanos of it"),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="in the pool held while the status is held"),
        sa.Column("reported", sa.BigInteger(), nullable=False, comment="progress, for on_expiry = capture_reported"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("on_expiry", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True, comment="null: the person was erased"),
        sa.Column(
            "caller_kind",
            sa.Text(),
            nullable=False,
            comment="key, user or admin: the caller of the idempotency key",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(UNIT, name=op.f("ck_holds_unit")),
        sa.CheckConstraint(
            f"amount > 0 AND (unit <> 'credit' OR amount <= {MAX_CREDITS})", name=op.f("ck_holds_amount")
        ),
        sa.CheckConstraint("reported BETWEEN 0 AND amount", name=op.f("ck_holds_reported")),
        sa.CheckConstraint("status IN ('held', 'captured', 'released', 'expired')", name=op.f("ck_holds_status")),
        sa.CheckConstraint(
            "on_expiry IN ('release', 'capture_reported', 'capture_all')", name=op.f("ck_holds_on_expiry")
        ),
        sa.CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name=op.f("ck_holds_caller_kind")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.account_id"], name=op.f("fk_holds_account_id_accounts"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "hold_id", name=op.f("pk_holds")),
        sa.UniqueConstraint(
            "account_id",
            "idempotency_key",
            "caller_kind",
            name=op.f("uq_holds_account_id_idempotency_key_caller_kind"),
        ),
        if_not_exists=True,
    )
    op.create_table(
        "hold_parts",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=False),
        sa.Column("part_no", sa.BigInteger(), autoincrement=False, nullable=False, comment="burn order, from 1"),
        sa.Column("pool", sa.Text(), nullable=False, comment="that the part came from"),
        sa.Column("grant_id", sa.Uuid(), nullable=True, comment="the lot, if the pool is grant"),
        sa.Column("amount", sa.BigInteger(), nullable=False, comment="in the hold's unit"),
        sa.CheckConstraint("part_no > 0", name=op.f("ck_hold_parts_part_no")),
        sa.CheckConstraint("pool <> 'held'", name=op.f("ck_hold_parts_pool")),
        sa.CheckConstraint("(pool = 'grant') = (grant_id IS NOT NULL)", name=op.f("ck_hold_parts_grant_id")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_hold_parts_amount")),
        sa.ForeignKeyConstraint(
            ["account_id", "hold_id"],
            ["holds.account_id", "holds.hold_id"],
            name=op.f("fk_hold_parts_account_id_hold_id_holds"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "grant_id"],
            ["grants.account_id", "grants.grant_id"],
            name=op.f("fk_hold_parts_account_id_grant_id_grants"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "hold_id", "part_no", name=op.f("pk_hold_parts")),
        if_not_exists=True,
    )


def _constrain_entries() -> None:
    names = [GRANT_OF_ENTRY, *(f"ck_ledger_entries_{name}" for name, _ in ADDED)]
    for name in names:
        op.execute(f"{MAY_DROP}ALTER TABLE ledger_entries DROP CONSTRAINT IF EXISTS {name}")
    op.create_foreign_key(
        op.f(GRANT_OF_ENTRY),
        "ledger_entries",
        "grants",
        ["account_id", "grant_id"],
        ["account_id", "grant_id"],
        ondelete="RESTRICT",
        postgresql_not_valid=True,
    )
    for name, condition in ADDED:
        op.create_check_constraint(
            op.f(f"ck_ledger_entries_{name}"), "ledger_entries", condition, postgresql_not_valid=True
        )
    op.execute(f"ALTER TABLE ledger_entries {', '.join(f'VALIDATE CONSTRAINT {name}' for name in names)}")


def _replace(table: str, name: str, condition: str) -> None:
    """Replace a CHECK by a wider one: both hold until the wider one is validated."""
    old, new = f"ck_{table}_{name}", f"ck_{table}_{name}_0021"
    op.execute(f"{MAY_DROP}ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {new}")
    op.create_check_constraint(op.f(new), table, condition, postgresql_not_valid=True)
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {new}")
    op.execute(
        f"""
        DO $$ BEGIN
            ALTER TABLE {table} DROP CONSTRAINT {old};
            ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old};
        END $$
        """
    )


def downgrade() -> None:
    """Fails where a grant or money was written: earlier schemas cannot hold it."""
    for table, name, _, before in reversed(REPLACED):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, before)
    for name, _ in reversed(ADDED):
        op.drop_constraint(op.f(f"ck_ledger_entries_{name}"), "ledger_entries")
    op.drop_constraint(op.f(GRANT_OF_ENTRY), "ledger_entries")
    op.drop_column("charges", "from_grants")
    op.drop_column("ledger_entries", "grant_id")
    for table in ("hold_parts", "holds", "grants"):
        op.drop_table(table)
