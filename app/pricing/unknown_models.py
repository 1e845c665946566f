"""UnknownModels: counts the models that usage named and no price book prices. No request waits for the writes."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.clock import utc_now
from app.db import Database
from app.observability.metrics import UNKNOWN_MODELS
from app.pricing import queries
from app.pricing.compiled import UnknownModel

FLUSH_EVERY_S = 5.0
MAX_COLLECTED = 1_000
"""Distinct models between two writes. Further ones are counted by the metric alone."""
FORGOTTEN_AFTER = timedelta(days=90)
log = structlog.get_logger()


class UnknownModels:
    """Collects in memory, and writes every FLUSH_EVERY_S. A process that is killed loses at most that much."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._seen: dict[tuple[str, str], dict[str, Any]] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, unknown: UnknownModel, now: datetime, *, stated_price: bool) -> None:
        """Count an event of an unknown model, which was refused or had the book's stated price. Takes no time."""
        outcome = "stated_price" if stated_price else "refused"
        UNKNOWN_MODELS.labels(unknown.reason, outcome).inc()
        key = unknown.provider, unknown.model
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= MAX_COLLECTED:
                return
            seen = {"provider": unknown.provider, "model": unknown.model, "events": 0, "first_seen_at": now}
            self._seen[key] = seen
        seen["events"] += 1
        seen |= {"reason": unknown.reason, "outcome": outcome, "last_seen_at": now}

    def start(self) -> None:
        """Write every FLUSH_EVERY_S, until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let the current write finish, then write the rest."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self.flush()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                await self.flush()

    async def flush(self) -> None:
        """Write what was collected. After a failure, the next flush tries again."""
        if not self._seen:
            return
        writing, self._seen = self._seen, {}
        try:
            async with self._db.transaction() as tx:
                before = utc_now() - FORGOTTEN_AFTER
                await queries.lock_and_count_unknown(tx, list(writing.values()), forget_before=before)
        except Exception as error:  # the database is down
            log.warning("unknown_models_not_written", error=type(error).__name__, models=len(writing))
            self._restore(writing)

    def _restore(self, unwritten: dict[tuple[str, str], dict[str, Any]]) -> None:
        for key, earlier in unwritten.items():
            later = self._seen.get(key)
            if later is not None:
                later["events"] += earlier["events"]
                later["first_seen_at"] = earlier["first_seen_at"]
            elif len(self._seen) < MAX_COLLECTED:
                self._seen[key] = earlier
