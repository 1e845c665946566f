"""Queries of subscriptions for the back office: one statement a function. None writes or locks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text

from app.db import Session
from app.db.sql import sql
from app.plans.entitlement import Status

Row = Mapping[str, Any]
View = Literal["subscribed", "canceling", "ended"]
MAX_EVENTS = 500
MAX_ROWS = 200
"""The most invoices, grants and terms of a subscription on its page: the newest ones."""
_VIEWS: dict[View, str] = {
    "subscribed": "s.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused')",
    "canceling": "s.status IN ('trialing', 'active', 'past_due', 'unpaid', 'paused') AND s.cancel_at IS NOT NULL",
    "ended": "s.status IN ('canceled', 'incomplete_expired')",
}
# The terms are those of the present price. Its amount is in the terms, under the provider's id of the price.
_SELECT = """
    SELECT s.account_id, s.provider, s.subscription_id, s.environment, s.status, s.customer_id, s.price_id,
           s.period_start, s.period_end, s.started_at, s.ended_at, s.cancel_at, s.updated_at,
           t.plan_name, t.plan_interval, t.terms ->> 'title' AS plan_title, t.created_at AS terms_since,
           (p.price ->> 'amount_minor')::bigint AS price_minor, p.price ->> 'currency' AS currency,
           CASE WHEN b.subscription_id = s.subscription_id THEN b.plan_name END AS gives_plan,
           u.past_due_since, u.next_attempt_at, u.attempts, u.due_minor, u.due_currency
      FROM subscriptions s
      LEFT JOIN subscription_terms t USING (account_id, provider, subscription_id, price_id)
      LEFT JOIN LATERAL (SELECT price FROM jsonb_array_elements(t.terms -> 'prices') price
                          WHERE price ->> ('stripe_price_' || s.environment) = s.price_id LIMIT 1) p ON true
      LEFT JOIN subscribers b ON b.account_id = s.account_id
      LEFT JOIN LATERAL (SELECT min(i.created_at) AS past_due_since, min(i.next_attempt_at) AS next_attempt_at,
                                max(i.attempts) AS attempts,
                                (array_agg(i.amount_due_minor ORDER BY i.next_attempt_at))[1] AS due_minor,
                                (array_agg(i.currency ORDER BY i.next_attempt_at))[1] AS due_currency
                           FROM subscription_invoices i
                          WHERE i.account_id = s.account_id AND i.provider = s.provider
                            AND i.subscription_id = s.subscription_id AND i.status IN ('open', 'uncollectible')) u
        ON true
"""


@dataclass(frozen=True, slots=True)
class Position:
    """The position after a subscription in the order of lists: the latest start first."""

    started_at: datetime
    subscription_id: str


async def list_subscriptions(
    db: Session,
    *,
    after: Position | None,
    limit: int,
    environment: str | None = None,
    status: Status | None = None,
    view: View | None = None,
    plan: str | None = None,
) -> Sequence[Row]:
    """Return subscriptions, the latest start first."""
    values: dict[str, Any] = {"environment": environment, "status": status, "plan": plan}
    columns = {"environment": "s.environment", "status": "s.status", "plan": "t.plan_name"}
    conditions = [f"{columns[name]} = :{name}" for name, value in values.items() if value is not None]
    if view is not None:
        conditions.append(f"({_VIEWS[view]})")
    if after is not None:
        conditions.append("(s.started_at, s.subscription_id) < (:started_at, :subscription_id)")
        values |= {"started_at": after.started_at, "subscription_id": after.subscription_id}
    statement = sql(
        "{select} {where} ORDER BY s.started_at DESC, s.subscription_id DESC LIMIT :limit",
        select=_SELECT,
        where=f"WHERE {' AND '.join(conditions)}" if conditions else "",
    )
    bound = {name: value for name, value in values.items() if value is not None}
    return await _rows(db, statement, {**bound, "limit": limit})


_OF_ACCOUNT = sql(
    "{select} WHERE s.account_id = :account_id ORDER BY s.started_at DESC, s.subscription_id DESC LIMIT :limit",
    select=_SELECT,
)


async def list_of_account(db: Session, account_id: UUID) -> Sequence[Row]:
    """Return an account's subscriptions, the latest start first."""
    return await _rows(db, _OF_ACCOUNT, {"account_id": account_id, "limit": MAX_ROWS})


_FIND = sql("{select} WHERE s.account_id = :account_id AND s.subscription_id = :subscription_id", select=_SELECT)


async def find_subscription(db: Session, account_id: UUID, subscription_id: str) -> Row | None:
    rows = await _rows(db, _FIND, {"account_id": account_id, "subscription_id": subscription_id})
    return rows[0] if rows else None


_OF_SUBSCRIPTION = """
    SELECT {columns} FROM {table}
     WHERE account_id = :account_id AND subscription_id = :subscription_id ORDER BY {order} DESC LIMIT :limit
"""
_LIST_INVOICES = sql(
    _OF_SUBSCRIPTION,
    columns="invoice_id, status, currency, amount_due_minor, amount_paid_minor, created_at, attempts, next_attempt_at, "
    "payment_ids, refunds, disputes, refunded_minor, withdrawn_minor, updated_at",
    table="subscription_invoices",
    order="created_at",
)
_LIST_TERMS = sql(
    _OF_SUBSCRIPTION,
    columns="price_id, plan_name, plan_interval, terms, created_at",
    table="subscription_terms",
    order="created_at",
)


async def list_invoices(db: Session, account_id: UUID, subscription_id: str) -> Sequence[Row]:
    """Return the newest invoices of a subscription, newest first."""
    return await _rows(db, _LIST_INVOICES, _key(account_id, subscription_id))


async def list_terms(db: Session, account_id: UUID, subscription_id: str) -> Sequence[Row]:
    """Return the terms that a subscription has kept, the latest first."""
    return await _rows(db, _LIST_TERMS, _key(account_id, subscription_id))


_LIST_GRANTS = """
    SELECT period_start, period_end, kind, subscription_id, invoice_id, plan_name, unit, amount, carried,
           grant_id IS NOT NULL AS given, refunded, disputed, created_at
      FROM period_grants
     WHERE account_id = :account_id AND (CAST(:subscription_id AS text) IS NULL OR subscription_id = :subscription_id)
     ORDER BY period_start DESC, kind LIMIT :limit
"""


async def list_grants(
    db: Session, account_id: UUID, subscription_id: str | None, limit: int = MAX_ROWS
) -> Sequence[Row]:
    """Return the newest grants of periods, newest first. Without a subscription: of all of the account's."""
    return await _rows(db, _LIST_GRANTS, {**_key(account_id, subscription_id), "limit": limit})


# An event is about the subscription, one of its invoices, or a payment of one.
_LIST_EVENTS = """
    SELECT event_id, type, outcome, object_id, payment_intent_id AS payment_id, created_at, received_at
      FROM payment_events WHERE environment = :environment AND object_id = ANY (:object_ids)
     UNION
    SELECT event_id, type, outcome, object_id, payment_intent_id, created_at, received_at
      FROM payment_events WHERE environment = :environment AND payment_intent_id = ANY (:payment_ids)
     ORDER BY received_at DESC, created_at DESC, event_id DESC LIMIT :limit
"""


async def list_events(
    db: Session, environment: str, object_ids: Sequence[str], payment_ids: Sequence[str]
) -> Sequence[Row]:
    """Return the latest events about objects and payments, in the order of arrival."""
    values = {"environment": environment, "object_ids": list(object_ids), "payment_ids": list(payment_ids)}
    return (await _rows(db, _LIST_EVENTS, {**values, "limit": MAX_EVENTS}))[::-1]


def _key(account_id: UUID, subscription_id: str | None) -> dict[str, Any]:
    return {"account_id": account_id, "subscription_id": subscription_id, "limit": MAX_ROWS}


async def _rows(db: Session, statement: str, values: Mapping[str, Any]) -> list[Row]:
    return [dict(row) for row in (await db.execute(text(statement), values)).mappings()]
