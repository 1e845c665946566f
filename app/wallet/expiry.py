"""Expiry of grants by the worker. A grant that is due cannot pay anyway: this records its end in the ledger."""

from datetime import datetime
from uuid import UUID

from app.db import Database
from app.ledger.locked_account import lock_accounts, write
from app.wallet import queries

GRANTS_AT_ONCE = 200


async def expire_grants(db: Database, now: datetime) -> int:
    """Post the expiry of grants that are due at `now`. Return the number of accounts that had some.

    Locks a bounded number of accounts in each transaction, and skips those that another transaction has locked: it
    expires them itself, or the next run does. Concurrent runs are harmless.
    """
    expired = 0
    seen: set[UUID] = set()
    while True:
        async with db.transaction() as tx:
            due = await queries.find_accounts_with_due_grants(tx, now, GRANTS_AT_ONCE, seen)
            if not due:
                return expired
            accounts = await lock_accounts(tx, due, skip_locked=True)
            for account in accounts.values():
                account.expire_lots(now)
            moved = [account for account in accounts.values() if account.entries]
            await write(tx, moved, now)
        expired += len(moved)
        seen.update(due)
