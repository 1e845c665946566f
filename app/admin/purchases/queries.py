"""Queries of purchases for the back office: one statement per function. None writes; only `lock_purchase` locks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping, text

from app.db import Session
from app.db.sql import sql
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT
from app.payments.discounts import percent_text
from app.payments.facts import PurchaseStatus

Row = Mapping[str, Any]
View = Literal["paid_not_credited", "refunded_but_credited", "for_review"]
PurchaseState = Literal[PurchaseStatus, "partially_refunded", "refunded"]
"""A purchase's status; for a succeeded one also how much was refunded."""
# A purchase whose money was returned is canceled. Uses the index of unsettled purchases.
PAID_NOT_CREDITED = "p.received_minor IS NOT NULL AND p.credit_id IS NULL AND p.status <> 'canceled'"
# What refunds and disputes must have taken back: the same share as of the price, rounded down. A purchase sells either
# credits or money.
REFUNDED_BUT_CREDITED = """
    p.credit_id IS NOT NULL AND p.refunded_minor > 0
    AND p.credits_refunded + p.credits_disputed + p.money_refunded_nanos + p.money_disputed_nanos
        < floor(CAST(p.credits + p.money_nanos AS numeric) * least(p.refunded_minor, p.amount_minor) / p.amount_minor)
"""
_VIEWS: dict[View, str] = {
    "paid_not_credited": PAID_NOT_CREDITED,
    "refunded_but_credited": REFUNDED_BUT_CREDITED,
    "for_review": "p.review_reason IS NOT NULL",
}
_REFUNDED: dict[str, str] = {
    "partially_refunded": "p.status = 'succeeded' AND p.refunded_minor > 0 AND p.refunded_minor < p.received_minor",
    "refunded": "p.status = 'succeeded' AND p.refunded_minor > 0 AND p.refunded_minor >= p.received_minor",
}
_STATE = " ".join(f"WHEN {condition} THEN '{state}'" for state, condition in _REFUNDED.items())
_PURCHASE = f"""
    p.account_id, p.purchase_id, p.environment, p.payment_intent_id AS payment_id, p.pack, p.credits, p.amount_minor,
    p.currency, p.status, p.received_minor, p.received_currency, p.refunded_minor, p.credits_refunded,
    p.credits_disputed, p.credit_id IS NOT NULL AS credited, p.review_reason, p.card_brand, p.card_last4,
    CASE {_STATE} ELSE p.status END AS state, p.created_at, p.updated_at, p.unit, p.money_nanos, p.money_refunded_nanos,
    p.money_disputed_nanos, p.discount_percent, p.checkout_session_id AS session_id, p.receipt_url
"""


async def list_purchases(
    db: Session,
    *,
    before: UUID | None,
    limit: int,
    environment: str | None = None,
    status: PurchaseState | None = None,
    account_id: UUID | None = None,
    buyers: Sequence[UUID] | None = None,
    payment_id: str | None = None,
    card_last4: str | None = None,
    amount_minor: int | None = None,
    currency: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    view: View | None = None,
) -> Sequence[Row]:
    """Return purchases, newest first. Times are half-open: [since, until). `buyers`: only of any of these accounts."""
    equal = {
        "environment": environment,
        "account_id": account_id,
        "payment_intent_id": payment_id,
        "card_last4": card_last4,
        "amount_minor": amount_minor,
        "currency": currency,
    }
    values: dict[str, Any] = {name: value for name, value in equal.items() if value is not None}
    conditions = [f"p.{name} = :{name}" for name in values]
    for condition, value in (
        ("p.created_at >= :since", since),
        ("p.created_at < :until", until),
        ("p.account_id = ANY (:buyers)", buyers),
    ):
        if value is not None:
            conditions.append(condition)
            values[condition.rpartition(":")[2].rstrip(")")] = value
    if status is not None:
        conditions.append(_REFUNDED.get(status, "p.status = :status"))
        values["status"] = status
    if view is not None:
        conditions.append(f"({_VIEWS[view]})")
    if before is not None:
        conditions.append("p.purchase_id < :before")
        values["before"] = before
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = sql(
        "SELECT {columns} FROM purchases p {where} ORDER BY p.purchase_id DESC LIMIT :limit",
        columns=_PURCHASE,
        where=where,
    )
    rows = await db.execute(text(statement), {**values, "limit": limit})
    return [_with_money(row) for row in rows.mappings()]


def _with_money(row: RowMapping) -> Row:
    """Return the row with its money as exact text; null where it sells credits."""
    found: dict[str, Any] = dict(row)
    found["discount_percent"] = percent_text(found["discount_percent"])
    for name in ("money", "money_refunded", "money_disputed"):
        nanos = found.pop(f"{name}_nanos")
        found[name] = None if found["unit"] == CREDIT else decimal_text(nanos)
    return found


_FIND_PURCHASE = text(sql("SELECT {columns} FROM purchases p WHERE p.purchase_id = :purchase_id", columns=_PURCHASE))


async def find_purchase(db: Session, purchase_id: UUID) -> Row | None:
    row = (await db.execute(_FIND_PURCHASE, {"purchase_id": purchase_id})).mappings().one_or_none()
    return None if row is None else _with_money(row)


_LOCK_PURCHASE = text(
    """
    SELECT refunded_minor FROM purchases WHERE account_id = :account_id AND purchase_id = :purchase_id
       FOR NO KEY UPDATE
    """
)


async def lock_purchase(tx: Session, account_id: UUID, purchase_id: UUID) -> int:
    """Return the refunded amount of a purchase. Lock its row until commit."""
    values = {"account_id": account_id, "purchase_id": purchase_id}
    refunded_minor: int = (await tx.execute(_LOCK_PURCHASE, values)).scalar_one()
    return refunded_minor


_LIST_EVENTS = text(
    """
    SELECT event_id, type, outcome, created_at, received_at FROM payment_events
     WHERE environment = :environment AND payment_intent_id = :payment_id
     ORDER BY received_at, created_at, event_id LIMIT 500
    """
)


async def list_events(db: Session, environment: str, payment_id: str) -> Sequence[Row]:
    """Return events in the order of arrival; those that arrived at once, in the order in which they happened."""
    values = {"environment": environment, "payment_id": payment_id}
    return [dict(row) for row in (await db.execute(_LIST_EVENTS, values)).mappings()]


_LIST_DISPUTES = text(
    """
    SELECT dispute_id, amount_minor, status, updated_at FROM purchase_disputes
     WHERE account_id = :account_id AND purchase_id = :purchase_id ORDER BY updated_at LIMIT 100
    """
)


async def list_disputes(db: Session, account_id: UUID, purchase_id: UUID) -> Sequence[Row]:
    values = {"account_id": account_id, "purchase_id": purchase_id}
    return [dict(row) for row in (await db.execute(_LIST_DISPUTES, values)).mappings()]


_LIST_REFUND_REQUESTS = text(
    """
    SELECT admin_email, reason, created_at, after ->> 'idempotency_key' AS idempotency_key,
           CAST("before" ->> 'refunded_minor' AS bigint) AS refunded_minor
      FROM admin_audit_log
     WHERE target_type = 'purchase' AND target_id = CAST(CAST(:purchase_id AS uuid) AS text)
           AND action = 'purchase.refund'
     ORDER BY audit_id LIMIT 500
    """
)


async def list_refund_requests(db: Session, purchase_id: UUID) -> Sequence[Row]:
    """Return admins' refund requests for a purchase, oldest first, with any outcome."""
    rows = await db.execute(_LIST_REFUND_REQUESTS, {"purchase_id": purchase_id})
    return [dict(row) for row in rows.mappings()]


_LIST_REFUSED_REFUNDS = text(
    """
    SELECT after ->> 'idempotency_key' AS idempotency_key FROM admin_audit_log
     WHERE target_type = 'purchase' AND target_id = CAST(CAST(:purchase_id AS uuid) AS text)
           AND action = 'purchase.refund_refused'
     ORDER BY audit_id LIMIT 500
    """
)


async def list_refused_refunds(db: Session, purchase_id: UUID) -> Sequence[str]:
    """Return the idempotency keys of admins' refund requests that Stripe rejected."""
    return list((await db.execute(_LIST_REFUSED_REFUNDS, {"purchase_id": purchase_id})).scalars())


_FIND_LAST_RECONCILIATION = text(
    """
    SELECT CAST(a.target_id AS bigint) AS job_id, a.created_at AS asked_at, a.admin_email AS asked_by,
           CAST(j.status AS text) AS job_status, o.created_at AS finished_at, o.after AS outcome,
           (SELECT max(last_heartbeat) FROM procrastinate_workers) AS worker_seen_at
      FROM (SELECT target_id, created_at, admin_email FROM admin_audit_log
             WHERE target_type = 'job' AND action = 'purchase.reconcile_all' ORDER BY audit_id DESC LIMIT 1) a
      LEFT JOIN procrastinate_jobs j ON j.id = CAST(a.target_id AS bigint)
      LEFT JOIN LATERAL (SELECT created_at, after FROM admin_audit_log
                          WHERE target_type = 'job' AND target_id = a.target_id AND action = 'purchase.reconciled_all'
                          ORDER BY audit_id DESC LIMIT 1) o
        ON true
    """
)


async def find_last_reconciliation(db: Session) -> Row | None:
    """Return the last reconciliation of all purchases that an admin requested."""
    row = (await db.execute(_FIND_LAST_RECONCILIATION)).mappings().one_or_none()
    return None if row is None else dict(row)
