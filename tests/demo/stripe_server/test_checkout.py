"""Checkout sessions of the local Stripe, by the official SDK: the page's outcomes, their events, and refusals."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import stripe

from app.demo.stripe.account import API_VERSION
from app.demo.stripe.cards import VOUCHERS
from tests.demo.stripe_server.sdk import refused, tell
from tests.servers import LocalStripe

SUCCESS = "https://shop.example/done?session_id={CHECKOUT_SESSION_ID}"
Pay = Callable[[str], Awaitable[Any]]


def params(**changed: Any) -> Any:
    price = {"currency": "usd", "unit_amount": 2250, "product_data": {"name": "Credits"}}
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "success_url": SUCCESS,
        "cancel_url": "https://shop.example/cancel",
        "client_reference_id": "user-1",
        "metadata": {"user_id": "user-1"},
        "payment_intent_data": {"metadata": {"purchase_id": "p-1"}},
        **changed,
    }


@pytest.fixture
async def session(client: stripe.StripeClient) -> stripe.checkout.Session:
    return await client.v1.checkout.sessions.create_async(params())


@pytest.fixture
def pay(control: httpx.AsyncClient, session: stripe.checkout.Session) -> Pay:
    async def pay(method: str) -> Any:
        return (await control.post(f"/checkout_sessions/{session.id}/pay", json={"method": method})).json()

    return pay


async def events(client: stripe.StripeClient) -> list[str]:
    return [event.type for event in (await client.v1.events.list_async({"limit": 100})).data[::-1]]


def test_objects_have_the_api_version_of_the_sdk() -> None:
    assert stripe.api_version == API_VERSION


async def test_new_session_is_open_and_has_no_payment(session: stripe.checkout.Session, local: LocalStripe) -> None:
    assert session.id.startswith("cs_test_")
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert (session.amount_total, session.currency, session.mode) == (2250, "usd", "payment")
    assert session.url == f"{local.url}/c/pay/{session.id}"
    assert session.expires_at == session.created + 86_400
    assert session.metadata is not None
    assert session.metadata.to_dict() == {"user_id": "user-1"}


async def test_paid_session_is_complete(
    client: stripe.StripeClient, session: stripe.checkout.Session, pay: Pay
) -> None:
    intent = await pay("pm_card_visa")
    assert intent["metadata"] == {"purchase_id": "p-1"}
    assert await events(client) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    options: Any = {"expand": ["payment_intent"]}
    now = await client.v1.checkout.sessions.retrieve_async(session.id, options)
    assert (now.status, now.payment_status, now.url) == ("complete", "paid", None)
    assert isinstance(now.payment_intent, stripe.PaymentIntent)
    assert now.payment_intent.status == "succeeded"


async def test_declined_session_stays_open_for_another_card(
    client: stripe.StripeClient, session: stripe.checkout.Session, pay: Pay
) -> None:
    assert (await pay("pm_card_chargeDeclined"))["error"]["code"] == "card_declined"
    now = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert (now.status, now.payment_status) == ("open", "unpaid")
    assert (await pay("pm_card_visa"))["id"] == now.payment_intent
    assert (await events(client))[-1] == "checkout.session.completed"


async def test_three_d_secure_session_completes_with_the_bank(
    client: stripe.StripeClient, control: httpx.AsyncClient, session: stripe.checkout.Session, pay: Pay
) -> None:
    intent = await pay("pm_card_authenticationRequired")
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "open"
    await tell(control, f"/payment_intents/{intent['id']}/fail")
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "open"
    await pay("pm_card_authenticationRequired")
    await tell(control, f"/payment_intents/{intent['id']}/succeed")
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_status == "paid"
    assert (await events(client)).count("checkout.session.completed") == 1


@pytest.mark.parametrize("method", ["pm_card_processing", *VOUCHERS])
@pytest.mark.parametrize(("outcome", "end"), [("succeed", "paid"), ("fail", "unpaid")])
async def test_delayed_method_completes_the_session_before_its_money(
    client: stripe.StripeClient,
    control: httpx.AsyncClient,
    session: stripe.checkout.Session,
    pay: Pay,
    method: str,
    outcome: str,
    end: str,
) -> None:
    intent = await pay(method)
    now = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert (now.status, now.payment_status) == ("complete", "unpaid")
    await tell(control, f"/payment_intents/{intent['id']}/{outcome}")
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).payment_status == end
    names = [name for name in await events(client) if name.startswith("checkout.")]
    word = "succeeded" if outcome == "succeed" else "failed"
    assert names == ["checkout.session.completed", f"checkout.session.async_payment_{word}"]


async def test_expired_session_takes_no_payment(
    client: stripe.StripeClient, session: stripe.checkout.Session, pay: Pay
) -> None:
    await pay("pm_card_chargeDeclined")
    expired = await client.v1.checkout.sessions.expire_async(session.id)
    assert (expired.status, expired.url) == ("expired", None)
    assert (await events(client))[-2:] == ["payment_intent.canceled", "checkout.session.expired"]
    assert "error" in await pay("pm_card_visa")
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.checkout.sessions.expire_async(session.id)


async def test_payment_of_a_session_cannot_be_changed_directly(
    client: stripe.StripeClient, session: stripe.checkout.Session, pay: Pay
) -> None:
    intent_id = (await pay("pm_card_authenticationRequired"))["id"]
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.payment_intents.cancel_async(intent_id)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.payment_intents.confirm_async(intent_id, {"payment_method": "pm_card_visa"})


def priced(**changed: Any) -> Any:
    price = {"currency": "usd", "unit_amount": 500, "product_data": {"name": "Credits"}, **changed}
    return [{"price_data": price, "quantity": 1}]


@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "subscription"},
        {"line_items": []},
        {"line_items": priced(unit_amount=49)},
        {"line_items": priced(unit_amount=100_000_000)},
        {"line_items": priced(currency="xxx")},
        {"line_items": [{"quantity": 1}]},
        {"success_url": ""},
        {"success_url": "no address"},
        {"cancel_url": "no address"},
        {"client_reference_id": "x" * 201},
        {"metadata": {"name": "x" * 501}},
        {"expires_at": 1},
    ],
)
async def test_invalid_parameters_are_refused(client: stripe.StripeClient, changed: Any) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.checkout.sessions.create_async(params(**changed))


async def test_sessions_are_listed_by_payment(
    client: stripe.StripeClient, session: stripe.checkout.Session, pay: Pay
) -> None:
    await client.v1.checkout.sessions.create_async(params())
    intent_id = (await pay("pm_card_visa"))["id"]
    listed = await client.v1.checkout.sessions.list_async({"payment_intent": intent_id})
    assert [found.id for found in listed.data] == [session.id]
    assert len((await client.v1.checkout.sessions.list_async()).data) == 2


async def test_hosted_page_pays_and_names_the_way_back(
    client: stripe.StripeClient, session: stripe.checkout.Session
) -> None:
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.get(str(session.url))
        assert "22.50 USD" in page.text
        assert f"https://shop.example/done?session_id={session.id}" in page.text
        assert "https://shop.example/cancel" in page.text
        declined = await browser.post(f"{session.url}/confirm", data={"payment_method": "pm_card_chargeDeclined"})
        assert declined.status_code == 402
        waits = await browser.post(f"{session.url}/confirm", data={"payment_method": "pm_card_authenticationRequired"})
        assert waits.json() == {"status": "requires_action", "complete": False}
        done = await browser.post(f"{session.url}/bank/succeed")
        assert done.json() == {"status": "succeeded", "complete": True}
        assert "complete" in (await browser.get(str(session.url))).text
        assert (await browser.get(f"{session.url}x")).status_code == 404
    charge = (await client.v1.charges.list_async()).data[0]
    async with httpx.AsyncClient(trust_env=False) as browser:
        assert "22.50 USD" in (await browser.get(str(charge.receipt_url))).text
