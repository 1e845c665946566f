"""Queries of moved accounts."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import Database
from app.db.statements import Tx, fetch, write

_IS_MOVED = "SELECT 1 FROM moved_accounts WHERE account_id = $1 AND origin = $2"
_UPSERT = """
    INSERT INTO moved_accounts AS m (account_id, origin, details, moved_at) VALUES ($1, $2, $3::jsonb, $4)
        ON CONFLICT (account_id, origin) DO UPDATE SET details = excluded.details
     WHERE m.details <> excluded.details
    """
_FIND_DETAILS = "SELECT details FROM moved_accounts WHERE account_id = $1"


async def list_details(tx: Tx, account_id: UUID) -> Sequence[Mapping[str, Any]]:
    """Return the details of an account from each neighbour that it was moved from."""
    return [_object(row["details"]) for row in await fetch(tx, _FIND_DETAILS, account_id)]


def _object(value: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


async def is_moved(db: Database, account_id: UUID, origin: str) -> bool:
    """Return whether an import has moved the account."""
    return await db.fetch_row(_IS_MOVED, account_id, origin) is not None


async def upsert_moved(tx: Tx, account_id: UUID, origin: str, details: Mapping[str, Any], now: datetime) -> None:
    """Store an account's details. Equal details change nothing."""
    await write(tx, _UPSERT, account_id, origin, json.dumps(details), now)
