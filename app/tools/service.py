"""ProductInventoryService: what a tool call costs, and who pays for it.

A tool charge is one use, paid by the first of these that can: the product's free uses, the product's paid uses, the
main pool's paid credits at the product's price.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor
from app.billing.errors import AccountNotFound, IdempotencyKeyReused
from app.billing.lane import ChargeLane
from app.billing.ledger import Cause, Kind, LockedAccount, lock_account, lock_accounts, write
from app.billing.pools import MINOR_PER_CREDIT, Credits, Shortfall
from app.billing.posting import ChargeRequest, Refused, post_paid_charge, record_charges
from app.billing.service import BillingService
from app.config import Product
from app.configuration.service import Configuration
from app.db import Database, Session, new_id
from app.errors import AppError
from app.observability.metrics import CHECKS, ChargeCounter
from app.tools import queries
from app.tools.catalogue import find_product, free_on

OPERATION = "tool_charge"
COUNTER = ChargeCounter(OPERATION, ("free", "paid", "main_pool"))
CHECKED = {result: CHECKS.labels(OPERATION, result) for result in ("credit", "exhausted", "inactive")}


@dataclass(frozen=True, slots=True)
class ToolBalance:
    """What an account can spend on one product. `main_pool` counts the uses that the main pool would pay.

    An account that is not active shows its paid credits, but nothing free, and has no credit.
    """

    product_type: str
    active: bool
    free: int
    paid: int
    main_pool: int
    price_credits: int
    total_uses: int

    @property
    def total(self) -> int:
        return self.free + self.paid + self.main_pool

    @property
    def has_credit(self) -> bool:
        return self.active and self.total > 0


@dataclass(frozen=True, slots=True)
class ToolChargeRequest:
    account_id: UUID
    product_type: str
    product: Product
    actor: Actor
    at: datetime
    idempotency_key: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A recorded use, as the reply and every replay of it say it."""

    usage_log_id: UUID
    source: str
    cost_minor: int
    free: int
    paid: int
    main_pool: int
    total_uses: int


@dataclass(frozen=True, slots=True)
class Charged:
    use: ToolUse


@dataclass(frozen=True, slots=True)
class Replayed:
    """The use existed before this request, which changed nothing."""

    use: ToolUse


Outcome = Charged | Replayed | Shortfall


@dataclass(slots=True)
class _Inventory:
    """What a locked account has of a product, and had on `free_day`. `opened`: whether it has a row yet."""

    account: LockedAccount
    product_type: str
    product: Product
    free: int
    free_day: date
    paid: int
    total_uses: int
    opened: bool
    changed_at: datetime | None = None

    def payer(self, today: date) -> str | None:
        """Which source would pay the next use."""
        if free_on(today, left=self.free, day=self.free_day, product=self.product) > 0:
            return "free"
        if self.paid > 0:
            return "paid"
        return "main_pool" if self.account.balances["paid"] >= self.product.price_credits else None

    def accrue(self, cause: Cause, actor: Actor, now: datetime) -> None:
        """Post the free uses that were given since: on opening, and at each midnight."""
        pool = self._pool("free")
        if not self.opened:
            self.account.post(pool, self.free, Kind.OPENING_GRANT, cause, actor, now)
            self.opened = True
        free = free_on(now.date(), left=self.free, day=self.free_day, product=self.product)
        self.account.post(pool, free - self.free, Kind.DAILY_ALLOWANCE, cause, actor, now)
        self.free, self.free_day, self.changed_at = free, max(self.free_day, now.date()), now

    def move(self, source: str, uses: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Post so many `uses` to "free" or "paid". Comes after `accrue`."""
        self.account.post(self._pool(source), uses, kind, cause, actor, now)
        self.free, self.paid = self.account.balances[self._pool("free")], self.account.balances[self._pool("paid")]

    def row(self) -> dict[str, Any]:
        return {
            "account_id": self.account.account_id,
            "product_type": self.product_type,
            "free": self.free,
            "free_day": self.free_day,
            "paid": self.paid,
            "total_uses": self.total_uses,
            "updated_at": self.changed_at,
        }

    def _pool(self, source: str) -> str:
        return f"{self.product_type}/{source}"

    @classmethod
    def of(
        cls, account: LockedAccount, product_type: str, product: Product, row: Mapping[str, Any] | None
    ) -> "_Inventory":
        """Puts the product's balances into the account, as they are stored."""
        stored = {"free": 0, "paid": 0} if row is None else row
        account.balances |= {f"{product_type}/{source}": stored[source] for source in ("free", "paid")}
        start = _stored_or_initial(account.created_at, product, row)
        return cls(account, product_type, product, **start, opened=row is not None)


@dataclass(slots=True)
class _Batch:
    """What a transaction has read under its locks, and the rows that it will write."""

    accounts: Mapping[UUID, LockedAccount]
    inventories: Mapping[queries.Pair, _Inventory]
    used: dict[queries.Pair, Mapping[str, Any]]
    charges: list[dict[str, Any]] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)


class ProductInventoryService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, configuration: Configuration, billing: BillingService) -> None:
        self._db = db
        self._configuration = configuration
        self._billing = billing
        self._lane: ChargeLane[ToolChargeRequest, Outcome | Refused] = ChargeLane(
            self._charge_unlocked, self._charge_many, db.lock_waiters
        )

    async def stop(self) -> None:
        """Once no request is left: wait for what they began."""
        await self._lane.stop()

    async def balance(self, account_id: UUID, product_type: str, now: datetime) -> ToolBalance:
        """Takes no lock and writes nothing. Raises UnknownProduct."""
        product = find_product((await self._configuration.current()).products, product_type)
        account = await self._billing.state(account_id)
        row = await queries.find_inventory(self._db, account_id, product_type)
        return _balance(product_type, product, account, row, now.date())

    async def check(self, account_id: UUID, product_type: str, now: datetime) -> ToolBalance:
        """The balance, counted as a check. Raises UnknownProduct."""
        balance = await self.balance(account_id, product_type, now)
        CHECKED["credit" if balance.has_credit else "exhausted" if balance.active else "inactive"].inc()
        return balance

    async def balances(self, account_id: UUID, now: datetime) -> list[ToolBalance]:
        account = await self._billing.state(account_id)
        async with self._db.read() as db:
            rows = {row["product_type"]: row for row in await queries.list_inventory(db, account_id)}
        products = (await self._configuration.current()).products.items()
        return [_balance(name, product, account, rows.get(name), now.date()) for name, product in products]

    async def charge(
        self,
        account_id: UUID,
        product_type: str,
        *,
        actor: Actor,
        now: datetime,
        idempotency_key: str | None = None,
        request_id: str | None = None,
    ) -> Outcome:
        """Spend one use of a product. Locks the account until commit. Replaying a key spends nothing.

        Shares its transaction with the tool charges that arrive at the same time, as `BillingService.charge` does.
        Raises UnknownProduct, AccountSuspended, AccountClosed, IdempotencyKeyReused, Busy.
        """
        outcome: Outcome | Refused | None = None
        if idempotency_key is not None:
            outcome = await self._replay(account_id, product_type, idempotency_key)
        if not isinstance(outcome, Replayed):  # which stays good when the product is gone
            product = find_product((await self._configuration.current()).products, product_type)
        if outcome is None:
            request = ToolChargeRequest(account_id, product_type, product, actor, now, idempotency_key, request_id)
            outcome = await self._lane.run(request, account_id, may_retry=idempotency_key is not None)
        if isinstance(outcome, Refused):
            raise outcome.error
        return outcome

    async def _replay(self, account_id: UUID, product_type: str, idempotency_key: str) -> Replayed | Refused | None:
        row = await queries.find_usage_by_key(self._db, account_id, idempotency_key)
        if row is None:
            return None
        outcome = _replayed(product_type, idempotency_key, row)
        COUNTER.outcome(outcome)
        return outcome

    @property
    def waiting(self) -> int:
        """How many tool charges wait for their transaction to end."""
        return self._lane.size

    async def _charge_many(self, requests: Sequence[ToolChargeRequest]) -> list[Outcome | Refused]:
        async with self._db.transaction() as tx:
            accounts = await lock_accounts(tx, {request.account_id for request in requests})
            outcomes = await self._charge_locked(tx, accounts, requests)
        _count(outcomes)
        return outcomes

    async def _charge_unlocked(self, requests: Sequence[ToolChargeRequest]) -> list[Outcome | Refused | None]:
        """As `_charge_many`, but None for a request whose account is locked by somebody else (or does not exist)."""
        async with self._db.transaction() as tx:
            accounts = await lock_accounts(tx, {request.account_id for request in requests}, skip_locked=True)
            ready = [request for request in requests if request.account_id in accounts]
            outcomes = await self._charge_locked(tx, accounts, ready)
        _count(outcomes)
        ordered = iter(outcomes)
        return [next(ordered) if request.account_id in accounts else None for request in requests]

    async def _charge_locked(
        self, tx: Session, accounts: dict[UUID, LockedAccount], requests: Sequence[ToolChargeRequest]
    ) -> list[Outcome | Refused]:
        """Decide and record: what is read here is read after the locks (see `BillingService.charge_many`)."""
        keys = [(r.account_id, r.idempotency_key) for r in requests if r.idempotency_key is not None]
        inventories = await _inventories(tx, accounts, {(r.account_id, r.product_type): r.product for r in requests})
        batch = _Batch(accounts, inventories, await queries.find_usages_by_keys(tx, keys))
        outcomes = [self._decide(request, batch) for request in requests]
        if batch.usages:
            await record_charges(tx, batch.charges)
            await queries.upsert_inventories(tx, [i.row() for i in inventories.values() if i.changed_at is not None])
            await queries.insert_usages(tx, batch.usages)
            await write(tx, accounts.values(), max(usage["created_at"] for usage in batch.usages))
        return outcomes

    def _decide(self, request: ToolChargeRequest, batch: _Batch) -> Outcome | Refused:
        """One use against a locked account. Posts to the account, and adds to the batch, when it is new."""
        account = batch.accounts.get(request.account_id)
        if account is None:
            return Refused(AccountNotFound())
        key = request.idempotency_key
        if key is not None and (existing := batch.used.get((request.account_id, key))) is not None:
            return _replayed(request.product_type, key, existing)
        try:
            account.require_active()
        except AppError as error:
            return Refused(error)
        inventory = batch.inventories[request.account_id, request.product_type]
        source = inventory.payer(request.at.date())
        if source is None:
            return Shortfall(available=account.balances["paid"], required=inventory.product.price_credits)
        if source == "main_pool":
            try:
                account.require_room_for_uses(inventory.product.price_credits)
            except AppError as error:
                return Refused(error)
        use = _post_use(request, inventory, source, batch)
        if key is not None:
            batch.used[request.account_id, key] = {**batch.usages[-1], "result": asdict(use)}
        return Charged(use)

    async def grant(self, account_id: UUID, product_type: str, uses: Credits, *, actor: Actor, now: datetime) -> int:
        """Give paid uses of a product, and return how many there are then. Locks the account until commit."""
        product = find_product((await self._configuration.current()).products, product_type)
        pair = (account_id, product_type)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            inventory = (await _inventories(tx, {account_id: account}, {pair: product}))[pair]
            cause = Cause("tool_grant", new_id())
            inventory.accrue(cause, actor, now)
            inventory.move("paid", uses, Kind.GRANT, cause, actor, now)
            await queries.upsert_inventories(tx, [inventory.row()])
            await write(tx, [account], now)
        return inventory.paid


def _count(outcomes: Sequence[Outcome | Refused]) -> None:
    """Comes after the commit: what was rolled back has taken nothing. The main pool is counted in credits."""
    for outcome in outcomes:
        COUNTER.outcome(outcome)
        if isinstance(outcome, Charged):
            use = outcome.use
            COUNTER.taken(use.source, use.cost_minor // MINOR_PER_CREDIT if use.source == "main_pool" else 1)


async def _inventories(
    tx: Session, accounts: Mapping[UUID, LockedAccount], products: Mapping[queries.Pair, Product]
) -> dict[queries.Pair, _Inventory]:
    """What the locked accounts have of each product, by account and product type."""
    rows = await queries.find_inventories(tx, list(products))
    return {
        (account_id, name): _Inventory.of(accounts[account_id], name, product, rows.get((account_id, name)))
        for (account_id, name), product in products.items()
        if account_id in accounts
    }


def _post_use(request: ToolChargeRequest, inventory: _Inventory, source: str, batch: _Batch) -> ToolUse:
    """Post a use that `source` can pay, and add its rows to the batch."""
    account, price = inventory.account, inventory.product.price_credits
    usage_log_id, charge_id = new_id(), None
    cause = Cause("tool_usage", usage_log_id)
    inventory.accrue(cause, request.actor, request.at)
    if source == "main_pool":
        charge = ChargeRequest(
            account_id=request.account_id,
            amount_minor=price * MINOR_PER_CREDIT,
            currency=None,
            actor=request.actor,
            at=request.at,
            description=request.product_type,
        )
        batch.charges.append(post_paid_charge(account, charge, operation=OPERATION))
        charge_id = batch.charges[-1]["charge_id"]
    else:
        inventory.move(source, -1, Kind.TOOL_CHARGE, cause, request.actor, request.at)
    inventory.total_uses += 1
    use = ToolUse(
        usage_log_id=usage_log_id,
        source=source,
        cost_minor=0 if source == "free" else price * MINOR_PER_CREDIT,
        free=inventory.free,
        paid=inventory.paid,
        main_pool=account.balances["paid"] // price,
        total_uses=inventory.total_uses,
    )
    batch.usages.append(
        {
            "account_id": request.account_id,
            "usage_log_id": usage_log_id,
            "idempotency_key": request.idempotency_key,
            "product_type": request.product_type,
            "request_id": request.request_id,
            "source": source,
            "charge_id": charge_id,
            "result": json.dumps(asdict(use), default=str),
            "actor_type": request.actor.type,
            "actor_id": request.actor.id,
            "created_at": request.at,
        }
    )
    return use


def _stored_or_initial(created_at: datetime, product: Product, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """An inventory's columns; without a row, as on the day that the account was created."""
    if row is None:
        return {"free": product.initial_free, "free_day": created_at.date(), "paid": 0, "total_uses": 0}
    return {name: row[name] for name in ("free", "free_day", "paid", "total_uses")}


def _balance(
    product_type: str, product: Product, account: Mapping[str, Any], row: Mapping[str, Any] | None, today: date
) -> ToolBalance:
    have = _stored_or_initial(account["created_at"], product, row)
    active = account["status"] == "active"
    free = free_on(today, left=have["free"], day=have["free_day"], product=product) if active else 0
    main_pool = account["paid"] // product.price_credits
    return ToolBalance(product_type, active, free, have["paid"], main_pool, product.price_credits, have["total_uses"])


def _replayed(product_type: str, idempotency_key: str, row: Mapping[str, Any]) -> Replayed | Refused:
    """Refused when the key was used for another product."""
    if row["product_type"] != product_type:
        return Refused(IdempotencyKeyReused(idempotency_key))
    return Replayed(ToolUse(**{**row["result"], "usage_log_id": row["usage_log_id"]}))
