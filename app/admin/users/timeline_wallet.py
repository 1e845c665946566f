"""Grants, money and usage events of an account's timeline."""

from collections.abc import Mapping
from typing import Any

from app.admin.users.timeline_page import before, newest
from app.db.sql import sql
from app.ledger.entries import WALLET_ENTRIES
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT

ADMINS_GRANTS = "('account.give_grant', 'account.end_grant')"
"""Actions of admins that are shown as the grant's own events."""
AMOUNTS = ("cost", "owed", "stated")
"""Details that statements return in nanos."""
_MOVE = """jsonb_build_array(jsonb_build_object(
    'pool', '{pool}', 'unit', {unit}, 'delta', {delta}, 'balance_after', {after}))"""


def _move(pool: str, unit: str, delta: str, after: str) -> str:
    return sql(_MOVE, pool=pool, unit=unit, delta=delta, after=after)


def _admin(action: str, grant: str) -> str:
    """Return SQL for the admin who gave or ended a grant, and the reason."""
    return sql(
        """LEFT JOIN LATERAL (
            SELECT l.admin_email, l.reason FROM admin_audit_log l
             WHERE l.target_type = 'account' AND l.target_id = CAST({grant}.account_id AS text)
                   AND l.action = '{action}' AND l.after ->> 'grant_id' = CAST({grant}.grant_id AS text)
             ORDER BY l.audit_id LIMIT 1) a ON true""",
        action=action,
        grant=grant,
    )


# A grant's end has no id: it is made of the time, and of the grant's id. No other id has its variant.
_END_ID = """CAST(lpad(to_hex(CAST(floor(extract(epoch FROM g.closed_at) * 1000) AS bigint)), 12, '0') || '7'
             || substr(replace(CAST(g.grant_id AS text), '-', ''), 14, 3) || 'c'
             || substr(replace(CAST(g.grant_id AS text), '-', ''), 18) AS uuid)"""
GRANTS = sql(
    """
    (SELECT 'grant', t.grant_id, t.created_at, CAST(NULL AS bigint), 'grant_given',
            jsonb_build_object('category', t.category, 'source', t.source, 'priority', t.priority,
                               'expires_at', t.expires_at, 'admin', a.admin_email, 'reason', a.reason),
            {given}
       FROM grants t {gave}
      WHERE {before_given} {newest_given})
     UNION ALL
    (SELECT 'grant', t.id, t.created_at, CAST(NULL AS bigint), t.kind,
            jsonb_build_object('category', t.category, 'source', t.source, 'grant_id', t.grant_id,
                               'admin', a.admin_email, 'reason', a.reason),
            {ended}
       FROM (SELECT {end_id} AS id, g.account_id, g.grant_id, g.category, g.source, g.unit, e.kind, e.delta,
                    e.balance_after, e.created_at
               FROM grants g
               JOIN (SELECT account_id, grant_id, kind, delta, balance_after, created_at FROM ledger_entries
                      WHERE {wallet_entries} AND kind IN ('grant_expiry', 'grant_ended')) e
                 ON e.created_at = g.closed_at AND e.account_id = g.account_id AND e.grant_id = g.grant_id
              WHERE g.account_id = :account_id AND g.closed_at IS NOT NULL) t {ended_by}
      WHERE {before_ended} {newest_ended})""",
    given=_move("grant", "t.unit", "t.amount", "t.amount"),
    gave=_admin("account.give_grant", "t"),
    before_given=before("grant_id"),
    newest_given=newest("grant_id"),
    ended=_move("grant", "t.unit", "t.delta", "t.balance_after"),
    end_id=_END_ID,
    wallet_entries=WALLET_ENTRIES,
    ended_by=_admin("account.end_grant", "t"),
    before_ended=before("id"),
    newest_ended=newest("id"),
)
MONEY = sql(
    """
    (SELECT 'money', t.money_credit_id, t.created_at, CAST(NULL AS bigint),
            coalesce(t.description, t.transaction_type),
            jsonb_build_object('transaction_type', t.transaction_type,
                               'external_transaction_id', t.external_transaction_id),
            {move}
       FROM money_credits t
      WHERE {before} {newest})
     UNION ALL
    (SELECT 'money', t.correction_id, t.created_at, CAST(NULL AS bigint), 'correction',
            jsonb_build_object('transaction_type', 'correction', 'reason', r.reason),
            coalesce((SELECT jsonb_agg(jsonb_build_object('pool', e.pool, 'unit', e.unit, 'delta', e.delta,
                                                          'balance_after', e.balance_after) ORDER BY e.entry_no)
                        FROM ledger_entries e
                       WHERE {wallet_entries} AND e.account_id = t.account_id AND e.created_at = t.created_at
                             AND e.cause_type = 'correction' AND e.cause_id = t.correction_id), '[]')
       FROM account_corrections t LEFT JOIN reratings r USING (rerating_id)
      WHERE {before_correction} {newest_correction})""",
    move=_move("money", "t.currency", "t.amount_nanos", "t.balance_after_nanos"),
    before=before("money_credit_id"),
    newest=newest("money_credit_id"),
    wallet_entries=WALLET_ENTRIES,
    before_correction=before("correction_id"),
    newest_correction=newest("correction_id"),
)
"""Money that was added, and usage that was priced again."""
USAGE = sql(
    """
    SELECT 'usage', t.usage_id, t.created_at, CAST(NULL AS bigint), coalesce(t.model, t.meter),
           jsonb_build_object('status', t.status, 'refusal', t.refusal, 'meter', t.meter, 'provider', t.provider,
                              'model', t.model, 'cost', t.cost_nanos, 'owed', nullif(t.debt_nanos, 0),
                              'stated', t.stated_nanos, 'currency', t.currency, 'occurred_at', t.occurred_at,
                              'agent_id', t.agent_id, 'tool', t.tool, 'run_id', t.run_id, 'event_id', t.event_id),
           CASE WHEN t.status IN ('charged', 'debt') THEN {move} ELSE '[]' END
      FROM usage_events t
     WHERE {before} {newest}""",
    move=_move("money", "t.currency", "t.debt_nanos - t.cost_nanos", "t.balance_after_nanos"),
    before=before("usage_id"),
    newest=newest("usage_id"),
)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with its money as exact decimal text."""
    details = {
        name: decimal_text(value) if row["kind"] == "usage" and name in AMOUNTS and value is not None else value
        for name, value in row["details"].items()
    }
    return {**row, "details": details, "moves": [_shown_move(move) for move in row["moves"]]}


def _shown_move(move: Mapping[str, Any]) -> dict[str, Any]:
    if move.get("unit", CREDIT) == CREDIT:
        return {"unit": CREDIT, **move, "amount": None, "balance": None}
    return {**move, "amount": decimal_text(move["delta"]), "balance": decimal_text(move["balance_after"])}
