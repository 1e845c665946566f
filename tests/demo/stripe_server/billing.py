"""Subscriptions as these tests make them: prices, customers with a test clock, and their invoices."""

from datetime import UTC, datetime
from typing import Any

import stripe

from tests.demo.stripe_server.sdk import event_types, saved_card

START = "2026-01-31T10:00:00"


def second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def day(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).date().isoformat()


async def price(client: stripe.StripeClient, amount: int = 2000, interval: str = "month", **more: Any) -> str:
    params: Any = {
        "currency": "usd",
        "unit_amount": amount,
        "recurring": {"interval": interval},
        "product_data": {"name": f"Plan of {amount}"},
        **more,
    }
    return (await client.v1.prices.create_async(params)).id


async def clock(client: stripe.StripeClient, start: str = START) -> str:
    return (await client.v1.test_helpers.test_clocks.create_async({"frozen_time": second(start)})).id


async def advance(client: stripe.StripeClient, clock_id: str, to: str) -> None:
    started = await client.v1.test_helpers.test_clocks.advance_async(clock_id, {"frozen_time": second(to)})
    assert started.status == "advancing"
    assert (await client.v1.test_helpers.test_clocks.retrieve_async(clock_id)).status == "ready"


async def customer(client: stripe.StripeClient, card: str | None = "pm_card_visa", **more: Any) -> str:
    """A customer whose invoices this card pays."""
    params: Any = {"email": "ada@shop.example", **more}
    made = await client.v1.customers.create_async(params)
    if card is not None:
        saved = await saved_card(client, made.id, card)
        await change_card(client, made.id, saved.id)
    return made.id


async def change_card(client: stripe.StripeClient, customer_id: str, method: str) -> None:
    await client.v1.customers.update_async(customer_id, {"invoice_settings": {"default_payment_method": method}})


async def subscribe(client: stripe.StripeClient, customer_id: str, price_id: str, **more: Any) -> stripe.Subscription:
    params: Any = {"customer": customer_id, "items": [{"price": price_id}], **more}
    return await client.v1.subscriptions.create_async(params)


async def found(client: stripe.StripeClient, subscription: stripe.Subscription) -> stripe.Subscription:
    return await client.v1.subscriptions.retrieve_async(subscription.id)


async def invoices(client: stripe.StripeClient, subscription: stripe.Subscription) -> list[stripe.Invoice]:
    """The subscription's invoices, oldest first."""
    return (await client.v1.invoices.list_async({"subscription": subscription.id, "limit": 100})).data[::-1]


def item(subscription: stripe.Subscription) -> stripe.SubscriptionItem:
    # `subscription.items` is the field of the API; its type is a list object.
    items: Any = subscription.items
    one: stripe.SubscriptionItem = items.data[0]
    return one


def period(subscription: stripe.Subscription) -> tuple[str, str]:
    one = item(subscription)
    return day(one.current_period_start), day(one.current_period_end)


async def billing_events(client: stripe.StripeClient, after: int = 0) -> list[str]:
    """The types of events about subscriptions, invoices and their payments, oldest first."""
    prefixes = ("customer.subscription.", "invoice", "payment_intent.", "charge.", "checkout.")
    return [name for name in (await event_types(client))[after:] if name.startswith(prefixes)]


async def intent_of(client: stripe.StripeClient, invoice_id: str) -> str:
    """The payment of an invoice, as the pinned API version finds it."""
    payments = (await client.v1.invoice_payments.list_async({"invoice": invoice_id})).data
    assert isinstance(payments[0].payment.payment_intent, str)
    return payments[0].payment.payment_intent
