"""Corrections of usage that is priced again: runs, accounts and events (ADR 31); what an unknown model lacks. Only adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    op.create_table(
        "reratings",
        sa.Column("rerating_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False, comment="events from then on"),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False, comment="events before then"),
        sa.Column("price_version", sa.BigInteger(), nullable=True, comment="null: the versions in force"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_reratings_environment")),
        sa.CheckConstraint("since < until", name=op.f("ck_reratings_period")),
        sa.PrimaryKeyConstraint("rerating_id", name=op.f("pk_reratings")),
    )
    op.create_table(
        "account_corrections",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("correction_id", sa.Uuid(), nullable=False),
        sa.Column("rerating_id", sa.Uuid(), nullable=False, comment="no foreign key: the proof of the books covers it"),
        sa.Column("part_no", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.Column("currency", sa.Text(), nullable=False, comment="the account's"),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False, comment="charged; negative: given back"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("part_no > 0", name=op.f("ck_account_corrections_part_no")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_account_corrections_currency")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_account_corrections_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "correction_id", name=op.f("pk_account_corrections")),
        sa.UniqueConstraint(
            "account_id", "rerating_id", "part_no", name=op.f("uq_account_corrections_account_id_rerating_id_part_no")
        ),
    )
    _create_usage_corrections()
    op.add_column(
        "unknown_models",
        sa.Column("missing", sa.Text(), nullable=True, comment="of the last event: the mode or class without a price"),
    )


def _create_usage_corrections() -> None:
    op.create_table(
        "usage_corrections",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("usage_id", sa.Uuid(), nullable=False, comment="of the event"),
        sa.Column("correction_no", sa.BigInteger(), nullable=False, comment="of the event, from 1"),
        sa.Column("correction_id", sa.Uuid(), nullable=False),
        sa.Column("cost_before_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cost_after_nanos", sa.BigInteger(), nullable=False),
        sa.Column("provider_cost_before_nanos", sa.BigInteger(), nullable=True, comment="null: unknown"),
        sa.Column("provider_cost_after_nanos", sa.BigInteger(), nullable=True, comment="null: unknown"),
        sa.Column("price_version", sa.BigInteger(), nullable=True, comment="null: of a cost record, which has items"),
        sa.Column("price", JSONB, nullable=True, comment="rows and rule of the book that priced it"),
        sa.CheckConstraint("correction_no > 0", name=op.f("ck_usage_corrections_correction_no")),
        sa.CheckConstraint(
            "cost_before_nanos >= 0 AND cost_after_nanos >= 0"
            " AND provider_cost_before_nanos >= 0 AND provider_cost_after_nanos >= 0",
            name=op.f("ck_usage_corrections_amounts"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "correction_id"],
            ["account_corrections.account_id", "account_corrections.correction_id"],
            name=op.f("fk_usage_corrections_correction"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "usage_id", "correction_no", name=op.f("pk_usage_corrections")),
    )
    op.create_index(
        "ix_usage_corrections_account_id_correction_id", "usage_corrections", ["account_id", "correction_id"]
    )


def downgrade() -> None:
    op.drop_column("unknown_models", "missing")
    for table in ("usage_corrections", "account_corrections", "reratings"):
        op.drop_table(table)
