"""Queries of grants: one statement per function."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from app.db.statements import Tx, fetch

# DISTINCT after LIMIT: the index gives the oldest first, and an account has at most 1,000 open grants.
_FIND_DUE = """
    SELECT DISTINCT account_id
      FROM (SELECT account_id FROM grants
             WHERE closed_at IS NULL AND expires_at <= $1 AND account_id <> ALL ($3::uuid[])
             ORDER BY expires_at LIMIT $2) due
    """


async def find_accounts_with_due_grants(tx: Tx, now: datetime, limit: int, without: Collection[UUID]) -> Sequence[UUID]:
    """Return accounts of the grants that have been due for the longest time, except accounts in `without`."""
    return [row["account_id"] for row in await fetch(tx, _FIND_DUE, now, limit, list(without))]
