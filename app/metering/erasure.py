"""Erasure of callers' texts in usage events when a person is erased.

Sums by model, agent and tool stay. Event ids are replaced by our own, so no id can be used a second time.
"""

from uuid import UUID

from sqlalchemy import text

from app.accounts.erasure import ROWS_AT_ONCE, Texts
from app.db import Database
from app.db.sql import sql

FORGOTTEN = "erased"
"""Instead of a source."""
TEXTS = Texts(
    "usage_events",
    "usage_id",
    {
        "event_id": "NULL",
        "source": f"'{FORGOTTEN}'",
        "quantities": "quantities - 'endpoint'",
        "raw": "NULL",
        "metadata": "NULL",
        "run_id": "NULL",
        "attribution": "NULL",
    },
)
_RENAME = """
    WITH page AS (
        SELECT event_id, source FROM {table}
         WHERE account_id = :account_id AND (event_id, source) > (:event_id, :source)
         ORDER BY event_id, source LIMIT {limit}),
    renamed AS (
        UPDATE {table} t SET event_id = CAST(usage_id AS text), source = '{forgotten}' FROM page
         WHERE t.account_id = :account_id AND t.event_id = page.event_id AND t.source = page.source)
    SELECT event_id, source FROM page ORDER BY event_id DESC, source DESC LIMIT 1
    """


async def forget_event_ids(db: Database, account_id: UUID) -> None:
    """Replace the ids of an erased account's events by our own, some at a time. Idempotent.

    A renamed row may be visited again, under its new name, which it keeps.
    """
    for table in ("usage_keys", "usage_attempts"):
        statement = text(sql(_RENAME, table=table, limit=ROWS_AT_ONCE, forgotten=FORGOTTEN))
        after: dict[str, str] | None = {"event_id": "", "source": ""}
        while after is not None:
            async with db.transaction() as tx:
                row = (await tx.execute(statement, {"account_id": account_id, **after})).mappings().one_or_none()
            after = None if row is None else {"event_id": row["event_id"], "source": row["source"]}
