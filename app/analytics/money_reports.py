"""Money reports: accounts, sales and credits, read from the books themselves, which grow with customers, not with uses.

A sale counts on the day on which the purchase was started, with its later refunds and disputes.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import text

from app.analytics.days import Days
from app.analytics.sources import uses
from app.analytics.usage_reports import rows_of
from app.auth.caller import Environment
from app.db import Session
from app.db.sql import sql
from app.ledger.entries import WALLET_ENTRIES

Row = Mapping[str, Any]
_FROM_FIRST_TO_LAST = """
    created_at >= CAST(CAST(:first AS date) AS timestamp) AT TIME ZONE 'UTC'
    AND created_at < CAST(CAST(:last AS date) + 1 AS timestamp) AT TIME ZONE 'UTC'"""
_DAY = "CAST(created_at AT TIME ZONE 'UTC' AS date)"
# Disputed amounts count only up to what refunds left.
_SALES = """(
    SELECT p.account_id, p.environment, p.created_at, p.unit, p.received_currency AS currency, p.received_minor,
           least(p.refunded_minor, p.received_minor) AS refunded_minor,
           least(coalesce(d.withdrawn_minor, 0), p.received_minor - least(p.refunded_minor, p.received_minor))
               AS disputed_minor
      FROM purchases p
      LEFT JOIN (SELECT account_id, purchase_id, sum(amount_minor) AS withdrawn_minor FROM purchase_disputes
                  WHERE status IN ('open', 'lost') GROUP BY account_id, purchase_id) d
        ON d.account_id = p.account_id AND d.purchase_id = p.purchase_id
     WHERE p.environment = :environment AND p.received_minor IS NOT NULL AND p.received_currency IS NOT NULL)"""
_SALES_SUMS = """
    count(*) AS sales, sum(received_minor) AS received_minor, sum(refunded_minor) AS refunded_minor,
    sum(disputed_minor) AS disputed_minor, sum(received_minor - refunded_minor - disputed_minor) AS net_minor"""
_BACK = "('refund_reversal', 'dispute_reversal', 'dispute_reinstatement')"
_ENDED = "('grant_expiry', 'grant_ended')"
_MOVEMENTS = f"""
    coalesce(sum(credits) FILTER (WHERE NOT of_grant AND kind = 'purchase'), 0) AS sold,
    coalesce(-sum(credits) FILTER (WHERE NOT of_grant AND kind IN {_BACK}), 0) AS taken_back,
    coalesce(sum(credits) FILTER (WHERE NOT of_grant AND kind <> 'purchase' AND kind NOT IN {_BACK}), 0) AS granted,
    coalesce(sum(credits) FILTER (WHERE of_grant AND kind NOT IN {_ENDED}), 0) AS grants_given,
    coalesce(-sum(credits) FILTER (WHERE of_grant AND kind IN {_ENDED}), 0) AS grants_ended"""
# Opening balances and grants of credits are ledger entries without rows in credits.
_MOVED = sql(
    """
    (SELECT credits, transaction_type AS kind, created_at, false AS of_grant FROM credits c
      WHERE {from_first_to_last} AND EXISTS (
            SELECT FROM accounts a WHERE a.account_id = c.account_id AND a.environment = :environment)
      UNION ALL
     SELECT delta, kind, created_at, false FROM ledger_entries e
      WHERE kind = 'opening_grant' AND pool = 'paid' AND {from_first_to_last} AND EXISTS (
            SELECT FROM accounts a WHERE a.account_id = e.account_id AND a.environment = :environment)
      UNION ALL
     SELECT delta, kind, created_at, true FROM ledger_entries e
      WHERE {wallet_entries} AND unit = 'credit' AND pool = 'grant' AND {from_first_to_last} AND EXISTS (
            SELECT FROM accounts a WHERE a.account_id = e.account_id AND a.environment = :environment)) moved
""",
    from_first_to_last=_FROM_FIRST_TO_LAST,
    wallet_entries=WALLET_ENTRIES,
)
_STANDING = text(
    """
    SELECT count(*) AS accounts,
           count(*) FILTER (WHERE status = 'active' AND free = 0 AND paid = 0 AND grants_credits = 0
                                  AND CASE WHEN daily_free_day >= :today THEN daily_free ELSE :daily_free END = 0)
               AS exhausted_users,
           coalesce(sum(paid), 0) AS paid_outstanding, coalesce(sum(debt), 0) AS debt,
           coalesce(sum(grants_credits), 0) AS grants_outstanding,
           (SELECT count(DISTINCT account_id) FROM purchases
             WHERE environment = :environment AND received_minor IS NOT NULL) AS paying_users,
           (SELECT coalesce(sum(i.paid), 0) FROM product_inventory i JOIN accounts o ON o.account_id = i.account_id
             WHERE o.environment = :environment AND i.paid > 0) AS product_paid_outstanding
      FROM accounts WHERE environment = :environment
    """
)


async def find_standing(db: Session, environment: Environment, *, today: date, daily_free: int) -> Row:
    """Return the current state. `daily_free` is the allowance of accounts without use today."""
    values = {"environment": environment, "today": today, "daily_free": daily_free}
    return dict((await db.execute(_STANDING, values)).mappings().one())


async def count_new_accounts(db: Session, days: Days) -> dict[date, int]:
    statement = sql(
        """
        SELECT {day} AS day, count(*) AS new FROM accounts
         WHERE environment = :environment AND {from_first_to_last} GROUP BY 1
    """,
        day=_DAY,
        from_first_to_last=_FROM_FIRST_TO_LAST,
    )
    return {row["day"]: row["new"] for row in await _rows(db, statement, days)}


async def count_buyers(db: Session, days: Days) -> int:
    statement = sql(
        """
        SELECT count(DISTINCT account_id) AS buyers FROM purchases
         WHERE environment = :environment AND received_minor IS NOT NULL AND {from_first_to_last}
    """,
        from_first_to_last=_FROM_FIRST_TO_LAST,
    )
    (row,) = await _rows(db, statement, days)
    return int(row["buyers"])


async def list_sales(db: Session, days: Days) -> Sequence[Row]:
    statement = sql(
        """
        SELECT currency, {sales_sums} FROM {sales} sales
         WHERE {from_first_to_last} GROUP BY currency ORDER BY currency
    """,
        sales_sums=_SALES_SUMS,
        sales=_SALES,
        from_first_to_last=_FROM_FIRST_TO_LAST,
    )
    return await _rows(db, statement, days)


async def list_sales_days(db: Session, days: Days) -> Sequence[Row]:
    statement = sql(
        """
        SELECT {day} AS day, currency, {sales_sums}
          FROM {sales} sales WHERE {from_first_to_last} GROUP BY 1, 2 ORDER BY 1, 2
    """,
        day=_DAY,
        sales_sums=_SALES_SUMS,
        sales=_SALES,
        from_first_to_last=_FROM_FIRST_TO_LAST,
    )
    return await _rows(db, statement, days)


async def sum_movements(db: Session, days: Days) -> Row:
    (row,) = await _rows(db, sql("SELECT {movements} FROM {moved}", movements=_MOVEMENTS, moved=_MOVED), days)
    return row


async def list_movements(db: Session, days: Days) -> Sequence[Row]:
    return await _rows(
        db,
        sql("SELECT {day} AS day, {movements} FROM {moved} GROUP BY 1", day=_DAY, movements=_MOVEMENTS, moved=_MOVED),
        days,
    )


async def list_cohorts(db: Session, days: Days) -> Sequence[Row]:
    """Return accounts by the week of their creation, and how many of them have ever paid."""
    statement = """
        SELECT CAST(date_trunc('week', created_at AT TIME ZONE 'UTC') AS date) AS first_day,
               count(*) AS accounts, count(paid.account_id) AS ever_paid
          FROM accounts a
          LEFT JOIN (SELECT DISTINCT account_id FROM purchases
                      WHERE environment = :environment AND received_minor IS NOT NULL) paid
            ON paid.account_id = a.account_id
         WHERE a.environment = :environment
           AND created_at >= date_trunc('week', CAST(CAST(:first AS date) AS timestamp)) AT TIME ZONE 'UTC'
           AND created_at < (date_trunc('week', CAST(CAST(:last AS date) AS timestamp)) + interval '7 days')
                            AT TIME ZONE 'UTC'
         GROUP BY 1 ORDER BY 1
    """
    return await _rows(db, statement, days)


async def list_prices(db: Session, days: Days) -> Sequence[Row]:
    """Return per currency, over all time: money kept, credits sold, and credits that ever entered the paid pools.

    Only of packs: bought money is a balance in the same currency, so its price says nothing about credits.
    Entered and not taken back = outstanding - debt + spent, which needs no list of causes.
    """
    statement = sql(
        """
        SELECT currency, sum(net_minor) AS net_minor, sum(sold) AS credits_sold, sum(entered) AS credits_entered
          FROM (SELECT currency, received_minor - refunded_minor - disputed_minor AS net_minor, 0 AS sold, 0 AS entered
                  FROM {sales} sales WHERE unit = 'credit'
                 UNION ALL
                SELECT currency, 0, credits - credits_refunded - credits_disputed, 0 FROM purchases
                 WHERE environment = :environment AND credit_id IS NOT NULL
                 UNION ALL
                SELECT currency, 0, 0, sum(paid) - sum(debt) FROM accounts
                 WHERE environment = :environment GROUP BY currency
                 UNION ALL
                SELECT currency, 0, 0, sum(paid) FROM usage_days WHERE environment = :environment GROUP BY currency
                 UNION ALL
                SELECT currency, 0, 0, paid FROM ({uses}) u WHERE environment = :environment) parts
         GROUP BY currency ORDER BY currency
    """,
        sales=_SALES,
        uses=uses(),
    )
    return await rows_of(db, statement, days)


async def _rows(db: Session, sql: str, days: Days) -> Sequence[Row]:
    return [dict(row) for row in (await db.execute(text(sql), days.values)).mappings()]
