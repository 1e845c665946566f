"""Inbox of events: applies each event of a provider once, whether a webhook or the event log delivers it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal, Protocol

from app.auth.caller import Environment
from app.db import Database, Session
from app.outbox import defer
from app.payments import event_queries
from app.payments.facts import Event, PaymentFacts, Stated
from app.payments.settlement import Outcome, apply

Apply = Callable[[Session, Environment, Stated, datetime], Awaitable[Outcome]]
SAVE_CARD = "save_card"
"""The task that stores the card of a page that a user has completed."""


class OtherBooks(Protocol):
    """Books beside purchases, such as those of subscriptions. They share the inbox and the event log."""

    async def applier(self) -> Apply:
        """Return what applies facts in a transaction. "ignored": they are about nothing of these books."""


async def receive(
    db: Database, environment: Environment, event: Event, now: datetime, others: OtherBooks | None = None
) -> Outcome | Literal["repeated"]:
    """Apply an event in its own transaction. Return the outcome.

    The event's id is stored with its effect, so neither exists without the other. Facts about a payment that is no
    purchase's, and about everything else, go to the other books.
    """
    apply_others = None if others is None or event.facts is None else await others.applier()
    async with db.transaction() as tx:
        if not await event_queries.insert_event(tx, environment, event, now):
            return "repeated"
        if event.setup is not None:
            args = {"account_id": str(event.setup.account_id), "setup_id": str(event.setup.setup_id)}
            await defer(tx, SAVE_CARD, args, now)  # the card's details need a call to the provider
            await event_queries.update_event_outcome(tx, environment, event, "applied")
            return "applied"
        if event.facts is None:
            return "ignored"
        outcome: Outcome = "ignored"
        if isinstance(event.facts, PaymentFacts):
            outcome = await apply(tx, environment, event.facts, now)
        if outcome == "ignored" and apply_others is not None:
            outcome = await apply_others(tx, environment, event.facts, now)
        await event_queries.update_event_outcome(tx, environment, event, outcome)
    return outcome
