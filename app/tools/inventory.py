"""Inventory: a locked account's uses of a product, the counterpart of LockedAccount for a product's pools."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor
from app.db.statements import Tx
from app.ledger.locked_account import Cause, Kind, LockedAccount
from app.products import Product
from app.tools import queries
from app.tools.catalogue import free_on


@dataclass(slots=True)
class Inventory:
    """A locked account's uses of a product. `free` holds on `free_day`. `opened`: whether the row exists."""

    account: LockedAccount
    product_type: str
    product: Product
    free: int
    free_day: date
    paid: int
    total_uses: int
    opened: bool
    changed_at: datetime | None = None

    def payer(self, now: datetime) -> str | None:
        """Return the source that would pay the next use at `now`."""
        if free_on(now.date(), left=self.free, day=self.free_day, product=self.product) > 0:
            return "free"
        if self.paid > 0:
            return "paid"
        return "main_pool" if self.account.credits_remaining(now) >= self.product.price_credits else None

    def accrue(self, cause: Cause, actor: Actor, now: datetime) -> None:
        """Post the free uses of the opening and of each midnight since `free_day`."""
        pool = self._pool("free")
        if not self.opened:
            self.account.post(pool, self.free, Kind.OPENING_GRANT, cause, actor, now)
            self.opened = True
        free = free_on(now.date(), left=self.free, day=self.free_day, product=self.product)
        self.account.post(pool, free - self.free, Kind.DAILY_ALLOWANCE, cause, actor, now)
        self.free, self.free_day, self.changed_at = free, max(self.free_day, now.date()), now

    def move(self, source: str, uses: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> None:
        """Post `uses` to "free" or "paid". Call `accrue` first."""
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
    ) -> "Inventory":
        """Return the inventory of a stored row, and add the product's stored balances to the account."""
        stored = {"free": 0, "paid": 0} if row is None else row
        account.balances |= {f"{product_type}/{source}": stored[source] for source in ("free", "paid")}
        start = stored_or_initial(account.created_at, account.is_returning, product, row)
        return cls(account, product_type, product, **start, opened=row is not None)


async def read_inventories(
    tx: Tx, accounts: Mapping[UUID, LockedAccount], products: Mapping[queries.Pair, Product]
) -> dict[queries.Pair, Inventory]:
    """Return the locked accounts' inventories, by account and product type."""
    rows = await queries.find_inventories(tx, list(products))
    return {
        (account_id, name): Inventory.of(accounts[account_id], name, product, rows.get((account_id, name)))
        for (account_id, name), product in products.items()
        if account_id in accounts
    }


def stored_or_initial(
    created_at: datetime, is_returning: bool, product: Product, row: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return an inventory's columns. Without a row, they are those of the day of the account's creation.

    A returning user has had the initial free uses.
    """
    if row is None:
        free = 0 if is_returning else product.initial_free
        return {"free": free, "free_day": created_at.date(), "paid": 0, "total_uses": 0}
    return {name: row[name] for name in ("free", "free_day", "paid", "total_uses")}
