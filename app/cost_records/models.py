"""Tables of cost records and their items."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp

OPEN = text("status = 'open'")
NO_ACCOUNT = "account_id = '00000000-0000-0000-0000-000000000000'"


class CostRecord(Base):
    """Work that is priced while it runs. Amounts are nanos of the currency.

    A record with an account changes under the account's lock, one without under its own row's. The account leads all
    keys, so work without a user has the account zero, and there is no foreign key. The proof of the books covers it.
    """

    __tablename__ = "cost_records"
    __table_args__ = (
        UniqueConstraint("account_id", "client_key", "request_id"),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint(f"({NO_ACCOUNT}) = (client_key <> '')", name="client_key"),
        CheckConstraint("status IN ('open', 'completed', 'failed', 'expired')", name="status"),
        CheckConstraint("(status = 'open') = (closed_at IS NULL)", name="closed_at"),
        CheckConstraint("on_expiry IN ('charge_reported', 'charge_nothing')", name="on_expiry"),
        # Only settled work of an account has a usage event, and completed work has one.
        CheckConstraint(
            f"CASE WHEN {NO_ACCOUNT} OR status IN ('open', 'failed') THEN usage_id IS NULL"
            " ELSE status = 'expired' OR usage_id IS NOT NULL END",
            name="usage_id",
        ),
        CheckConstraint(
            "estimate_nanos >= 0 AND items >= 0 AND cost_nanos >= 0 AND provider_cost_nanos >= 0"
            " AND execution_time_ms >= 0",
            name="amounts",
        ),
        # Not on amounts, so that a new item changes no index.
        Index("ix_cost_records_open", "account_id", postgresql_where=OPEN),
        Index("ix_cost_records_due", "expires_at", "record_id", postgresql_where=OPEN),
        Index(
            "ix_cost_records_run_id",
            *("account_id", "run_id", "record_id"),
            postgresql_where=text("run_id IS NOT NULL"),
        ),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True, comment="zero: work without a user, never charged")
    record_id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    client_key: Mapped[bytes] = mapped_column(LargeBinary, comment="digest, of work without a user; else empty")
    request_id: Mapped[str | None] = mapped_column(Text, comment="null: the person was erased")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="of the request that opened the record")
    source: Mapped[str] = mapped_column(Text, comment="of the API key that opened the record")
    key_id: Mapped[str | None] = mapped_column(Text, comment="of that API key")
    tool: Mapped[str] = mapped_column(Text)
    query: Mapped[str | None] = mapped_column(Text)
    agent_id: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[str | None] = mapped_column(Text)
    currency: Mapped[str] = mapped_column(Text)
    estimate_nanos: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text)
    items: Mapped[int] = mapped_column(BigInteger, comment="number of items")
    cost_nanos: Mapped[int] = mapped_column(BigInteger, comment="sum of the items")
    provider_cost_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="at list prices; null: unknown")
    tokens: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="sums of the items by token class")
    provider: Mapped[str | None] = mapped_column(Text, comment="of the items; null: none yet, empty: several")
    model: Mapped[str | None] = mapped_column(Text, comment="as provider")
    on_expiry: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    usage_id: Mapped[UUID | None] = mapped_column(comment="the usage event of the charge")
    execution_time_ms: Mapped[int | None] = mapped_column(BigInteger)
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    closed_at: Mapped[datetime | None] = mapped_column(Timestamp)


class CostRecordItem(Base):
    """A part of a record's cost, priced when it was reported. Changes only when the person is erased."""

    __tablename__ = "cost_record_items"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "record_id"], ["cost_records.account_id", "cost_records.record_id"], ondelete="RESTRICT"
        ),
        UniqueConstraint("account_id", "record_id", "item_id"),
        CheckConstraint("item_no > 0", name="item_no"),
        CheckConstraint("meter IS NOT NULL OR stated_nanos IS NOT NULL", name="meter"),
        CheckConstraint("cost_nanos >= 0 AND stated_nanos >= 0 AND provider_cost_nanos >= 0", name="amounts"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True, comment="of the record")
    addition_id: Mapped[UUID] = mapped_column(primary_key=True)
    record_id: Mapped[UUID]
    item_no: Mapped[int] = mapped_column(BigInteger, comment="from 1")
    item_id: Mapped[str | None] = mapped_column(Text, comment="null: the person was erased")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="of the measure and the stated cost")
    meter: Mapped[str | None] = mapped_column(Text, comment="null: only a stated cost")
    provider: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    quantities: Mapped[dict[str, Any]] = mapped_column(JSONB)
    raw: Mapped[Any] = mapped_column(JSONB, nullable=True, comment="the measure as it was sent")
    cost_nanos: Mapped[int] = mapped_column(BigInteger)
    stated_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="the caller's cost, which decides")
    provider_cost_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="at list prices; null: unknown")
    price_version: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[Any] = mapped_column(JSONB, nullable=True, comment="rows and rule of the book that priced it")
    key_id: Mapped[str | None] = mapped_column(Text, comment="of the reporting API key")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    is_counted: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="whether limits of its model count it"
    )
