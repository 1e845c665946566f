"""What the back office sorts accounts by, kept beside them: no charge has to keep an index in order (ADR 7)."""

from datetime import datetime, timedelta

from app.accounts import queries
from app.db import Database

ACCOUNTS_AT_ONCE = 10_000
LATEST_COMMIT = timedelta(minutes=5)
"""A change is committed at most so long after the time that it carries, clocks that differ included."""


async def refresh_activity(db: Database, now: datetime) -> int:
    """Bring account_activity up to `now`: how many accounts had changed. Locks no account and delays no charge.

    Reads every account, a bounded number in each transaction, and writes those that changed since the last time. Two at
    once do no harm.
    """
    async with db.read() as session:
        as_of = await queries.find_activity_as_of(session)
    since = None if as_of is None else as_of - LATEST_COMMIT
    after, changed = None, 0
    while True:
        async with db.transaction() as tx:
            after, refreshed = await queries.refresh_activity(tx, after=after, since=since, limit=ACCOUNTS_AT_ONCE)
            changed += refreshed
            if after is None:
                await queries.upsert_activity_as_of(tx, now)
                return changed
