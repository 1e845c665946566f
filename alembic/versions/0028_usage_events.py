"""Usage events: their ids, prices and outcomes, refused attempts, and monthly volumes (ADR 28)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())


def _account(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id"], ["accounts.account_id"], name=op.f(f"fk_{table}_account_id_accounts"), ondelete="RESTRICT"
    )


def upgrade() -> None:
    op.create_table(
        "usage_keys",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False, comment="as sent; once the person is erased: usage_id"),
        sa.Column("source", sa.Text(), nullable=False, comment="CloudEvents' source, else the key's"),
        sa.Column(
            "fingerprint",
            sa.LargeBinary(),
            nullable=False,
            comment="of meter, provider, model, quantities, stated cost",
        ),
        sa.Column("usage_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "event_id", "source", name=op.f("pk_usage_keys")),
    )
    _create_events()
    op.create_table(
        "usage_attempts",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("usage_id", sa.Uuid(), nullable=False, comment="of the first refused event"),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("attempts > 0", name=op.f("ck_usage_attempts_attempts")),
        _account("usage_attempts"),
        sa.PrimaryKeyConstraint("account_id", "event_id", "source", name=op.f("pk_usage_attempts")),
    )
    op.create_table(
        "usage_volumes",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_usage_volumes_quantity")),
        _account("usage_volumes"),
        sa.PrimaryKeyConstraint("account_id", "month", "row_id", name=op.f("pk_usage_volumes")),
    )


def _create_events() -> None:
    op.create_table(
        "usage_events",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("usage_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True, comment="null: the person was erased"),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("quantities", JSONB, nullable=False, comment="disjoint token classes, or the meter's numbers"),
        sa.Column("raw", JSONB, nullable=True, comment="the usage object as it was sent"),
        sa.Column("metadata", JSONB, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True, comment="error code"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("stated_nanos", sa.BigInteger(), nullable=True, comment="the caller's cost, which decides"),
        sa.Column("provider_cost_nanos", sa.BigInteger(), nullable=True, comment="at list prices; null: unknown"),
        sa.Column("debt_nanos", sa.BigInteger(), nullable=False, comment="part of the cost that the account owes"),
        sa.Column(
            "balance_after_nanos",
            sa.BigInteger(),
            nullable=False,
            comment="spendable money right after the event",
        ),
        sa.Column("price_version", sa.BigInteger(), nullable=True),
        sa.Column("price", JSONB, nullable=True, comment="rows and rule of the book that priced it"),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=True),
        sa.Column("tool", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("attribution", JSONB, nullable=True, comment="further attributes, and the service's name"),
        sa.Column("key_id", sa.Text(), nullable=True, comment="of the reporting API key"),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False, comment="the event's own time"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="when it was recorded"),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_usage_events_environment")),
        sa.CheckConstraint("status IN ('charged', 'debt', 'recorded', 'refused')", name=op.f("ck_usage_events_status")),
        sa.CheckConstraint("(status = 'refused') = (refusal IS NOT NULL)", name=op.f("ck_usage_events_refusal")),
        sa.CheckConstraint("(status = 'debt') = (debt_nanos > 0)", name=op.f("ck_usage_events_debt")),
        sa.CheckConstraint(
            "cost_nanos >= 0 AND debt_nanos BETWEEN 0 AND cost_nanos AND stated_nanos >= 0"
            " AND provider_cost_nanos >= 0 AND balance_after_nanos >= 0",
            name=op.f("ck_usage_events_amounts"),
        ),
        _account("usage_events"),
        sa.PrimaryKeyConstraint("account_id", "usage_id", name=op.f("pk_usage_events")),
    )
    op.create_index("ix_usage_events_account_id_occurred_at", "usage_events", ["account_id", "occurred_at", "usage_id"])
    op.create_index("ix_usage_events_occurred_at", "usage_events", ["occurred_at", "usage_id"])
    op.create_index("ix_usage_events_usage_id", "usage_events", ["usage_id"], postgresql_using="brin")


def downgrade() -> None:
    for table in ("usage_volumes", "usage_attempts", "usage_events", "usage_keys"):
        op.drop_table(table)
