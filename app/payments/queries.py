"""The payments' SQL: one statement a function. Writers of a purchase hold its account's lock."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.auth.caller import CallerKind, Environment
from app.db import Database, Session
from app.payments import models
from app.payments.facts import DELAYED_ACTIONS, Dispute, Provider, Refund
from app.payments.models import PurchaseDispute, PurchaseRefund
from app.payments.purchase import Purchase, PurchaseKey

Row = Mapping[str, Any]
_PURCHASES = models.Purchase
_COLUMNS = {field.name: field.name for field in fields(Purchase)} | {"provider_payment_id": "payment_intent_id"}
"""The column of each field. A column keeps its name while versions run that know it by that name (ADR 25)."""
_PURCHASE = [getattr(_PURCHASES, column).label(name) for name, column in _COLUMNS.items()]
OPEN = ("pending", "requires_payment_method", "requires_confirmation", "requires_action", "failed")
"""No money is on its way: Stripe can cancel the payment."""
UNPAID = (*OPEN, "processing", "requires_capture")
"""No second payment is opened beside it."""
CANCELABLE = (*OPEN, "requires_capture")
MAX_UNSETTLED = 500
# The same rule as facts.has_begun. Never null: PostgreSQL sorts null before true.
_HAS_BEGUN = or_(
    _PURCHASES.status.in_(("processing", "requires_capture")),
    and_(
        _PURCHASES.status == "requires_action",
        _PURCHASES.next_action.is_not(None),
        _PURCHASES.next_action.in_(DELAYED_ACTIONS),
    ),
)

_IS_UNOPENED = (_PURCHASES.payment_intent_id.is_(None), _PURCHASES.checkout_session_id.is_(None))


def _values(purchase: Purchase) -> dict[str, Any]:
    return {column: getattr(purchase, name) for name, column in _COLUMNS.items()}


async def _find(db: Session, query: "Select[Any]") -> Purchase | None:
    row = (await db.execute(query.limit(1))).mappings().one_or_none()
    return None if row is None else Purchase(**row)


async def insert_purchase(tx: Session, purchase: Purchase) -> None:
    await tx.execute(insert(_PURCHASES).values(**_values(purchase)))


async def find_purchase(db: Session, account_id: UUID, purchase_id: UUID) -> Purchase | None:
    return await _find(
        db,
        select(*_PURCHASE).where(_PURCHASES.account_id == account_id, _PURCHASES.purchase_id == purchase_id),
    )


async def has_kept_purchase(db: Session, account_id: UUID) -> bool:
    """Return whether a purchase of the account is kept, by the rule of `Purchase.is_kept`."""
    credits_left = _PURCHASES.credits_refunded + _PURCHASES.credits_disputed < _PURCHASES.credits
    money_left = _PURCHASES.money_refunded_nanos + _PURCHASES.money_disputed_nanos < _PURCHASES.money_nanos
    kept = select(_PURCHASES.purchase_id).where(
        _PURCHASES.account_id == account_id, _PURCHASES.credit_id.is_not(None), or_(credits_left, money_left)
    )
    return (await db.execute(kept.limit(1))).first() is not None


async def find_purchase_by_key(
    tx: Session, account_id: UUID, caller_kind: CallerKind, idempotency_key: str
) -> Purchase | None:
    """Return the caller's purchase under this key; else one whose kind of caller is unknown.

    The second case keeps a click from before the kinds of caller from being paid twice.
    """
    query = (
        select(*_PURCHASE)
        .where(
            _PURCHASES.account_id == account_id,
            _PURCHASES.idempotency_key == idempotency_key,
            or_(_PURCHASES.caller_kind == caller_kind, _PURCHASES.caller_kind.is_(None)),
        )
        .order_by(_PURCHASES.caller_kind.nulls_last())
    )
    return await _find(tx, query)


async def find_open_purchase(
    tx: Session,
    account_id: UUID,
    provider: Provider,
    terms: Mapping[str, Any],
    *,
    fresh_since: datetime,
    begun_since: datetime,
) -> Purchase | None:
    """Return the unpaid purchase on these terms that a second click gets: a begun one, or the newest fresh one.

    `terms`: values of columns. Purchases with an idempotency key are found by that key only.
    """
    query = (
        select(*_PURCHASE)
        .where(
            _PURCHASES.account_id == account_id,
            _PURCHASES.provider == provider,
            *(getattr(_PURCHASES, name) == value for name, value in terms.items()),
            _PURCHASES.idempotency_key.is_(None),
            _PURCHASES.status.in_(UNPAID),
            _PURCHASES.received_minor.is_(None),
            or_(_PURCHASES.created_at > fresh_since, and_(_HAS_BEGUN, _PURCHASES.created_at > begun_since)),
        )
        .order_by(_HAS_BEGUN.desc(), _PURCHASES.created_at.desc())
    )
    return await _find(tx, query)


async def count_open_purchases(
    tx: Session, account_id: UUID, *, open_since: datetime, begun_since: datetime, limit: int
) -> int:
    """Return the number of open and unpaid purchases of the account, `limit` at most. The account is locked.

    Purchases that are due to be canceled do not count, even if the worker has not canceled them yet.
    """
    found = (
        select(_PURCHASES.purchase_id)
        .where(
            _PURCHASES.account_id == account_id,
            _PURCHASES.status.in_(OPEN),
            _PURCHASES.received_minor.is_(None),
            or_(_PURCHASES.created_at > open_since, and_(_HAS_BEGUN, _PURCHASES.created_at > begun_since)),
        )
        .limit(limit)
    )
    return (await tx.execute(select(func.count()).select_from(found.subquery()))).scalar_one()


async def find_purchase_of_payment(
    db: Session, environment: Environment, provider: Provider, payment_id: str
) -> Purchase | None:
    query = select(*_PURCHASE).where(
        _PURCHASES.payment_intent_id == payment_id,
        _PURCHASES.environment == environment,
        _PURCHASES.provider == provider,
    )
    return await _find(db, query)


async def update_purchase(tx: Session, known: Purchase, changed: Purchase) -> None:
    """Store the fields that differ from `known`. The account is locked.

    Not the others: the erasure of a person clears some of them without the account's lock.
    """
    old, new = _values(known), _values(changed)
    changes = {name: value for name, value in new.items() if value != old[name]}
    keys = {name: old[name] for name in ("account_id", "purchase_id")}
    if changes:
        await tx.execute(update(_PURCHASES).filter_by(**keys).values(**changes))


async def cancel_unopened(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    """Cancel a purchase unless it has been opened at Stripe since it was read. The account is locked."""
    await tx.execute(
        update(_PURCHASES)
        .where(
            _PURCHASES.account_id == account_id,
            _PURCHASES.purchase_id == purchase_id,
            *_IS_UNOPENED,
        )
        .values(status="canceled", status_at=now, updated_at=now)
    )


async def begin_next_attempt(tx: Session, account_id: UUID, purchase_id: UUID, attempt: int, now: datetime) -> None:
    """Count a failed attempt at Stripe, once, unless the purchase has been opened there since it was read."""
    await tx.execute(
        update(_PURCHASES)
        .where(
            _PURCHASES.account_id == account_id,
            _PURCHASES.purchase_id == purchase_id,
            _PURCHASES.attempt == attempt,
            *_IS_UNOPENED,
        )
        .values(attempt=attempt + 1, updated_at=now)
    )


async def touch_purchase(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    await tx.execute(
        update(_PURCHASES)
        .where(_PURCHASES.account_id == account_id, _PURCHASES.purchase_id == purchase_id)
        .values(updated_at=now)
    )


async def list_opened(db: Session, account_id: UUID, *, before: UUID | None, limit: int) -> list[Purchase]:
    """Return an account's purchases that were opened at the provider, newest first, before one of them."""
    query = select(*_PURCHASE).where(
        _PURCHASES.account_id == account_id,
        or_(_PURCHASES.payment_intent_id.is_not(None), _PURCHASES.checkout_session_id.is_not(None)),
        *(() if before is None else (_PURCHASES.purchase_id < before,)),
    )
    rows = await db.execute(query.order_by(_PURCHASES.purchase_id.desc()).limit(limit))
    return [Purchase(**row) for row in rows.mappings()]


async def list_unsettled(
    db: Session, environment: Environment, provider: Provider, *, until: datetime
) -> list[PurchaseKey]:
    """Return purchases that are neither credited, canceled nor under review.

    They were neither opened nor checked since `until`. The least recently checked come first, so each gets its turn.
    """
    query = (
        select(_PURCHASES.account_id, _PURCHASES.purchase_id)
        .where(
            _PURCHASES.environment == environment,
            _PURCHASES.provider == provider,
            _PURCHASES.credit_id.is_(None),
            _PURCHASES.status != "canceled",
            _PURCHASES.review_reason.is_(None),
            _PURCHASES.created_at < until,
            _PURCHASES.updated_at < until,
        )
        .order_by(_PURCHASES.updated_at)
        .limit(MAX_UNSETTLED)
    )
    return [PurchaseKey(**row) for row in (await db.execute(query)).mappings()]


async def list_to_refund(
    db: Session, environment: Environment, provider: Provider, *, until: datetime
) -> list[PurchaseKey]:
    """Return purchases whose money arrived for a closed account and was not refunded, not checked since `until`."""
    query = (
        select(_PURCHASES.account_id, _PURCHASES.purchase_id)
        .where(
            _PURCHASES.environment == environment,
            _PURCHASES.provider == provider,
            _PURCHASES.credit_id.is_(None),
            _PURCHASES.status != "canceled",
            _PURCHASES.review_reason == "account_closed",
            _PURCHASES.updated_at < until,
        )
        .order_by(_PURCHASES.updated_at)
        .limit(MAX_UNSETTLED)
    )
    return [PurchaseKey(**row) for row in (await db.execute(query)).mappings()]


async def list_unsettled_of(db: Session, account_id: UUID) -> Sequence[UUID]:
    """Return the account's purchases that are neither credited nor canceled, also those under review, oldest first."""
    query = (
        select(_PURCHASES.purchase_id)
        .where(_PURCHASES.account_id == account_id, _PURCHASES.credit_id.is_(None), _PURCHASES.status != "canceled")
        .order_by(_PURCHASES.created_at)
        .limit(MAX_UNSETTLED)
    )
    return (await db.execute(query)).scalars().all()


async def note_refused_refund(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    """Leave a closed account's refund to an admin, because Stripe refused it. The account is locked."""
    await tx.execute(
        update(_PURCHASES)
        .where(
            _PURCHASES.account_id == account_id,
            _PURCHASES.purchase_id == purchase_id,
            _PURCHASES.review_reason == "account_closed",
        )
        .values(review_reason="refund_refused", updated_at=now)
    )


# Uses the index of unsettled purchases, which are few: an open purchase is canceled after a day. Purchases under review
# are not checked with Stripe. Purchases that wait for their first answer from Stripe are.
_FIND_UNSETTLED = """
    SELECT count(*) FILTER (WHERE received_minor IS NOT NULL) AS not_credited,
           min(status_at) FILTER (WHERE received_minor IS NOT NULL) AS not_credited_since,
           min(updated_at) FILTER (WHERE review_reason IS NULL) AS unheard_since,
           (SELECT max(received_at) FROM payment_events) AS webhook_received_at
      FROM (SELECT received_minor, status_at, updated_at, review_reason FROM purchases
             WHERE credit_id IS NULL AND status <> 'canceled' ORDER BY created_at LIMIT 10000) unsettled
"""


async def find_unsettled(db: Database) -> Row:
    """Return measurements of unsettled purchases, of which it reads the 10,000 oldest.

    They are the number of paid purchases without credits, the time of the oldest such purchase, the time of the oldest
    check with Stripe, and the arrival of the last event.
    """
    row = await db.fetch_row(_FIND_UNSETTLED)
    assert row is not None
    return row


async def list_disputes(db: Session, key: PurchaseKey) -> list[Dispute]:
    columns = (
        PurchaseDispute.dispute_id,
        PurchaseDispute.amount_minor,
        PurchaseDispute.status,
        PurchaseDispute.decided_at,
    )
    query = select(*columns).where(
        PurchaseDispute.account_id == key.account_id, PurchaseDispute.purchase_id == key.purchase_id
    )
    return [Dispute(**row) for row in (await db.execute(query.limit(1000))).mappings()]


async def upsert_dispute(tx: Session, key: PurchaseKey, dispute: Dispute, now: datetime) -> None:
    keys = {"account_id": key.account_id, "purchase_id": key.purchase_id, "dispute_id": dispute.dispute_id}
    values = {
        "amount_minor": dispute.amount_minor,
        "status": dispute.status,
        "decided_at": dispute.decided_at,
        "updated_at": now,
    }
    statement = insert(PurchaseDispute).values(**keys, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=values))


async def list_refunds(db: Session, account_id: UUID, purchase_id: UUID) -> list[Refund]:
    """Return the refunds of a purchase that are known by id, oldest first."""
    columns = (
        PurchaseRefund.refund_id,
        PurchaseRefund.amount_minor,
        PurchaseRefund.status,
        PurchaseRefund.created_at,
        PurchaseRefund.request_key,
        PurchaseRefund.reason,
    )
    query = (
        select(*columns)
        .where(PurchaseRefund.account_id == account_id, PurchaseRefund.purchase_id == purchase_id)
        .order_by(PurchaseRefund.created_at, PurchaseRefund.refund_id)
    )
    return [Refund(**row) for row in (await db.execute(query.limit(1000))).mappings()]


async def find_refund_of_request(db: Session, key: PurchaseKey, request_key: str) -> Refund | None:
    """Return the refund of a purchase that a request of the service made."""
    refunds = await list_refunds(db, key.account_id, key.purchase_id)
    return next((refund for refund in refunds if refund.request_key == request_key), None)


async def upsert_refund(tx: Session, key: PurchaseKey, refund: Refund, now: datetime) -> None:
    keys = {"account_id": key.account_id, "purchase_id": key.purchase_id, "refund_id": refund.refund_id}
    values = {
        "amount_minor": refund.amount_minor,
        "status": refund.status,
        "request_key": refund.request_key,
        "reason": refund.reason,
        "created_at": refund.created_at,
        "updated_at": now,
    }
    statement = insert(PurchaseRefund).values(**keys, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=values))


# A version without refunds by id writes Stripe's largest total into refunded_minor, with refunds that failed.
_LIST_MISBOOKED_REFUNDS = text(
    """
    SELECT p.payment_intent_id
      FROM purchases p
     CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS known_minor,
               coalesce(sum(amount_minor) FILTER (WHERE status NOT IN ('failed', 'canceled')), 0) AS valid_minor
          FROM purchase_refunds r WHERE r.account_id = p.account_id AND r.purchase_id = p.purchase_id) refunds
     WHERE p.environment = :environment AND p.provider = :provider AND p.refunded_minor > 0 AND p.updated_at >= :since
       AND p.refunded_minor
           <> valid_minor + greatest(0, greatest(p.refunds_reported_minor, p.refunded_minor) - known_minor)
     ORDER BY p.updated_at LIMIT 500
    """
)


async def list_misbooked_refunds(
    db: Session, environment: Environment, provider: Provider, since: datetime
) -> Sequence[str]:
    """Return payments of purchases updated since, whose `refunded_minor` differs from `facts.refunded_money`."""
    values = {"environment": environment, "provider": provider, "since": since}
    return (await db.execute(_LIST_MISBOOKED_REFUNDS, values)).scalars().all()
