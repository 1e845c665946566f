"""Locked accounts: the only way to move a balance.

    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        account.post("paid", -5, Kind.CHARGE, cause, actor, now)
        await write(tx, [account], now)

`post` checks the balance and appends an entry. `write` stores entries and balances. The account row is locked FOR NO
KEY UPDATE until commit, so every other transaction that moves this account's credits waits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.db.statements import Tx
from app.ledger import queries
from app.ledger.errors import AccountClosed, AccountSuspended, BalanceLimitExceeded
from app.ledger.pools import CREDIT, MAX_CREDITS, Bucket, daily_free_on

MAX_INT64 = 2**63 - 1


class Kind(StrEnum):
    """The reason of an entry."""

    OPENING_GRANT = "opening_grant"
    DAILY_ALLOWANCE = "daily_allowance"
    DAILY_EXPIRY = "daily_expiry"
    CHARGE = "charge"
    TOOL_CHARGE = "tool_charge"
    PURCHASE = "purchase"
    GRANT = "grant"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    BONUS = "bonus"
    REFUND_REVERSAL = "refund_reversal"
    """Negative: a refund takes credits back. Positive: they return, because the refund failed or was canceled."""
    DISPUTE_REVERSAL = "dispute_reversal"
    DISPUTE_REINSTATEMENT = "dispute_reinstatement"
    DEBT_INCURRED = "debt_incurred"
    DEBT_REPAYMENT = "debt_repayment"


@dataclass(frozen=True, slots=True)
class Cause:
    """The row that caused a ledger entry."""

    type: Literal["account", "charge", "tool_usage", "credit", "tool_grant", "grant", "hold"]
    id: UUID


@dataclass(frozen=True, slots=True)
class Entry:
    """`delta` and `balance_after` are in `unit`: credits, or nanos of a currency."""

    entry_no: int
    pool: str
    unit: str
    delta: int
    balance_after: int
    kind: Kind
    cause: Cause
    actor: Actor
    created_at: datetime


@dataclass(slots=True)
class LockedAccount:
    """An account whose row this transaction has locked. `balances` maps each pool to its balance.

    A product's pools ("web_search/free") are stored in another table: a caller that moves them puts their balances into
    `balances` first, and stores the result.
    """

    account_id: UUID
    environment: Environment
    currency: str
    plan_name: str
    status: str
    status_reason: str | None
    balances: dict[str, int]
    daily_free_day: date | None
    total_uses: int
    last_entry_no: int
    created_at: datetime
    updated_at: datetime
    entries: list[Entry] = field(default_factory=list)
    erased_at: datetime | None = None

    def post(self, pool: str, delta: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Move `pool` by `delta` credits, or a product's pool by `delta` uses. Does nothing for 0.

        Raises BalanceLimitExceeded past 64 bits. A negative balance is a bug: the caller decides before it posts.
        """
        if delta == 0:
            return
        balance = self.balances[pool] + delta
        assert balance >= 0, f"{pool} of {self.account_id} would be {balance}"
        if balance > MAX_CREDITS:
            raise BalanceLimitExceeded
        self.balances[pool] = balance
        self.last_entry_no += 1
        self.entries.append(Entry(self.last_entry_no, pool, CREDIT, delta, balance, kind, cause, actor, now))

    def renew_daily_free(self, allowance: int, cause: Cause, actor: Actor, now: datetime) -> None:
        """Expire the rest of an earlier day's allowance and grant today's. Has an effect once per UTC day."""
        today = now.date()
        if self.daily_free_day is not None and self.daily_free_day >= today:
            return
        if allowance == self.balances["daily_free"] == 0:
            return  # the day is not marked, so an allowance that is configured later today counts immediately
        self.post("daily_free", -self.balances["daily_free"], Kind.DAILY_EXPIRY, cause, actor, now)
        self.post("daily_free", allowance, Kind.DAILY_ALLOWANCE, cause, actor, now)
        self.daily_free_day = today

    def buckets_on(self, today: date, allowance: int) -> tuple[Bucket, Bucket, Bucket]:
        """Return the buckets of credits in burn order, with the daily free uses as they are on `today`."""
        daily_free = daily_free_on(
            today, left=self.balances["daily_free"], day=self.daily_free_day, allowance=allowance
        )
        return (
            Bucket("daily_free", "daily_free", CREDIT, daily_free),
            Bucket("free", "free", CREDIT, self.balances["free"]),
            Bucket("paid", "paid", CREDIT, self.balances["paid"]),
        )

    def give_paid(self, credits: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Add paid credits and let them pay the recorded debt first."""
        self.post("paid", credits, kind, cause, actor, now)
        repaid = min(credits, self.balances["debt"])
        self.post("paid", -repaid, Kind.DEBT_REPAYMENT, cause, actor, now)
        self.post("debt", -repaid, Kind.DEBT_REPAYMENT, cause, actor, now)

    def take_back_paid(self, credits: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Remove paid credits. The part that was already spent becomes debt."""
        taken = min(credits, self.balances["paid"])
        self.post("paid", -taken, kind, cause, actor, now)
        self.post("debt", credits - taken, Kind.DEBT_INCURRED, cause, actor, now)

    def has_room_for(self, credits: int) -> bool:
        """Return whether the paid pool has room for `credits` more."""
        return self.balances["paid"] + credits <= MAX_CREDITS

    def require_room_for_uses(self, cost: int) -> None:
        """Raise BalanceLimitExceeded if `total_uses` would no longer fit 64 bits."""
        if self.total_uses + cost > MAX_INT64:
            raise BalanceLimitExceeded

    def require_active(self) -> None:
        """Raise AccountSuspended or AccountClosed if the account is not active."""
        if self.status == "suspended":
            raise AccountSuspended(self.status_reason or "")
        if self.status == "closed":
            raise AccountClosed


async def lock_accounts(
    tx: Tx, account_ids: Collection[UUID], *, skip_locked: bool = False
) -> dict[UUID, LockedAccount]:
    """Lock existing accounts in the order of their ids, which keeps two batches from deadlocking.

    With `skip_locked`, leave out accounts that another transaction has locked, instead of waiting for them.
    """
    rows = await queries.lock_accounts(tx, sorted(set(account_ids)), skip_locked=skip_locked)
    return {row["account_id"]: _locked(row) for row in rows}


async def lock_account(tx: Tx, account_id: UUID) -> LockedAccount:
    return (await lock_accounts(tx, [account_id]))[account_id]


def _locked(row: Mapping[str, Any]) -> LockedAccount:
    pools = ("daily_free", "free", "paid", "debt")
    columns = {name: value for name, value in row.items() if name not in pools}
    return LockedAccount(**columns, balances={pool: row[pool] for pool in pools})


async def write(tx: Tx, accounts: Iterable[LockedAccount], now: datetime) -> None:
    """Store the entries and balances of locked accounts: two statements, for any number of accounts."""
    moved = [account for account in accounts if account.entries]
    if not moved:
        return
    await queries.insert_ledger_entries(tx, [_entry_row(a.account_id, e) for a in moved for e in a.entries])
    await queries.update_accounts(tx, [_account_row(account, now) for account in moved])
    for account in moved:
        account.entries.clear()


async def write_new(tx: Tx, accounts: Sequence[LockedAccount]) -> None:
    """Store new accounts with their entries: two statements, for any number of accounts."""
    await queries.insert_accounts(tx, [_new_row(account) for account in accounts])
    if entries := [_entry_row(a.account_id, e) for a in accounts for e in a.entries]:
        await queries.insert_ledger_entries(tx, entries)
    for account in accounts:
        account.entries.clear()


def _entry_row(account_id: UUID, entry: Entry) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "entry_no": entry.entry_no,
        "pool": entry.pool,
        "unit": entry.unit,
        "delta": entry.delta,
        "balance_after": entry.balance_after,
        "kind": entry.kind.value,
        "cause_type": entry.cause.type,
        "cause_id": entry.cause.id,
        "actor_type": entry.actor.type,
        "actor_id": entry.actor.id,
        "created_at": entry.created_at,
    }


def _account_row(account: LockedAccount, now: datetime) -> dict[str, Any]:
    return {
        "account_id": account.account_id,
        "daily_free": account.balances["daily_free"],
        "daily_free_day": account.daily_free_day,
        "free": account.balances["free"],
        "paid": account.balances["paid"],
        "debt": account.balances["debt"],
        "total_uses": account.total_uses,
        "last_entry_no": account.last_entry_no,
        "updated_at": now,
    }


def _new_row(account: LockedAccount) -> dict[str, Any]:
    return {
        **_account_row(account, account.updated_at),
        "environment": account.environment,
        "currency": account.currency,
        "plan_name": account.plan_name,
        "created_at": account.created_at,
    }
