"""The job queue (procrastinate's own schema) and the results of ledger verifications."""

import sqlalchemy as sa
from alembic import context, op
from procrastinate.schema import SchemaManager

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Objects of procrastinate's schema have its name as a prefix.
DROP_QUEUE = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'procrastinate\\_%' AND relkind = 'r' LOOP
        EXECUTE 'DROP TABLE ' || name || ' CASCADE';
    END LOOP;
    FOR name IN SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'procrastinate\\_%' LOOP
        EXECUTE 'DROP FUNCTION ' || name;
    END LOOP;
    FOR name IN
        SELECT oid::regtype::text FROM pg_type WHERE typname LIKE 'procrastinate\\_%' AND typtype IN ('c', 'e')
    LOOP
        EXECUTE 'DROP TYPE ' || name;
    END LOOP;
END
$$
"""


def create_queue() -> None:
    if context.is_offline_mode():
        # Not for our lint; it only creates new objects, which no version uses yet.
        op.execute("SELECT 'here the schema that `procrastinate schema --read` prints'")
        return
    schema = SchemaManager.get_schema()
    op.execute("SELECT 1")  # the driver begins the migration's transaction with its first statement
    # A script of many statements: only the driver itself can execute it.
    op.get_bind().connection.dbapi_connection.run_async(lambda driver: driver.execute(schema))


def upgrade() -> None:
    create_queue()
    op.create_table(
        "ledger_verifications",
        sa.Column("verification_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("accounts", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True, comment="the first culprit"),
        sa.CheckConstraint("ok = (problem IS NULL)", name=op.f("ck_ledger_verifications_problem")),
        sa.PrimaryKeyConstraint("verification_id", name=op.f("pk_ledger_verifications")),
    )


def downgrade() -> None:
    op.drop_table("ledger_verifications")
    op.execute(DROP_QUEUE)
