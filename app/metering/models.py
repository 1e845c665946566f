"""Tables of reported LLM usage, usage events, their ids, refused attempts, monthly volumes and corrections."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class LlmUsage(Base):
    """LLM usage of an interaction, as a proxy reports it: a row for each call, or one for the whole interaction."""

    __tablename__ = "llm_usage"
    __table_args__ = (
        Index(None, "account_id", "interaction_id"),
        Index(None, "usage_log_id"),
        Index("uq_llm_usage_account_id_interaction_id_call_id", "account_id", "interaction_id", "call_id", unique=True),
        CheckConstraint(
            "total_llm_calls >= 0 AND total_prompt_tokens >= 0 AND total_completion_tokens >= 0 "
            "AND actual_cost_cents >= 0 AND duration_ms >= 0 AND error_count >= 0 AND fallback_count >= 0",
            name="not_negative",
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    usage_log_id: Mapped[UUID] = mapped_column(primary_key=True)
    interaction_id: Mapped[str] = mapped_column(Text)
    call_id: Mapped[str | None] = mapped_column(Text, comment="of the report: the same one again is no other")
    total_llm_calls: Mapped[int] = mapped_column(BigInteger)
    total_prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    total_completion_tokens: Mapped[int] = mapped_column(BigInteger)
    models_used: Mapped[list[str]] = mapped_column(ARRAY(Text))
    actual_cost_cents: Mapped[Decimal] = mapped_column(Numeric(20, 10))
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    error_count: Mapped[int] = mapped_column(BigInteger)
    fallback_count: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class UsageKey(Base):
    """An event id that is used up, for good: the event with this id is recorded, and was not refused.

    Never partitioned and never emptied. No foreign keys: they would cost each event two more look-ups, and events of
    earlier months may be moved away. The proof of the books covers both.
    """

    __tablename__ = "usage_keys"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="as sent; once the person is erased: usage_id"
    )
    source: Mapped[str] = mapped_column(Text, primary_key=True, comment="CloudEvents' source, else the key's")
    fingerprint: Mapped[bytes] = mapped_column(
        LargeBinary, comment="of meter, provider, model, quantities, stated cost"
    )
    usage_id: Mapped[UUID]


class UsageEvent(Base):
    """A reported usage: its quantities, its price, and what became of it. Amounts are nanos of the currency.

    `usage_id` grows with the time of recording, so the table can be partitioned by ranges of it.
    """

    __tablename__ = "usage_events"
    __table_args__ = (
        Index("ix_usage_events_account_id_occurred_at", "account_id", "occurred_at", "usage_id"),  # a user's reports
        Index("ix_usage_events_occurred_at", "occurred_at", "usage_id"),  # everyone's reports
        # For sums of new events. Ids grow as rows are added, so an index of block ranges suffices.
        Index("ix_usage_events_usage_id", "usage_id", postgresql_using="brin"),
        Index(
            "ix_usage_events_run_id",
            *("account_id", "run_id", "usage_id"),
            postgresql_where=text("run_id IS NOT NULL"),
        ),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("status IN ('charged', 'debt', 'recorded', 'refused')", name="status"),
        CheckConstraint("(status = 'refused') = (refusal IS NOT NULL)", name="refusal"),
        CheckConstraint("(status = 'debt') = (debt_nanos > 0)", name="debt"),
        CheckConstraint(
            "cost_nanos >= 0 AND debt_nanos BETWEEN 0 AND cost_nanos AND stated_nanos >= 0"
            " AND provider_cost_nanos >= 0 AND balance_after_nanos >= 0",
            name="amounts",
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    usage_id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    event_id: Mapped[str | None] = mapped_column(Text, comment="null: the person was erased")
    meter: Mapped[str] = mapped_column(Text)
    provider: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str | None] = mapped_column(Text)
    quantities: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="disjoint token classes, or the meter's numbers")
    raw: Mapped[Any] = mapped_column(JSONB, nullable=True, comment="the usage object as it was sent")
    details: Mapped[Any] = mapped_column("metadata", JSONB, nullable=True)
    status: Mapped[str] = mapped_column(Text)
    refusal: Mapped[str | None] = mapped_column(Text, comment="error code")
    currency: Mapped[str] = mapped_column(Text)
    cost_nanos: Mapped[int] = mapped_column(BigInteger)
    stated_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="the caller's cost, which decides")
    provider_cost_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="at list prices; null: unknown")
    debt_nanos: Mapped[int] = mapped_column(BigInteger, comment="part of the cost that the account owes")
    balance_after_nanos: Mapped[int] = mapped_column(BigInteger, comment="spendable money right after the event")
    price_version: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[Any] = mapped_column(JSONB, nullable=True, comment="rows and rule of the book that priced it")
    plan_name: Mapped[str] = mapped_column(Text)
    agent_id: Mapped[str | None] = mapped_column(Text)
    tool: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[str | None] = mapped_column(Text)
    attribution: Mapped[Any] = mapped_column(JSONB, nullable=True, comment="further attributes, and the service's name")
    key_id: Mapped[str | None] = mapped_column(Text, comment="of the reporting API key")
    occurred_at: Mapped[datetime] = mapped_column(Timestamp, comment="the event's own time")
    created_at: Mapped[datetime] = mapped_column(Timestamp, comment="when it was recorded")


class UsageAttempt(Base):
    """Refusals of an event, counted: however often a caller tries, an id takes one row here and one refused event."""

    __tablename__ = "usage_attempts"
    __table_args__ = (CheckConstraint("attempts > 0", name="attempts"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    event_id: Mapped[str] = mapped_column(Text, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    usage_id: Mapped[UUID] = mapped_column(comment="of the first refused event")
    attempts: Mapped[int] = mapped_column(BigInteger)
    last_attempt_at: Mapped[datetime] = mapped_column(Timestamp)


class UsageVolume(Base):
    """An account's quantity of a price row in a calendar month (UTC), where the row's price falls with it."""

    __tablename__ = "usage_volumes"
    __table_args__ = (CheckConstraint("quantity >= 0", name="quantity"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    month: Mapped[date] = mapped_column(Date, primary_key=True)
    row_id: Mapped[str] = mapped_column(Text, primary_key=True)
    quantity: Mapped[Decimal] = mapped_column(Numeric)


class Rerating(Base):
    """A run that priced the usage of a period again and corrected it (ADR 31). Append-only."""

    __tablename__ = "reratings"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("since < until", name="period"),
    )

    rerating_id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(Timestamp, comment="events from then on")
    until: Mapped[datetime] = mapped_column(Timestamp, comment="events before then")
    price_version: Mapped[int | None] = mapped_column(BigInteger, comment="null: the versions in force")
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class AccountCorrection(Base):
    """A run's correction of an account: the cause of its ledger entries. Append-only.

    Accounts with very many corrected events have several parts in a run, so that no lock is held for long.
    """

    __tablename__ = "account_corrections"
    __table_args__ = (
        UniqueConstraint("account_id", "rerating_id", "part_no"),
        CheckConstraint("part_no > 0", name="part_no"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    correction_id: Mapped[UUID] = mapped_column(primary_key=True)
    rerating_id: Mapped[UUID] = mapped_column(comment="no foreign key: the proof of the books covers it")
    part_no: Mapped[int] = mapped_column(BigInteger, comment="from 1")
    currency: Mapped[str] = mapped_column(Text, comment="the account's")
    amount_nanos: Mapped[int] = mapped_column(BigInteger, comment="charged; negative: given back")
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class UsageCorrection(Base):
    """A new cost of a usage event. The last one is in force. Append-only."""

    __tablename__ = "usage_corrections"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "correction_id"],
            ["account_corrections.account_id", "account_corrections.correction_id"],
            name="fk_usage_corrections_correction",
            ondelete="RESTRICT",
        ),
        Index(None, "account_id", "correction_id"),
        CheckConstraint("correction_no > 0", name="correction_no"),
        CheckConstraint(
            "cost_before_nanos >= 0 AND cost_after_nanos >= 0"
            " AND provider_cost_before_nanos >= 0 AND provider_cost_after_nanos >= 0",
            name="amounts",
        ),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    usage_id: Mapped[UUID] = mapped_column(primary_key=True, comment="of the event")
    correction_no: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="of the event, from 1"
    )
    correction_id: Mapped[UUID]
    cost_before_nanos: Mapped[int] = mapped_column(BigInteger)
    cost_after_nanos: Mapped[int] = mapped_column(BigInteger)
    provider_cost_before_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="null: unknown")
    provider_cost_after_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="null: unknown")
    price_version: Mapped[int | None] = mapped_column(BigInteger, comment="null: of a cost record, which has items")
    price: Mapped[Any] = mapped_column(JSONB, nullable=True, comment="rows and rule of the book that priced it")
