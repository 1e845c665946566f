"""Checkout sessions of mode `subscription` at the local Stripe: the page's outcomes, trials, and refusals."""

from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_server.billing import (
    advance,
    billing_events,
    clock,
    customer,
    found,
    intent_of,
    invoices,
    period,
    price,
)
from tests.demo.stripe_server.sdk import TIMEOUT_S, event_types, refused, tell


def params(price_id: str, **changed: Any) -> Any:
    return {
        "mode": "subscription",
        "line_items": [{"price": price_id, "quantity": 1}],
        "success_url": "https://shop.example/done?session_id={CHECKOUT_SESSION_ID}",
        "metadata": {"account_id": "a-1"},
        "subscription_data": {"metadata": {"account_id": "a-1"}},
        **changed,
    }


async def opened(client: stripe.StripeClient, **changed: Any) -> stripe.checkout.Session:
    return await client.v1.checkout.sessions.create_async(params(await price(client), **changed))


async def pay(control: httpx.AsyncClient, session: stripe.checkout.Session, card: str) -> Any:
    return (await control.post(f"/checkout_sessions/{session.id}/pay", json={"method": card})).json()


async def subscriptions(client: stripe.StripeClient) -> list[stripe.Subscription]:
    return (await client.v1.subscriptions.list_async({"status": "all"})).data


@pytest.mark.parametrize("known", [True, False])
async def test_a_paid_session_starts_a_subscription(
    client: stripe.StripeClient, control: httpx.AsyncClient, known: bool
) -> None:
    changed: Any = {"customer": await customer(client, None)} if known else {"customer_email": "bob@shop.example"}
    session = await opened(client, **changed)
    assert (session.mode, session.amount_total, session.subscription) == ("subscription", 2000, None)
    before = await event_types(client)
    assert (await pay(control, session, "pm_card_visa"))["status"] == "succeeded"
    options: Any = {"expand": ["subscription", "invoice", "customer"]}
    done = await client.v1.checkout.sessions.retrieve_async(session.id, options)
    assert (done.status, done.payment_status, done.payment_intent, done.url) == ("complete", "paid", None, None)
    assert isinstance(done.customer, stripe.Customer)
    assert isinstance(done.subscription, stripe.Subscription)
    assert isinstance(done.invoice, stripe.Invoice)
    assert done.customer.email == ("ada@shop.example" if known else "bob@shop.example")
    assert (done.subscription.status, done.subscription.metadata.to_dict()) == ("active", {"account_id": "a-1"})
    assert done.subscription.default_payment_method is not None
    assert (done.invoice.status, done.invoice.billing_reason) == ("paid", "subscription_create")
    events = await billing_events(client, len(before))
    assert events == [
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
        "customer.subscription.updated",
        "checkout.session.completed",
    ]
    created = (await client.v1.events.list_async({"type": "customer.subscription.created"})).data[0]
    assert created.data.object["status"] == "incomplete"


async def test_a_declined_session_takes_another_card(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    session = await opened(client)
    assert (await pay(control, session, "pm_card_chargeDeclined"))["error"]["code"] == "card_declined"
    (waiting,) = await subscriptions(client)
    assert waiting.status == "incomplete"
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "open"
    await pay(control, session, "pm_card_visa")
    (active,) = await subscriptions(client)
    assert (active.id, active.status) == (waiting.id, "active")
    assert len((await client.v1.customers.list_async()).data) == 1


async def test_the_page_shows_the_price_and_asks_the_bank(client: stripe.StripeClient) -> None:
    session = await opened(client)
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as browser:
        page = await browser.get(str(session.url))
        assert "20.00 USD each month" in page.text
        card = {"payment_method": "pm_card_authenticationRequired"}
        for decision, status, complete in (("fail", "requires_payment_method", False), ("succeed", "succeeded", True)):
            waits = await browser.post(f"{session.url}/confirm", data=card)
            assert waits.json() == {"status": "requires_action", "complete": False}
            decided = await browser.post(f"{session.url}/bank/{decision}")
            assert decided.json() == {"status": status, "complete": complete}
    assert [one.status for one in await subscriptions(client)] == ["active"]


async def test_an_expired_session_ends_its_subscription(
    client: stripe.StripeClient, control: httpx.AsyncClient
) -> None:
    session = await opened(client)
    await pay(control, session, "pm_card_chargeDeclined")
    await tell(control, f"/checkout_sessions/{session.id}/expire")
    (ended,) = await subscriptions(client)
    assert ended.status == "incomplete_expired"
    assert [invoice.status for invoice in await invoices(client, ended)] == ["void"]
    assert "error" in await pay(control, session, "pm_card_visa")
    untouched = await opened(client)
    await client.v1.checkout.sessions.expire_async(untouched.id)
    assert len(await subscriptions(client)) == 1


@pytest.mark.parametrize("card", ["pm_card_visa", "pm_card_authenticationRequiredOnSetup"])
async def test_a_trial_session_saves_the_card(
    client: stripe.StripeClient, control: httpx.AsyncClient, card: str
) -> None:
    time = await clock(client)
    buyer = await customer(client, None, test_clock=time)
    session = await opened(client, customer=buyer, subscription_data={"trial_period_days": 7})
    assert session.amount_total == 0
    intent = await pay(control, session, card)
    if intent["status"] == "requires_action":
        assert (await client.v1.subscriptions.list_async({"customer": buyer})).data == []
        await tell(control, f"/setup_intents/{intent['id']}/succeed")
    (trial,) = (await client.v1.subscriptions.list_async({"customer": buyer})).data
    assert (trial.status, period(trial)) == ("trialing", ("2026-01-31", "2026-02-07"))
    (done,) = (await client.v1.checkout.sessions.list_async({"subscription": trial.id})).data
    assert (done.id, done.status, done.payment_status) == (session.id, "complete", "no_payment_required")
    await advance(client, time, "2026-02-07T12:00:00")
    assert (await found(client, trial)).status == "active"
    assert [invoice.amount_paid for invoice in await invoices(client, trial)] == [0, 2000]


async def test_a_delayed_payment_completes_the_session_first(
    client: stripe.StripeClient, control: httpx.AsyncClient
) -> None:
    session = await opened(client)
    intent = await pay(control, session, "pm_card_processing")
    now = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert (now.status, now.payment_status) == ("complete", "unpaid")
    await tell(control, f"/payment_intents/{intent['id']}/succeed")
    now = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert now.payment_status == "paid"
    assert (await event_types(client))[-1] == "checkout.session.async_payment_succeeded"


async def test_a_refund_leads_back_to_the_invoice(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    """In the pinned version only the invoice's payment connects a charge with its invoice."""
    session = await opened(client)
    await pay(control, session, "pm_card_visa")
    (active,) = await subscriptions(client)
    (invoice,) = await invoices(client, active)
    intent_id = await intent_of(client, invoice.id)
    await client.v1.refunds.create_async({"payment_intent": intent_id, "amount": 500})
    event = (await client.v1.events.list_async({"type": "charge.refunded"})).data[0]
    charge = event.data.object
    assert "invoice" not in charge
    wanted: Any = {"payment": {"type": "payment_intent", "payment_intent": charge["payment_intent"]}}
    (payment,) = (await client.v1.invoice_payments.list_async(wanted)).data
    assert (payment.invoice, payment.status, payment.amount_paid) == (invoice.id, "paid", 2000)
    assert (await client.v1.invoice_payments.retrieve_async(payment.id)).id == payment.id
    wanted["payment"]["payment_intent"] = "pi_none"
    assert (await client.v1.invoice_payments.list_async(wanted)).data == []


async def test_prices_can_be_inline(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    data = {
        "currency": "usd",
        "unit_amount": 900,
        "recurring": {"interval": "year"},
        "product_data": {"name": "Inline"},
    }
    session = await client.v1.checkout.sessions.create_async(
        params("", line_items=[{"price_data": data, "quantity": 2}])
    )
    assert session.amount_total == 1800
    await pay(control, session, "pm_card_visa")
    assert [one.status for one in await subscriptions(client)] == ["active"]


async def test_one_time_prices_are_paid_once(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    once: Any = {"currency": "usd", "unit_amount": 700, "product_data": {"name": "Pack"}}
    pack = (await client.v1.prices.create_async(once)).id
    session = await client.v1.checkout.sessions.create_async(
        {"mode": "payment", "line_items": [{"price": pack, "quantity": 3}], "success_url": "https://a.example"}
    )
    assert session.amount_total == 2100
    for mode, one in (("subscription", pack), ("payment", await price(client))):
        with refused(stripe.InvalidRequestError, 400):
            await client.v1.checkout.sessions.create_async(params(one, mode=mode, subscription_data={}))


@pytest.mark.parametrize(
    "changed",
    [
        {"customer": "cus_none"},
        {"line_items": []},
        {"line_items": [{"price": "price_none"}]},
        {"subscription_data": {"metadata": {"k": "x" * 501}}},
        {"subscription_data": {"trial_end": 1}},
        {"subscription_data": {"billing_cycle_anchor": 1}},
        {"payment_intent_data": {"metadata": {"k": "v"}}},
        {"payment_method_collection": "if_required"},
    ],
)
async def test_invalid_sessions_are_refused(client: stripe.StripeClient, changed: Any) -> None:
    plan = await price(client)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.checkout.sessions.create_async(params(plan, **changed))
    assert (await client.v1.checkout.sessions.list_async()).data == []
