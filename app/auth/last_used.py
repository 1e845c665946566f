"""When each key was last used, written behind the requests' backs."""

import asyncio
from datetime import datetime, timedelta

import structlog

from app.auth import queries
from app.db import Database

FLUSH_EVERY_S = 5.0
MIN_INTERVAL = timedelta(minutes=1)
MAX_KEYS_PER_FLUSH = 10_000

log = structlog.get_logger()


class LastUsed:
    """Collects uses in memory, and writes a key's last_used_at when it is a minute old. No request waits for it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._used: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}

    def note(self, key_id: str, now: datetime) -> None:
        self._used[key_id] = now

    async def run(self) -> None:
        """Write every FLUSH_EVERY_S, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is due. When that fails, it stays due."""
        due = {
            key_id: used_at
            for key_id, used_at in self._used.items()
            if key_id not in self._written or used_at - self._written[key_id] >= MIN_INTERVAL
        }
        due = dict(list(due.items())[:MAX_KEYS_PER_FLUSH])
        if not due:
            return
        try:
            async with self._db.transaction() as tx:
                await queries.lock_and_mark_used(tx, due, MIN_INTERVAL)
        except Exception as error:  # the database is away: keys still work, and the next flush tries again
            log.warning("last_used_not_written", error=type(error).__name__, keys=len(due))
            return
        self._written.update(due)
        for key_id, used_at in due.items():
            if self._used[key_id] == used_at:
                del self._used[key_id]
