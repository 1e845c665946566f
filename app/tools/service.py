"""ProductInventoryService: charges, checks and balances of tool uses.

A tool charge is one use, paid by the first of these that can: the product's free uses, the product's paid uses, the
main pool's grants and paid credits at the product's price.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor
from app.billing.errors import InsufficientCredits
from app.billing.posting import ChargeRequest, post_main_pool_charge, record_charges
from app.billing.service import BillingService
from app.billing.status import RESULTS, Result
from app.configuration.service import Configuration
from app.db import Database, new_id
from app.db.statements import Tx
from app.errors import AppError
from app.ledger.batching import Accounts
from app.ledger.errors import AccountNotFound, IdempotencyKeyReused
from app.ledger.limits import Spending
from app.ledger.locked_account import Cause, Kind, lock_account, write
from app.ledger.outcomes import New, Outcome, Refused, Replayed
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT, Credits, Shortfall
from app.observability.metrics import CHECKS, ChargeCounter
from app.products import Product
from app.tools import queries
from app.tools.catalogue import find_product, free_on
from app.tools.errors import UnknownProduct
from app.tools.inventory import Inventory, read_inventories, stored_or_initial

OPERATION = "tool_charge"
COUNTER = ChargeCounter(OPERATION, ("free", "paid", "main_pool"))
CHECKED = {result: CHECKS.labels(OPERATION, result) for result in RESULTS}


@dataclass(frozen=True, slots=True)
class ToolBalance:
    """An account's spendable uses of one product. `main_pool` counts the uses that the main pool would pay.

    An account that is not active shows its paid credits but no free uses, and has no credit.
    """

    product_type: str
    active: bool
    free: int
    paid: int
    main_pool: int
    price_credits: int
    total_uses: int
    is_limited: bool = False
    """In a check: a limit leaves no room for the next use."""

    @property
    def total(self) -> int:
        return self.free + self.paid + self.main_pool

    @property
    def has_credit(self) -> bool:
        return self.active and self.total > 0 and not self.is_limited


@dataclass(frozen=True, slots=True)
class ToolChargeRequest:
    account_id: UUID
    product_type: str
    product: Product
    actor: Actor
    at: datetime
    idempotency_key: str | None
    request_id: str | None
    run_id: str | None = None

    @property
    def run_ids(self) -> Sequence[str]:
        return () if self.run_id is None else (self.run_id,)

    @property
    def key(self) -> queries.Pair | None:
        """The idempotency key: one key space per account."""
        return None if self.idempotency_key is None else (self.account_id, self.idempotency_key)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A recorded use, with the values of its reply and of every replay."""

    usage_log_id: UUID
    source: str
    cost_minor: int
    free: int
    paid: int
    main_pool: int
    total_uses: int


@dataclass(slots=True)
class _Batch:
    """The state that a transaction has read under its locks, and the rows that it will write."""

    accounts: Accounts
    inventories: Mapping[queries.Pair, Inventory]
    used: dict[queries.Pair, Mapping[str, Any]]
    charges: list[dict[str, Any]] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)


class ProductInventoryService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, configuration: Configuration, billing: BillingService) -> None:
        self._db = db
        self._configuration = configuration
        self._billing = billing
        self._charges = billing.batcher.operation(self._charge_locked, find_replay=self._replay_of, count=_count)

    async def stop(self) -> None:
        """Wait for the transactions under way. Call it once no request is left."""
        await self._billing.batcher.stop()

    async def balance(self, account_id: UUID, product_type: str, now: datetime) -> ToolBalance:
        """Return the balance without a lock or a write. Raises UnknownProduct."""
        return (await self._balance(account_id, product_type, now))[0]

    async def _balance(
        self, account_id: UUID, product_type: str, now: datetime
    ) -> tuple[ToolBalance, Mapping[str, Any]]:
        """Return the balance and the account's columns."""
        product = find_product((await self._configuration.current()).products, product_type)
        account, credits = await self._main_pool(account_id, now)
        row = await queries.find_inventory(self._db, account_id, product_type)
        return _balance(product_type, product, account, credits, row, now.date()), account

    async def _main_pool(self, account_id: UUID, now: datetime) -> tuple[Mapping[str, Any], int]:
        """Return the account's columns, and the credits of its main pool: paid ones and live grants."""
        account = await self._billing.accounts.state(account_id)
        return account, account["paid"] + (await self._billing.accounts.live_grants(account, now)).credits

    async def check(self, account_id: UUID, product_type: str, now: datetime, *, key: str | None = None) -> ToolBalance:
        """Return the balance, and count a check. Limits must leave room for a use by this API key.

        Raises UnknownProduct.
        """
        balance, account = await self._balance(account_id, product_type, now)
        if account["has_limits"]:
            price = 0 if balance.free or balance.paid else balance.price_credits
            spending = Spending(CREDIT, price, key=key, tool=product_type)
            refusal = await self._billing.accounts.refusal(account_id, spending, now)
            balance = replace(balance, is_limited=refusal is not None)
        CHECKED[_result_of(balance)].inc()
        return balance

    async def balances(self, account_id: UUID, now: datetime) -> list[ToolBalance]:
        account, credits = await self._main_pool(account_id, now)
        async with self._db.read() as db:
            rows = {row["product_type"]: row for row in await queries.list_inventory(db, account_id)}
        products = (await self._configuration.current()).products.items()
        today = now.date()
        return [_balance(name, product, account, credits, rows.get(name), today) for name, product in products]

    async def charge(
        self,
        account_id: UUID,
        product_type: str,
        *,
        actor: Actor,
        now: datetime,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        run_id: str | None = None,
    ) -> Outcome[ToolUse]:
        """Spend one use of a product. Locks the account until commit. Replaying a key spends nothing.

        Shares its transaction with the tool charges that arrive at the same time, as `BillingService.charge` does.
        Raises UnknownProduct and Busy.
        """
        try:
            product = find_product((await self._configuration.current()).products, product_type)
        except UnknownProduct:
            # A replay stays valid when the product is no longer for sale.
            replay = await self._replay(account_id, product_type, idempotency_key)
            if isinstance(replay, Replayed):
                return replay
            raise
        request = ToolChargeRequest(account_id, product_type, product, actor, now, idempotency_key, request_id, run_id)
        return await self._charges.run(request)

    async def _replay_of(self, request: ToolChargeRequest) -> Replayed[ToolUse] | Refused | None:
        return await self._replay(request.account_id, request.product_type, request.idempotency_key)

    async def _replay(
        self, account_id: UUID, product_type: str, idempotency_key: str | None
    ) -> Replayed[ToolUse] | Refused | None:
        if idempotency_key is None:
            return None
        row = await queries.find_usage_by_key(self._db, account_id, idempotency_key)
        if row is None:
            return None
        outcome = _replayed(product_type, idempotency_key, row)
        COUNTER.outcome(outcome)
        return outcome

    @property
    def waiting(self) -> int:
        """The number of tool charges that wait for their transaction to end."""
        return self._charges.waiting

    async def charge_many(self, requests: Sequence[ToolChargeRequest]) -> list[Outcome[ToolUse]]:
        """Decide and record any number of tool charges in one transaction, as `BillingService.charge_many` does."""
        return await self._charges.run_all(requests)

    async def _charge_locked(
        self, tx: Tx, accounts: Accounts, requests: Sequence[ToolChargeRequest]
    ) -> list[Outcome[ToolUse]]:
        """Decide and record a batch. All reads here happen under the locks (see `Batcher`)."""
        keys = [key for request in requests if (key := request.key) is not None]
        products = {(r.account_id, r.product_type): r.product for r in requests}
        inventories = await read_inventories(tx, accounts, products)
        batch = _Batch(accounts, inventories, await queries.find_usages_by_keys(tx, keys))
        outcomes = [self._decide(request, batch) for request in requests]
        if batch.usages:
            await record_charges(tx, batch.charges)
            await queries.upsert_inventories(tx, [i.row() for i in inventories.values() if i.changed_at is not None])
            await queries.insert_usages(tx, batch.usages)
        return outcomes

    def _decide(self, request: ToolChargeRequest, batch: _Batch) -> Outcome[ToolUse]:
        """Decide one use against a locked account. Post a new use to the account, and add it to the batch."""
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
        source = inventory.payer(request.at)
        if source is None:
            available = account.credits_remaining(request.at)
            return Shortfall(available=available, required=inventory.product.price_credits)
        price = inventory.product.price_credits if source == "main_pool" else 0
        try:
            account.require_room_for_uses(price)
            if account.limits is not None:
                account.limits.admit(_spending(request, price))
        except AppError as error:
            return Refused(error)
        use = _post_use(request, inventory, source, batch)
        if account.limits is not None and source == "main_pool":
            account.limits.note(_spending(request, price), batch.charges[-1]["charge_id"])
        if key is not None:
            batch.used[request.account_id, key] = {**batch.usages[-1], "result": asdict(use)}
        return New(use)

    async def refusal(
        self, account_id: UUID, product_type: str, shortfall: Shortfall, now: datetime
    ) -> InsufficientCredits:
        """Return the error of a refused use, with its remedies. Reads the account once, without a lock."""
        product = find_product((await self._configuration.current()).products, product_type)
        return await self._billing.refusal(account_id, shortfall, now, use_of=product)

    async def grant(self, account_id: UUID, product_type: str, uses: Credits, *, actor: Actor, now: datetime) -> int:
        """Give paid uses of a product. Return their new number. Locks the account until commit."""
        product = find_product((await self._configuration.current()).products, product_type)
        pair = (account_id, product_type)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            inventory = (await read_inventories(tx, {account_id: account}, {pair: product}))[pair]
            cause = Cause("tool_grant", new_id())
            inventory.accrue(cause, actor, now)
            inventory.move("paid", uses, Kind.GRANT, cause, actor, now)
            await queries.upsert_inventories(tx, [inventory.row()])
            await write(tx, [account], now)
        return inventory.paid


def _result_of(balance: ToolBalance) -> Result:
    if not balance.active:
        return "inactive"
    if balance.total == 0:
        return "exhausted"
    return "limited" if balance.is_limited else "credit"


def _count(outcomes: Sequence[Outcome[ToolUse]]) -> None:
    """Count outcomes after the commit, because a rollback takes nothing. The main pool is counted in credits."""
    for outcome in outcomes:
        COUNTER.outcome(outcome)
        if isinstance(outcome, New):
            use = outcome.record
            COUNTER.taken(use.source, use.cost_minor // MINOR_PER_CREDIT if use.source == "main_pool" else 1)


def _spending(request: ToolChargeRequest, price: int) -> Spending:
    """Return what limits count of a use."""
    return Spending(CREDIT, price, key=request.actor.key_id, tool=request.product_type, run=request.run_id)


def _post_use(request: ToolChargeRequest, inventory: Inventory, source: str, batch: _Batch) -> ToolUse:
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
            run_id=request.run_id,
        )
        batch.charges.append(post_main_pool_charge(account, charge, Credits(price), operation=OPERATION))
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
        main_pool=account.credits_remaining(request.at) // price,
        total_uses=inventory.total_uses,
    )
    run = {} if request.run_id is None else {"run_id": request.run_id}
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
            **run,
        }
    )
    return use


def _balance(
    product_type: str,
    product: Product,
    account: Mapping[str, Any],
    credits: int,
    row: Mapping[str, Any] | None,
    today: date,
) -> ToolBalance:
    have = stored_or_initial(account["created_at"], account["is_returning"], product, row)
    active = account["status"] == "active"
    free = free_on(today, left=have["free"], day=have["free_day"], product=product) if active else 0
    main_pool = credits // product.price_credits
    return ToolBalance(product_type, active, free, have["paid"], main_pool, product.price_credits, have["total_uses"])


def _replayed(product_type: str, idempotency_key: str, row: Mapping[str, Any]) -> Replayed[ToolUse] | Refused:
    """Return the recorded use. Refuse a key that was used for another product."""
    if row["product_type"] != product_type:
        return Refused(IdempotencyKeyReused(idempotency_key))
    return Replayed(ToolUse(**{**row["result"], "usage_log_id": row["usage_log_id"]}))
