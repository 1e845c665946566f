"""Queries of items for the pricing of charged work again: reads without locks."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.cost_records.queries import ITEM, Row
from app.db import Session
from app.db.sql import sql
from app.db.statements import fetch

_LIST_ITEMS_OF_EVENTS = sql(
    """
    SELECT c.usage_id, {columns}
      FROM cost_records c JOIN cost_record_items i ON i.account_id = c.account_id AND i.record_id = c.record_id
     WHERE c.account_id = $1 AND c.usage_id = ANY ($2) ORDER BY i.item_no
    """,
    columns=", ".join(f"i.{name}" for name in ITEM),
)
_LIST_VOLUMES = """
    SELECT addition_id AS id, created_at AS at, meter, quantities FROM cost_record_items
     WHERE account_id = $1 AND created_at >= $2 AND meter NOT IN ('llm_tokens', 'compute')
    """


async def list_items_of_events(db: Session, account_id: UUID, usage_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """Return the items of settled records in their order, by the usage events of their charges."""
    found: dict[UUID, list[Row]] = {}
    for row in await fetch(db, _LIST_ITEMS_OF_EVENTS, account_id, list(usage_ids)) if usage_ids else ():
        found.setdefault(row["usage_id"], []).append(row)
    return found


async def list_volumes(db: Session, account_id: UUID, since: datetime) -> Sequence[Row]:
    """Return the quantities of an account's items since a time that count in monthly volumes."""
    return await fetch(db, _LIST_VOLUMES, account_id, since)
