"""Queries of moved accounts."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import Database
from app.db.statements import Tx, write

_IS_MOVED = "SELECT 1 FROM moved_accounts WHERE account_id = $1 AND origin = $2"
_UPSERT = """
    INSERT INTO moved_accounts AS m (account_id, origin, details, moved_at) VALUES ($1, $2, $3::jsonb, $4)
        ON CONFLICT (account_id, origin) DO UPDATE SET details = excluded.details
     WHERE m.details <> excluded.details
    """


async def is_moved(db: Database, account_id: UUID, origin: str) -> bool:
    """Return whether an import has moved the account."""
    return await db.fetch_row(_IS_MOVED, account_id, origin) is not None


async def upsert_moved(tx: Tx, account_id: UUID, origin: str, details: Mapping[str, Any], now: datetime) -> None:
    """Store an account's details. Equal details change nothing."""
    await write(tx, _UPSERT, account_id, origin, json.dumps(details), now)
