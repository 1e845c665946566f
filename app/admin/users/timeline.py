"""An account's timeline: each event once, with the credits that it moved.

Ids are UUIDv7, so they are in the order of time: keyset pagination by id alone is enough.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text

from app.admin.users.timeline_page import before, newest
from app.admin.users.timeline_wallet import ADMINS_GRANTS, GRANTS, MONEY, USAGE, shown
from app.db import Session
from app.db.sql import sql
from app.ledger.lots import MAX_OPEN_LOTS

Row = Mapping[str, Any]
TimelineKind = Literal["charge", "tool_use", "usage", "credit", "money", "grant", "purchase", "admin"]
KINDS: tuple[TimelineKind, ...] = ("charge", "tool_use", "usage", "credit", "money", "grant", "purchase", "admin")
MOST_ENTRIES = 5
"""The most ledger entries that one charge or credit writes: a day's expiry and allowance, and three pools."""
MOST_ENTRIES_OF_CHARGE = f"CASE WHEN t.from_grants > 0 THEN {MAX_OPEN_LOTS + MOST_ENTRIES} ELSE {MOST_ENTRIES} END"
"""A charge that grants pay writes an entry for each of them."""


def _moves(cause: str, cause_id: str, only: str = "", most_entries: object = MOST_ENTRIES) -> str:
    """Return SQL for the changes by a charge or a credit `t`, by pool: its ledger entries, which are contiguous.

    Grants of credits are one pool here, with their sum.
    """
    return sql(
        """coalesce((
        SELECT jsonb_agg(jsonb_build_object('pool', pool, 'delta', delta, 'balance_after', balance_after)
                         ORDER BY first)
          FROM (SELECT e.pool, sum(e.delta) AS delta, min(e.entry_no) AS first,
                       CASE e.pool WHEN 'grant' THEN t.grants_after
                            ELSE (array_agg(e.balance_after ORDER BY e.entry_no DESC))[1] END AS balance_after
                  FROM ledger_entries e
                 WHERE e.account_id = t.account_id AND e.entry_no > t.entry_no - {most_entries}
                       AND e.entry_no <= t.entry_no AND e.cause_type = '{cause}' AND e.cause_id = t.{cause_id}{only}
                 GROUP BY e.pool) moved), '[]')""",
        most_entries=most_entries,
        cause=cause,
        cause_id=cause_id,
        only=only,
    )


_OF_INTERACTION = """
     AND (CAST(:interaction_id AS text) IS NULL
          OR t.idempotency_key IN (:interaction_id, 'charge:' || :interaction_id){or_else})"""


def _paid_by(pool: str, amount: str, after: str) -> str:
    """Return SQL for the change of a pool by a tool charge, if there was any."""
    return sql(
        """CASE WHEN {amount} > 0 THEN jsonb_build_array(
               jsonb_build_object('pool', '{pool}', 'delta', -{amount}, 'balance_after', {after})) ELSE '[]' END""",
        pool=pool,
        amount=amount,
        after=after,
    )


_CREDIT_MOVES = _moves("credit", "credit_id")
# A tool charge that the main pool pays appears once, as the tool's use. Entries at midnight are not part of a charge.
_CHARGES = sql(
    """
    SELECT 'charge', t.charge_id, t.created_at, -t.from_paid, coalesce(t.description, 'Interaction'),
           jsonb_build_object('amount_minor', t.amount_minor, 'idempotency_key', t.idempotency_key,
                              'metadata', t.metadata),
           {moves}
      FROM charges t WHERE {before} AND t.operation = 'charge'{of_interaction}
      {newest}""",
    moves=_moves("charge", "charge_id", " AND e.kind = 'charge'", MOST_ENTRIES_OF_CHARGE),
    before=before("charge_id"),
    of_interaction=sql(_OF_INTERACTION, or_else=""),
    newest=newest("charge_id"),
)
_TOOL_USES = sql(
    """
    SELECT 'tool_use', t.usage_log_id, t.created_at, coalesce(-c.from_paid, 0), t.product_type,
           jsonb_build_object('total_uses', t.result -> 'total_uses', 'idempotency_key', t.idempotency_key,
                              'request_id', t.request_id),
           CASE WHEN t.source = 'main_pool'
                THEN {by_grants} || {by_paid}
                ELSE jsonb_build_array(
                    jsonb_build_object('pool', t.product_type || '/' || t.source, 'delta', -1,
                                       'balance_after', t.result -> t.source)) END
      FROM product_usage_log t
      LEFT JOIN charges c ON c.account_id = t.account_id AND c.charge_id = t.charge_id
     WHERE {before}{of_interaction}
     {newest}""",
    by_grants=_paid_by("grant", "c.from_grants", "c.grants_after"),
    by_paid=_paid_by("paid", "c.from_paid", "c.paid_after"),
    before=before("usage_log_id"),
    of_interaction=sql(_OF_INTERACTION, or_else=" OR t.request_id = :interaction_id"),
    newest=newest("usage_log_id"),
)
# An adjustment and its audit entry are one event: the credit names the admin.
_CREDITS = """
    SELECT 'credit', t.credit_id, t.created_at, t.credits, coalesce(t.description, t.transaction_type),
           jsonb_build_object('transaction_type', t.transaction_type, 'admin', a.admin_email,
                              'external_transaction_id', t.external_transaction_id),
           {credit_moves}
      FROM credits t
      LEFT JOIN LATERAL (
            SELECT l.admin_email FROM admin_audit_log l
             WHERE t.transaction_type = 'adjustment' AND l.target_type = 'account'
                   AND l.target_id = CAST(t.account_id AS text) AND l.audit_id > t.credit_id
                   AND l.action = 'account.adjust' AND l.after ->> 'credit_id' = CAST(t.credit_id AS text)
             ORDER BY l.audit_id LIMIT 1) a ON true
     WHERE {before}{and_not} {newest}"""
_PURCHASE_DETAILS = """
    jsonb_build_object('purchase_id', p.purchase_id, 'payment_id', p.payment_intent_id, 'amount_minor', p.amount_minor,
                       'currency', p.currency, 'refunded_minor', p.refunded_minor, 'status', p.status,
                       'begun_at', p.created_at, 'review_reason', p.review_reason)"""
# A purchase appears once: when its credits are booked; until then, when it was started.
_PURCHASES = sql(
    """
    (SELECT 'purchase', t.purchase_id, t.created_at, CAST(NULL AS bigint), t.pack || ': ' || t.status,
            {details_of_t}, CAST('[]' AS jsonb)
       FROM purchases t WHERE {before_purchase} AND t.credit_id IS NULL {newest_purchase})
     UNION ALL
    (SELECT 'purchase', t.credit_id, t.created_at, t.credits, coalesce(p.pack, t.description, t.transaction_type),
            CASE WHEN p.purchase_id IS NULL
                 THEN jsonb_build_object('external_transaction_id', t.external_transaction_id)
                 ELSE {details_of_p} END,
            {credit_moves}
       FROM credits t LEFT JOIN purchases p ON p.account_id = t.account_id AND p.credit_id = t.credit_id
      WHERE {before_credit} AND t.transaction_type = 'purchase' {newest_credit})""",
    details_of_t=_PURCHASE_DETAILS.replace("p.", "t."),
    details_of_p=_PURCHASE_DETAILS,
    credit_moves=_CREDIT_MOVES,
    before_purchase=before("purchase_id"),
    newest_purchase=newest("purchase_id"),
    before_credit=before("credit_id"),
    newest_credit=newest("credit_id"),
)
_ADMINS_ACTIONS = """
    SELECT 'admin', l.audit_id, l.created_at, t.credits, l.action,
           jsonb_build_object('admin', l.admin_email, 'reason', l.reason, 'before', l."before", 'after', l."after"),
           CASE WHEN t.credit_id IS NOT NULL THEN {credit_moves}
                WHEN l.action = 'account.grant_free'
                THEN jsonb_build_array(jsonb_build_object(
                    'pool', 'free', 'balance_after', l."after" -> 'free',
                    'delta', CAST(l."after" ->> 'free' AS bigint) - CAST(l."before" ->> 'free' AS bigint)))
                ELSE '[]' END
      FROM admin_audit_log l
      LEFT JOIN credits t ON l.action = 'account.adjust' AND t.account_id = :account_id
                             AND t.credit_id = CAST(l.after ->> 'credit_id' AS uuid)
     WHERE l.target_type = 'account' AND l.target_id = CAST(CAST(:account_id AS uuid) AS text)
           AND (CAST(:before AS uuid) IS NULL OR l.audit_id < :before){and_not}
     ORDER BY l.audit_id DESC LIMIT :limit"""


def _parts(kinds: Sequence[str]) -> list[str]:
    """Return the kinds' statements. An event that belongs to two of the kinds is only in one of them."""
    purchases_apart = " AND t.transaction_type <> 'purchase'" if "purchase" in kinds else ""
    adjustments_apart = " AND (t.credit_id IS NULL OR l.action <> 'account.adjust')" if "credit" in kinds else ""
    grants_apart = f" AND l.action NOT IN {ADMINS_GRANTS}" if "grant" in kinds else ""
    statements = {
        "charge": _CHARGES,
        "tool_use": _TOOL_USES,
        "credit": sql(
            _CREDITS,
            credit_moves=_CREDIT_MOVES,
            before=before("credit_id"),
            and_not=purchases_apart,
            newest=newest("credit_id"),
        ),
        "purchase": _PURCHASES,
        "admin": sql(_ADMINS_ACTIONS, credit_moves=_CREDIT_MOVES, and_not=adjustments_apart + grants_apart),
        "grant": GRANTS,
        "money": MONEY,
        "usage": USAGE,
    }
    return [f"({statements[kind]})" for kind in kinds]


async def list_timeline(
    db: Session,
    account_id: UUID,
    kinds: Sequence[str],
    *,
    before: UUID | None,
    limit: int,
    interaction_id: str | None = None,
) -> Sequence[Row]:
    """Return an account's events, newest first: each kind's newest rows, merged.

    With an interaction, only the charges and tool uses that name it by idempotency key or request id.
    """
    if interaction_id is not None:
        kinds = [kind for kind in kinds if kind in ("charge", "tool_use")]
        if not kinds:
            return []
    statement = sql(
        """
        SELECT * FROM ({parts}) AS events (kind, id, at, credits, title, details, moves)
         ORDER BY id DESC LIMIT :limit
        """,
        parts=" UNION ALL ".join(_parts(kinds)),
    )
    values = {"account_id": account_id, "before": before, "limit": limit, "interaction_id": interaction_id}
    return [shown(dict(row)) for row in (await db.execute(text(statement), values)).mappings()]
