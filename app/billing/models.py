"""Billing's tables.

Who and money are apart: identities and profiles map people to an opaque `account_id`; accounts, charges, credits and
the ledger know only that id, and it leads every key, so that the books can be sharded by account and a person
can be erased without touching them.
"""

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
    Index,
    LargeBinary,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.billing.pools import MAX_CREDITS
from app.db import Base
from app.db.columns import Timestamp

CALLER_KIND = "key, user or admin: the caller whose idempotency keys this key belongs to"


def _begins_like(table: str, column: str) -> Index:
    """Finds what begins with some letters, large or small, among millions."""
    lowered = func.lower(literal_column(column)).label("lowered")
    return Index(f"ix_{table}_{column}", lowered, postgresql_ops={"lowered": "text_pattern_ops"})


class AccountIdentity(Base):
    """Maps an external user to an account, until the person is erased.

    A trigger notifies every process when a mapping ends.
    """

    __tablename__ = "account_identities"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        Index(None, "account_id"),
        _begins_like("account_identities", "external_id"),
    )

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    oauth_provider: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class AccountProfile(Base):
    """What callers told about the person behind an account. All of it may be absent or erased."""

    __tablename__ = "account_profiles"
    __table_args__ = (
        _begins_like("account_profiles", "customer_email"),
        _begins_like("account_profiles", "display_name"),
        Index(None, "updated_at"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    wa_id: Mapped[str | None] = mapped_column(Text)
    tenant_id: Mapped[str | None] = mapped_column(Text)
    customer_email: Mapped[str | None] = mapped_column(Text)
    display_name: Mapped[str | None] = mapped_column(Text)
    user_role: Mapped[str | None] = mapped_column(Text)
    agent_id: Mapped[str | None] = mapped_column(Text)
    marketing_opt_in: Mapped[bool | None]
    marketing_opt_in_at: Mapped[datetime | None] = mapped_column(Timestamp)
    marketing_opt_in_source: Mapped[str | None] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class SearchWord(Base):
    """A word by which the back office finds an account's person. The worker writes it, a trigger deletes it."""

    __tablename__ = "account_search_words"
    __table_args__ = (Index(None, "word", "account_id"),)

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(
        Text(collation="C"), primary_key=True, comment="folded: see app/billing/search.py"
    )


class IdentitySpelling(Base):
    """A digest of an identity without differences of case and Unicode form. Deleted with the person, as words are."""

    __tablename__ = "account_spellings"
    __table_args__ = (
        Index(None, "digest"),
        Index("ix_account_spellings_shared", "digest", "account_id", postgresql_where=text("shared")),
        CheckConstraint("length(digest) = 32", name="digest"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    shared: Mapped[bool] = mapped_column(server_default=text("false"), comment="another account had the same digest")


class SearchRefresh(Base):
    """Up to when the search words are complete, and how far the first walk over all accounts has come."""

    __tablename__ = "account_search_refresh"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    as_of: Mapped[datetime] = mapped_column(Timestamp)
    walked_to: Mapped[UUID | None] = mapped_column(comment="null: all accounts were walked over once")


def _within_bounds(column: str) -> str:
    return f"{column} BETWEEN 0 AND {MAX_CREDITS}"


class Account(Base):
    """A customer's pools, and their one mutex: whoever moves credits locks this row first."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("status IN ('active', 'suspended', 'closed')", name="status"),
        CheckConstraint("(status = 'suspended') = (status_reason IS NOT NULL)", name="status_reason"),
        CheckConstraint(_within_bounds("daily_free"), name="daily_free"),
        CheckConstraint(_within_bounds("free"), name="free"),
        CheckConstraint(_within_bounds("paid"), name="paid"),
        CheckConstraint(_within_bounds("debt"), name="debt"),
        CheckConstraint("total_uses >= 0", name="total_uses"),
        CheckConstraint("last_entry_no >= 0", name="last_entry_no"),
        CheckConstraint("erased_at IS NULL OR status = 'closed'", name="erased_at"),
        # Of columns that no charge changes, so that updates stay HOT.
        Index(None, "environment", "account_id"),
        Index("ix_accounts_not_active", "account_id", postgresql_where=text("status <> 'active'")),
        Index("ix_accounts_debt", "account_id", postgresql_where=text("debt > 0")),
        {"postgresql_with": {"fillfactor": 70}},  # room for the next version of a row beside it (HOT updates)
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    currency: Mapped[str] = mapped_column(Text)
    plan_name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default=text("'active'"))
    status_reason: Mapped[str | None] = mapped_column(Text)
    daily_free: Mapped[int] = mapped_column(BigInteger, comment="free uses left of the day daily_free_day")
    daily_free_day: Mapped[date | None] = mapped_column(Date, comment="UTC day of the last daily allowance")
    free: Mapped[int] = mapped_column(BigInteger, comment="one-time free uses left")
    paid: Mapped[int] = mapped_column(BigInteger, comment="paid credits left")
    debt: Mapped[int] = mapped_column(BigInteger, comment="credits taken back after they were spent")
    total_uses: Mapped[int] = mapped_column(BigInteger, comment="credits spent from daily_free, free and paid")
    last_entry_no: Mapped[int] = mapped_column(BigInteger, comment="number of ledger entries")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    erased_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when its person was erased: closed for ever")


class AccountActivity(Base):
    """What accounts are sorted by in the back office, as the worker last saw it (ADR 7). Nothing is decided on it."""

    __tablename__ = "account_activity"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        Index(None, "environment", "paid", "account_id"),
        Index(None, "environment", "last_activity_at", "account_id"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    paid: Mapped[int] = mapped_column(BigInteger)
    last_activity_at: Mapped[datetime] = mapped_column(Timestamp)


class AccountActivityRefresh(Base):
    """Up to when account_activity is complete: one row, or none before the first refresh."""

    __tablename__ = "account_activity_refresh"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    as_of: Mapped[datetime] = mapped_column(Timestamp)


class LedgerEntry(Base):
    """One movement of one pool. Append-only: by privilege, and by trigger."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("delta <> 0", name="delta"),
        CheckConstraint(_within_bounds("balance_after"), name="balance_after"),
        CheckConstraint("entry_no > 0", name="entry_no"),
        # Few rows: what accounts were opened with by who makes them with a balance. Reports count them by day.
        Index(
            "ix_ledger_entries_opening_paid",
            "created_at",
            postgresql_include=["account_id", "delta"],
            postgresql_where=text("kind = 'opening_grant' AND pool = 'paid'"),
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    pool: Mapped[str] = mapped_column(Text)
    unit: Mapped[str] = mapped_column(Text, server_default=text("'credit'"))
    delta: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(Text)
    cause_type: Mapped[str] = mapped_column(Text)
    cause_id: Mapped[UUID]
    actor_type: Mapped[str] = mapped_column(Text)
    actor_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Charge(Base):
    """Credits spent, from up to three pools at once. An idempotency key is unique per `operation` and `caller_kind`."""

    __tablename__ = "charges"
    __table_args__ = (
        # The name is older than caller_kind: earlier versions look for it when they verify the ledger (ADR 21).
        UniqueConstraint(
            "account_id",
            "operation",
            "idempotency_key",
            "caller_kind",
            name="uq_charges_account_id_operation_idempotency_key",
        ),
        UniqueConstraint("account_id", "entry_no"),
        Index(None, "charge_id"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        CheckConstraint("cost = from_daily_free + from_free + from_paid AND cost > 0", name="cost"),
        CheckConstraint("from_daily_free >= 0 AND from_free >= 0 AND from_paid >= 0", name="parts"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    charge_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="its last ledger entry: the account's order of events")
    operation: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    cost: Mapped[int] = mapped_column(BigInteger)
    from_daily_free: Mapped[int] = mapped_column(BigInteger)
    from_free: Mapped[int] = mapped_column(BigInteger)
    from_paid: Mapped[int] = mapped_column(BigInteger)
    paid_after: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    caller_kind: Mapped[str | None] = mapped_column(Text, comment=CALLER_KIND)


class Credit(Base):
    """Paid credits given or, with a negative number, taken back."""

    __tablename__ = "credits"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key", "caller_kind", name="uq_credits_account_id_idempotency_key"),
        UniqueConstraint("account_id", "entry_no"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        CheckConstraint("credits <> 0", name="credits"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    credit_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="its last ledger entry: the account's order of events")
    transaction_type: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    external_transaction_id: Mapped[str | None] = mapped_column(Text)
    credits: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    paid_after: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    caller_kind: Mapped[str | None] = mapped_column(Text, comment=f"{CALLER_KIND}; null: Stripe's bookings")


class FreeGrant(Base):
    """Credits that an admin added to the one-time free pool."""

    __tablename__ = "free_grants"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key"),
        UniqueConstraint("account_id", "entry_no"),
        CheckConstraint("credits > 0", name="credits"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="of its ledger entry")
    idempotency_key: Mapped[str | None] = mapped_column(Text, comment="null: the person was erased")
    credits: Mapped[int] = mapped_column(BigInteger)
    free_after: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class LlmUsage(Base):
    """What an LLM proxy reports of an interaction: a row per call, and perhaps one that sums them up."""

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


class LedgerVerification(Base):
    """One run of the proof over the whole ledger, and what it found."""

    __tablename__ = "ledger_verifications"
    __table_args__ = (CheckConstraint("ok = (problem IS NULL)", name="problem"),)

    verification_id: Mapped[UUID] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime] = mapped_column(Timestamp)
    ok: Mapped[bool]
    accounts: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(BigInteger)
    problem: Mapped[str | None] = mapped_column(Text, comment="the first culprit")
