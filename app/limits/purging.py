"""Purging: the worker deletes counters of windows that are long past, and notes of the limits of old requests."""

from datetime import datetime, timedelta

from app.db import Database
from app.ledger.limit_queries import purge_counters, purge_evaluated

KEEP = timedelta(days=93)
"""The age of deleted counters: holds may be settled, and persons may look, long after a window ends."""
AT_ONCE = 5_000


async def purge_past_windows(db: Database, now: datetime) -> int:
    """Delete old counters and notes of limits, a bounded number in each transaction. Return their number."""
    deleted = 0
    for purge in (purge_counters, purge_evaluated):
        found = AT_ONCE
        while found == AT_ONCE:
            async with db.transaction() as tx:
                found = await purge(tx, now - KEEP, AT_ONCE)
            deleted += found
    return deleted
