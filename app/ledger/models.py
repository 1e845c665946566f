"""Tables of accounts, ledger entries, grants and holds, and of verification runs."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    ForeignKey,
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
from app.ledger.entries import WALLET_ENTRIES
from app.ledger.pools import MAX_CREDITS

UNIT = "unit = 'credit' OR unit ~ '^[A-Z]{3}$'"
UNIT_COMMENT = "credit, or the account's currency: then nanos of it"


def _within_bounds(column: str) -> str:
    return f"{column} BETWEEN 0 AND {MAX_CREDITS}"


def _of_unit(lower_bound: str, column: str) -> str:
    """Credits fit 64 bits in hundredths. Money fits 64 bits in nanos, which the column's type ensures."""
    return f"{lower_bound} AND (unit <> 'credit' OR {column} <= {MAX_CREDITS})"


def _amount(comment: str) -> Mapped[int]:
    return mapped_column(BigInteger, server_default=text("0"), comment=comment)


def _none_negative(*columns: str) -> str:
    return f"least({', '.join(columns)}) >= 0"


MONEY_COLUMNS = (
    *("money_nanos", "money_debt_nanos"),
    *("money_purchased_nanos", "money_granted_nanos", "money_used_nanos"),
)
SUMS = ("grants_credits", "grants_money_nanos", "held_credits", "held_money_nanos")


class Account(Base):
    """A customer's balances, and their mutex: every transaction that moves them locks this row first."""

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
        CheckConstraint(_none_negative(*MONEY_COLUMNS), name="money"),
        CheckConstraint(f"{_none_negative(*SUMS)} AND grants_credits + held_credits <= {MAX_CREDITS}", name="sums"),
        # Only columns that no charge changes, so that updates stay HOT.
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
    total_uses: Mapped[int] = mapped_column(BigInteger, comment="credits spent from daily_free, free, paid and grants")
    last_entry_no: Mapped[int] = mapped_column(BigInteger, comment="number of ledger entries")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    erased_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when its person was erased: closed for ever")
    money_nanos: Mapped[int] = _amount("spendable money that never expires, in nanos of the currency")
    money_debt_nanos: Mapped[int] = _amount("money that was used or taken back, and not paid")
    grants_credits: Mapped[int] = _amount("sum of what remains of the grants of credits")
    grants_money_nanos: Mapped[int] = _amount("sum of what remains of the grants of money")
    held_credits: Mapped[int] = _amount("sum of the credits in open holds")
    held_money_nanos: Mapped[int] = _amount("sum of the money in open holds")
    grants_expire_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="the earliest expiry of an open grant")
    holds_expire_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="the earliest expiry of an open hold")
    has_limits: Mapped[bool] = mapped_column(server_default=text("false"), comment="whether limits have to be read")
    billing_enabled: Mapped[bool] = mapped_column(
        server_default=text("true"), comment="false: usage is recorded and priced, and never charged"
    )
    is_returning: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="an earlier account of its identity was deleted by its user: nothing that is given once",
    )
    money_purchased_nanos: Mapped[int] = _amount("money bought in all, less what was taken back")
    money_granted_nanos: Mapped[int] = _amount("money given in all")
    money_used_nanos: Mapped[int] = _amount("money used in all, paid or owed")


class LedgerEntry(Base):
    """One movement of one pool. Append-only, by privilege and by trigger."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("delta <> 0", name="delta"),
        CheckConstraint(_of_unit("balance_after >= 0", "balance_after"), name="balance_after"),
        CheckConstraint("entry_no > 0", name="entry_no"),
        # Pools of credits and of a product's uses never hold money.
        CheckConstraint(
            "unit = 'credit' OR pool !~ '^(daily_free|free|paid|debt|.*/.*)$' AND unit ~ '^[A-Z]{3}$'", name="unit"
        ),
        CheckConstraint("(pool = 'grant') = (grant_id IS NOT NULL)", name="grant_id"),
        ForeignKeyConstraint(["account_id", "grant_id"], ["grants.account_id", "grants.grant_id"], ondelete="RESTRICT"),
        # Few rows: opening balances of accounts that are created with one. Reports count them by day.
        Index(
            "ix_ledger_entries_opening_paid",
            "created_at",
            postgresql_include=["account_id", "delta"],
            postgresql_where=text("kind = 'opening_grant' AND pool = 'paid'"),
        ),
        # Grants given and ended, and debts that purchases made or paid. Charges and usage events write no row of it.
        Index(
            "ix_ledger_entries_wallet",
            "created_at",
            postgresql_include=["account_id", "pool", "unit", "kind", "cause_type", "delta"],
            postgresql_where=text(WALLET_ENTRIES),
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    pool: Mapped[str] = mapped_column(Text)
    unit: Mapped[str] = mapped_column(Text, server_default=text("'credit'"))
    grant_id: Mapped[UUID | None] = mapped_column(comment="the lot that moved; only in the pool grant")
    delta: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(Text)
    cause_type: Mapped[str] = mapped_column(Text)
    cause_id: Mapped[UUID]
    actor_type: Mapped[str] = mapped_column(Text)
    actor_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Grant(Base):
    """A lot: an amount with an expiry or a priority. A pool of its account, beside the plain balances."""

    __tablename__ = "grants"
    __table_args__ = (
        CheckConstraint(UNIT, name="unit"),
        CheckConstraint(_of_unit("amount > 0", "amount"), name="amount"),
        CheckConstraint("remaining BETWEEN 0 AND amount", name="remaining"),
        CheckConstraint("category IN ('promotional', 'subscription', 'purchased', 'compensation')", name="category"),
        CheckConstraint("(closed_at IS NOT NULL) = (remaining = 0)", name="closed_at"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        UniqueConstraint("account_id", "idempotency_key", "caller_kind"),
        Index(None, "grant_id"),
        # Not on `remaining`, so that spending from a grant changes no index.
        Index("ix_grants_open", "account_id", postgresql_where=text("closed_at IS NULL")),
        # Its condition keeps the planner from reading an account's open grants by this index.
        Index("ix_grants_due", "expires_at", postgresql_where=text("closed_at IS NULL AND expires_at IS NOT NULL")),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(Text, comment=UNIT_COMMENT)
    amount: Mapped[int] = mapped_column(BigInteger, comment="at first")
    remaining: Mapped[int] = mapped_column(BigInteger, comment="not spent, held or expired")
    priority: Mapped[int] = mapped_column(BigInteger, comment="lower numbers pay first")
    category: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text, comment="why it was given, such as signup or a plan's period")
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="from then on it cannot pay")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    closed_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when nothing remained; null: open")
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when a caller ended it early")
    idempotency_key: Mapped[str | None] = mapped_column(Text, comment="null: none was given, or the person was erased")
    caller_kind: Mapped[str | None] = mapped_column(
        Text, comment="key, user or admin: the caller of the idempotency key"
    )


class Hold(Base):
    """An amount reserved before work starts. It is in the pool `held` until the hold is settled."""

    __tablename__ = "holds"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key", "caller_kind"),
        CheckConstraint(UNIT, name="unit"),
        CheckConstraint(_of_unit("amount > 0", "amount"), name="amount"),
        CheckConstraint("reported BETWEEN 0 AND amount", name="reported"),
        CheckConstraint("status IN ('held', 'captured', 'released', 'expired')", name="status"),
        CheckConstraint("on_expiry IN ('release', 'capture_reported', 'capture_all')", name="on_expiry"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        Index("ix_holds_due", "expires_at", postgresql_where=text("status = 'held'")),
        Index("ix_holds_open", "account_id", postgresql_where=text("status = 'held'")),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    hold_id: Mapped[UUID] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(Text, comment=UNIT_COMMENT)
    amount: Mapped[int] = mapped_column(BigInteger, comment="in the pool held while the status is held")
    reported: Mapped[int] = mapped_column(BigInteger, comment="progress, for on_expiry = capture_reported")
    status: Mapped[str] = mapped_column(Text)
    on_expiry: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text, comment="null: the person was erased")
    caller_kind: Mapped[str] = mapped_column(Text, comment="key, user or admin: the caller of the idempotency key")
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    captured: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="spent of it, in the unit")
    overage: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="spent beyond it")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, server_default=text("''"), comment="of the request")
    key_id: Mapped[str | None] = mapped_column(Text, comment="the API key that made it; null: a user or an admin did")
    product_type: Mapped[str | None] = mapped_column(Text, comment="its purpose")
    run_id: Mapped[str | None] = mapped_column(Text, comment="the run that it belongs to")
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))
    outcome: Mapped[str | None] = mapped_column(Text, comment="the reason of its release, from the caller")
    settled_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="null: it is held")
    spending_id: Mapped[UUID | None] = mapped_column(comment="the charge, or the usage event, of the captured amount")


class HoldPart(Base):
    """The part of a hold that came from one pool or lot, and returns there on release. Append-only by privilege."""

    __tablename__ = "hold_parts"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "hold_id"], ["holds.account_id", "holds.hold_id"], ondelete="RESTRICT"),
        ForeignKeyConstraint(["account_id", "grant_id"], ["grants.account_id", "grants.grant_id"], ondelete="RESTRICT"),
        CheckConstraint("part_no > 0", name="part_no"),
        CheckConstraint("pool <> 'held'", name="pool"),
        CheckConstraint("(pool = 'grant') = (grant_id IS NOT NULL)", name="grant_id"),
        CheckConstraint("amount > 0", name="amount"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    hold_id: Mapped[UUID] = mapped_column(primary_key=True)
    part_no: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, comment="burn order, from 1"
    )
    pool: Mapped[str] = mapped_column(Text, comment="that the part came from")
    grant_id: Mapped[UUID | None] = mapped_column(comment="the lot, if the pool is grant")
    amount: Mapped[int] = mapped_column(BigInteger, comment="in the hold's unit")


class LedgerVerification(Base):
    """One run of the verification over the whole ledger, and its outcome."""

    __tablename__ = "ledger_verifications"
    __table_args__ = (CheckConstraint("ok = (problem IS NULL)", name="problem"),)

    verification_id: Mapped[UUID] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime] = mapped_column(Timestamp)
    ok: Mapped[bool]
    accounts: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[int] = mapped_column(BigInteger)
    problem: Mapped[str | None] = mapped_column(Text, comment="the first culprit")
