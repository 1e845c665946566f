"""Tables of accounts, ledger entries, grants and holds, and of verification runs."""

from datetime import date, datetime
from decimal import Decimal
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
    Numeric,
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
from app.ledger.refill_models import RefillSettings as RefillSettings
from app.ledger.run_models import KeyUse as KeyUse
from app.ledger.run_models import Run as Run

UNIT = "unit = 'credit' OR unit ~ '^[A-Z]{3}$'"
LIMIT_UNIT = "unit IN ('credit', 'use') OR unit ~ '^[A-Z]{3}$'"
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


def _same_account(table: str, column: str) -> ForeignKeyConstraint:
    """Return a reference to a row of the same account, by the column that both tables have."""
    names = ("account_id", column)
    return ForeignKeyConstraint(names, [f"{table}.{name}" for name in names], ondelete="RESTRICT")


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
        CheckConstraint("refill_below_nanos > 0", name="refill_below"),
        CheckConstraint("(plan_markup_percent IS NULL) = (plan_discount_percent IS NULL)", name="plan_terms"),
        CheckConstraint("plan_markup_percent >= -100 AND plan_discount_percent BETWEEN 0 AND 99", name="plan_percents"),
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
    refill_below_nanos: Mapped[int | None] = mapped_column(
        BigInteger, comment="spending that leaves less starts a refill; null: refills are off"
    )
    plan_markup_percent: Mapped[Decimal | None] = mapped_column(Numeric(10, 4), comment="of kept terms; null: none")
    plan_discount_percent: Mapped[Decimal | None] = mapped_column(Numeric(10, 4), comment="of the same terms")


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
        _same_account("grants", "grant_id"),
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
        Index("ix_holds_run_id", "account_id", "run_id", "hold_id", postgresql_where=text("run_id IS NOT NULL")),
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
        _same_account("holds", "hold_id"),
        _same_account("grants", "grant_id"),
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


class SpendingLimit(Base):
    """A limit of an account's spending. A removed one keeps its row: its counters and its id stay what they were."""

    __tablename__ = "limits"
    __table_args__ = (
        CheckConstraint("scope IN ('account', 'key', 'agent', 'model', 'tool')", name="scope"),
        CheckConstraint("(scope = 'account') = (scope_value = '')", name="scope_value"),
        CheckConstraint("time_window IN ('minute', 'hour', 'day', 'month', 'lifetime')", name="time_window"),
        CheckConstraint(LIMIT_UNIT, name="unit"),
        CheckConstraint("amount >= 0", name="amount"),
        CheckConstraint("action IN ('refuse', 'notify', 'ask')", name="action"),
        CheckConstraint("owner IN ('user', 'operator')", name="owner"),
        Index(
            "uq_limits_in_force",
            *("account_id", "scope", "scope_value", "time_window", "unit", "action", "owner"),
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    limit_id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(Text)
    scope_value: Mapped[str] = mapped_column(Text, comment="the key, agent, model or tool; empty: the whole account")
    time_window: Mapped[str] = mapped_column(Text)
    unit: Mapped[str] = mapped_column(Text, comment="credit, use, or the currency of money, counted in nanos")
    amount: Mapped[int] = mapped_column(BigInteger, comment="the most that a window may count, in the unit")
    action: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text, comment="user or operator; each changes their own only")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    removed_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="null: it is in force")


class LimitCounter(Base):
    """The counter of one window of a limit: spending, open holds and open cost records."""

    __tablename__ = "limit_counters"
    __table_args__ = (
        _same_account("limits", "limit_id"),
        CheckConstraint("counted >= 0", name="counted"),
        Index(None, "window_start"),  # for the worker, which deletes old ones
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    limit_id: Mapped[UUID] = mapped_column(primary_key=True)
    window_start: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    counted: Mapped[int] = mapped_column(BigInteger, comment="in the limit's unit")
    crossed_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when it first exceeded the amount")


class EvaluatedLimits(Base):
    """The limits that allowed a request, with their counts then: for its explanation, and for a limited time."""

    __tablename__ = "evaluated_limits"
    __table_args__ = (Index(None, "cause_id"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    cause_id: Mapped[UUID] = mapped_column(primary_key=True, comment="the charge, hold or usage event")
    limits: Mapped[list[Any]] = mapped_column(
        JSONB, comment="of each limit: its id, its amount, and the count of its window with this request"
    )


class Approval(Base):
    """A person's permission: for one request above a limit, used once, or for a run to continue or spend more."""

    __tablename__ = "approvals"
    __table_args__ = (
        _same_account("limits", "limit_id"),
        _same_account("runs", "run_uuid"),
        CheckConstraint("kind IN ('limit', 'resume', 'budget')", name="kind"),
        CheckConstraint("(kind = 'limit') = (limit_id IS NOT NULL)", name="limit_id"),
        CheckConstraint("(kind = 'limit') = (run_uuid IS NULL)", name="run_uuid"),
        CheckConstraint(LIMIT_UNIT, name="unit"),
        CheckConstraint("status IN ('pending', 'approved', 'denied', 'used')", name="status"),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("allowed > 0", name="allowed"),
        CheckConstraint("(status IN ('approved', 'used')) = (allowed IS NOT NULL)", name="is_allowed"),
        CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name="decided_at"),
        CheckConstraint("(status = 'used') = (used_at IS NOT NULL)", name="used_at"),
        Index(None, "approval_id"),
        Index("ix_approvals_open", "account_id", "expires_at", postgresql_where=text("status <> 'used'")),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    approval_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    limit_id: Mapped[UUID | None]
    run_uuid: Mapped[UUID | None] = mapped_column(comment="the run that refused")
    unit: Mapped[str] = mapped_column(Text, comment="of the amounts: credit, use, or the currency of money, in nanos")
    key_id: Mapped[str | None] = mapped_column(Text, comment="the API key that asked")
    agent_id: Mapped[str | None] = mapped_column(Text, comment="the agent that asked")
    model: Mapped[str | None] = mapped_column(Text)
    tool: Mapped[str | None] = mapped_column(Text)
    run_id: Mapped[str | None] = mapped_column(Text, comment="the run that asked; null after the person was erased")
    amount: Mapped[int] = mapped_column(BigInteger, comment="asked for")
    allowed: Mapped[int | None] = mapped_column(BigInteger, comment="the most that the request may need")
    status: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(Timestamp, comment="from then on it cannot be decided or used")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    decided_at: Mapped[datetime | None] = mapped_column(Timestamp)
    decided_by_type: Mapped[str | None] = mapped_column(Text, comment="user or admin")
    decided_by: Mapped[str | None] = mapped_column(Text)
    used_at: Mapped[datetime | None] = mapped_column(Timestamp)


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
