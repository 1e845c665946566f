"""Idempotency keys belong to a kind of caller: an API key, a user or an admin (ADR 21).

The steps cannot share a transaction: indexes are built concurrently, rows are filled in batches, and two tables are
never locked together. Each statement can be repeated, so a failed migration is simply run again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WHOSE = "key, user or admin: the caller whose idempotency keys this key belongs to"
COMMENTS = {
    "charges": WHOSE,
    "credits": f"{WHOSE}; null: Stripe's bookings",
    "purchases": "key, user or admin: whose idempotency key it is; null: unknown, so it matches every kind",
}
KEYS = {
    "charges": ["account_id", "operation", "idempotency_key"],
    "credits": ["account_id", "idempotency_key"],
    "purchases": ["account_id", "idempotency_key"],
}
MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""Each constraint is replaced, separately or in the same statement, by one that distinguishes more rows."""
BOOKED = ("charges", "credits")
"""Each row names its last ledger entry, and the entry names its actor."""
KIND = """
    CASE {actor_type} WHEN 'api_key' THEN 'key' WHEN 'user' THEN 'user'
                      WHEN 'admin' THEN 'admin' WHEN 'system' THEN 'admin' END
"""
# The previous version does not know the column. Its row gets the kind at commit, when the ledger entry exists as well,
# so that no other transaction ever sees the key without its kind.
FUNCTION = """
    CREATE OR REPLACE FUNCTION fill_caller_kind() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        kind text;
    BEGIN
        SELECT {kind} INTO kind FROM ledger_entries
         WHERE account_id = NEW.account_id AND entry_no = NEW.entry_no;
        EXECUTE format('UPDATE %I SET caller_kind = $1 WHERE account_id = $2 AND entry_no = $3', TG_TABLE_NAME)
          USING kind, NEW.account_id, NEW.entry_no;
        RETURN NULL;
    END
    $$
"""
TRIGGER = """
    CREATE CONSTRAINT TRIGGER {table}_fill_caller_kind AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.caller_kind IS NULL) EXECUTE FUNCTION fill_caller_kind()
"""
FILL = """
    DO $$
    DECLARE
        after_account uuid := '00000000-0000-0000-0000-000000000000';
        after_entry bigint := 0;
        last record;
    BEGIN
        LOOP
            WITH page AS MATERIALIZED (
                SELECT account_id, entry_no FROM {table}
                 WHERE (account_id, entry_no) > (after_account, after_entry)
                 ORDER BY account_id, entry_no LIMIT 5000),
            filled AS (
                UPDATE {table} t SET caller_kind = {kind}
                  FROM page JOIN ledger_entries e USING (account_id, entry_no)
                 WHERE t.account_id = page.account_id AND t.entry_no = page.entry_no AND t.caller_kind IS NULL
                   AND e.actor_type <> 'stripe')
            SELECT account_id, entry_no INTO last FROM page ORDER BY account_id DESC, entry_no DESC LIMIT 1;
            EXIT WHEN NOT FOUND;
            after_account := last.account_id;
            after_entry := last.entry_no;
            COMMIT;
        END LOOP;
    END
    $$
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(FUNCTION.format(kind=KIND.format(actor_type="actor_type")))
        for table, comment in COMMENTS.items():
            op.add_column(
                table, sa.Column("caller_kind", sa.Text(), nullable=True, comment=comment), if_not_exists=True
            )
            check = f"ck_{table}_caller_kind"
            op.execute(f"{MAY_DROP}ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}")
            op.create_check_constraint(
                op.f(check), table, "caller_kind IN ('key', 'user', 'admin')", postgresql_not_valid=True
            )
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}")
        for table in BOOKED:
            op.execute(f"DROP TRIGGER IF EXISTS {table}_fill_caller_kind ON {table}")
            op.execute(TRIGGER.format(table=table))
            op.execute(FILL.format(table=table, kind=KIND.format(actor_type="e.actor_type")))
        for table, columns in KEYS.items():
            _replace_key(table, columns)


def _replace_key(table: str, columns: list[str]) -> None:
    """Widen the unique key under its old name, which the previous version uses. The index also serves its reads."""
    name, index = f"uq_{table}_{'_'.join(columns)}", f"uq_{table}_caller_kind"
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")  # an index from an interrupted run is invalid
    op.create_index(index, table, [*columns, "caller_kind"], unique=True, postgresql_concurrently=True)
    op.execute(
        f"{MAY_DROP}ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} UNIQUE USING INDEX {index}"
    )


def downgrade() -> None:
    """Fails if two kinds of caller have used the same key: earlier schemas cannot store both rows."""
    for table in BOOKED:
        op.execute(f"DROP TRIGGER {table}_fill_caller_kind ON {table}")
    op.execute("DROP FUNCTION fill_caller_kind()")
    for table, columns in KEYS.items():
        name = op.f(f"uq_{table}_{'_'.join(columns)}")
        op.drop_constraint(name, table)
        op.create_unique_constraint(name, table, columns)
        op.drop_column(table, "caller_kind")
