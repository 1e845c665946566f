"""Ledger chain: a hash over each ledger entry and all earlier ones of its account (ADR 35). Only adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

# As of the ledger: it applies to the table's owner as well. 0001 created the function.
APPEND_ONLY = """
CREATE TRIGGER ledger_chain_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""


def upgrade() -> None:
    # No foreign key: its check would lock, and so rewrite, each entry. The proof of the books covers it.
    op.create_table(
        "ledger_chain",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("entry_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the entry and of the hash before it"),
        sa.Column(
            "latest",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=True,
            comment="of every 1,000th entry: the last entry of each pool that is not empty",
        ),
        sa.CheckConstraint("entry_no > 0", name=op.f("ck_ledger_chain_entry_no")),
        sa.CheckConstraint("octet_length(hash) = 32", name=op.f("ck_ledger_chain_hash")),
        sa.CheckConstraint("(latest IS NOT NULL) = (entry_no % 1000 = 0)", name=op.f("ck_ledger_chain_latest")),
        sa.PrimaryKeyConstraint("account_id", "entry_no", name=op.f("pk_ledger_chain")),
    )
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.drop_table("ledger_chain")
