"""Query of failed payments for the back office. It neither writes nor locks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from app.db import Session
from app.db.sql import sql

Kind = Literal["subscription", "refill", "authentication"]


@dataclass(frozen=True, slots=True)
class Position:
    """The position after a payment in the order of the list: the latest failure first."""

    since: datetime
    key: str


# Each branch reads an index in the order of the list, and at most a page of it.
_BRANCH = """
    SELECT * FROM ({select}) AS found ({names}) {where} ORDER BY since DESC, key DESC LIMIT :limit
"""
_BRANCHES: dict[Kind, str] = {
    "subscription": """
        SELECT 'subscription', i.account_id, s.environment, i.created_at, 'invoice:' || i.invoice_id, i.subscription_id,
               i.invoice_id, CAST(NULL AS uuid), i.amount_due_minor, CAST(NULL AS bigint), i.currency, i.attempts,
               i.next_attempt_at, CAST(NULL AS text), s.status
          FROM subscription_invoices i JOIN subscriptions s USING (account_id, provider, subscription_id)
         WHERE i.status IN ('open', 'uncollectible') AND i.attempts > 0
    """,
    "refill": """
        SELECT 'refill', f.account_id, a.environment, f.last_declined_at, 'refill:' || f.account_id, CAST(NULL AS text),
               CAST(NULL AS text), CAST(NULL AS uuid), CAST(NULL AS bigint), f.amount_nanos, a.currency, f.declines,
               CASE WHEN f.enabled THEN f.check_at END, f.last_decline, coalesce(f.off_reason, 'retried')
          FROM refill_settings f JOIN accounts a USING (account_id)
         WHERE f.declines > 0 AND f.last_declined_at IS NOT NULL
    """,
    "authentication": """
        SELECT 'authentication', r.account_id, a.environment, r.created_at, 'payment:' || r.purchase_id,
               CAST(NULL AS text), CAST(NULL AS text), r.purchase_id, CAST(NULL AS bigint), r.amount_nanos, a.currency,
               CAST(1 AS bigint), CAST(NULL AS timestamptz), r.decline, r.status
          FROM refills r JOIN accounts a USING (account_id)
         WHERE r.finished_at IS NULL AND r.status = 'action_required'
    """,
}
_NAMES = (
    "kind, account_id, environment, since, key, subscription_id, invoice_id, purchase_id, amount_minor, amount_nanos, "
    "currency, attempts, next_attempt_at, decline, state"
)


async def list_failed_payments(
    db: Session, *, kind: Kind | None, environment: str | None, after: Position | None, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Return payments that failed and are still due, the latest first.

    Of invoices the time is that at which they were due, of refills that of the last decline, or of the begin.
    """
    values: dict[str, Any] = {"limit": limit}
    conditions = []
    if environment is not None:
        conditions.append("environment = :environment")
        values["environment"] = environment
    if after is not None:
        conditions.append("since <= :since AND (since, key) < (:since, :key)")  # the first one uses the index
        values |= {"since": after.since, "key": after.key}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    branches = _BRANCHES.values() if kind is None else [_BRANCHES[kind]]
    union = " UNION ALL ".join(f"({sql(_BRANCH, select=branch, names=_NAMES, where=where)})" for branch in branches)
    statement = sql("SELECT * FROM ({union}) f ORDER BY since DESC, key DESC LIMIT :limit", union=union)
    return [dict(row) for row in (await db.execute(text(statement), values)).mappings()]
