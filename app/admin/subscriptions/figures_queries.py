"""Queries of the monthly figures of subscriptions: one statement a figure. None writes or locks."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from app.admin.subscriptions.figures import Month
from app.auth.caller import Environment
from app.db import Session
from app.db.sql import sql

LONGEST_PERIOD = timedelta(days=400)
"""The longest time from the creation of an invoice to a moment that it pays for: a year, and its payment attempts."""
# A subscription's price at a moment is that of the line which began last and covers it. Mid-period lines are a part of
# a price, so their price comes from the terms. An unpaid invoice counts within the grace period.
_LIST_PRICE_SUMS = text(
    """
    WITH prices AS (
      SELECT DISTINCT ON (m.at, i.account_id, i.provider, i.subscription_id)
             m.at, i.currency, t.plan_interval,
             CASE WHEN l.is_proration THEN coalesce((p.price ->> 'amount_minor')::bigint, 0)
                  ELSE greatest(l.amount_minor - coalesce(l.discount_minor, 0), 0) END AS amount_minor
        FROM subscription_invoices i
       CROSS JOIN LATERAL jsonb_to_recordset(i.lines) AS l (price_id text, start bigint, "end" bigint,
                                                            amount_minor bigint, is_proration boolean,
                                                            discount_minor bigint)
        JOIN unnest(CAST(:moments AS timestamptz[])) AS m (at)
          ON m.at >= to_timestamp(l.start) AND m.at < to_timestamp(l."end")
        JOIN subscriptions s USING (account_id, provider, subscription_id)
        JOIN subscription_terms t
          ON t.account_id = i.account_id AND t.provider = i.provider AND t.subscription_id = i.subscription_id
             AND t.price_id = l.price_id
        LEFT JOIN LATERAL (SELECT price FROM jsonb_array_elements(t.terms -> 'prices') price
                            WHERE price ->> ('stripe_price_' || s.environment) = l.price_id LIMIT 1) p ON true
       WHERE i.created_at > :since AND s.environment = :environment
         AND s.status NOT IN ('incomplete', 'incomplete_expired')
         AND (s.ended_at IS NULL OR s.ended_at > m.at)
         AND (l.amount_minor > 0 OR (l.amount_minor = 0 AND NOT l.is_proration))
         AND CASE WHEN i.status = 'paid'
                  THEN i.refunded_minor + i.withdrawn_minor = 0
                       OR i.refunded_minor + i.withdrawn_minor < i.amount_paid_minor
                  ELSE i.status IN ('draft', 'open', 'uncollectible') AND s.status NOT IN ('unpaid', 'paused')
                       AND m.at < i.created_at + CAST(:grace AS interval) END
       ORDER BY m.at, i.account_id, i.provider, i.subscription_id, l.start DESC, l."end" DESC
    )
    SELECT at, currency, plan_interval AS interval, CAST(sum(amount_minor) AS bigint) AS amount_minor,
           count(*) FILTER (WHERE amount_minor > 0) AS paying
      FROM prices GROUP BY at, currency, plan_interval
    """
)


async def list_price_sums(
    db: Session, environment: Environment, moments: Sequence[datetime], grace: timedelta
) -> Sequence[Mapping[str, Any]]:
    """Return what the subscriptions in force at each of the moments cost, by currency and interval."""
    since = min(moments) - LONGEST_PERIOD
    values = {"environment": environment, "moments": list(moments), "since": since, "grace": grace}
    return [dict(row) for row in (await db.execute(_LIST_PRICE_SUMS, values)).mappings()]


_MONTHS = "unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])) AS m (starts, ends)"
_LIST_CHURN = sql(
    """
    SELECT m.starts, count(s.subscription_id) FILTER (WHERE s.started_at < m.starts) AS active_at_start,
           count(s.subscription_id) FILTER (WHERE s.started_at < m.starts AND s.ends < m.ends) AS ended,
           count(s.subscription_id) FILTER (WHERE s.started_at >= m.starts) AS began
      FROM {months}
      LEFT JOIN (SELECT subscription_id, started_at,
                        CASE WHEN status = 'canceled' THEN coalesce(ended_at, at) END AS ends
                   FROM subscriptions
                  WHERE environment = :environment AND started_at < :until
                    AND status NOT IN ('incomplete', 'incomplete_expired')) s
        ON s.started_at < m.ends AND (s.ends IS NULL OR s.ends >= m.starts)
     GROUP BY m.starts ORDER BY m.starts
    """,
    months=_MONTHS,
)


async def list_churn(db: Session, environment: Environment, months: Sequence[Month]) -> Sequence[Mapping[str, Any]]:
    """Return for each month the subscriptions active at its start, those of them that ended in it, and new ones."""
    return [dict(row) for row in (await db.execute(text(_LIST_CHURN), _values(environment, months))).mappings()]


# An account begins to pay with its first booked purchase, or its first paid invoice above 0.
_LIST_CONVERSION = sql(
    """
    WITH payments AS (
      SELECT account_id, created_at FROM purchases
       WHERE created_at >= :since AND created_at < :until AND credit_id IS NOT NULL AND received_minor > 0
       UNION ALL
      SELECT account_id, created_at FROM subscription_invoices
       WHERE created_at >= :since AND created_at < :until AND status = 'paid' AND amount_paid_minor > 0
    ), began AS (
      SELECT f.account_id, f.first_at
        FROM (SELECT account_id, min(created_at) AS first_at FROM payments GROUP BY account_id) f
        JOIN accounts a ON a.account_id = f.account_id AND a.environment = :environment
       WHERE NOT EXISTS (SELECT FROM purchases p WHERE p.account_id = f.account_id AND p.created_at < :since
                                                   AND p.credit_id IS NOT NULL AND p.received_minor > 0)
         AND NOT EXISTS (SELECT FROM subscription_invoices i
                          WHERE i.account_id = f.account_id AND i.created_at < :since AND i.status = 'paid'
                            AND i.amount_paid_minor > 0)
    ), events AS (
      SELECT created_at AS at, 1 AS created, 0 AS began FROM accounts
       WHERE environment = :environment AND created_at >= :since AND created_at < :until
       UNION ALL
      SELECT first_at, 0, 1 FROM began
    )
    SELECT m.starts, coalesce(sum(e.created), 0) AS new_accounts, coalesce(sum(e.began), 0) AS began_to_pay
      FROM {months} LEFT JOIN events e ON e.at >= m.starts AND e.at < m.ends
     GROUP BY m.starts ORDER BY m.starts
    """,
    months=_MONTHS,
)


async def list_conversion(
    db: Session, environment: Environment, months: Sequence[Month]
) -> Sequence[Mapping[str, Any]]:
    """Return for each month the new accounts, and the accounts that began to pay in it."""
    return [dict(row) for row in (await db.execute(text(_LIST_CONVERSION), _values(environment, months))).mappings()]


def _values(environment: Environment, months: Sequence[Month]) -> dict[str, Any]:
    return {
        "environment": environment,
        "starts": [month.start for month in months],
        "ends": [month.end for month in months],
        "since": months[0].start,
        "until": months[-1].end,
    }
