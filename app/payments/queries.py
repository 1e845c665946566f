"""The payments' SQL: one statement a function. A purchase is guarded by its account's lock, held by whoever writes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.auth.caller import CallerKind
from app.db import Database, Session
from app.payments.facts import DELAYED_ACTIONS, Dispute, Refund
from app.payments.models import PaymentCursor, PaymentEvent, Purchase, PurchaseDispute, PurchaseRefund

Row = Mapping[str, Any]
PURCHASE = list(Purchase.__table__.columns)
OPEN = ("pending", "requires_payment_method", "requires_confirmation", "requires_action", "failed")
"""No money is under way: Stripe can cancel it."""
UNPAID = (*OPEN, "processing", "requires_capture")
"""No second payment is begun beside it."""
CANCELABLE = (*OPEN, "requires_capture")
MAX_UNSETTLED = 500
# As facts.has_begun decides. Never null: PostgreSQL sorts null before true.
_HAS_BEGUN = or_(
    Purchase.status.in_(("processing", "requires_capture")),
    and_(
        Purchase.status == "requires_action",
        Purchase.next_action.is_not(None),
        Purchase.next_action.in_(DELAYED_ACTIONS),
    ),
)
Feed = Literal["payments", "refunds"]
"""Parts of the provider's event log that are read with a cursor each."""
_READ_UNTIL: dict[Feed, str] = {"payments": "events_read_until", "refunds": "refunds_read_until"}


async def insert_purchase(tx: Session, row: Row) -> None:
    await tx.execute(insert(Purchase).values(**row))


async def find_purchase(db: Session, account_id: UUID, purchase_id: UUID) -> dict[str, Any] | None:
    query = select(*PURCHASE).where(Purchase.account_id == account_id, Purchase.purchase_id == purchase_id)
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def find_purchase_by_key(
    tx: Session, account_id: UUID, caller_kind: CallerKind, idempotency_key: str
) -> dict[str, Any] | None:
    """The caller's own purchase; else one whose kind of caller is unknown, so that no click of before is paid twice."""
    query = (
        select(*PURCHASE)
        .where(
            Purchase.account_id == account_id,
            Purchase.idempotency_key == idempotency_key,
            or_(Purchase.caller_kind == caller_kind, Purchase.caller_kind.is_(None)),
        )
        .order_by(Purchase.caller_kind.nulls_last())
        .limit(1)
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def find_open_purchase(
    tx: Session, account_id: UUID, pack: str, *, fresh_since: datetime, begun_since: datetime
) -> dict[str, Any] | None:
    """The unpaid purchase of the pack that a second click gets: one that was begun to be paid, or the newest fresh one.

    Purchases with an idempotency key are found by that key only.
    """
    query = (
        select(*PURCHASE)
        .where(
            Purchase.account_id == account_id,
            Purchase.pack == pack,
            Purchase.idempotency_key.is_(None),
            Purchase.status.in_(UNPAID),
            Purchase.received_minor.is_(None),
            or_(Purchase.created_at > fresh_since, and_(_HAS_BEGUN, Purchase.created_at > begun_since)),
        )
        .order_by(_HAS_BEGUN.desc(), Purchase.created_at.desc())
        .limit(1)
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def count_open_purchases(
    tx: Session, account_id: UUID, *, open_since: datetime, begun_since: datetime, limit: int
) -> int:
    """How many purchases of the account are open and unpaid, `limit` at most. The account is locked.

    Those that the worker cancels by now count no longer, whether it has done so or not.
    """
    found = (
        select(Purchase.purchase_id)
        .where(
            Purchase.account_id == account_id,
            Purchase.status.in_(OPEN),
            Purchase.received_minor.is_(None),
            or_(Purchase.created_at > open_since, and_(_HAS_BEGUN, Purchase.created_at > begun_since)),
        )
        .limit(limit)
    )
    return (await tx.execute(select(func.count()).select_from(found.subquery()))).scalar_one()


async def find_purchase_of_payment(db: Session, environment: str, payment_intent_id: str) -> dict[str, Any] | None:
    query = select(*PURCHASE).where(
        Purchase.payment_intent_id == payment_intent_id, Purchase.environment == environment
    )
    row = (await db.execute(query.limit(1))).mappings().one_or_none()
    return None if row is None else dict(row)


async def update_purchase(tx: Session, account_id: UUID, purchase_id: UUID, changes: Row) -> None:
    await tx.execute(
        update(Purchase).where(Purchase.account_id == account_id, Purchase.purchase_id == purchase_id).values(**changes)
    )


async def cancel_unopened(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    """Unless it has been opened at Stripe meanwhile. The account is locked."""
    await tx.execute(
        update(Purchase)
        .where(
            Purchase.account_id == account_id,
            Purchase.purchase_id == purchase_id,
            Purchase.payment_intent_id.is_(None),
        )
        .values(status="canceled", status_at=now, updated_at=now)
    )


async def begin_next_attempt(tx: Session, account_id: UUID, purchase_id: UUID, attempt: int, now: datetime) -> None:
    """Count an attempt that failed at Stripe, once, unless the purchase has been opened there meanwhile."""
    await tx.execute(
        update(Purchase)
        .where(
            Purchase.account_id == account_id,
            Purchase.purchase_id == purchase_id,
            Purchase.attempt == attempt,
            Purchase.payment_intent_id.is_(None),
        )
        .values(attempt=attempt + 1, updated_at=now)
    )


async def touch_purchase(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    await tx.execute(
        update(Purchase)
        .where(Purchase.account_id == account_id, Purchase.purchase_id == purchase_id)
        .values(updated_at=now)
    )


async def list_unsettled(db: Session, environment: str, *, until: datetime) -> Sequence[Row]:
    """Purchases older than `until` that are neither credited, canceled nor under review, and that were not looked at
    since `until`; the longest not looked at first, so that none starves."""
    query = (
        select(Purchase.account_id, Purchase.purchase_id)
        .where(
            Purchase.environment == environment,
            Purchase.credit_id.is_(None),
            Purchase.status != "canceled",
            Purchase.review_reason.is_(None),
            Purchase.created_at < until,
            Purchase.updated_at < until,
        )
        .order_by(Purchase.updated_at)
        .limit(MAX_UNSETTLED)
    )
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def list_to_refund(db: Session, environment: str, *, until: datetime) -> Sequence[Row]:
    """Purchases whose money arrived for a closed account and has not gone back, not looked at since `until`."""
    query = (
        select(Purchase.account_id, Purchase.purchase_id)
        .where(
            Purchase.environment == environment,
            Purchase.credit_id.is_(None),
            Purchase.status != "canceled",
            Purchase.review_reason == "account_closed",
            Purchase.updated_at < until,
        )
        .order_by(Purchase.updated_at)
        .limit(MAX_UNSETTLED)
    )
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def list_unsettled_of(db: Session, account_id: UUID) -> Sequence[UUID]:
    """The account's purchases that are neither credited nor canceled, those under review as well; oldest first."""
    query = (
        select(Purchase.purchase_id)
        .where(Purchase.account_id == account_id, Purchase.credit_id.is_(None), Purchase.status != "canceled")
        .order_by(Purchase.created_at)
        .limit(MAX_UNSETTLED)
    )
    return (await db.execute(query)).scalars().all()


async def note_refused_refund(tx: Session, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    """The money of a closed account cannot be refunded automatically: an admin has to. The account is locked."""
    await tx.execute(
        update(Purchase)
        .where(
            Purchase.account_id == account_id,
            Purchase.purchase_id == purchase_id,
            Purchase.review_reason == "account_closed",
        )
        .values(review_reason="refund_refused", updated_at=now)
    )


# By the index of what is not settled, which is little: an open purchase is canceled after a day. A purchase under
# review is nobody's to ask about; one that waits for its first answer from Stripe is asked about as well.
_FIND_UNSETTLED = """
    SELECT count(*) FILTER (WHERE received_minor IS NOT NULL) AS not_credited,
           min(status_at) FILTER (WHERE received_minor IS NOT NULL) AS not_credited_since,
           min(updated_at) FILTER (WHERE review_reason IS NULL) AS unheard_since,
           (SELECT max(received_at) FROM payment_events) AS webhook_received_at
      FROM (SELECT received_minor, status_at, updated_at, review_reason FROM purchases
             WHERE credit_id IS NULL AND status <> 'canceled' ORDER BY created_at LIMIT 10000) unsettled
"""


async def find_unsettled(db: Database) -> Row:
    """How many are paid but not credited, since when; since when one was not asked about; the last event's arrival.

    Looks at the 10,000 oldest.
    """
    row = await db.fetch_row(_FIND_UNSETTLED)
    assert row is not None
    return row


async def list_disputes(db: Session, account_id: UUID, purchase_id: UUID) -> list[Dispute]:
    columns = (
        PurchaseDispute.dispute_id,
        PurchaseDispute.amount_minor,
        PurchaseDispute.status,
        PurchaseDispute.decided_at,
    )
    query = select(*columns).where(PurchaseDispute.account_id == account_id, PurchaseDispute.purchase_id == purchase_id)
    return [Dispute(**row) for row in (await db.execute(query.limit(1000))).mappings()]


async def upsert_dispute(tx: Session, row: Row) -> None:
    keys = ["account_id", "purchase_id", "dispute_id"]
    changed = {name: value for name, value in row.items() if name not in keys}
    await tx.execute(insert(PurchaseDispute).values(**row).on_conflict_do_update(index_elements=keys, set_=changed))


async def find_first_decision(tx: Session, environment: str, payment_intent_id: str) -> datetime | None:
    """The provider's time of the first decision about a dispute of the payment that was received and applied."""
    query = (
        select(PaymentEvent.created_at)
        .where(
            PaymentEvent.payment_intent_id == payment_intent_id,
            PaymentEvent.environment == environment,
            PaymentEvent.type == "charge.dispute.closed",
            PaymentEvent.outcome != "ignored",
        )
        .order_by(PaymentEvent.received_at)
    )
    return (await tx.execute(query.limit(1))).scalar_one_or_none()


async def list_refunds(db: Session, account_id: UUID, purchase_id: UUID) -> list[Refund]:
    """The refunds of a purchase that are known by id, oldest first."""
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


async def find_refund_of_request(db: Session, account_id: UUID, purchase_id: UUID, request_key: str) -> Refund | None:
    """The refund of a purchase that a request of our own made."""
    refunds = await list_refunds(db, account_id, purchase_id)
    return next((refund for refund in refunds if refund.request_key == request_key), None)


async def upsert_refund(tx: Session, row: Row) -> None:
    keys = ["account_id", "purchase_id", "refund_id"]
    changed = {name: value for name, value in row.items() if name not in keys}
    await tx.execute(insert(PurchaseRefund).values(**row).on_conflict_do_update(index_elements=keys, set_=changed))


# A version without refunds by id writes Stripe's largest total into refunded_minor, with refunds that failed.
_LIST_MISBOOKED_REFUNDS = text(
    """
    SELECT p.payment_intent_id
      FROM purchases p
     CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS known_minor,
               coalesce(sum(amount_minor) FILTER (WHERE status NOT IN ('failed', 'canceled')), 0) AS valid_minor
          FROM purchase_refunds r WHERE r.account_id = p.account_id AND r.purchase_id = p.purchase_id) refunds
     WHERE p.environment = :environment AND p.refunded_minor > 0 AND p.updated_at >= :since
       AND p.refunded_minor
           <> valid_minor + greatest(0, greatest(p.refunds_reported_minor, p.refunded_minor) - known_minor)
     ORDER BY p.updated_at LIMIT 500
    """
)


async def list_misbooked_refunds(db: Session, environment: str, since: datetime) -> Sequence[str]:
    """Return payments of purchases updated since, whose `refunded_minor` differs from `facts.refunded_money`."""
    values = {"environment": environment, "since": since}
    return (await db.execute(_LIST_MISBOOKED_REFUNDS, values)).scalars().all()


async def insert_event(tx: Session, row: Row) -> bool:
    """False when the event has had its effect. Waits for a concurrent delivery of the same event to commit.

    One that was ignored may be tried again: it can have overtaken what makes its payment ours.
    """
    statement = (
        insert(PaymentEvent)
        .values(**row)
        .on_conflict_do_update(
            index_elements=["environment", "event_id"],
            set_={"received_at": row["received_at"]},
            where=PaymentEvent.outcome == "ignored",
        )
        .returning(PaymentEvent.event_id)
    )
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def update_event_outcome(tx: Session, environment: str, event_id: str, outcome: str) -> None:
    await tx.execute(
        update(PaymentEvent)
        .where(PaymentEvent.environment == environment, PaymentEvent.event_id == event_id)
        .values(outcome=outcome)
    )


async def find_cursor(db: Session, environment: str, feed: Feed) -> datetime | None:
    query = select(PaymentCursor.__table__.columns[_READ_UNTIL[feed]]).where(PaymentCursor.environment == environment)
    return (await db.execute(query)).scalar_one_or_none()


async def upsert_cursor(tx: Session, environment: str, feed: Feed, read_until: datetime) -> None:
    """Payments are read first, and make the row."""
    changed = {_READ_UNTIL[feed]: read_until}
    row = {"environment": environment, "events_read_until": read_until, **changed}
    statement = insert(PaymentCursor).values(**row)
    await tx.execute(statement.on_conflict_do_update(index_elements=["environment"], set_=changed))
