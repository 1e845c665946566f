"""Cost records: work that is priced while it runs, and its items (ADR 29)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
OPEN = sa.text("status = 'open'")
NO_ACCOUNT = "account_id = '00000000-0000-0000-0000-000000000000'"


def upgrade() -> None:
    _create_records()
    op.create_table(
        "cost_record_items",
        sa.Column("account_id", sa.Uuid(), nullable=False, comment="of the record"),
        sa.Column("addition_id", sa.Uuid(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("item_no", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.Column("item_id", sa.Text(), nullable=True, comment="null: the person was erased"),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="of the measure and the stated cost"),
        sa.Column("meter", sa.Text(), nullable=True, comment="null: only a stated cost"),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("quantities", JSONB, nullable=False),
        sa.Column("raw", JSONB, nullable=True, comment="the measure as it was sent"),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("stated_nanos", sa.BigInteger(), nullable=True, comment="the caller's cost, which decides"),
        sa.Column("provider_cost_nanos", sa.BigInteger(), nullable=True, comment="at list prices; null: unknown"),
        sa.Column("price_version", sa.BigInteger(), nullable=True),
        sa.Column("price", JSONB, nullable=True, comment="rows and rule of the book that priced it"),
        sa.Column("key_id", sa.Text(), nullable=True, comment="of the reporting API key"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("item_no > 0", name=op.f("ck_cost_record_items_item_no")),
        sa.CheckConstraint("meter IS NOT NULL OR stated_nanos IS NOT NULL", name=op.f("ck_cost_record_items_meter")),
        sa.CheckConstraint(
            "cost_nanos >= 0 AND stated_nanos >= 0 AND provider_cost_nanos >= 0",
            name=op.f("ck_cost_record_items_amounts"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "record_id"],
            ["cost_records.account_id", "cost_records.record_id"],
            name=op.f("fk_cost_record_items_account_id_record_id_cost_records"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "addition_id", name=op.f("pk_cost_record_items")),
        sa.UniqueConstraint(
            "account_id", "record_id", "item_id", name=op.f("uq_cost_record_items_account_id_record_id_item_id")
        ),
    )


def _create_records() -> None:
    op.create_table(
        "cost_records",
        sa.Column("account_id", sa.Uuid(), nullable=False, comment="zero: work without a user, never charged"),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("client_key", sa.LargeBinary(), nullable=False, comment="digest, of work without a user; else empty"),
        sa.Column("request_id", sa.Text(), nullable=True, comment="null: the person was erased"),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="of the request that opened the record"),
        sa.Column("source", sa.Text(), nullable=False, comment="of the API key that opened the record"),
        sa.Column("key_id", sa.Text(), nullable=True, comment="of that API key"),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=True),
        sa.Column("agent_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("estimate_nanos", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False, comment="number of items"),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False, comment="sum of the items"),
        sa.Column("provider_cost_nanos", sa.BigInteger(), nullable=True, comment="at list prices; null: unknown"),
        sa.Column("tokens", JSONB, nullable=False, comment="sums of the items by token class"),
        sa.Column("provider", sa.Text(), nullable=True, comment="of the items; null: none yet, empty: several"),
        sa.Column("model", sa.Text(), nullable=True, comment="as provider"),
        sa.Column("on_expiry", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("usage_id", sa.Uuid(), nullable=True, comment="the usage event of the charge"),
        sa.Column("execution_time_ms", sa.BigInteger(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_cost_records_environment")),
        sa.CheckConstraint(f"({NO_ACCOUNT}) = (client_key <> '')", name=op.f("ck_cost_records_client_key")),
        sa.CheckConstraint("status IN ('open', 'completed', 'failed', 'expired')", name=op.f("ck_cost_records_status")),
        sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=op.f("ck_cost_records_closed_at")),
        sa.CheckConstraint(
            "on_expiry IN ('charge_reported', 'charge_nothing')", name=op.f("ck_cost_records_on_expiry")
        ),
        sa.CheckConstraint(
            f"CASE WHEN {NO_ACCOUNT} OR status IN ('open', 'failed') THEN usage_id IS NULL"
            " ELSE status = 'expired' OR usage_id IS NOT NULL END",
            name=op.f("ck_cost_records_usage_id"),
        ),
        sa.CheckConstraint(
            "estimate_nanos >= 0 AND items >= 0 AND cost_nanos >= 0 AND provider_cost_nanos >= 0"
            " AND execution_time_ms >= 0",
            name=op.f("ck_cost_records_amounts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "record_id", name=op.f("pk_cost_records")),
        sa.UniqueConstraint(
            "account_id", "client_key", "request_id", name=op.f("uq_cost_records_account_id_client_key_request_id")
        ),
    )
    op.create_index("ix_cost_records_open", "cost_records", ["account_id"], postgresql_where=OPEN)
    op.create_index("ix_cost_records_due", "cost_records", ["expires_at", "record_id"], postgresql_where=OPEN)


def downgrade() -> None:
    for table in ("cost_record_items", "cost_records"):
        op.drop_table(table)
