"""Key usage: each key's last use and request count, written in the background."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import structlog

from app.auth.api_keys import queries
from app.db import Database
from app.db.write_behind import WriteBehind

MIN_INTERVAL = timedelta(minutes=1)
MAX_KEYS_PER_FLUSH = 10_000
log = structlog.get_logger()


class LastUsed(WriteBehind):
    """Collects uses in memory, and writes a key's once its last write is a minute old. No request waits for it.

    A process that is killed loses the uses it has not written: at most a minute's. Writes are sequential and never
    abandoned halfway, so no use is counted twice.
    """

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db
        self._used: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}
        self._requests: Counter[str] = Counter()
        self._writing = asyncio.Lock()

    def note(self, key_id: str, now: datetime) -> None:
        self._used[key_id] = now
        self._requests[key_id] += 1

    async def flush(self) -> None:
        """Write the uses that are due. After a failure they stay due."""
        async with self._writing:
            await self._flush(all_of_it=False)

    async def flush_rest(self) -> None:
        async with self._writing:
            await self._flush(all_of_it=True)

    async def _flush(self, *, all_of_it: bool) -> None:
        due = {
            key_id: used_at
            for key_id, used_at in self._used.items()
            if all_of_it or key_id not in self._written or used_at - self._written[key_id] >= MIN_INTERVAL
        }
        keys = list(due)
        for first in range(0, len(keys), MAX_KEYS_PER_FLUSH):
            page = {key_id: due[key_id] for key_id in keys[first : first + MAX_KEYS_PER_FLUSH]}
            if not await self._write(page):
                return

    async def _write(self, due: dict[str, datetime]) -> bool:
        """Write the uses. Return False if the database is down."""
        counted = {key_id: self._requests[key_id] for key_id in due}
        try:
            async with self._db.transaction() as tx:
                written = await queries.lock_and_mark_used(tx, due, counted, MIN_INTERVAL)
        except Exception as error:  # the database is down: keys still work, and the next flush retries
            log.warning("last_used_not_written", error=type(error).__name__, keys=len(due))
            return False
        for key_id in written:
            self._written[key_id] = due[key_id]
            self._requests[key_id] -= counted[key_id]
            if not self._requests[key_id]:
                del self._requests[key_id], self._used[key_id]
        return True
