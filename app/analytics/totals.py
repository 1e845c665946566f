"""Totals of the books over all time, for monitoring. Each statement reads a whole table, so not for requests."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text

from app.analytics.sources import find_marks, granted_uses, uses
from app.db import Session
from app.db.sql import sql

Row = Mapping[str, Any]
_ACCOUNTS = text(
    """
    SELECT environment, status, count(*) AS accounts, sum(paid) AS paid, sum(debt) AS debt,
           sum(grants_credits) AS grants
      FROM accounts GROUP BY environment, status
    """
)
_PRODUCTS = text(
    """
    SELECT a.environment, sum(i.paid) AS paid
      FROM product_inventory i JOIN accounts a ON a.account_id = i.account_id
     WHERE i.paid > 0 GROUP BY a.environment
    """
)
_HELD = text(
    """
    SELECT a.environment, sum(p.amount) AS credits, coalesce(sum(p.amount) FILTER (WHERE p.pool = 'paid'), 0) AS paid
      FROM holds h JOIN hold_parts p USING (account_id, hold_id) JOIN accounts a USING (account_id)
     WHERE h.status = 'held' AND h.unit = 'credit' GROUP BY a.environment
    """
)
_PURCHASES = text(
    """
    SELECT environment, currency, status, count(*) AS purchases,
           coalesce(sum(credits) FILTER (WHERE credit_id IS NOT NULL), 0) AS sold,
           sum(credits_refunded) AS credits_refunded, sum(credits_disputed) AS credits_disputed,
           coalesce(sum(received_minor), 0) AS received_minor, sum(refunded_minor) AS refunded_minor,
           count(review_reason) AS for_review
      FROM purchases GROUP BY environment, currency, status
    """
)
_SPENT = text(
    sql(
        """
    SELECT environment, sum(daily_free) AS daily_free, sum(free) AS free, sum(paid) AS paid,
           sum(product_free) AS product_free, sum(product_paid) AS product_paid, sum(grants) AS grants
      FROM (SELECT environment, daily_free, free, paid, product_free, product_paid, grants FROM usage_days
             UNION ALL
            SELECT environment, daily_free, free, paid, product_free, product_paid, 0 FROM ({uses}) recent
             UNION ALL
            SELECT environment, 0, 0, 0, 0, 0, grants FROM ({granted_uses}) granted) parts
     GROUP BY environment
    """,
        uses=uses(),
        granted_uses=granted_uses(),
    )
)


async def sum_accounts(db: Session) -> Sequence[Row]:
    return await _rows(db, _ACCOUNTS)


async def sum_products(db: Session) -> Sequence[Row]:
    return await _rows(db, _PRODUCTS)


async def sum_held(db: Session) -> Sequence[Row]:
    """Return the credits in open holds, and how many of them are paid credits."""
    return await _rows(db, _HELD)


async def sum_purchases(db: Session) -> Sequence[Row]:
    """Return sums by the currency of the sale."""
    return await _rows(db, _PURCHASES)


async def sum_spent(db: Session) -> Sequence[Row]:
    """Return sums of the sums by day plus newer entries: exact in one snapshot (ADR 6)."""
    return await _rows(db, _SPENT, **await find_marks(db))


async def _rows(db: Session, statement: Any, **values: object) -> Sequence[Row]:
    return [dict(row) for row in (await db.execute(statement, values)).mappings()]
