"""Sort columns of the back office, in a table beside the accounts: no charge maintains an index for them (ADR 7)."""

from datetime import datetime, timedelta

from app.accounts import queries
from app.db import Database

ACCOUNTS_AT_ONCE = 10_000
LATEST_COMMIT = timedelta(minutes=5)
"""Upper bound between the time that a change carries and its commit, including differences between clocks."""


async def refresh_activity(db: Database, now: datetime) -> int:
    """Bring account_activity up to `now`, and return how many accounts had changed. Locks no account.

    Delays no charge. Reads every account, a bounded number in each transaction, and writes those that changed since the
    last refresh. Concurrent refreshes are harmless.
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
