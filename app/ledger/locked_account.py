"""Locked accounts: the only way to move a balance.

    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        account.post("paid", -5, Kind.CHARGE, cause, actor, now)
        await write(tx, [account], now)

`post` checks the balance and appends an entry. `write` stores entries and balances. The account row is locked FOR NO
KEY UPDATE until commit, so every other transaction that moves this account's credits or money waits.

An account without grants and money is locked and written by the same statements as if neither existed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.db.statements import Tx
from app.ledger import queries, rows
from app.ledger.due import settle_due
from app.ledger.entries import DEBT_OF, PAYS_DEBT, TOTALS, USAGE_CAUSES, Cause, Entry, Kind
from app.ledger.errors import AccountClosed, AccountSuspended, BalanceLimitExceeded, TooManyGrants
from app.ledger.limits import AccountLimits
from app.ledger.lots import MAX_OPEN_LOTS, Lot, in_burn_order, live_sum, lots_of, next_expiry, open_lots_of
from app.ledger.money import MAX_NANOS
from app.ledger.pools import CREDIT, MAX_CREDITS, Bucket, Debit, daily_free_on

__all__ = ["Cause", "Entry", "Kind", "LockedAccount", "lock_account", "lock_accounts", "write", "write_new"]
MAX_INT64 = 2**63 - 1
EXPIRY = Actor("system", "expiry")


@dataclass(slots=True)
class LockedAccount:
    """An account whose row this transaction has locked. `balances` maps each pool to its balance.

    A product's pools ("web_search/free") are stored in another table: a caller that moves them puts their balances into
    `balances` first, and stores the result. `lots` contains the open grants, by id.
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
    grants_credits: int = 0
    grants_money_nanos: int = 0
    held_credits: int = 0
    held_money_nanos: int = 0
    grants_expire_at: datetime | None = None
    holds_expire_at: datetime | None = None
    has_limits: bool = False
    billing_enabled: bool = True
    is_returning: bool = False
    money_purchased_nanos: int = 0
    money_granted_nanos: int = 0
    money_used_nanos: int = 0
    lots: dict[UUID, Lot] = field(default_factory=dict)
    wallet_moved: bool = False
    held_moved: bool = False
    charged: dict[Any, Any] | None = None
    """Charges of this transaction by idempotency key. Operations of a batch do not read each other's rows."""
    limits: AccountLimits | None = None
    """Of an account that has any, while a batch decides."""
    refill_below_nanos: int | None = None
    """Spending that leaves less money than this starts a refill. None: refills are off."""
    plan_markup_percent: Decimal | None = None
    plan_discount_percent: Decimal | None = None
    """Both of the terms that a subscriber keeps. None: the plan that is on sale has them."""
    money_before: int | None = None
    """Of an account with refills: the spendable money before a batch decides."""

    def post(self, pool: str, delta: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Move `pool` by `delta` in the pool's unit: credits, uses of a product, or nanos of money. Does nothing for 0.

        First expires the lots that are due at `now`. Raises BalanceLimitExceeded past 64 bits. A negative balance is a
        bug: the caller decides before it posts.
        """
        if delta == 0:
            return
        self._expire_due(now)
        balance = self.balances[pool] + delta
        assert balance >= 0, f"{pool} of {self.account_id} would be {balance}"
        if delta > 0 and balance > self._limit_of(pool):
            raise BalanceLimitExceeded
        unit = CREDIT
        if pool in rows.MONEY_POOLS:
            unit = self.currency
            self._count_money(delta if pool == "money" else -delta, kind, cause)
        self.balances[pool] = balance
        self._append(Entry(self.last_entry_no + 1, pool, unit, delta, balance, kind, cause, actor, now))

    def post_debits(
        self, debits: Iterable[Debit], kind: Kind, cause: Cause, actor: Actor, now: datetime, *, allowance: int = 0
    ) -> None:
        """Post the debits of a decision of `pay`. `allowance`: of daily free uses, if they are among the buckets."""
        self._expire_due(now)
        for bucket, amount in debits:
            if bucket.grant_id is not None:
                self._post_lot(self.lots[bucket.grant_id], -amount, kind, cause, actor, now)
                continue
            if bucket.kind == "daily_free":
                self.renew_daily_free(allowance, cause, actor, now)
            self.post(bucket.id, -amount, kind, cause, actor, now)

    def pay_debt(self, pool: str, most: int, cause: Cause, actor: Actor, now: datetime) -> None:
        """Pay the recorded debt of a pool in `DEBT_OF` from it, up to an amount that the pool has."""
        debt = DEBT_OF[pool]
        repaid = min(most, self.balances[debt])
        self.post(pool, -repaid, Kind.DEBT_REPAYMENT, cause, actor, now)
        self.post(debt, -repaid, Kind.DEBT_REPAYMENT, cause, actor, now)

    def _limit_of(self, pool: str) -> int:
        """Return the largest balance of a pool, so that its sum with grants and holds fits 64 bits."""
        if pool == "paid":
            return MAX_CREDITS - self.grants_credits - self.held_credits
        if pool == "money":
            return MAX_NANOS - self.grants_money_nanos - self.held_money_nanos
        return MAX_NANOS if pool in rows.MONEY_POOLS else MAX_CREDITS

    def _append(self, entry: Entry) -> None:
        self.last_entry_no = entry.entry_no
        self.entries.append(entry)

    # --- grants ---

    def give_lot(self, lot: Lot, kind: Kind, actor: Actor, now: datetime) -> None:
        """Give a new grant. Its cause is the grant itself. Raises BalanceLimitExceeded, TooManyGrants."""
        self._expire_due(now)
        if len(self.lots) >= MAX_OPEN_LOTS <= sum(lot.remaining > 0 for lot in self.lots.values()):
            raise TooManyGrants
        beside = "paid" if lot.unit == CREDIT else "money"
        if lot.amount > self._limit_of(beside) - self.balances[beside]:
            raise BalanceLimitExceeded("amount_minor" if lot.unit == CREDIT else "amount")
        lot.remaining, lot.created = 0, True
        self._post_lot(lot, lot.amount, kind, Cause("grant", lot.grant_id), actor, now)
        self.lots[lot.grant_id] = lot
        self.grants_expire_at = next_expiry(self.lots.values())

    def _expire_due(self, now: datetime) -> None:
        if self.grants_expire_at is not None and self.grants_expire_at <= now:
            self.expire_lots(now)

    def end_lot(self, lot: Lot, actor: Actor, now: datetime) -> None:
        """End an open grant before its expiry. Its rest is lost."""
        self._post_lot(lot, -lot.remaining, Kind.GRANT_ENDED, Cause("grant", lot.grant_id), actor, now)
        lot.ended_at = now

    def _take_own(
        self, grant_id: UUID | None, amount: int, kind: Kind, cause: Cause, actor: Actor, now: datetime
    ) -> int:
        lot = None if grant_id is None else self.lots.get(grant_id)
        if lot is None or not lot.is_live(now):
            return 0
        taken = min(amount, lot.remaining)
        self._post_lot(lot, -taken, kind, cause, actor, now)
        return taken

    def expire_lots(self, now: datetime) -> None:
        """Expire the grants that are due at `now`, oldest first. Methods that post entries do so first."""
        due = [lot for lot in self.lots.values() if lot.is_due(now)]
        for lot in sorted(due, key=lambda lot: lot.grant_id):
            self._post_lot(lot, -lot.remaining, Kind.GRANT_EXPIRY, Cause("grant", lot.grant_id), EXPIRY, now)
        self.grants_expire_at = next_expiry(self.lots.values())

    def _post_lot(self, lot: Lot, delta: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        if delta == 0:
            return
        assert 0 <= lot.remaining + delta <= lot.amount, f"grant {lot.grant_id} would be {lot.remaining + delta}"
        if lot.unit == CREDIT:
            self.grants_credits += delta
        else:
            self._count_money(delta, kind, cause)
            self.grants_money_nanos += delta
        lot.remaining += delta
        lot.moved = self.wallet_moved = True
        lot.closed_at = now if lot.remaining == 0 else None  # `grants_expire_at` may be too early until it is stored
        number = self.last_entry_no + 1
        self._append(Entry(number, "grant", lot.unit, delta, lot.remaining, kind, cause, actor, now, lot.grant_id))

    def return_to_lot(self, lot: Lot, amount: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Return an amount to a grant that paid it. A used-up one is open again. One that has ended loses it."""
        self.lots[lot.grant_id] = lot
        self._post_lot(lot, amount, kind, cause, actor, now)
        if not lot.takes_back(now):
            ended = Kind.GRANT_EXPIRY if lot.ended_at is None else Kind.GRANT_ENDED
            self._post_lot(lot, -amount, ended, Cause("grant", lot.grant_id), actor, now)
        self.grants_expire_at = next_expiry(self.lots.values())

    def live_grants(self, now: datetime) -> int:
        """Return the credits that grants can pay at `now`."""
        return live_sum(self.lots.values(), CREDIT, now) if self.lots else 0

    def credits_remaining(self, now: datetime) -> int:
        """Return the paid credits and the live grants of credits."""
        return self.balances["paid"] + self.live_grants(now)

    def move_held(self, unit: str, delta: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Move the pool `held` of credits or of money. The caller moves the other pool by the opposite."""
        name = "held_credits" if unit == CREDIT else "held_money_nanos"
        balance: int = getattr(self, name) + delta
        assert balance >= 0, f"{name} of {self.account_id} would be {balance}"
        if unit != CREDIT:
            self._count_money(delta, kind, cause)
        setattr(self, name, balance)
        self.held_moved = True
        self._append(Entry(self.last_entry_no + 1, "held", unit, delta, balance, kind, cause, actor, now))

    # --- money ---

    def give_money(self, nanos: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Add money. Kinds in `PAYS_DEBT` pay the recorded debt first."""
        self.post("money", nanos, kind, cause, actor, now)
        if kind in PAYS_DEBT:
            self.pay_debt("money", nanos, cause, actor, now)

    def owe_money(self, nanos: int, cause: Cause, actor: Actor, now: datetime) -> None:
        """Record money that was used and not paid."""
        self.post("money_debt", nanos, Kind.DEBT_INCURRED, cause, actor, now)

    def take_back_money(
        self, nanos: int, kind: Kind, cause: Cause, actor: Actor, now: datetime, *, own_grant: UUID | None = None
    ) -> None:
        """Remove money that was bought: first the rest of the purchase's own grant. Spent money becomes debt."""
        nanos -= self._take_own(own_grant, nanos, kind, cause, actor, now)
        taken = min(nanos, self.balances["money"])
        self.post("money", -taken, kind, cause, actor, now)
        self.post("money_debt", nanos - taken, Kind.DEBT_INCURRED, cause, actor, now)

    def money_remaining(self, now: datetime) -> int:
        """Return the nanos of the plain balance and of the live grants of money."""
        return self.balances["money"] + (live_sum(self.lots.values(), self.currency, now) if self.lots else 0)

    def _count_money(self, gained: int, kind: Kind, cause: Cause) -> None:
        """Count an entry in its lifetime total, so that each amount counts once. `gained`: a debt counts negative."""
        self.wallet_moved = True
        name = TOTALS.get(kind)
        if kind is Kind.DEBT_INCURRED:
            name = "money_used_nanos" if cause.type in USAGE_CAUSES else "money_purchased_nanos"
        if name is None or (name == "money_granted_nanos" and gained < 0):
            return
        total = getattr(self, name) + (-gained if name == "money_used_nanos" else gained)
        if total > MAX_NANOS:
            raise BalanceLimitExceeded
        setattr(self, name, total)

    # --- credits ---

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

    def credit_buckets(self, today: date, allowance: int, now: datetime) -> Sequence[Bucket]:
        """Return the buckets of credits in burn order, with the daily free uses as they are on `today`."""
        left = daily_free_on(today, left=self.balances["daily_free"], day=self.daily_free_day, allowance=allowance)
        daily_free = Bucket("daily_free", "daily_free", CREDIT, left)
        free = Bucket("free", "free", CREDIT, self.balances["free"])
        if not self.lots:
            return daily_free, free, self._paid_bucket()
        return daily_free, *self._lot_buckets(CREDIT, now), free, self._paid_bucket()

    def main_pool_buckets(self, now: datetime) -> Sequence[Bucket]:
        """Return the buckets of the main pool, which pays for uses of products: grants, then paid credits."""
        return (*self._lot_buckets(CREDIT, now), self._paid_bucket()) if self.lots else (self._paid_bucket(),)

    def money_buckets(self, now: datetime) -> Sequence[Bucket]:
        """Return the buckets of money in burn order: grants of money, then the plain balance."""
        money = Bucket("money", "money", self.currency, self.balances["money"])
        return (*self._lot_buckets(self.currency, now), money) if self.lots else (money,)

    def _lot_buckets(self, unit: str, now: datetime) -> list[Bucket]:
        return [lot.bucket() for lot in in_burn_order(self.lots.values(), unit) if lot.is_live(now)]

    def _paid_bucket(self) -> Bucket:
        return Bucket("paid", "paid", CREDIT, self.balances["paid"])

    def give_paid(self, credits: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Add paid credits and let them pay the recorded debt first."""
        self.post("paid", credits, kind, cause, actor, now)
        self.pay_debt("paid", credits, cause, actor, now)

    def take_back_paid(
        self, credits: int, kind: Kind, cause: Cause, actor: Actor, now: datetime, *, own_grant: UUID | None = None
    ) -> None:
        """Remove paid credits, as `take_back_money` does. The part that was already spent becomes debt."""
        credits -= self._take_own(own_grant, credits, kind, cause, actor, now)
        taken = min(credits, self.balances["paid"])
        self.post("paid", -taken, kind, cause, actor, now)
        self.post("debt", credits - taken, Kind.DEBT_INCURRED, cause, actor, now)

    def has_room_for(self, credits: int) -> bool:
        """Return whether the paid pool has room for `credits` more."""
        return self.balances["paid"] + credits <= self._limit_of("paid")

    def has_room_for_money(self, nanos: int) -> bool:
        """Return whether the plain balance of money, and the lifetime total, have room for `nanos` more."""
        fits_total = self.money_purchased_nanos + nanos <= MAX_NANOS
        return fits_total and self.balances["money"] + nanos <= self._limit_of("money")

    def require_room_for_uses(self, cost: int) -> None:
        """Raise BalanceLimitExceeded if `total_uses` would no longer fit 64 bits once all holds are captured."""
        if self.total_uses + self.held_credits + cost > MAX_INT64:
            raise BalanceLimitExceeded

    def require_room_for_usage(self, nanos: int) -> None:
        """Raise BalanceLimitExceeded if the money used or owed, and all holds, would no longer fit 64 bits."""
        if max(self.money_used_nanos + self.held_money_nanos, self.balances["money_debt"]) + nanos > MAX_NANOS:
            raise BalanceLimitExceeded("cost", "used or owed money")

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

    With `skip_locked`, leave out accounts that another transaction has locked, instead of waiting for them. Due holds
    are settled and written first, except in a batch, which settles its own (app/ledger/due.py).
    """
    found = await queries.lock_accounts(tx, sorted(set(account_ids)), skip_locked=skip_locked)
    accounts = {row["account_id"]: _locked(row) for row in found}
    if with_lots := [a.account_id for a in accounts.values() if a.grants_credits or a.grants_money_nanos]:
        for account_id, lot in lots_of(await queries.find_open_lots(tx, with_lots)):
            accounts[account_id].lots[lot.grant_id] = lot
    await settle_due(tx, accounts)
    return accounts


async def lock_account(tx: Tx, account_id: UUID) -> LockedAccount:
    return (await lock_accounts(tx, [account_id]))[account_id]


def _locked(row: Mapping[str, Any]) -> LockedAccount:
    columns = dict(row)
    return LockedAccount(balances={pool: columns.pop(column) for pool, column in rows.COLUMN_OF.items()}, **columns)


async def write(tx: Tx, accounts: Iterable[LockedAccount], now: datetime) -> None:
    """Store the entries and balances of locked accounts: two statements, for any number of accounts.

    Up to four more store grants and the accounts whose holds, grants or money moved. Each row is in one statement only,
    as a batch requires.
    """
    moved = [account for account in accounts if account.entries]
    if not moved:
        return
    wallets = [account for account in moved if account.wallet_moved]
    if wallets:
        await rows.write_lots(tx, wallets)  # before the entries, which reference them
    await queries.insert_ledger_entries(
        tx, [rows.entry_row(a.account_id, e, bool(wallets)) for a in moved for e in a.entries]
    )
    others = [account for account in moved if not account.wallet_moved]
    if plain := [rows.account_row(account, now) for account in others if not account.held_moved]:
        await queries.update_accounts(tx, plain)
    if held := [{**rows.account_row(a, now), **rows.held_row(a)} for a in others if a.held_moved]:
        await queries.update_accounts_with_holds(tx, held)
    if wallets:
        changed = [{**rows.account_row(a, now), **rows.wallet_row(a)} for a in wallets]
        await queries.update_accounts_with_wallets(tx, changed)
    for account in moved:
        account.entries.clear()
        account.held_moved = False
        if account.wallet_moved:
            account.lots, account.wallet_moved = open_lots_of(account.lots), False


async def write_new(tx: Tx, accounts: Sequence[LockedAccount]) -> None:
    """Store new accounts with their entries: two statements, for any number of accounts."""
    await queries.insert_accounts(tx, [rows.new_row(account) for account in accounts])
    if entries := [rows.entry_row(a.account_id, e, with_lots=False) for a in accounts for e in a.entries]:
        await queries.insert_ledger_entries(tx, entries)
    for account in accounts:
        account.entries.clear()
