"""Personal data export: all data of one person as one JSON document, with only a page of it in memory at a time.

Each page is a separate statement, so no transaction stays open during a slow download. Rows that are added during an
export may be missing in it.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, TextClause, Uuid, bindparam, text

from app.db import Database
from app.db.sql import sql

PAGE_ROWS = 500
_ACCOUNT = text(
    """
    SELECT account_id, environment, status, status_reason, plan_name, currency, daily_free, daily_free_day, free, paid,
           debt, total_uses, money_nanos, money_debt_nanos, grants_credits, grants_money_nanos, held_credits,
           held_money_nanos, money_purchased_nanos, money_granted_nanos, money_used_nanos, billing_enabled, created_at,
           updated_at, erased_at
      FROM accounts WHERE account_id = :account_id
    """
)
_PROFILE = text(
    """
    SELECT customer_email, display_name, wa_id, tenant_id, user_role, agent_id, marketing_opt_in, marketing_opt_in_at,
           marketing_opt_in_source, updated_at
      FROM account_profiles WHERE account_id = :account_id
    """
)
_IDENTITIES = text(
    """
    SELECT i.environment, i.oauth_provider, i.external_id, i.created_at, c.not_before AS tokens_refused_before
      FROM account_identities i
      LEFT JOIN token_cutoffs c USING (environment, oauth_provider, external_id)
     WHERE i.account_id = :account_id ORDER BY i.created_at LIMIT 1000
    """
)
_PRODUCTS = text(
    """
    SELECT product_type, free, free_day, paid, total_uses, updated_at
      FROM product_inventory WHERE account_id = :account_id ORDER BY product_type LIMIT 1000
    """
)


@dataclass(frozen=True, slots=True)
class _Section:
    """A list of the document: rows of `select`, paged by `key`."""

    name: str
    key: str
    select: str
    first: object = UUID(int=0)

    def statement(self) -> TextClause:
        kind = BigInteger() if isinstance(self.first, int) else Uuid()
        page = sql(
            "SELECT * FROM ({select}) rows WHERE {key} > :after ORDER BY {key} LIMIT {limit}",
            select=self.select,
            key=self.key,
            limit=PAGE_ROWS,
        )
        return text(page).bindparams(bindparam("after", type_=kind))


_SECTIONS = (
    _Section(
        "charges",
        "charge_id",
        """
        SELECT charge_id, operation, amount_minor, currency, cost, from_daily_free, from_free, from_paid, from_grants,
               paid_after, grants_after, description, idempotency_key, metadata, run_id, created_at,
               (SELECT double_of FROM charge_purposes p
                 WHERE p.account_id = c.account_id AND p.charge_id = c.charge_id) AS double_of
          FROM charges c WHERE account_id = :account_id""",
    ),
    _Section(
        "credits",
        "credit_id",
        """
        SELECT credit_id, transaction_type, credits, currency, paid_after, grants_after, description,
               idempotency_key, external_transaction_id, created_at
          FROM credits WHERE account_id = :account_id""",
    ),
    _Section(
        "free_grants",
        "grant_id",
        """
        SELECT grant_id, credits, free_after, idempotency_key, created_at
          FROM free_grants WHERE account_id = :account_id""",
    ),
    _Section(
        "grants",
        "grant_id",
        """
        SELECT grant_id, unit, amount, remaining, priority, category, source, expires_at, idempotency_key, created_at,
               closed_at
          FROM grants WHERE account_id = :account_id""",
    ),
    _Section(
        "one_time_grants",
        "grant_id",
        """
        SELECT grant_id, kind, CASE WHEN kind = 'referral' THEN NULL ELSE occasion END AS occasion, created_at
          FROM grant_claims WHERE account_id = :account_id""",
    ),
    _Section(
        "referral",
        "account_id",
        "SELECT account_id, created_at, due_at, paid_at FROM referrals WHERE account_id = :account_id",
    ),
    _Section(
        "money_credits",
        "money_credit_id",
        """
        SELECT money_credit_id, transaction_type, amount_nanos, currency, balance_after_nanos, description,
               idempotency_key, external_transaction_id, created_at
          FROM money_credits WHERE account_id = :account_id""",
    ),
    _Section(
        "tool_uses",
        "usage_log_id",
        """
        SELECT usage_log_id, product_type, source, charge_id, idempotency_key, request_id, run_id, result, created_at
          FROM product_usage_log WHERE account_id = :account_id""",
    ),
    _Section(
        "purchases",
        "purchase_id",
        """
        SELECT p.purchase_id, p.pack, p.unit, p.credits, p.money_nanos, p.discount_percent, p.amount_minor, p.currency,
               p.payment_intent_id AS payment_id, p.checkout_session_id, p.buyer, p.success_url, p.cancel_url,
               p.idempotency_key, p.status, p.next_action, p.received_minor, p.received_currency, p.refunded_minor,
               p.credits_refunded, p.credits_disputed, p.money_refunded_nanos, p.money_disputed_nanos, p.credit_id,
               p.review_reason, p.card_fingerprint, p.card_brand, p.card_last4, p.receipt_url, p.created_at,
               p.updated_at,
               (SELECT coalesce(jsonb_agg(jsonb_build_object('dispute_id', d.dispute_id, 'status', d.status,
                                'amount_minor', d.amount_minor, 'updated_at', d.updated_at)
                                ORDER BY d.updated_at), '[]')
                  FROM purchase_disputes d
                 WHERE d.account_id = p.account_id AND d.purchase_id = p.purchase_id) AS disputes,
               (SELECT coalesce(jsonb_agg(jsonb_build_object('refund_id', r.refund_id, 'status', r.status,
                                'amount_minor', r.amount_minor, 'reason', r.reason,
                                'created_at', r.created_at, 'updated_at', r.updated_at)
                                ORDER BY r.created_at), '[]')
                  FROM purchase_refunds r
                 WHERE r.account_id = p.account_id AND r.purchase_id = p.purchase_id) AS refunds
          FROM purchases p WHERE p.account_id = :account_id""",
    ),
    _Section(
        "refill_settings",
        "account_id",
        """
        SELECT account_id, enabled, trigger_below_nanos, amount_nanos, monthly_cap_nanos, off_reason, off_at, declines,
               last_declined_at, last_decline, last_started_at, check_at, created_at, updated_at
          FROM refill_settings WHERE account_id = :account_id""",
    ),
    _Section(
        "card_consents",
        "consent_id",
        "SELECT consent_id, text, address, actor_type, given_at FROM card_consents WHERE account_id = :account_id",
    ),
    _Section(
        "card_setups",
        "setup_id",
        """
        SELECT setup_id, consent_id, provider, provider_customer_id, checkout_session_id, status, success_url,
               cancel_url, created_at, updated_at
          FROM card_setups WHERE account_id = :account_id""",
    ),
    _Section(
        "saved_cards",
        "card_id",
        """
        SELECT card_id, consent_id, provider, provider_customer_id, provider_method_id, brand, last4, expiry_month,
               expiry_year, is_primary, created_at, removed_at
          FROM saved_cards WHERE account_id = :account_id""",
    ),
    _Section(
        "refills",
        "purchase_id",
        """
        SELECT purchase_id, card_id, amount_nanos, status, decline, action_url, sent_at, created_at, updated_at,
               finished_at
          FROM refills WHERE account_id = :account_id""",
    ),
    _Section(
        "payment_customers",
        "account_id",
        """
        SELECT account_id, provider, customer_id, created_at FROM payment_customers WHERE account_id = :account_id""",
    ),
    _Section(
        "subscription_orders",
        "order_id",
        """
        SELECT order_id, provider, price_id, plan_name, plan_interval, terms, success_url, cancel_url, session_id,
               subscription_id, status, created_at
          FROM subscription_orders WHERE account_id = :account_id""",
    ),
    _Section(
        "subscriptions",
        "account_id",
        """
        SELECT account_id,
               (SELECT jsonb_agg(to_jsonb(s) - 'account_id' ORDER BY s.started_at) FROM subscriptions s
                 WHERE s.account_id = b.account_id) AS subscriptions,
               (SELECT jsonb_agg(to_jsonb(t) - 'account_id' ORDER BY t.created_at) FROM subscription_terms t
                 WHERE t.account_id = b.account_id) AS terms,
               (SELECT jsonb_agg(to_jsonb(i) - 'account_id' ORDER BY i.created_at) FROM subscription_invoices i
                 WHERE i.account_id = b.account_id) AS invoices,
               (SELECT jsonb_agg(to_jsonb(g) - 'account_id' ORDER BY g.period_start, g.kind) FROM period_grants g
                 WHERE g.account_id = b.account_id) AS grants,
               plan_before, plan_name, updated_at
          FROM subscribers b WHERE account_id = :account_id""",
    ),
    _Section(
        "ledger",
        "entry_no",
        """
        SELECT entry_no, pool, unit, grant_id, delta, balance_after, kind, cause_type, cause_id, actor_type,
               CASE WHEN actor_type = 'admin' THEN NULL ELSE actor_id END AS actor_id, created_at
          FROM ledger_entries WHERE account_id = :account_id""",
        first=0,
    ),
    _Section(
        "refused_requests",
        "refusal_id",
        """
        SELECT refusal_id, request_id, route, code, detail, figures, created_at
          FROM refused_requests WHERE account_id = :account_id""",
    ),
    _Section(
        "llm_usage",
        "usage_log_id",
        """
        SELECT usage_log_id, interaction_id, call_id, total_llm_calls, total_prompt_tokens, total_completion_tokens,
               models_used, actual_cost_cents, duration_ms, error_count, fallback_count, created_at
          FROM llm_usage WHERE account_id = :account_id""",
    ),
    _Section(
        "moved_from",
        "account_id",
        "SELECT account_id, origin, details, moved_at FROM moved_accounts WHERE account_id = :account_id",
    ),
    _Section(
        "usage_events",
        "usage_id",
        """
        SELECT u.usage_id, u.source, u.event_id, u.meter, u.provider, u.model, u.quantities, u.raw, u.metadata,
               u.status, u.refusal, u.currency, u.cost_nanos, u.stated_nanos, u.provider_cost_nanos, u.debt_nanos,
               u.balance_after_nanos, u.price_version, u.price, u.plan_name, u.agent_id, u.tool, u.run_id,
               u.attribution, u.key_id, u.occurred_at, u.created_at, t.attempts
          FROM usage_events u
          LEFT JOIN usage_attempts t
            ON t.account_id = u.account_id AND t.event_id = u.event_id AND t.source = u.source
           AND t.usage_id = u.usage_id
         WHERE u.account_id = :account_id""",
    ),
    _Section(
        "corrections",
        "correction_id",
        """
        SELECT correction_id, rerating_id, part_no, currency, amount_nanos, created_at,
               (SELECT jsonb_agg(jsonb_build_object('usage_id', c.usage_id, 'correction_no', c.correction_no,
                                 'cost_before_nanos', c.cost_before_nanos, 'cost_after_nanos', c.cost_after_nanos,
                                 'provider_cost_before_nanos', c.provider_cost_before_nanos,
                                 'provider_cost_after_nanos', c.provider_cost_after_nanos,
                                 'price_version', c.price_version, 'price', c.price) ORDER BY c.usage_id)
                  FROM usage_corrections c
                 WHERE c.account_id = k.account_id AND c.correction_id = k.correction_id) AS events
          FROM account_corrections k WHERE account_id = :account_id""",
    ),
    _Section(
        "runs",
        "run_uuid",
        """
        SELECT run_uuid, run_id, parent_uuid, unit, budget, status, pause_reason, spent_credits, spent_nanos, uses,
               metadata, created_at, updated_at, closed_at
          FROM runs WHERE account_id = :account_id""",
    ),
    _Section(
        "holds",
        "hold_id",
        """
        SELECT hold_id, unit, amount, reported, captured, overage, status, on_expiry, idempotency_key, key_id,
               product_type, run_id, metadata, outcome, spending_id, expires_at, created_at, settled_at
          FROM holds WHERE account_id = :account_id""",
    ),
    _Section(
        "limits",
        "limit_id",
        """
        SELECT limit_id, scope, scope_value, time_window, unit, amount, action, owner, created_at, updated_at,
               removed_at,
               (SELECT coalesce(jsonb_agg(jsonb_build_object('window_start', c.window_start, 'counted', c.counted,
                                'crossed_at', c.crossed_at) ORDER BY c.window_start), '[]')
                  FROM limit_counters c
                 WHERE c.account_id = l.account_id AND c.limit_id = l.limit_id) AS counters
          FROM limits l WHERE account_id = :account_id""",
    ),
    _Section(
        "approvals",
        "approval_id",
        """
        SELECT approval_id, kind, limit_id, run_uuid, unit, key_id, agent_id, model, tool, run_id, amount, allowed,
               status, expires_at, created_at, decided_at, decided_by_type, decided_by, used_at
          FROM approvals WHERE account_id = :account_id""",
    ),
    _Section(
        "cost_records",
        "record_id",
        """
        SELECT record_id, request_id, source, key_id, tool, query, agent_id, run_id, currency,
               estimate_nanos, status, cost_nanos, provider_cost_nanos, on_expiry, expires_at, usage_id,
               execution_time_ms, error_message, created_at, closed_at
          FROM cost_records WHERE account_id = :account_id""",
    ),
    _Section(
        "cost_record_items",
        "addition_id",
        """
        SELECT addition_id, record_id, item_no, item_id, meter, provider, model, quantities, raw, cost_nanos,
               stated_nanos, provider_cost_nanos, price_version, price, key_id, created_at
          FROM cost_record_items WHERE account_id = :account_id""",
    ),
    _Section(  # an alert about a card may contain other accounts as well
        "alerts",
        "alert_id",
        """
        SELECT alert_id, rule, day, observed, usual, threshold, window_h, status, stopped, created_at, last_seen_at,
               decided_at
          FROM alerts WHERE account_ids @> ARRAY[CAST(:account_id AS uuid)]""",
    ),
    _Section(  # about the account and its purchases; the admin's identity is not the person's data
        "admin_actions",
        "audit_id",
        """
        SELECT l.audit_id, l.created_at, l.action, l.target_type, l.target_id, l."before", l."after", l.reason
          FROM (SELECT 'account' AS target_type, CAST(CAST(:account_id AS uuid) AS text) AS target_id
                UNION ALL
                SELECT 'purchase', CAST(purchase_id AS text) FROM purchases WHERE account_id = :account_id) about
          JOIN admin_audit_log l USING (target_type, target_id)""",
    ),
)


async def export_account(db: Database, account_id: UUID, now: datetime) -> AsyncIterator[bytes]:
    """Return the document, piece by piece."""
    key = {"account_id": account_id}
    async with db.read() as session:
        account = (await session.execute(_ACCOUNT, key)).mappings().one()
        profile = (await session.execute(_PROFILE, key)).mappings().one_or_none()
        identities = (await session.execute(_IDENTITIES, key)).mappings().all()
        products = (await session.execute(_PRODUCTS, key)).mappings().all()
    head = {
        "exported_at": now,
        "account": dict(account),
        "identities": [dict(row) for row in identities],
        "profile": None if profile is None else dict(profile),
        "products": [dict(row) for row in products],
    }
    yield _json(head)[:-1]
    for section in _SECTIONS:
        yield b',\n"%s": [' % section.name.encode()
        separator = b"\n"
        async for page in _pages(db, account_id, section):
            yield separator + b",\n".join(_json(row) for row in page)
            separator = b",\n"
        yield b"]"
    yield b"}\n"


async def _pages(db: Database, account_id: UUID, section: _Section) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    statement, after = section.statement(), section.first
    while True:
        async with db.read() as session:
            rows = (await session.execute(statement, {"account_id": account_id, "after": after})).mappings().all()
        if rows:
            yield [dict(row) for row in rows]
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1][section.key]


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, default=_text).encode()


def _text(value: object) -> str:
    """Return times as RFC 3339; ids and exact fractions as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
