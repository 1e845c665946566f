"""Checkout sessions of customers at the local Stripe: mode `setup`, and payments that save the card."""

from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_server.sdk import TIMEOUT_S, event_types, refused, tell
from tests.demo.stripe_server.test_checkout import params


def setup_params(**changed: Any) -> Any:
    return {
        "mode": "setup",
        "currency": "usd",
        "success_url": "https://shop.example/done?session_id={CHECKOUT_SESSION_ID}",
        "setup_intent_data": {"metadata": {"account_id": "a-1"}},
        **changed,
    }


@pytest.fixture
async def customer(client: stripe.StripeClient) -> str:
    return (await client.v1.customers.create_async({"email": "ada@shop.example", "name": "Ada"})).id


async def pay(control: httpx.AsyncClient, session_id: str, card: str) -> Any:
    return (await control.post(f"/checkout_sessions/{session_id}/pay", json={"method": card})).json()


async def test_a_setup_session_saves_a_card(
    client: stripe.StripeClient, control: httpx.AsyncClient, customer: str
) -> None:
    session = await client.v1.checkout.sessions.create_async(setup_params(customer=customer))
    assert (session.mode, session.payment_status, session.amount_total) == ("setup", "no_payment_required", None)
    assert (await pay(control, session.id, "pm_card_chargeDeclined"))["error"]["code"] == "card_declined"
    assert (await pay(control, session.id, "pm_card_visa"))["status"] == "succeeded"
    done = await client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["setup_intent.payment_method"]})
    assert (done.status, done.url, done.customer) == ("complete", None, customer)
    assert isinstance(done.setup_intent, stripe.SetupIntent)
    assert done.setup_intent.metadata is not None
    assert done.setup_intent.metadata.to_dict() == {"account_id": "a-1"}
    assert isinstance(done.setup_intent.payment_method, stripe.PaymentMethod)
    assert done.setup_intent.payment_method.customer == customer
    assert done.customer_details is not None
    assert done.customer_details.email == "ada@shop.example"
    assert (await event_types(client))[-3:] == [
        "payment_method.attached",
        "setup_intent.succeeded",
        "checkout.session.completed",
    ]


async def test_a_setup_page_asks_the_bank(client: stripe.StripeClient, customer: str) -> None:
    session = await client.v1.checkout.sessions.create_async(setup_params(customer=customer))
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as browser:
        page = await browser.get(str(session.url))
        assert "Save a card" in page.text
        assert "pm_oxxo" not in page.text
        card = {"payment_method": "pm_card_authenticationRequired"}
        for decision, status, complete in (("fail", "requires_payment_method", False), ("succeed", "succeeded", True)):
            waits = await browser.post(f"{session.url}/confirm", data=card)
            assert waits.json() == {"status": "requires_action", "complete": False}
            decided = await browser.post(f"{session.url}/bank/{decision}")
            assert decided.json() == {"status": status, "complete": complete}


async def test_an_expired_setup_session_saves_nothing(client: stripe.StripeClient, customer: str) -> None:
    session = await client.v1.checkout.sessions.create_async(setup_params(customer=customer))
    intent_id = str(session.setup_intent)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.setup_intents.confirm_async(intent_id, {"payment_method": "pm_card_visa"})
    await client.v1.checkout.sessions.expire_async(session.id)
    assert (await client.v1.setup_intents.retrieve_async(intent_id)).status == "canceled"


@pytest.mark.parametrize("known", [True, False])
async def test_a_payment_session_saves_the_card_for_later(
    client: stripe.StripeClient, control: httpx.AsyncClient, customer: str, known: bool
) -> None:
    """A session without a customer creates one when the buyer pays."""
    changed: Any = {"customer": customer} if known else {"customer_email": "bob@shop.example"}
    data = {"setup_future_usage": "off_session", "metadata": {"purchase_id": "p-1"}}
    session = await client.v1.checkout.sessions.create_async(params(payment_intent_data=data, **changed))
    assert session.customer == (customer if known else None)
    intent = await pay(control, session.id, "pm_card_authenticationRequiredOnSetup")
    await tell(control, f"/payment_intents/{intent['id']}/succeed")
    done = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert isinstance(done.customer, str)
    buyer = await client.v1.customers.retrieve_async(done.customer)
    assert buyer.email == ("ada@shop.example" if known else "bob@shop.example")
    saved = (await client.v1.payment_methods.list_async({"customer": buyer.id})).data
    again = await client.v1.payment_intents.create_async(
        {
            "amount": 900,
            "currency": "usd",
            "customer": buyer.id,
            "payment_method": saved[0].id,
            "off_session": True,
            "confirm": True,
        }
    )
    assert again.status == "succeeded"


async def test_a_plain_payment_session_creates_no_customer(
    client: stripe.StripeClient, control: httpx.AsyncClient
) -> None:
    session = await client.v1.checkout.sessions.create_async(params())
    await pay(control, session.id, "pm_card_visa")
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).customer is None
    assert (await client.v1.customers.list_async()).data == []


@pytest.mark.parametrize(
    "changed",
    [
        {"customer": "cus_none"},
        {"currency": ""},
        {"setup_intent_data": {"metadata": {"k": "x" * 501}}},
        {"line_items": [{"quantity": 1}]},
    ],
)
async def test_invalid_setup_sessions_are_refused(client: stripe.StripeClient, changed: Any) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.checkout.sessions.create_async(setup_params(**changed))
    assert (await client.v1.checkout.sessions.list_async()).data == []


async def test_a_session_has_a_customer_or_an_address(client: stripe.StripeClient, customer: str) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.checkout.sessions.create_async(params(customer=customer, customer_email="a@b.example"))
