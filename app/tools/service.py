"""ProductInventoryService: what a tool call costs, and who pays for it.

A tool charge is one use, paid by the first of these that can: the product's free uses, the product's paid uses, the
main pool's paid credits at the product's price.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor
from app.billing.errors import IdempotencyKeyReused
from app.billing.ledger import Cause, Kind, LockedAccount, lock_account, write
from app.billing.pools import MINOR_PER_CREDIT, Credits, Shortfall
from app.billing.service import BillingService, ChargeRequest, charge_paid_pool
from app.config import Product, Settings
from app.db import Database, Session, new_id
from app.observability import CHARGES
from app.tools import queries
from app.tools.catalogue import find_product, free_on

OPERATION = "tool_charge"


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
    """A product's row of a locked account, brought up to today."""

    free: int
    free_day: date
    paid: int
    total_uses: int


class ProductInventoryService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, settings: Settings, billing: BillingService) -> None:
        self._db = db
        self._settings = settings
        self._billing = billing

    @property
    def product_types(self) -> list[str]:
        return list(self._settings.products)

    async def balance(self, account_id: UUID, product_type: str, now: datetime) -> ToolBalance:
        """Takes no lock and writes nothing. Raises UnknownProduct."""
        product = find_product(self._settings.products, product_type)
        account = await self._billing.state(account_id)
        row = await queries.find_inventory(self._db, account_id, product_type)
        return _balance(product_type, product, account, row, now.date())

    async def balances(self, account_id: UUID, now: datetime) -> list[ToolBalance]:
        account = await self._billing.state(account_id)
        async with self._db.read() as db:
            rows = {row["product_type"]: row for row in await queries.list_inventory(db, account_id)}
        products = self._settings.products.items()
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

        Raises UnknownProduct, AccountSuspended, AccountClosed, IdempotencyKeyReused.
        """
        product = find_product(self._settings.products, product_type)
        outcome: Outcome | None = None
        if idempotency_key is not None:
            row = await queries.find_usage_by_key(self._db, account_id, idempotency_key)
            outcome = _replayed(row, product_type, idempotency_key)
        if outcome is None:
            async with self._db.transaction() as tx:
                account = await lock_account(tx, account_id)
                if idempotency_key is not None:
                    row = await queries.find_usage_by_key_in(tx, account_id, idempotency_key)
                    outcome = _replayed(row, product_type, idempotency_key)
                if outcome is None:
                    account.require_active()
                    outcome = await self._charge_locked(
                        tx, account, product_type, product, actor, now, idempotency_key, request_id
                    )
        CHARGES.labels(OPERATION, type(outcome).__name__.lower()).inc()
        return outcome

    async def _charge_locked(
        self,
        tx: Session,
        account: LockedAccount,
        product_type: str,
        product: Product,
        actor: Actor,
        now: datetime,
        idempotency_key: str | None,
        request_id: str | None,
    ) -> Outcome:
        usage_log_id = new_id()
        cause = Cause("tool_usage", usage_log_id)
        inventory = await _open_inventory(tx, account, product_type, product, cause, actor, now)
        charge_id = None
        if inventory.free > 0:
            source = "free"
        elif inventory.paid > 0:
            source = "paid"
        else:
            source = "main_pool"
            charge_id = await charge_paid_pool(
                tx, account, _main_pool_charge(account, product_type, product, actor, now), operation=OPERATION
            )
            if charge_id is None:
                return Shortfall(available=account.balances["paid"], required=product.price_credits)
        if source != "main_pool":
            account.post(_pool(product_type, source), -1, Kind.TOOL_CHARGE, cause, actor, now)
        inventory.free = account.balances[_pool(product_type, "free")]
        inventory.paid = account.balances[_pool(product_type, "paid")]
        inventory.total_uses += 1
        use = ToolUse(
            usage_log_id=usage_log_id,
            source=source,
            cost_minor=0 if source == "free" else product.price_credits * MINOR_PER_CREDIT,
            free=inventory.free,
            paid=inventory.paid,
            main_pool=account.balances["paid"] // product.price_credits,
            total_uses=inventory.total_uses,
        )
        await _store_inventory(tx, account, product_type, inventory, now)
        await queries.insert_usage(
            tx,
            {
                "account_id": account.account_id,
                "usage_log_id": usage_log_id,
                "idempotency_key": idempotency_key,
                "product_type": product_type,
                "request_id": request_id,
                "source": source,
                "charge_id": charge_id,
                "result": json.dumps(asdict(use), default=str),
                "actor_type": actor.type,
                "actor_id": actor.id,
                "created_at": now,
            },
        )
        await write(tx, [account], now)
        return Charged(use)

    async def grant(self, account_id: UUID, product_type: str, uses: Credits, *, actor: Actor, now: datetime) -> int:
        """Give paid uses of a product, and return how many there are then. Locks the account until commit."""
        product = find_product(self._settings.products, product_type)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            cause = Cause("tool_grant", new_id())
            inventory = await _open_inventory(tx, account, product_type, product, cause, actor, now)
            account.post(_pool(product_type, "paid"), uses, Kind.GRANT, cause, actor, now)
            inventory.paid = account.balances[_pool(product_type, "paid")]
            await _store_inventory(tx, account, product_type, inventory, now)
            await write(tx, [account], now)
        return inventory.paid


def _pool(product_type: str, source: str) -> str:
    return f"{product_type}/{source}"


def _main_pool_charge(
    account: LockedAccount, product_type: str, product: Product, actor: Actor, now: datetime
) -> ChargeRequest:
    return ChargeRequest(
        account_id=account.account_id,
        amount_minor=product.price_credits * MINOR_PER_CREDIT,
        currency=None,
        actor=actor,
        at=now,
        description=product_type,
    )


async def _open_inventory(
    tx: Session,
    account: LockedAccount,
    product_type: str,
    product: Product,
    cause: Cause,
    actor: Actor,
    now: datetime,
) -> _Inventory:
    """Put the product's balances into the locked account, and post the free uses that have accrued since."""
    row = await queries.find_inventory_in(tx, account.account_id, product_type)
    free_pool = _pool(product_type, "free")
    if row is None:
        account.balances |= {free_pool: 0, _pool(product_type, "paid"): 0}
        account.post(free_pool, product.initial_free, Kind.OPENING_GRANT, cause, actor, now)
        inventory = _Inventory(product.initial_free, account.created_at.date(), 0, 0)
    else:
        account.balances |= {free_pool: row["free"], _pool(product_type, "paid"): row["paid"]}
        inventory = _Inventory(row["free"], row["free_day"], row["paid"], row["total_uses"])
    free = free_on(now.date(), left=inventory.free, day=inventory.free_day, product=product)
    account.post(free_pool, free - inventory.free, Kind.DAILY_ALLOWANCE, cause, actor, now)
    inventory.free, inventory.free_day = free, max(inventory.free_day, now.date())
    return inventory


async def _store_inventory(
    tx: Session, account: LockedAccount, product_type: str, inventory: _Inventory, now: datetime
) -> None:
    row = {"account_id": account.account_id, "product_type": product_type, **asdict(inventory), "updated_at": now}
    await queries.upsert_inventory(tx, row)


def _balance(
    product_type: str, product: Product, account: Mapping[str, Any], row: Mapping[str, Any] | None, today: date
) -> ToolBalance:
    if row is None:
        left, day, paid, total_uses = product.initial_free, account["created_at"].date(), 0, 0
    else:
        left, day, paid, total_uses = row["free"], row["free_day"], row["paid"], row["total_uses"]
    active = account["status"] == "active"
    free = free_on(today, left=left, day=day, product=product) if active else 0
    main_pool = account["paid"] // product.price_credits
    return ToolBalance(product_type, active, free, paid, main_pool, product.price_credits, total_uses)


def _replayed(row: Mapping[str, Any] | None, product_type: str, idempotency_key: str) -> Replayed | None:
    """Raises IdempotencyKeyReused when the key was used for another product."""
    if row is None:
        return None
    if row["product_type"] != product_type:
        raise IdempotencyKeyReused(idempotency_key)
    return Replayed(ToolUse(**{**row["result"], "usage_log_id": row["usage_log_id"]}))
