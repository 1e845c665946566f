"""Cut-offs of erased persons' tokens, opening balances by day, and the parts of LLM interactions' counts."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SUMS = ("usage_days", "account_days", "active_days", "cohort_weeks", "llm_interactions", "llm_days")
COUNTS = ("llm_calls", "prompt_tokens", "completion_tokens", "cost_cents")
PARTS = ("models", *(f"{part}_{count}" for part in ("called", "summary") for count in COUNTS))
COMMENTS = {"called_llm_calls": "the calls' sum", "summary_llm_calls": "the greatest summary's"}


def upgrade() -> None:
    # The worker recomputes the sums from the books; until then reports read the books, and are as exact. DELETE, not
    # TRUNCATE: a concurrent reader sees all sums, or none together with the mark at zero. The constraint prevents a
    # worker of the old version from storing incomplete interactions.
    op.execute("UPDATE rollup_state SET rolled_up_to = '00000000-0000-0000-0000-000000000000'")
    for table in SUMS:
        op.execute(f"DELETE FROM {table}")  # noqa: S608  (names from a constant above)
    op.add_column(
        "llm_interactions",
        sa.Column("models", sa.ARRAY(sa.Text()), nullable=True, comment="the first 100 by name"),
    )
    for name in PARTS[1:]:
        op.add_column("llm_interactions", sa.Column(name, sa.Numeric(), nullable=True, comment=COMMENTS.get(name)))
    op.create_check_constraint(
        op.f("ck_llm_interactions_whole"),
        "llm_interactions",
        f"num_nulls({', '.join(PARTS)}) = 0",
        postgresql_not_valid=True,
    )
    op.create_table(
        "erased_cutoffs",
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("identity_digest", sa.LargeBinary(), nullable=False, comment="SHA-256"),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(salt) = 16 AND length(identity_digest) = 32", name=op.f("ck_erased_cutoffs_digest")),
        sa.PrimaryKeyConstraint("salt", name=op.f("pk_erased_cutoffs")),
    )
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE llm_interactions VALIDATE CONSTRAINT ck_llm_interactions_whole")
        op.create_index(
            "ix_ledger_entries_opening_paid",
            "ledger_entries",
            ["created_at"],
            unique=False,
            postgresql_include=["account_id", "delta"],
            postgresql_where=sa.text("kind = 'opening_grant' AND pool = 'paid'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_llm_interactions_whole"), "llm_interactions")
    for name in reversed(PARTS):
        op.drop_column("llm_interactions", name)
    op.drop_index("ix_ledger_entries_opening_paid", table_name="ledger_entries")
    op.drop_table("erased_cutoffs")
