"""When each key was last used and how often, written behind the requests' backs."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import structlog

from app.auth import queries
from app.db import Database

FLUSH_EVERY_S = 5.0
MIN_INTERVAL = timedelta(minutes=1)
MAX_KEYS_PER_FLUSH = 10_000

log = structlog.get_logger()


class LastUsed:
    """Collects uses in memory, and writes a key's when the last writing is a minute old. No request waits for it.

    A process that is killed takes the requests that it counted since then with it: at most a minute's.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._used: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}
        self._requests: Counter[str] = Counter()

    def note(self, key_id: str, now: datetime) -> None:
        self._used[key_id] = now
        self._requests[key_id] += 1

    async def run(self) -> None:
        """Write every FLUSH_EVERY_S, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self, *, all_of_it: bool = False) -> None:
        """Write what is due, or (before the process ends) everything. What cannot be written stays due."""
        due = {
            key_id: used_at
            for key_id, used_at in self._used.items()
            if all_of_it or key_id not in self._written or used_at - self._written[key_id] >= MIN_INTERVAL
        }
        due = dict(list(due.items())[:MAX_KEYS_PER_FLUSH])
        if not due:
            return
        counted = {key_id: self._requests[key_id] for key_id in due}
        try:
            async with self._db.transaction() as tx:
                written = await queries.lock_and_mark_used(tx, due, counted, MIN_INTERVAL)
        except Exception as error:  # the database is away: keys still work, and the next flush tries again
            log.warning("last_used_not_written", error=type(error).__name__, keys=len(due))
            return
        for key_id in written:
            self._written[key_id] = due[key_id]
            self._requests[key_id] -= counted[key_id]
            if not self._requests[key_id]:
                del self._requests[key_id], self._used[key_id]
