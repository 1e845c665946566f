"""Queries of an account's money and grants for the back office. None locks or writes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.db import Session
from app.db.sql import sql

Row = Mapping[str, Any]
_LIVE = "account_id = :account_id AND closed_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
_FIND_WALLET = text(
    sql(
        """
        SELECT a.currency, a.money_nanos, a.money_debt_nanos, a.held_credits, a.held_money_nanos,
               a.money_purchased_nanos, a.money_granted_nanos, a.money_used_nanos, a.billing_enabled,
               g.grants, g.granted_credits, g.granted_nanos
          FROM accounts a
         CROSS JOIN (SELECT count(*) AS grants,
                            coalesce(sum(remaining) FILTER (WHERE unit = 'credit'), 0) AS granted_credits,
                            coalesce(sum(remaining) FILTER (WHERE unit <> 'credit'), 0) AS granted_nanos
                       FROM grants WHERE {live}) g
         WHERE a.account_id = :account_id
        """,
        live=_LIVE,
    )
)
_COLUMNS = """
    grant_id, account_id, unit, amount, remaining, priority, category, source, expires_at, created_at, closed_at
"""
# The burn order of app.ledger.lots.
_LIST_OPEN = text(
    sql(
        """
        SELECT {columns} FROM grants WHERE {live}
         ORDER BY priority, expires_at, category <> 'promotional', created_at, grant_id LIMIT :limit OFFSET :offset
        """,
        columns=_COLUMNS,
        live=_LIVE,
    )
)
_LIST_ALL = text(
    sql(
        """
        SELECT {columns} FROM grants WHERE account_id = :account_id
         ORDER BY grant_id DESC LIMIT :limit OFFSET :offset
        """,
        columns=_COLUMNS,
    )
)


async def find_wallet(db: Session, account_id: UUID, now: datetime) -> Row | None:
    """Return the account's money, and the sums of the grants that can pay at `now`."""
    row = (await db.execute(_FIND_WALLET, {"account_id": account_id, "now": now})).mappings().one_or_none()
    return None if row is None else dict(row)


async def list_grants(
    db: Session, account_id: UUID, now: datetime, *, only_open: bool, offset: int, limit: int
) -> Sequence[Row]:
    """Return the grants that can pay at `now` in burn order, or all grants, newest first."""
    values = {"account_id": account_id, "limit": limit, "offset": offset}
    statement = _LIST_OPEN if only_open else _LIST_ALL
    rows = await db.execute(statement, {**values, "now": now} if only_open else values)
    return [dict(row) for row in rows.mappings()]
