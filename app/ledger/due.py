"""Settlement of due holds by the transaction that locks their account.

The batcher settles in its own transactions, in which a capture of a due hold may come first. Every other transaction
locks accounts by `lock_accounts`, which calls `settle_due`. So it finds an account as if the worker had just run: a
refund takes back what an expired hold returned, before it records a debt.

An account is settled once in a transaction, at its first lock: its caller may lock it again and have entries to write.

Grants that are due need no settlement at the lock. Nothing counts or spends them, and each entry of their account
comes after their expiry (`LockedAccount.post`). A request counts them if it came in before their expiry.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.clock import utc_now
from app.db import Database
from app.db.driver_pool import BatchTransaction
from app.db.statements import Tx

if TYPE_CHECKING:
    from app.ledger.locked_account import LockedAccount

Settle: TypeAlias = Callable[[AsyncConnection, "Mapping[UUID, LockedAccount]", datetime], Awaitable[None]]


def settle_at_locks(db: Database, settle: Settle) -> None:
    """Let `settle(tx, accounts, now)` settle and write due holds, in each transaction of `db` that locks accounts.

    Without it, due holds wait for the worker, or for the batcher's next transaction with their account.
    """
    db.on_first_lock = settle


async def settle_due(tx: Tx, accounts: "Mapping[UUID, LockedAccount]") -> None:
    """Settle the due holds of accounts that this transaction has locked for the first time."""
    if isinstance(tx, BatchTransaction) or (first := Database.first_locks(tx)) is None:
        return
    settle, seen = first
    now = utc_now()
    due = {id_: account for id_, account in accounts.items() if id_ not in seen and _is_due(account, now)}
    seen.update(accounts)
    if due:
        await settle(tx, due, now)


def _is_due(account: "LockedAccount", now: datetime) -> bool:
    return account.holds_expire_at is not None and account.holds_expire_at <= now
