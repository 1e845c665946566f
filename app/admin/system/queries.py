"""Queries of the system page: inbox, webhooks and database."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from app.admin.purchases.queries import PAID_NOT_CREDITED, Row
from app.db import Session
from app.db.sql import sql

_LIST_INBOX = text(
    """
    SELECT e.environment, e.event_id, e.type, e.outcome, e.payment_intent_id AS payment_id, p.purchase_id, e.created_at,
           e.received_at
      FROM payment_events e
      LEFT JOIN LATERAL (SELECT purchase_id FROM purchases
                          WHERE payment_intent_id = e.payment_intent_id AND environment = e.environment LIMIT 1) p
        ON true
     WHERE (CAST(:outcome AS text) IS NULL OR e.outcome = :outcome)
           AND (CAST(:environment AS text) IS NULL
                OR (e.received_at, e.created_at, e.event_id, e.environment)
                   < (SELECT received_at, created_at, event_id, environment FROM payment_events
                       WHERE environment = :environment AND event_id = :event_id))
     ORDER BY e.received_at DESC, e.created_at DESC, e.event_id DESC, e.environment DESC LIMIT :limit
    """
)


async def list_inbox(db: Session, outcome: str | None, *, before: tuple[str, str] | None, limit: int) -> Sequence[Row]:
    """Return webhooks of all payments, newest first, after the one `before`: (environment, event id)."""
    environment, event_id = before or (None, None)
    values = {"outcome": outcome, "environment": environment, "event_id": event_id, "limit": limit}
    return [dict(row) for row in (await db.execute(_LIST_INBOX, values)).mappings()]


_SYSTEM = text(
    sql(
        """
    SELECT current_setting('server_version') AS database,
           (SELECT version_num FROM alembic_version) AS migration,
           (SELECT max(last_heartbeat) FROM procrastinate_workers) AS worker_seen_at,
           (SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo') AS waiting,
           (SELECT count(*) FROM procrastinate_jobs WHERE status = 'failed') AS failed,
           (SELECT min(scheduled_at) FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at <= :now)
               AS oldest_waiting_at,
           (SELECT count(*) FROM purchases p WHERE {paid_not_credited}) AS paid_but_not_credited,
           (SELECT count(*) FROM purchases p WHERE p.review_reason IS NOT NULL) AS for_review
    """,
        paid_not_credited=PAID_NOT_CREDITED,
    )
)


async def find_system(db: Session, now: datetime) -> Row:
    return dict((await db.execute(_SYSTEM, {"now": now})).mappings().one())


_WEBHOOKS = text(
    """
    SELECT e.environment, max(p.received_at) AS last_received_at,
           count(*) FILTER (WHERE p.received_at > :since) AS received_24h,
           count(*) FILTER (WHERE p.received_at > :since AND p.outcome = 'review') AS for_review_24h
      FROM (VALUES ('live'), ('test')) AS e (environment)
      LEFT JOIN payment_events p ON p.environment = e.environment
     GROUP BY e.environment ORDER BY e.environment
    """
)


async def list_webhooks(db: Session, since: datetime) -> Sequence[Row]:
    return [dict(row) for row in (await db.execute(_WEBHOOKS, {"since": since})).mappings()]
