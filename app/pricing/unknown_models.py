"""UnknownModels: counts the models that usage named and no price book prices. No request waits for the writes."""

from datetime import datetime, timedelta
from typing import Any

import structlog

from app.clock import utc_now
from app.db import Database
from app.db.write_behind import WriteBehind
from app.observability.metrics import UNKNOWN_MODELS
from app.pricing import queries
from app.pricing.compiled import UnknownModel

MAX_COLLECTED = 1_000
"""Distinct models between two writes. Further ones are counted by the metric alone."""
FORGOTTEN_AFTER = timedelta(days=90)
log = structlog.get_logger()


class UnknownModels(WriteBehind):
    """Counts by model. A process that is killed loses the counts since the last flush."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db
        self._seen: dict[tuple[str, str], dict[str, Any]] = {}

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
        seen |= {"reason": unknown.reason, "missing": unknown.missing, "outcome": outcome, "last_seen_at": now}

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
