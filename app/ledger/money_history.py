"""Money history: the movements of an account's money, newest first. Reads only.

A movement is all that one cause did to the account at one time: usage that two grants and the plain balance paid, or a
purchase that also paid a debt. Its amount is the change of money, grants and debt together, so that a purchase counts
whole and usage counts what it cost.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app.db import Session
from app.db.sql import sql
from app.ledger.entries import USAGE_CAUSES


@dataclass(frozen=True, slots=True)
class Movement:
    """A movement of money. Amounts are nanos of `currency`; the balances are the spendable money.

    `reason` is the kind of its first entry, except that a debt has the reason of what caused it, and that usage which
    was returned is a `correction`. What a correction charged more is `usage`; its cause is the correction.
    `grant_source` and `grant_category` are of the grant that is its cause. `actor_type` is of its first entry.
    """

    entry_no: int
    reason: str
    cause_type: str
    cause_id: UUID
    currency: str
    amount_nanos: int
    balance_before_nanos: int
    balance_after_nanos: int
    created_at: datetime
    grant_source: str | None
    grant_category: str | None
    actor_type: str


# Windows over the account's newest entries, in the order of the primary key: PostgreSQL stops when the page is full.
_LIST = sql(
    """
    WITH entries AS (
        SELECT *, (cause_type, cause_id, created_at, is_end) IS DISTINCT FROM
                  (lead(cause_type) OVER w, lead(cause_id) OVER w, lead(created_at) OVER w, lead(is_end) OVER w)
                  AS is_first,
               sum(CASE WHEN pool IN ('money', 'grant') THEN delta ELSE 0 END)
                   OVER (ORDER BY entry_no DESC ROWS UNBOUNDED PRECEDING) AS since
          FROM (SELECT *, kind IN ('grant_expiry', 'grant_ended') AS is_end
                  FROM ledger_entries WHERE account_id = :account_id AND unit <> 'credit') money
        WINDOW w AS (ORDER BY entry_no DESC)),
    movements AS (
        SELECT *, lag(entry_no) OVER (ORDER BY entry_no DESC) AS newer,
               CASE WHEN cause_type = 'correction'
                    THEN CASE WHEN (pool = 'money_debt') = (delta > 0) THEN 'usage' ELSE 'correction' END
                    WHEN kind = 'debt_incurred' THEN CASE WHEN is_usage THEN 'usage' ELSE 'refund_reversal' END
                    WHEN kind = 'usage' AND delta > 0 THEN 'correction'
                    ELSE kind END AS reason
          FROM (SELECT *, cause_type IN ({usage}) AS is_usage FROM entries) e
         WHERE is_first)
    SELECT m.entry_no, m.reason, m.cause_type, m.cause_id, m.unit AS currency, m.created_at, m.actor_type,
           a.money_nanos + a.grants_money_nanos - m.since AS before_nanos, s.amount_nanos, s.spendable_nanos,
           g.source AS grant_source, g.category AS grant_category
      FROM (SELECT * FROM movements {condition} ORDER BY entry_no DESC LIMIT :limit OFFSET :offset) m
      JOIN accounts a ON a.account_id = :account_id
      LEFT JOIN grants g ON m.cause_type = 'grant' AND g.account_id = :account_id AND g.grant_id = m.cause_id
     CROSS JOIN LATERAL (
           SELECT sum(CASE pool WHEN 'money_debt' THEN -delta ELSE delta END) AS amount_nanos,
                  coalesce(sum(delta) FILTER (WHERE pool IN ('money', 'grant')), 0) AS spendable_nanos
             FROM ledger_entries
            WHERE account_id = :account_id AND unit <> 'credit' AND entry_no >= m.entry_no
              AND entry_no < coalesce(m.newer, 9223372036854775807)) s
     ORDER BY m.entry_no DESC
    """,
    usage=", ".join(f"'{cause}'" for cause in sorted(USAGE_CAUSES)),
    condition="{condition}",
)
_ALL = text(sql(_LIST, condition=""))
_SOME = text(sql(_LIST, condition="WHERE reason = ANY (CAST(:reasons AS text[]))"))


async def list_money_movements(
    db: Session, account_id: UUID, *, limit: int, offset: int, reasons: Collection[str] | None = None
) -> Sequence[Movement]:
    """Return a page of the account's movements, newest first, of these reasons if they are given."""
    values = {"account_id": account_id, "limit": limit, "offset": offset}
    if reasons is None:
        rows = await db.execute(_ALL, values)
    else:
        rows = await db.execute(_SOME, {**values, "reasons": sorted(reasons)})
    return [
        Movement(
            entry_no=row.entry_no,
            reason=row.reason,
            cause_type=row.cause_type,
            cause_id=row.cause_id,
            currency=row.currency,
            amount_nanos=int(row.amount_nanos),
            balance_before_nanos=int(row.before_nanos),
            balance_after_nanos=int(row.before_nanos + row.spendable_nanos),
            created_at=row.created_at,
            grant_source=row.grant_source,
            grant_category=row.grant_category,
            actor_type=row.actor_type,
        )
        for row in rows
    ]
