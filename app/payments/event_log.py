"""Event log: reads the events that the provider recorded and webhooks did not deliver."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from app.auth.caller import Environment
from app.db import Database
from app.observability.metrics import EVENTS_CAUGHT_UP
from app.payments import event_queries
from app.payments.event_queries import Feed
from app.payments.facts import Event
from app.payments.inbox import OtherBooks, receive
from app.payments.reconciliation_tally import Attempts
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_objects import HANDLED, REFUND_EVENTS, SUBSCRIPTION_EVENTS

READ_BACK = timedelta(days=30)
"""Stripe keeps events for so long."""
READ_AT_ONCE: Mapping[Feed, timedelta] = {
    "payments": timedelta(hours=6),
    "refunds": timedelta(days=6),
    "subscriptions": timedelta(hours=6),
}
"""The part of the event log that is held in memory, and read before the cursor moves. Refunds are few.

After a part without events the next one is twice as long, so that a quiet month takes 7 calls and not 120.
"""
FEEDS: Mapping[Feed, Collection[str]] = {
    "payments": tuple(kind for kind in HANDLED if kind not in (*REFUND_EVENTS, *SUBSCRIPTION_EVENTS)),
    "refunds": REFUND_EVENTS,
    "subscriptions": SUBSCRIPTION_EVENTS,
}
"""Refunds and subscriptions have separate cursors: an older version, beside this one or before it, does not read their
events."""
OVERLAP = timedelta(hours=1)
"""Events can appear in the log later than their own time. Reading some twice has no effect."""


async def catch_up(
    db: Database,
    gateway: StripeGateway,
    environment: Environment,
    now: datetime,
    attempts: Attempts,
    others: OtherBooks | None = None,
) -> None:
    """Read every feed of the event log from its cursor to now. Raises PaymentProviderError."""
    for feed, types in FEEDS.items():
        if feed != "subscriptions" or others is not None:
            await _catch_up_on_feed(db, gateway, environment, feed, types, now, attempts, others)


async def _catch_up_on_feed(
    db: Database,
    gateway: StripeGateway,
    environment: Environment,
    feed: Feed,
    types: Collection[str],
    now: datetime,
    attempts: Attempts,
    others: OtherBooks | None,
) -> None:
    """Read a feed in pieces. The cursor stays before an event that could not be applied."""
    async with db.read() as session:
        cursor = await event_queries.find_cursor(session, environment, gateway.provider, feed)
    since = max(now - READ_BACK, (cursor or now - READ_BACK) - OVERLAP)
    failed: datetime | None = None
    part = READ_AT_ONCE[feed]
    while since < now:
        until = min(since + part, now)
        events = await gateway.events_between(environment, types, since, until, part > READ_AT_ONCE[feed])
        part = READ_AT_ONCE[feed] if events is None or events else part * 2
        if events is None:  # too many to hold: read a shorter part
            continue
        for event in events:
            work = _receive_missed(db, environment, event, now, others)
            if not await attempts.attempt("events", work, event_id=event.event_id, type=event.type):
                failed = failed or event.created_at
        async with db.transaction() as tx:
            await event_queries.upsert_cursor(tx, environment, gateway.provider, feed, failed or until)
        since = until


async def _receive_missed(
    db: Database, environment: Environment, event: Event, now: datetime, others: OtherBooks | None
) -> bool:
    """Return whether the event had its effect now, so that no webhook had delivered it."""
    missed = await receive(db, environment, event, now, others) in ("applied", "review")
    if missed:
        EVENTS_CAUGHT_UP.inc()
    return missed
