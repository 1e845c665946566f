"""Queries of probable double charges: reads without locks."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.db import Session

_LIST = """
    SELECT d.account_id, d.charge_id, d.double_of, c.amount_minor, c.currency, c.description, c.created_at,
           c.metadata ->> 'request_id' AS request_id, f.created_at AS first_created_at,
           c.idempotency_key, f.idempotency_key AS first_idempotency_key,
           CASE e.actor_type WHEN 'api_key' THEN e.actor_id END AS key_id, k.name AS key_name
      FROM charge_purposes d
      JOIN charges c ON c.account_id = d.account_id AND c.charge_id = d.charge_id
      JOIN charges f ON f.account_id = d.account_id AND f.charge_id = d.double_of
      JOIN ledger_entries e ON e.account_id = c.account_id AND e.entry_no = c.entry_no
      LEFT JOIN api_keys k ON e.actor_type = 'api_key' AND k.key_id = e.actor_id
     WHERE d.double_of IS NOT NULL AND (CAST(:before AS uuid) IS NULL OR d.charge_id < :before)
    """
_END = " ORDER BY d.charge_id DESC LIMIT :limit"
_OF_ACCOUNT = " AND d.account_id = :account_id"
_OF_KEY = " AND e.actor_type = 'api_key' AND e.actor_id = :key_id"


async def list_doubles(
    db: Session, *, account_id: UUID | None, key_id: str | None = None, before: UUID | None, limit: int
) -> Sequence[dict[str, Any]]:
    """Return flagged charges with their keys, newest first, of all accounts or one, and of all API keys or one."""
    values: dict[str, object] = {"before": before, "limit": limit}
    statement = _LIST
    if account_id is not None:
        values["account_id"], statement = account_id, statement + _OF_ACCOUNT
    if key_id is not None:
        values["key_id"], statement = key_id, statement + _OF_KEY
    rows = await db.execute(text(statement + _END), values)
    return [dict(row) for row in rows.mappings()]
