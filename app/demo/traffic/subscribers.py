"""Subscribers of the sample traffic: a few accounts in different states, billed by the local Stripe's test clocks.

Each has an account apart from the story, so that it changes nothing there. Stripe's events are delivered at their own
times, after the clock has advanced to the end of the story.
"""

import json
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.accounts.directory import Identity, Profile
from app.auth.caller import Actor
from app.configuration.sections import PLANS
from app.configuration.service import Configuration
from app.demo.data import PROVIDER
from app.demo.stripe.webhooks import signature
from app.demo.traffic.past import Past, at
from app.payments.service import PaymentService
from app.payments.stripe_objects import SUBSCRIPTION_EVENTS
from app.plans.document import Interval
from app.subscriptions.wiring import subscription_services

DAY = timedelta(days=1)
MONTH = 30
"""A clock advances by at most two periods of its subscriptions at once."""
ACTOR = Actor("system", "demo")
GOOD_CARD, DECLINED_LATER = "pm_card_visa", "pm_card_chargeCustomerFail"


@dataclass(frozen=True, slots=True)
class Member:
    """A subscriber of the sample traffic. Days are before the end of the story."""

    name: str
    plan: str
    interval: Interval
    began: int
    cancels: int | None = None
    """Decides to leave at the end of the period."""
    bad_card: int | None = None
    """Changes to a card that is declined."""


MEMBERS = (
    Member("Ingrid Solheim", "standard", "month", 160),
    Member("Mateo Rivas", "pro", "month", 131),
    Member("Aiko Mori", "standard", "month", 118, cancels=70),
    Member("Tunde Bello", "standard", "month", 95),
    Member("Elena Popescu", "pro", "month", 63, bad_card=20),
    Member("Oscar Lind", "standard", "month", 48, cancels=6),
    Member("Sofia Greco", "pro", "month", 20),
    Member("Daniel Osei", "standard", "month", 9),
)


@dataclass(frozen=True, slots=True)
class Subscribers:
    past: Past
    until: datetime
    payments: PaymentService
    prices: dict[tuple[str, Interval], str]
    """Stripe's prices, by plan and interval."""

    async def add(self, member: Member) -> str | None:
        """Add a subscriber, and let its history happen at Stripe. Return the customer.

        None: the subscriber exists, or Stripe does not sell the plan.
        """
        price_id = self.prices.get((member.plan, member.interval))
        if price_id is None:
            return None
        began_at = self.until - member.began * DAY
        with at(began_at):
            account_id = await self._account(member, began_at)
            if await self._is_subscribed(account_id):
                return None
            return await self._history(member, account_id, price_id, began_at)

    async def _account(self, member: Member, began_at: datetime) -> UUID:
        address = f"{member.name.lower().replace(' ', '.')}@example.com"
        identity = Identity("live", PROVIDER, address)
        profile = Profile(customer_email=address, display_name=member.name)
        return await self.past.billing.accounts.directory.resolve(identity, profile, ACTOR, began_at - DAY)

    async def _is_subscribed(self, account_id: UUID) -> bool:
        query = text("SELECT EXISTS (SELECT FROM subscriptions WHERE account_id = :account_id)")
        async with self.past.db.read() as session:
            return bool((await session.execute(query, {"account_id": account_id})).scalar_one())

    async def _history(self, member: Member, account_id: UUID, price_id: str, began_at: datetime) -> str:
        """Subscribe at Stripe, and let the customer's time pass. Return the customer."""
        v1 = self.past.stripe("live").v1
        clocks: Any = v1.test_helpers.test_clocks
        clock = await clocks.create_async({"frozen_time": int(began_at.timestamp()), "name": member.name})
        metadata = {"account_id": str(account_id)}
        customer = await v1.customers.create_async({"test_clock": clock.id, "name": member.name, "metadata": metadata})
        await self._pay_with(customer.id, GOOD_CARD)
        items: Any = [{"price": price_id}]
        made = await v1.subscriptions.create_async({"customer": customer.id, "items": items, "metadata": metadata})
        for day, change in sorted(_changes(member), reverse=True):
            moment = self.until - day * DAY
            with at(moment):
                await clocks.advance_async(clock.id, {"frozen_time": int(moment.timestamp())})
                if change == "cancel":
                    await v1.subscriptions.update_async(made.id, {"cancel_at_period_end": True})
                elif change == "card":
                    await self._pay_with(customer.id, DECLINED_LATER)
        return customer.id

    async def _pay_with(self, customer_id: str, card: str) -> None:
        v1 = self.past.stripe("live").v1
        saved = await v1.payment_methods.attach_async(card, {"customer": customer_id})
        settings: Any = {"default_payment_method": saved.id}
        await v1.customers.update_async(customer_id, {"invoice_settings": settings})

    async def deliver(self, customers: Collection[str]) -> None:
        """Deliver the customers' events in their order, each at its time, as Stripe's webhooks would have."""
        keys = self.past.settings.stripe_live
        assert keys is not None
        since = self.until - max(member.began for member in MEMBERS) * DAY
        query: Any = {"created": {"gte": int(since.timestamp())}, "limit": 100, "types": list(SUBSCRIPTION_EVENTS)}
        page = await self.past.stripe("live").v1.events.list_async(query)
        events = [event.to_dict() async for event in page.auto_paging_iter()]
        events.reverse()
        in_order = sorted(events, key=lambda event: int(event["created"]))
        for number, event in enumerate(in_order):
            if not _is_of(event["data"]["object"], customers):
                continue
            # Not two at once: the back office lists events in the order of arrival.
            moment = datetime.fromtimestamp(event["created"], UTC) + number * timedelta(milliseconds=1)
            payload = json.dumps(event, default=str).encode()
            signed = signature(keys.webhook_secret.get_secret_value(), payload, int(time.time()))
            with at(moment):
                await self.payments.handle_webhook(payload, signed, moment)


def _is_of(subject: dict[str, Any], customers: Collection[str]) -> bool:
    """Return whether an object belongs to one of the customers. Payments of invoices do not name theirs."""
    return subject["object"] == "invoice_payment" or subject.get("customer") in customers


def _changes(member: Member) -> Iterator[tuple[int, str]]:
    """Yield the changes after the beginning, each with its day, counted back from the end."""
    if member.cancels is not None:
        yield member.cancels, "cancel"
    if member.bad_card is not None:
        yield member.bad_card, "card"
    for day in range(0, member.began, MONTH):
        yield day, "time passes"


async def add_subscribers(past: Past, until: datetime) -> int:
    """Add the subscribers of the sample traffic that are missing. Return their number."""
    configuration = Configuration(past.db, past.settings)
    settlement, _ = subscription_services(past.db, configuration, past.billing.accounts, past.gateway)
    plans = (await configuration.current()).document(PLANS).plans
    prices = {
        (plan.name, price.interval): price.stripe_price_live
        for plan in plans
        for price in plan.prices
        if price.stripe_price_live is not None
    }
    payments = PaymentService(past.db, configuration, past.billing, past.gateway, settlement)
    subscribers = Subscribers(past, until, payments, prices)
    customers = [customer for member in MEMBERS if (customer := await subscribers.add(member)) is not None]
    if customers:
        await subscribers.deliver(customers)
    return len(customers)
