"""SQL of subscriptions: one statement a function. Writers hold the account's lock."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Result, select, update
from sqlalchemy.dialects.postgresql import insert

from app.auth.caller import Environment
from app.db import Base, Session
from app.payments.facts import Provider
from app.subscriptions.models import (
    PeriodGrant,
    Subscriber,
    Subscription,
    SubscriptionInvoice,
    SubscriptionOrder,
    SubscriptionTerms,
)

Row = Mapping[str, Any]


async def _list(db: Session, model: type[Base], account_id: UUID, *order: str) -> Sequence[Row]:
    table = model.__table__
    query = select(table).where(table.c.account_id == account_id).order_by(*(table.c[name] for name in order))
    return [dict(row) for row in (await db.execute(query)).mappings()]


def _one(result: Result[Any]) -> Row | None:
    row = result.mappings().one_or_none()
    return None if row is None else dict(row)


async def _upsert(tx: Session, model: type[Base], row: Row) -> None:
    """Insert a row, or replace the values of the row with its key."""
    keys = [column.name for column in model.__table__.primary_key]
    changed = {name: value for name, value in row.items() if name not in keys}
    statement = insert(model).values(**row)
    await tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


# --- the provider's facts ---


async def list_subscriptions(db: Session, account_id: UUID) -> Sequence[Row]:
    return await _list(db, Subscription, account_id, "started_at", "subscription_id")


async def upsert_subscription(tx: Session, row: Row) -> None:
    await _upsert(tx, Subscription, row)


async def update_due_at(
    tx: Session, account_id: UUID, provider: Provider, subscription_id: str, due_at: datetime | None
) -> None:
    await tx.execute(
        update(Subscription)
        .where(
            Subscription.account_id == account_id,
            Subscription.provider == provider,
            Subscription.subscription_id == subscription_id,
        )
        .values(due_at=due_at)
    )


async def list_due(db: Session, now: datetime, limit: int) -> Sequence[Row]:
    """Return the keys of subscriptions for which something is to be done, the longest due first."""
    query = (
        select(Subscription.account_id, Subscription.environment, Subscription.subscription_id)
        .where(Subscription.due_at <= now)
        .order_by(Subscription.due_at)
        .limit(limit)
    )
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def list_invoices(db: Session, account_id: UUID) -> Sequence[Row]:
    return await _list(db, SubscriptionInvoice, account_id, "created_at", "invoice_id")


async def upsert_invoice(tx: Session, row: Row) -> None:
    await _upsert(tx, SubscriptionInvoice, row)


# --- terms ---


async def list_terms(db: Session, account_id: UUID) -> Sequence[Row]:
    return await _list(db, SubscriptionTerms, account_id, "created_at")


async def insert_terms(tx: Session, row: Row) -> None:
    """Store the terms of a price, unless they are known: a subscriber keeps its terms."""
    await tx.execute(insert(SubscriptionTerms).values(**row).on_conflict_do_nothing())


async def find_subscriber(db: Session, account_id: UUID) -> Row | None:
    query = select(Subscriber.__table__).where(Subscriber.account_id == account_id)
    return _one(await db.execute(query))


async def upsert_subscriber(tx: Session, row: Row) -> None:
    await _upsert(tx, Subscriber, row)


# --- grants of periods ---


async def list_period_grants(db: Session, account_id: UUID) -> Sequence[Row]:
    return await _list(db, PeriodGrant, account_id, "period_start", "kind")


async def insert_period_grant(tx: Session, row: Row) -> None:
    """Store a grant of a period. Its key makes a second one impossible."""
    await tx.execute(insert(PeriodGrant).values(**row))


async def update_taken_back(
    tx: Session, account_id: UUID, period_start: datetime, kind: str, refunded: int, disputed: int
) -> None:
    await tx.execute(
        update(PeriodGrant)
        .where(PeriodGrant.account_id == account_id, PeriodGrant.period_start == period_start, PeriodGrant.kind == kind)
        .values(refunded=refunded, disputed=disputed)
    )


# --- orders ---


async def insert_order(tx: Session, row: Row) -> None:
    await tx.execute(insert(SubscriptionOrder).values(**row))


async def find_order(db: Session, account_id: UUID, order_id: UUID) -> Row | None:
    query = select(SubscriptionOrder.__table__).where(
        SubscriptionOrder.account_id == account_id, SubscriptionOrder.order_id == order_id
    )
    return _one(await db.execute(query))


async def find_open_order(db: Session, account_id: UUID) -> Row | None:
    query = select(SubscriptionOrder.__table__).where(
        SubscriptionOrder.account_id == account_id, SubscriptionOrder.status == "open"
    )
    return _one(await db.execute(query))


async def update_order(tx: Session, account_id: UUID, order_id: UUID, now: datetime, **changes: Any) -> None:
    await tx.execute(
        update(SubscriptionOrder)
        .where(SubscriptionOrder.account_id == account_id, SubscriptionOrder.order_id == order_id)
        .values(**changes, updated_at=now)
    )


async def list_open_orders(db: Session, environment: Environment, until: datetime, limit: int) -> Sequence[Row]:
    """Return the open orders that were made until a time, the oldest first."""
    query = (
        select(SubscriptionOrder.__table__)
        .where(
            SubscriptionOrder.environment == environment,
            SubscriptionOrder.status == "open",
            SubscriptionOrder.created_at <= until,
        )
        .order_by(SubscriptionOrder.created_at)
        .limit(limit)
    )
    return [dict(row) for row in (await db.execute(query)).mappings()]
