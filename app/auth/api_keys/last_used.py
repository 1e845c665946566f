"""Key usage: each key's last use and request count, written in the background."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from app.auth.api_keys import queries
from app.db import Database

FLUSH_EVERY_S = 5.0
MIN_INTERVAL = timedelta(minutes=1)
MAX_KEYS_PER_FLUSH = 10_000
log = structlog.get_logger()


class LastUsed:
    """Collects uses in memory, and writes a key's once its last write is a minute old. No request waits for it.

    A process that is killed loses the uses it has not written: at most a minute's. Writes are sequential and never
    abandoned halfway, so no use is counted twice.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._used: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}
        self._requests: Counter[str] = Counter()
        self._writing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, key_id: str, now: datetime) -> None:
        self._used[key_id] = now
        self._requests[key_id] += 1

    def start(self) -> None:
        """Write every FLUSH_EVERY_S, until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let the current write finish, then write all remaining uses."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self.flush(all_of_it=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                await self.flush()

    async def flush(self, *, all_of_it: bool = False) -> None:
        """Write the uses that are due, or (before the process ends) all. After a failure they stay due."""
        async with self._writing:
            await self._flush(all_of_it=all_of_it)

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
