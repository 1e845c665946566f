"""Days of activity: links each new day of an account to its previous one, and counts active accounts by both."""

from collections.abc import Iterable

from sqlalchemy import Row, text

from app.db import Session

# New days of accounts, and the days after them, whose previous day may have changed.
_LINK_DAYS = text(
    """
    WITH fresh AS (
        SELECT * FROM unnest(CAST(:account_ids AS uuid[]), CAST(:days AS date[])) AS f (account_id, day)),
    touched AS (
        SELECT account_id, day, true AS is_new FROM fresh
         UNION
        SELECT f.account_id, n.day, false
          FROM fresh f
         CROSS JOIN LATERAL (SELECT day FROM account_days n
                              WHERE n.account_id = f.account_id AND n.day > f.day ORDER BY n.day LIMIT 1) n
         WHERE NOT EXISTS (SELECT FROM fresh x WHERE x.account_id = f.account_id AND x.day = n.day)),
    linked AS (
        SELECT d.account_id, d.day, d.environment, d.cohort_week, t.is_new, d.previous_day AS before_that,
               CAST(date_trunc('week', CAST(d.day AS timestamp)) AS date) AS week,
               coalesce((SELECT max(p.day) FROM account_days p WHERE p.account_id = d.account_id AND p.day < d.day),
                        '-infinity') AS previous_day
          FROM touched t JOIN account_days d ON d.account_id = t.account_id AND d.day = t.day),
    stored AS (
        UPDATE account_days d SET previous_day = l.previous_day
          FROM linked l
         WHERE d.account_id = l.account_id AND d.day = l.day AND d.previous_day <> l.previous_day),
    changes AS (
        SELECT environment, cohort_week, day, week, previous_day, 1 AS accounts FROM linked
         UNION ALL
        SELECT environment, cohort_week, day, week, before_that, -1 FROM linked WHERE NOT is_new),
    weeks AS (
        INSERT INTO cohort_weeks AS w (environment, cohort_week, week, active, credits)
        SELECT environment, cohort_week, week, sum(accounts), 0 FROM changes WHERE previous_day < week GROUP BY 1, 2, 3
            ON CONFLICT (environment, cohort_week, week) DO UPDATE SET active = w.active + excluded.active)
    INSERT INTO active_days AS d (environment, day, previous_day, accounts)
    SELECT environment, day, previous_day, sum(accounts) FROM changes GROUP BY 1, 2, 3 HAVING sum(accounts) <> 0
        ON CONFLICT (environment, day, previous_day) DO UPDATE SET accounts = d.accounts + excluded.accounts
    """
)


async def link_days(tx: Session, new: Iterable[Row[tuple[object, ...]]]) -> None:
    """Link new rows of `account_days` (`account_id`, `day`), and relink the days after them.

    The caller has locked the state of the roll-up.
    """
    if days := list(new):
        values = {"account_ids": [row.account_id for row in days], "days": [row.day for row in days]}
        await tx.execute(_LINK_DAYS, values)
