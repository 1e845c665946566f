"""Queries of the subscribers of plans for the back office. None writes or locks."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text

from app.auth.caller import Environment
from app.db import Session

MAX_TERMS = 1000
_LIST_KEPT = text(
    """
    SELECT t.plan_name, t.terms, count(*) AS subscribers, count(*) FILTER (WHERE s.status = 'past_due') AS past_due,
           min(t.created_at) AS first_at, max(t.created_at) AS last_at
      FROM subscriptions s
      JOIN subscription_terms t USING (account_id, provider, subscription_id, price_id)
     WHERE s.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused') AND s.environment = :environment
       AND (CAST(:plan AS text) IS NULL OR t.plan_name = :plan)
     GROUP BY t.plan_name, t.terms
     ORDER BY last_at DESC LIMIT :limit
    """
)


async def list_kept_terms(db: Session, environment: Environment, plan: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the terms that subscribers keep, of one plan or of all, with their numbers of subscribers."""
    values = {"environment": environment, "plan": plan, "limit": MAX_TERMS}
    return [dict(row) for row in (await db.execute(_LIST_KEPT, values)).mappings()]
