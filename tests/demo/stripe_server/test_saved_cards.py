"""Payments with saved cards, and setup intents, at the local Stripe by the official SDK."""

from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_server.sdk import TIMEOUT_S, event_types, refused, saved_card, tell
from tests.servers import LocalStripe


@pytest.fixture
async def customer(client: stripe.StripeClient) -> str:
    return (await client.v1.customers.create_async({"email": "ada@shop.example"})).id


async def pay_off_session(
    client: stripe.StripeClient, customer: str, card: str, /, **more: Any
) -> stripe.PaymentIntent:
    params: Any = {
        "amount": 2000,
        "currency": "usd",
        "customer": customer,
        "payment_method": card,
        "off_session": True,
        "confirm": True,
        **more,
    }
    return await client.v1.payment_intents.create_async(params)


async def set_up(client: stripe.StripeClient, control: httpx.AsyncClient, customer: str, card: str) -> str:
    """Save a card through a setup intent, with the bank's approval."""
    intent = await client.v1.setup_intents.create_async({"customer": customer, "payment_method": card, "confirm": True})
    if intent.status == "requires_action":
        await tell(control, f"/setup_intents/{intent.id}/succeed")
    done = await client.v1.setup_intents.retrieve_async(intent.id)
    assert done.status == "succeeded"
    assert isinstance(done.payment_method, str)
    return done.payment_method


async def test_a_saved_card_pays_without_the_buyer(client: stripe.StripeClient, customer: str) -> None:
    card = await saved_card(client, customer)
    intent = await pay_off_session(client, customer, card.id)
    assert (intent.status, intent.amount_received, intent.customer) == ("succeeded", 2000, customer)
    assert intent.payment_method == card.id
    charge = (await client.v1.charges.list_async({"customer": customer})).data[0]
    assert (charge.payment_method, charge.paid) == (card.id, True)
    assert (await event_types(client))[2:] == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


async def test_a_saved_card_is_confirmed_later(client: stripe.StripeClient, customer: str) -> None:
    card = await saved_card(client, customer)
    intent = await client.v1.payment_intents.create_async(
        {"amount": 500, "currency": "usd", "customer": customer, "payment_method": card.id}
    )
    assert intent.status == "requires_confirmation"
    done = await client.v1.payment_intents.confirm_async(intent.id, {"off_session": True})
    assert done.status == "succeeded"


@pytest.mark.parametrize(
    ("card", "code", "decline"),
    [
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
        ("pm_card_authenticationRequired", "authentication_required", "authentication_required"),
        ("pm_card_authenticationRequiredOnSetup", "authentication_required", "authentication_required"),
    ],
)
async def test_a_saved_card_is_declined_without_the_buyer(
    client: stripe.StripeClient, customer: str, card: str, code: str, decline: str
) -> None:
    saved = await saved_card(client, customer, card)
    with refused(stripe.CardError, 402, code) as caught:
        await pay_off_session(client, customer, saved.id)
    assert caught.value.error is not None
    assert caught.value.error.decline_code == decline
    assert caught.value.error.payment_method is not None
    assert caught.value.error.payment_method.id == saved.id
    intent = (await client.v1.payment_intents.list_async({"customer": customer})).data[0]
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.code == code
    assert (await event_types(client))[2:] == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
    ]


async def test_a_declined_payment_is_completed_by_the_buyer(
    client: stripe.StripeClient, control: httpx.AsyncClient, customer: str
) -> None:
    """The way of a link by e-mail: the buyer confirms on session, and the bank approves."""
    saved = await saved_card(client, customer, "pm_card_authenticationRequired")
    with refused(stripe.CardError, 402, "authentication_required"):
        await pay_off_session(client, customer, saved.id)
    intent = (await client.v1.payment_intents.list_async({"customer": customer})).data[0]
    waits = await client.v1.payment_intents.confirm_async(
        intent.id, {"payment_method": saved.id, "return_url": "https://shop.example/back"}
    )
    assert waits.status == "requires_action"
    assert waits.next_action is not None
    assert waits.next_action.redirect_to_url is not None
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as browser:
        page = await browser.get(str(waits.next_action.redirect_to_url.url))
    assert "Pay 20.00 USD" in page.text
    assert "https://shop.example/back" in page.text
    await tell(control, f"/payment_intents/{intent.id}/succeed")
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == "succeeded"


@pytest.mark.parametrize(
    ("card", "pays"), [("pm_card_authenticationRequiredOnSetup", True), ("pm_card_authenticationRequired", False)]
)
async def test_a_card_that_is_set_up_pays_if_its_bank_allows(
    client: stripe.StripeClient, control: httpx.AsyncClient, customer: str, card: str, pays: bool
) -> None:
    saved = await set_up(client, control, customer, card)
    if pays:
        assert (await pay_off_session(client, customer, saved)).status == "succeeded"
        return
    with refused(stripe.CardError, 402, "authentication_required"):
        await pay_off_session(client, customer, saved)


async def test_a_payment_saves_its_card(client: stripe.StripeClient, customer: str) -> None:
    first = await client.v1.payment_intents.create_async(
        {
            "amount": 500,
            "currency": "usd",
            "customer": customer,
            "setup_future_usage": "off_session",
            "payment_method": "pm_card_visa",
            "confirm": True,
        }
    )
    assert isinstance(first.payment_method, str)
    assert "payment_method.attached" in await event_types(client)
    assert (await pay_off_session(client, customer, first.payment_method)).status == "succeeded"


async def test_a_repeated_key_pays_once(client: stripe.StripeClient, customer: str) -> None:
    card = await saved_card(client, customer)
    params: Any = {
        "amount": 700,
        "currency": "usd",
        "customer": customer,
        "payment_method": card.id,
        "confirm": True,
        "off_session": True,
    }
    options: Any = {"idempotency_key": "refill-1"}
    first = await client.v1.payment_intents.create_async(params, options)
    again = await client.v1.payment_intents.create_async(params, options)
    assert first.id == again.id
    assert len((await client.v1.charges.list_async({"customer": customer})).data) == 1


async def test_a_repeated_key_repeats_the_decline(client: stripe.StripeClient, customer: str) -> None:
    card = await saved_card(client, customer, "pm_card_chargeCustomerFail")
    params: Any = {
        "amount": 700,
        "currency": "usd",
        "customer": customer,
        "payment_method": card.id,
        "confirm": True,
        "off_session": True,
    }
    for _ in range(2):
        with refused(stripe.CardError, 402, "card_declined"):
            await client.v1.payment_intents.create_async(params, {"idempotency_key": "refill-1"})
    assert len((await client.v1.payment_intents.list_async({"customer": customer})).data) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"customer": "cus_none"},
        {"payment_method": "pm_none"},
        {"customer": ""},
        {"confirm": False},
        {"payment_method": ""},
        {"setup_future_usage": "never"},
        {"off_session": "perhaps"},
    ],
)
async def test_invalid_payments_of_customers_are_refused(
    client: stripe.StripeClient, customer: str, changed: Any
) -> None:
    card = await saved_card(client, customer)
    with refused(stripe.InvalidRequestError, 400):
        await pay_off_session(client, customer, card.id, **changed)
    assert (await client.v1.payment_intents.list_async()).data == []


async def test_a_setup_passes_3d_secure(client: stripe.StripeClient, control: httpx.AsyncClient, customer: str) -> None:
    intent = await client.v1.setup_intents.create_async({"customer": customer, "metadata": {"why": "refill"}})
    assert (intent.status, intent.usage) == ("requires_payment_method", "off_session")
    for decision in ("fail", "succeed"):
        waits = await client.v1.setup_intents.confirm_async(
            intent.id, {"payment_method": "pm_card_authenticationRequired"}
        )
        assert waits.status == "requires_action"
        await tell(control, f"/setup_intents/{intent.id}/{decision}")
    done = await client.v1.setup_intents.retrieve_async(intent.id, {"expand": ["payment_method"]})
    assert isinstance(done.payment_method, stripe.PaymentMethod)
    assert (done.status, done.payment_method.customer) == ("succeeded", customer)
    assert (await event_types(client))[1:] == [
        "setup_intent.created",
        "setup_intent.requires_action",
        "setup_intent.setup_failed",
        "setup_intent.requires_action",
        "payment_method.attached",
        "setup_intent.succeeded",
    ]
    with refused(stripe.InvalidRequestError, 400, "setup_intent_unexpected_state"):
        await client.v1.setup_intents.cancel_async(intent.id)


async def test_a_declined_setup_takes_another_card(client: stripe.StripeClient, customer: str) -> None:
    intent = await client.v1.setup_intents.create_async({"customer": customer})
    with refused(stripe.CardError, 402, "expired_card"):
        await client.v1.setup_intents.confirm_async(intent.id, {"payment_method": "pm_card_chargeDeclinedExpiredCard"})
    failed = await client.v1.setup_intents.retrieve_async(intent.id)
    assert failed.last_setup_error is not None
    assert failed.last_setup_error.code == "expired_card"
    done = await client.v1.setup_intents.confirm_async(intent.id, {"payment_method": "pm_card_chargeCustomerFail"})
    assert (done.status, done.last_setup_error) == ("succeeded", None)
    listed = await client.v1.setup_intents.list_async({"customer": customer})
    assert [one.id for one in listed.data] == [intent.id]


async def test_a_canceled_setup_saves_nothing(client: stripe.StripeClient, customer: str) -> None:
    intent = await client.v1.setup_intents.create_async({"customer": customer})
    canceled = await client.v1.setup_intents.cancel_async(intent.id, {"cancellation_reason": "abandoned"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "abandoned")
    with refused(stripe.InvalidRequestError, 400, "setup_intent_unexpected_state"):
        await client.v1.setup_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert (await event_types(client))[-1] == "setup_intent.canceled"


async def test_a_browser_saves_a_card_on_the_page(
    client: stripe.StripeClient, local: LocalStripe, customer: str
) -> None:
    intent = await client.v1.setup_intents.create_async({"customer": customer})
    async with httpx.AsyncClient(trust_env=False, base_url=local.url, timeout=TIMEOUT_S) as browser:
        page = await browser.get(f"/setup/{intent.id}", params={"client_secret": str(intent.client_secret)})
        assert "Save a card" in page.text
        assert (await browser.get(f"/setup/{intent.id}")).status_code == 404
        form = {
            "key": local.publishable_key,
            "client_secret": str(intent.client_secret),
            "payment_method": "pm_card_visa",
        }
        done = await browser.post(f"/v1/setup_intents/{intent.id}/confirm", data=form)
        assert done.json()["status"] == "succeeded"
        hostile = await browser.post(f"/v1/setup_intents/{intent.id}/confirm", data={**form, "client_secret": "x"})
        assert hostile.status_code == 401
