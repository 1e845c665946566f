"""Inbox of events: applies each event of a provider once, whether a webhook or the event log delivers it."""

from datetime import datetime
from typing import Literal

from app.auth.caller import Environment
from app.db import Database
from app.payments import event_queries
from app.payments.facts import Event
from app.payments.settlement import Outcome, apply


async def receive(db: Database, environment: Environment, event: Event, now: datetime) -> Outcome | Literal["repeated"]:
    """Apply an event in its own transaction. Return the outcome.

    The event's id is stored with its effect, so neither exists without the other.
    """
    async with db.transaction() as tx:
        if not await event_queries.insert_event(tx, environment, event, now):
            return "repeated"
        if event.facts is None:
            return "ignored"
        outcome = await apply(tx, environment, event.facts, now)
        await event_queries.update_event_outcome(tx, environment, event, outcome)
    return outcome
