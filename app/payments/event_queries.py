"""SQL of the inbox of events and of the cursors of event logs: one statement a function."""

from datetime import datetime
from typing import Literal

from sqlalchemy import Update, select, update
from sqlalchemy.dialects.postgresql import insert

from app.auth.caller import Environment
from app.db import Session
from app.payments.facts import Event, Provider
from app.payments.models import PaymentCursor, PaymentEvent

Feed = Literal["payments", "refunds", "subscriptions"]
"""Parts of the provider's event log that are read with a cursor each."""
_READ_UNTIL: dict[Feed, str] = {
    "payments": "events_read_until",
    "refunds": "refunds_read_until",
    "subscriptions": "subscriptions_read_until",
}


async def insert_event(tx: Session, environment: Environment, event: Event, now: datetime) -> bool:
    """Store a received event. Return False when it has had its effect.

    Waits for a concurrent delivery of the same event to commit. An ignored event is applied again, because it can have
    overtaken the fact that makes its payment ours.

    The statement names no key, so it works with the present keys and with those of the next revision (ADR 25).
    """
    row = insert(PaymentEvent).values(
        environment=environment,
        provider=event.provider,
        event_id=event.event_id,
        type=event.type,
        payment_intent_id=event.facts.provider_payment_id if event.facts else None,
        object_id=event.facts.object_id if event.facts else None,
        outcome="ignored",
        created_at=event.created_at,
        received_at=now,
    )
    inserted = await tx.execute(row.on_conflict_do_nothing().returning(PaymentEvent.event_id))
    if inserted.scalar_one_or_none() is not None:
        return True
    again = _update_event(environment, event).where(PaymentEvent.outcome == "ignored").values(received_at=now)
    return (await tx.execute(again.returning(PaymentEvent.event_id))).scalar_one_or_none() is not None


async def update_event_outcome(tx: Session, environment: Environment, event: Event, outcome: str) -> None:
    await tx.execute(_update_event(environment, event).values(outcome=outcome))


def _update_event(environment: Environment, event: Event) -> Update:
    return update(PaymentEvent).where(
        PaymentEvent.environment == environment,
        PaymentEvent.provider == event.provider,
        PaymentEvent.event_id == event.event_id,
    )


async def find_cursor(db: Session, environment: Environment, provider: Provider, feed: Feed) -> datetime | None:
    query = select(PaymentCursor.__table__.columns[_READ_UNTIL[feed]]).where(
        PaymentCursor.environment == environment, PaymentCursor.provider == provider
    )
    return (await db.execute(query)).scalar_one_or_none()


async def upsert_cursor(
    tx: Session, environment: Environment, provider: Provider, feed: Feed, read_until: datetime
) -> None:
    """Store up to when a feed has been read. The first run reads payments first, which inserts the row."""
    keys = {"environment": environment, "provider": provider}
    changed = {_READ_UNTIL[feed]: read_until}
    # Two unique keys hold at present. DO UPDATE names one of them, and a concurrent insert could violate the other.
    row = {**keys, "events_read_until": read_until, **changed}
    await tx.execute(insert(PaymentCursor).values(**row).on_conflict_do_nothing())
    await tx.execute(update(PaymentCursor).filter_by(**keys).values(**changed))


async def find_first_decision(
    tx: Session, environment: Environment, provider: Provider, payment_id: str
) -> datetime | None:
    """Return the provider's time of the first decision about a dispute of the payment that was received and applied."""
    query = (
        select(PaymentEvent.created_at)
        .where(
            PaymentEvent.payment_intent_id == payment_id,
            PaymentEvent.environment == environment,
            PaymentEvent.provider == provider,
            PaymentEvent.type == "charge.dispute.closed",
            PaymentEvent.outcome != "ignored",
        )
        .order_by(PaymentEvent.received_at)
    )
    return (await tx.execute(query.limit(1))).scalar_one_or_none()
