"""Usage reports: the sums by day plus, in the same snapshot, newer entries (see rollup.py).

Each function takes a session of `Database.consistent_read`, and runs one statement after reading the marks.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text

from app.analytics.days import OF_THE_DAYS, Days
from app.analytics.sources import find_marks, granted_uses, metered, uses
from app.db import Session
from app.db.sql import sql

Row = Mapping[str, Any]
Dimension = Literal["product_type", "agent_id", "key_id"]
MAX_ROWS = 500
FEW_DAYS = 31
"""The longest range that adds up all accounts at once."""
TOP_CANDIDATES = 2000
_NEW = sql("(SELECT * FROM ({uses}) u WHERE {of_the_days})", uses=uses(), of_the_days=OF_THE_DAYS)
_USED = sql(
    """(
    SELECT day, product_type, agent_id, key_id, uses, daily_free, free, paid, product_free, product_paid, grants
      FROM usage_days WHERE {of_the_days}
     UNION ALL
    SELECT day, product_type, agent_id, key_id, 1, daily_free, free, paid, product_free, product_paid, 0
      FROM {new} new
     UNION ALL
    SELECT day, product_type, agent_id, key_id, 0, 0, 0, 0, 0, 0, grants
      FROM ({granted_uses}) granted WHERE {of_the_days})""",
    of_the_days=OF_THE_DAYS,
    new=_NEW,
    granted_uses=granted_uses(),
)
_SUMS = ", ".join(
    f"coalesce(sum({name}), 0) AS {name}"
    for name in ("uses", "daily_free", "free", "paid", "product_free", "product_paid", "grants")
)
_ACTIVE = sql(
    """(
    SELECT account_id, day FROM {new} u
     UNION ALL
    SELECT account_id, day FROM ({metered}) m WHERE events > 0 AND {of_the_days})""",
    new=_NEW,
    metered=metered(),
    of_the_days=OF_THE_DAYS,
)
"""The accounts' days in entries that are newer than the sums."""


async def rows_of(db: Session, sql: str, days: Days, **more: Any) -> Sequence[Row]:
    """Return the rows of a statement about days, which includes entries above the sums' mark."""
    values = {**days.values, **await find_marks(db), **more}
    return [dict(row) for row in (await db.execute(text(sql), values)).mappings()]


async def find_usage(db: Session, days: Days) -> Row:
    (row,) = await rows_of(db, sql("SELECT {sums} FROM {used} used", sums=_SUMS, used=_USED), days)
    return row


async def list_days(db: Session, days: Days) -> Sequence[Row]:
    return await rows_of(db, sql("SELECT day, {sums} FROM {used} used GROUP BY day", sums=_SUMS, used=_USED), days)


async def list_by(db: Session, days: Days, dimension: Dimension) -> Sequence[Row]:
    """Return usage by a dimension, most used first."""
    statement = sql(
        """
        SELECT {dimension}, {sums} FROM {used} used
         GROUP BY {dimension} ORDER BY sum(uses) DESC, {dimension} LIMIT {max_rows}
    """,
        dimension=dimension,
        sums=_SUMS,
        used=_USED,
        max_rows=MAX_ROWS,
    )
    return await rows_of(db, statement, days)


async def sum_credits_by_key(db: Session, key_ids: Sequence[str]) -> dict[str, int]:
    """Return the credits that keys ever charged to main pools, by charges and tool uses. Omits keys without any."""
    statement = sql(
        """
        SELECT key_id, sum(credits) AS credits
          FROM (SELECT key_id, daily_free + free + paid + grants AS credits FROM usage_days
                 UNION ALL
                SELECT key_id, credits - grants FROM ({uses}) u
                 UNION ALL
                SELECT key_id, grants FROM ({granted_uses}) g) used
         WHERE key_id = ANY (:key_ids) GROUP BY key_id
    """,
        uses=uses(),
        granted_uses=granted_uses(),
    )
    values = {**await find_marks(db), "key_ids": key_ids}
    return {row.key_id: int(row.credits) for row in await db.execute(text(statement), values)}


async def count_uses(db: Session, account_id: UUID) -> int:
    """Count an account's charges and tool uses: each once, at any cost."""
    statement = sql(
        """
        SELECT coalesce(sum(uses), 0) AS uses
          FROM (SELECT uses FROM account_days WHERE account_id = :account_id
                 UNION ALL
                SELECT 1 FROM ({uses}) u WHERE account_id = :account_id) used
    """,
        uses=uses(),
    )
    values = {**await find_marks(db), "account_id": account_id}
    return int((await db.execute(text(statement), values)).scalar_one())


async def find_key_names(db: Session, key_ids: Sequence[str]) -> dict[str, str]:
    statement = text("SELECT key_id, name FROM api_keys WHERE key_id = ANY (:key_ids)")
    return {row.key_id: row.name for row in await db.execute(statement, {"key_ids": key_ids})}


async def count_active(db: Session, days: Days) -> int:
    """Count distinct accounts. Of an account's days in the range, the first one counts (see ActiveDay)."""
    statement = sql(
        """
        SELECT (SELECT coalesce(sum(accounts), 0) FROM active_days WHERE {of_the_days} AND previous_day < :first)
             + (SELECT count(*) FROM (SELECT DISTINCT account_id FROM {active} a) new
                 WHERE NOT EXISTS (SELECT FROM account_days d
                                    WHERE d.account_id = new.account_id AND d.day BETWEEN :first AND :last)) AS active
    """,
        of_the_days=OF_THE_DAYS,
        active=_ACTIVE,
    )
    (row,) = await rows_of(db, statement, days)
    return int(row["active"])


async def count_active_by_day(db: Session, days: Days) -> dict[date, int]:
    statement = sql(
        """
        SELECT day, sum(accounts) AS active
          FROM (SELECT day, accounts FROM active_days WHERE {of_the_days}
                 UNION ALL
                SELECT day, 1 FROM (SELECT DISTINCT account_id, day FROM {active} a) new
                 WHERE NOT EXISTS (SELECT FROM account_days d WHERE d.account_id = new.account_id AND d.day = new.day)
               ) counted
         GROUP BY day
    """,
        of_the_days=OF_THE_DAYS,
        active=_ACTIVE,
    )
    return {row["day"]: int(row["active"]) for row in await rows_of(db, statement, days)}


async def list_top_accounts(db: Session, days: Days, limit: int, *, candidates: int = TOP_CANDIDATES) -> Sequence[Row]:
    """Return `account_id`, `uses` and `credits` of the accounts that spent the most credits.

    No account spent more in a range than in total. So for a long range, only the accounts with the highest totals are
    added up first. If the last account of the result spent more in the range than the last candidate in total, no other
    account can be in the result.
    """
    if days.count > FEW_DAYS:
        chosen = await _list_biggest_spenders(db, days, candidates)
        within = " AND account_id = ANY (CAST(:chosen AS uuid[]))"
        top = await _list_top(db, days, limit, within, chosen=[row["account_id"] for row in chosen])
        if len(chosen) < candidates or (len(top) == limit and top[-1]["credits"] > chosen[-1]["total_uses"]):
            return top
    return await _list_top(db, days, limit)


async def _list_top(db: Session, days: Days, limit: int, within: str = "", **values: Any) -> Sequence[Row]:
    statement = sql(
        """
        SELECT account_id, sum(uses) AS uses, sum(credits) AS credits
          FROM (SELECT account_id, uses, credits FROM account_days WHERE {of_the_days}{within}
                 UNION ALL
                SELECT account_id, 1, credits FROM {new} new WHERE true{within}) used
         GROUP BY account_id ORDER BY sum(credits) DESC, sum(uses) DESC, account_id LIMIT :limit
    """,
        of_the_days=OF_THE_DAYS,
        within=within,
        new=_NEW,
    )
    return await rows_of(db, statement, days, limit=limit, **values)


async def _list_biggest_spenders(db: Session, days: Days, limit: int) -> Sequence[Row]:
    """Return accounts by total credits spent from the main pools, which `total_uses` counts."""
    statement = """
        SELECT account_id, total_uses FROM accounts
         WHERE environment = :environment ORDER BY total_uses DESC LIMIT :limit
    """
    return await rows_of(db, statement, days, limit=limit)


async def list_cohort_weeks(db: Session, days: Days) -> Sequence[Row]:
    """Return all later weeks of the accounts created in each week that has a day in the range."""
    cohorts = """environment = :environment AND cohort_week
        BETWEEN CAST(date_trunc('week', CAST(CAST(:first AS date) AS timestamp)) AS date) AND CAST(:last AS date)"""
    statement = sql(
        """
        WITH new AS (
            SELECT account_id, cohort_week, CAST(date_trunc('week', CAST(day AS timestamp)) AS date) AS week, credits
              FROM (SELECT account_id, environment, cohort_week, day, credits FROM ({uses}) u
                     UNION ALL
                    SELECT account_id, environment, cohort_week, day, 0 FROM ({metered}) m WHERE events > 0) parts
             WHERE {cohorts})
        SELECT cohort_week, (week - cohort_week) / 7 AS week, sum(active) AS active, sum(credits) AS credits
          FROM (SELECT cohort_week, week, active, credits FROM cohort_weeks WHERE {cohorts}
                 UNION ALL
                SELECT cohort_week, week, 0, credits FROM new
                 UNION ALL
                SELECT cohort_week, week, 1, 0 FROM (SELECT DISTINCT account_id, cohort_week, week FROM new) n
                 WHERE NOT EXISTS (SELECT FROM account_days d WHERE d.account_id = n.account_id
                                                               AND d.day >= n.week AND d.day < n.week + 7)) parts
         GROUP BY cohort_week, week ORDER BY cohort_week, week
    """,
        uses=uses(),
        metered=metered(),
        cohorts=cohorts,
    )
    return await rows_of(db, statement, days)
