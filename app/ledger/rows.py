"""Rows of locked accounts: their balances, entries and lots as the tables store them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.db.statements import Tx
from app.ledger import queries
from app.ledger.entries import Entry
from app.ledger.lots import Lot, next_expiry

if TYPE_CHECKING:
    from app.ledger.locked_account import LockedAccount

COLUMN_OF: Mapping[str, str] = MappingProxyType(
    {
        **{pool: pool for pool in ("daily_free", "free", "paid", "debt")},
        "money": "money_nanos",
        "money_debt": "money_debt_nanos",
    }
)
"""By pool: the column of the account with its balance."""
MONEY_POOLS = frozenset({"money", "money_debt"})


def entry_row(account_id: UUID, entry: Entry, with_lots: bool) -> dict[str, Any]:
    lot = {"grant_id": entry.grant_id} if with_lots else {}
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
        **lot,
    }


def account_row(account: "LockedAccount", now: datetime) -> dict[str, Any]:
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


def held_row(account: "LockedAccount") -> dict[str, Any]:
    return {name: getattr(account, name) for name in queries.HELD}


def wallet_row(account: "LockedAccount") -> dict[str, Any]:
    money = {COLUMN_OF[pool]: account.balances[pool] for pool in MONEY_POOLS}
    account.grants_expire_at = next_expiry(account.lots.values())
    return {**money, **{name: getattr(account, name) for name in queries.WALLET if name not in money}}


def lot_row(account_id: UUID, lot: Lot) -> dict[str, Any]:
    return {"account_id": account_id, **{name: getattr(lot, name) for name in queries.GRANT_COLUMNS[1:]}}


async def write_lots(tx: Tx, accounts: "Sequence[LockedAccount]") -> None:
    """Store the lots that have moved."""
    moved = [(account, lot) for account in accounts for lot in account.lots.values() if lot.moved]
    if created := [lot_row(account.account_id, lot) for account, lot in moved if lot.created]:
        await queries.insert_grants(tx, created)
    if changed := [lot_row(account.account_id, lot) for account, lot in moved if not lot.created]:
        await queries.update_grants(tx, changed)


def new_row(account: "LockedAccount") -> dict[str, Any]:
    return {
        **account_row(account, account.updated_at),
        "environment": account.environment,
        "currency": account.currency,
        "plan_name": account.plan_name,
        "created_at": account.created_at,
        "is_returning": account.is_returning,
        "has_limits": account.has_limits,
    }
