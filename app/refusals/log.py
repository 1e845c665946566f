"""RefusalLog: keeps why requests were refused, for the back office. No request waits for the writes."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from app.clock import utc_now
from app.db import Database, Session, first_id_at, new_id
from app.db.write_behind import WriteBehind
from app.errors import AppError
from app.refusals import queries

MAX_COLLECTED, MAX_OF_ACCOUNT = 500, 10
"""Refusals between two writes: of all accounts, and of one. Further ones are in the access log only."""
KEPT = timedelta(days=14)
DELETED_AT_ONCE = 10_000
log = structlog.get_logger()


class RefusalLog(WriteBehind):
    """Collects refusals in memory. A process that is killed loses those since the last flush."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db
        self._rows: list[dict[str, Any]] = []
        self._of_account: Counter[str] = Counter()

    def note(self, error: AppError, route: str, account_id: UUID | None = None) -> None:
        """Keep a refusal of the request that runs now. Takes no time. Without an account there is nothing to explain.

        `account_id`: default: the one that the request names.
        """
        context = structlog.contextvars.get_contextvars()
        account = context.get("account_id") if account_id is None else str(account_id)
        if account is None or len(self._rows) >= MAX_COLLECTED or self._of_account[account] >= MAX_OF_ACCOUNT:
            return
        self._of_account[account] += 1
        self._rows.append(
            {
                "refusal_id": new_id(),
                "account_id": UUID(account),
                "request_id": context.get("request_id"),
                "key_id": context.get("key_id"),
                "route": route,
                "code": error.code,
                "detail": error.detail,
                "figures": json.dumps(error.kept_figures),
                "created_at": utc_now(),
            }
        )

    async def flush(self) -> None:
        """Write what was collected. After a failure, the next flush tries again."""
        if not self._rows:
            return
        writing, self._rows = self._rows, []
        self._of_account.clear()
        try:
            async with self._db.transaction() as tx:
                await queries.insert_refusals(tx, writing)
        except Exception as error:  # the database is down
            log.warning("refusals_not_written", error=type(error).__name__, refusals=len(writing))
            self._rows = [*writing, *self._rows][:MAX_COLLECTED]


async def find_refusals(
    db: Session,
    *,
    request_id: str | None,
    account_id: UUID | None,
    code: str | None = None,
    before: UUID | None,
    limit: int,
) -> Sequence[Any]:
    """Return refused requests, newest first."""
    return await queries.list_refusals(
        db, request_id=request_id, account_id=account_id, code=code, before=before, limit=limit
    )


async def forget_refusals(db: Database, now: datetime) -> int:
    """Delete refusals that are older than KEPT, in transactions of a bounded size. Return their number."""
    deleted = 0
    while True:
        async with db.transaction() as tx:
            page = await queries.delete_refusals(tx, first_id_at(now - KEPT), DELETED_AT_ONCE)
        deleted += page
        if page < DELETED_AT_ONCE:
            return deleted
