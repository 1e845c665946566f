"""Subscriptions of the local Stripe, by the official SDK: their creation, their first invoice, and their end."""

from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_server.billing import (
    billing_events,
    customer,
    found,
    intent_of,
    invoices,
    item,
    period,
    price,
    subscribe,
)
from tests.demo.stripe_server.sdk import TIMEOUT_S, event_types, refused, saved_card, tell

PAID = [
    "customer.subscription.created",
    "invoice.created",
    "invoice.finalized",
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice_payment.paid",
    "invoice.payment_succeeded",
]


async def test_a_subscription_with_a_card_is_active_at_once(client: stripe.StripeClient) -> None:
    buyer, plan = await customer(client), await price(client)
    made = await subscribe(client, buyer, plan, metadata={"account_id": "a-1"})
    assert (made.status, made.customer, made.currency) == ("active", buyer, "usd")
    assert item(made).price.id == plan
    assert 28 * 86_400 <= item(made).current_period_end - item(made).current_period_start <= 31 * 86_400
    assert made.billing_cycle_anchor == item(made).current_period_start
    assert (await billing_events(client)) == PAID
    created = (await client.v1.events.list_async({"type": "customer.subscription.created"})).data[0]
    assert created.data.object["status"] == "active"
    (invoice,) = await invoices(client, made)
    assert made.latest_invoice == invoice.id
    assert (invoice.status, invoice.amount_paid, invoice.billing_reason) == ("paid", 2000, "subscription_create")
    assert invoice.parent is not None
    assert invoice.parent.subscription_details is not None
    assert invoice.parent.subscription_details.subscription == made.id
    assert invoice.parent.subscription_details.metadata is not None
    assert invoice.parent.subscription_details.metadata.to_dict() == {"account_id": "a-1"}
    (line,) = invoice.lines.data
    assert (line.amount, line.period.start, line.period.end) == (
        2000,
        item(made).current_period_start,
        item(made).current_period_end,
    )
    assert line.pricing is not None
    assert line.pricing.price_details is not None
    assert line.pricing.price_details.price == plan


async def test_expanding_leads_from_a_subscription_to_its_payment(client: stripe.StripeClient) -> None:
    made = await subscribe(client, await customer(client), await price(client))
    path = "latest_invoice.payments.data.payment.payment_intent.latest_charge"
    wanted: Any = {"expand": [path, "latest_invoice.confirmation_secret", "customer", "items.data.price.product"]}
    read = await client.v1.subscriptions.retrieve_async(made.id, wanted)
    assert isinstance(read.customer, stripe.Customer)
    assert isinstance(item(read).price.product, stripe.Product)
    assert isinstance(read.latest_invoice, stripe.Invoice)
    assert read.latest_invoice.confirmation_secret is not None
    assert read.latest_invoice.payments is not None
    intent = read.latest_invoice.payments.data[0].payment.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert isinstance(intent.latest_charge, stripe.Charge)
    assert (intent.latest_charge.paid, intent.latest_charge.amount) == (True, 2000)


@pytest.mark.parametrize(
    ("card", "failure"),
    [
        ("pm_card_chargeCustomerFail", ["charge.failed", "payment_intent.payment_failed", "invoice.payment_failed"]),
        (
            "pm_card_authenticationRequired",
            ["payment_intent.requires_action", "invoice.payment_action_required", "invoice.payment_failed"],
        ),
    ],
)
async def test_a_failed_first_payment_leaves_it_incomplete(
    client: stripe.StripeClient, card: str, failure: list[str]
) -> None:
    made = await subscribe(client, await customer(client, card), await price(client))
    assert made.status == "incomplete"
    assert (await billing_events(client)) == [*PAID[:4], *failure]
    (invoice,) = await invoices(client, made)
    assert (invoice.status, invoice.attempt_count, invoice.next_payment_attempt) == ("open", 1, None)


async def test_a_buyer_completes_the_first_payment(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    made = await subscribe(client, await customer(client, "pm_card_authenticationRequired"), await price(client))
    (invoice,) = await invoices(client, made)
    intent = await intent_of(client, invoice.id)
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, follow_redirects=True) as browser:
        assert "Pay 20.00 USD" in (await browser.get(str(invoice.hosted_invoice_url))).text
        await tell(control, f"/payment_intents/{intent}/succeed")
        assert "paid" in (await browser.get(str(invoice.hosted_invoice_url))).text
    assert (await found(client, made)).status == "active"
    updated = (await client.v1.events.list_async({"type": "customer.subscription.updated"})).data[0]
    assert updated.data.previous_attributes is not None
    assert updated.data.previous_attributes.to_dict() == {"status": "incomplete"}


async def test_default_incomplete_waits_for_the_buyer(client: stripe.StripeClient) -> None:
    buyer = await customer(client, None)
    made = await subscribe(
        client,
        buyer,
        await price(client),
        payment_behavior="default_incomplete",
        payment_settings={"save_default_payment_method": "on_subscription"},
        expand=["latest_invoice.confirmation_secret"],
    )
    assert made.status == "incomplete"
    assert isinstance(made.latest_invoice, stripe.Invoice)
    assert made.latest_invoice.confirmation_secret is not None
    intent_id = made.latest_invoice.confirmation_secret.client_secret.split("_secret_")[0]
    intent = await client.v1.payment_intents.confirm_async(intent_id, {"payment_method": "pm_card_visa"})
    assert intent.status == "succeeded"
    now = await found(client, made)
    assert (now.status, now.default_payment_method) == ("active", intent.payment_method)
    assert (await client.v1.payment_methods.list_async({"customer": buyer})).data[0].id == intent.payment_method


async def test_error_if_incomplete_creates_nothing(client: stripe.StripeClient) -> None:
    buyer, plan = await customer(client, "pm_card_chargeCustomerFail"), await price(client)
    with refused(stripe.CardError, 402, "card_declined"):
        await subscribe(client, buyer, plan, payment_behavior="error_if_incomplete")
    assert (await client.v1.subscriptions.list_async({"customer": buyer, "status": "all"})).data == []
    assert (await client.v1.invoices.list_async({"customer": buyer})).data == []
    assert not [name for name in await event_types(client) if name.startswith(("customer.sub", "invoice"))]


async def test_a_free_price_needs_no_card(client: stripe.StripeClient) -> None:
    made = await subscribe(client, await customer(client, None), await price(client, 0))
    assert made.status == "active"
    (invoice,) = await invoices(client, made)
    assert (invoice.status, invoice.amount_due) == ("paid", 0)
    assert (await client.v1.invoice_payments.list_async({"invoice": invoice.id})).data == []


async def test_a_trial_is_free(client: stripe.StripeClient) -> None:
    made = await subscribe(client, await customer(client), await price(client), trial_period_days=14)
    assert made.status == "trialing"
    assert made.trial_end is not None
    assert made.trial_end == item(made).current_period_end == made.billing_cycle_anchor
    assert made.trial_end - made.created == 14 * 86_400
    (invoice,) = await invoices(client, made)
    assert (invoice.status, invoice.total, invoice.lines.data[0].amount) == ("paid", 0, 0)


async def test_a_yearly_price_has_a_yearly_period(client: stripe.StripeClient) -> None:
    made = await subscribe(client, await customer(client), await price(client, 20_000, "year"))
    start, end = period(made)
    assert int(end[:4]) == int(start[:4]) + 1


async def test_cancellation_at_period_end_is_taken_back(client: stripe.StripeClient) -> None:
    made = await subscribe(client, await customer(client), await price(client))
    canceling = await client.v1.subscriptions.update_async(
        made.id, {"cancel_at_period_end": True, "cancellation_details": {"feedback": "too_expensive"}}
    )
    assert (canceling.status, canceling.cancel_at_period_end) == ("active", True)
    assert canceling.cancel_at == item(made).current_period_end
    assert canceling.cancellation_details is not None
    assert (canceling.cancellation_details.reason, canceling.cancellation_details.feedback) == (
        "cancellation_requested",
        "too_expensive",
    )
    resumed = await client.v1.subscriptions.update_async(made.id, {"cancel_at_period_end": False})
    assert (resumed.cancel_at_period_end, resumed.cancel_at, resumed.canceled_at) == (False, None, None)
    assert (await event_types(client))[-2:] == ["customer.subscription.updated"] * 2


async def test_cancellation_at_once_ends_it(client: stripe.StripeClient) -> None:
    made = await subscribe(client, await customer(client), await price(client))
    ended = await client.v1.subscriptions.cancel_async(made.id)
    assert (ended.status, ended.ended_at) == ("canceled", ended.canceled_at)
    assert (await event_types(client))[-1] == "customer.subscription.deleted"
    with refused(stripe.InvalidRequestError, 404):
        await client.v1.subscriptions.cancel_async(made.id)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.subscriptions.update_async(made.id, {"cancel_at_period_end": True})
    changed = await client.v1.subscriptions.update_async(made.id, {"metadata": {"k": "v"}})
    assert changed.metadata.to_dict() == {"k": "v"}


async def test_a_deleted_customer_has_no_subscription(client: stripe.StripeClient) -> None:
    buyer = await customer(client)
    made = await subscribe(client, buyer, await price(client))
    await client.v1.customers.delete_async(buyer)
    assert (await found(client, made)).status == "canceled"


async def test_subscriptions_are_listed(client: stripe.StripeClient) -> None:
    buyer, plan = await customer(client), await price(client)
    ended = await subscribe(client, buyer, plan)
    await client.v1.subscriptions.cancel_async(ended.id)
    running = await subscribe(client, buyer, await price(client, 5000))
    for params, ids in (
        ({"customer": buyer}, [running.id]),
        ({"customer": buyer, "status": "all"}, [running.id, ended.id]),
        ({"customer": buyer, "status": "canceled"}, [ended.id]),
        ({"customer": buyer, "status": "ended"}, [ended.id]),
        ({"price": plan}, []),
        ({"price": plan, "status": "all"}, [ended.id]),
        ({"status": "active"}, [running.id]),
    ):
        wanted: Any = params
        assert [one.id for one in (await client.v1.subscriptions.list_async(wanted)).data] == ids, params


async def test_a_repeated_key_subscribes_once(client: stripe.StripeClient) -> None:
    buyer, plan = await customer(client), await price(client)
    params: Any = {"customer": buyer, "items": [{"price": plan}]}
    made = [await client.v1.subscriptions.create_async(params, {"idempotency_key": "s-1"}) for _ in range(2)]
    assert made[0].id == made[1].id
    assert len((await client.v1.charges.list_async({"customer": buyer})).data) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"customer": "cus_none"},
        {"customer": ""},
        {"items": []},
        {"items": [{"price": "price_none"}]},
        {"items": [{"quantity": 1}]},
        {"default_payment_method": "pm_none"},
        {"trial_end": 1},
        {"trial_period_days": 731},
        {"payment_behavior": "pending_if_incomplete"},
        {"collection_method": "send_invoice"},
        {"billing_cycle_anchor": 1},
        {"metadata": {"k": "x" * 501}},
    ],
)
async def test_invalid_subscriptions_are_refused(client: stripe.StripeClient, changed: Any) -> None:
    buyer, plan = await customer(client), await price(client)
    params: Any = {"customer": buyer, "items": [{"price": plan}], **changed}
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.subscriptions.create_async(params)
    assert (await client.v1.subscriptions.list_async({"status": "all"})).data == []


async def test_a_customer_without_a_card_cannot_subscribe(client: stripe.StripeClient) -> None:
    with refused(stripe.InvalidRequestError, 400, "resource_missing"):
        await subscribe(client, await customer(client, None), await price(client))


async def test_another_customers_card_is_refused(client: stripe.StripeClient) -> None:
    card = await saved_card(client, await customer(client))
    with refused(stripe.InvalidRequestError, 400, "resource_missing"):
        await subscribe(client, await customer(client), await price(client), default_payment_method=card.id)


async def test_prices_and_products_are_found(client: stripe.StripeClient) -> None:
    monthly = await price(client, lookup_key="pro_month", metadata={"plan": "pro"})
    yearly = await price(client, 20_000, "year")
    read = await client.v1.prices.retrieve_async(monthly)
    assert read.recurring is not None
    assert (read.recurring.interval, read.unit_amount, read.type) == ("month", 2000, "recurring")
    await client.v1.prices.update_async(yearly, {"active": False})
    for params, ids in (
        ({"lookup_keys": ["pro_month", "none"]}, [monthly]),
        ({"active": True}, [monthly]),
        ({"active": False}, [yearly]),
        ({"recurring": {"interval": "year"}}, [yearly]),
        ({"product": str(read.product)}, [monthly]),
        ({"type": "one_time"}, []),
    ):
        wanted: Any = params
        assert [one.id for one in (await client.v1.prices.list_async(wanted)).data] == ids, params
    await client.v1.products.update_async(str(read.product), {"name": "Pro", "default_price": monthly})
    product = await client.v1.products.retrieve_async(str(read.product), {"expand": ["default_price"]})
    assert isinstance(product.default_price, stripe.Price)
    assert (product.name, product.default_price.id) == ("Pro", monthly)
    with refused(stripe.InvalidRequestError, 400):
        await subscribe(client, await customer(client), yearly)


@pytest.mark.parametrize(
    "changed",
    [
        {"currency": "xxx"},
        {"unit_amount": ""},
        {"unit_amount": 100_000_000},
        {"recurring": {"interval": "decade"}},
        {"recurring": {"interval": "year", "interval_count": 4}},
        {"recurring": {"interval_count": 1}},
        {"product_data": {}},
        {"product": "prod_none"},
    ],
)
async def test_invalid_prices_are_refused(client: stripe.StripeClient, changed: Any) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await price(client, **changed)
