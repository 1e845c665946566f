"""Payments at the local Stripe, as the official SDK sees them."""

from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.sdk import PAID, TIMEOUT_S, confirm, create, paid, refused, tell
from tests.servers import LocalStripe


async def test_a_new_intent_has_the_fields_that_we_rely_on(client: stripe.StripeClient) -> None:
    intent = await create(client)
    assert intent.id.startswith("pi_")
    assert (intent.object, intent.status, intent.amount, intent.amount_received) == (
        "payment_intent",
        "requires_payment_method",
        500,
        0,
    )
    assert intent.client_secret is not None
    assert intent.client_secret.startswith(f"{intent.id}_secret_")
    assert (intent.currency, intent.livemode, intent.latest_charge) == ("usd", False, None)
    assert intent.metadata.to_dict() == {"purchase_id": "p-1"}
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).to_dict() == intent.to_dict()


async def test_a_paid_intent_has_a_charge(client: stripe.StripeClient) -> None:
    intent = await paid(client)
    assert (intent.status, intent.amount_received) == ("succeeded", 500)
    expanded = await client.v1.payment_intents.retrieve_async(intent.id, {"expand": ["latest_charge"]})
    charge = expanded.latest_charge
    assert isinstance(charge, stripe.Charge)
    assert charge.id == intent.latest_charge
    assert (charge.amount, charge.amount_captured, charge.amount_refunded) == (500, 500, 0)
    assert (charge.paid, charge.refunded, charge.disputed, charge.status) == (True, False, False, "succeeded")
    assert charge.payment_intent == intent.id
    assert charge.payment_method_details is not None
    assert charge.payment_method_details.card is not None
    assert (charge.payment_method_details.card.brand, charge.payment_method_details.card.last4) == ("visa", "4242")
    assert charge.payment_method_details.card.fingerprint
    assert [c.id for c in (await client.v1.charges.list_async({"payment_intent": intent.id})).data] == [charge.id]


@pytest.mark.parametrize(
    ("number", "last4"),
    [
        ("4242424200000001", None),
        ("4242424200000018", "0018"),
        ("42424242 0000 0018", "0018"),
        ("4111111111111111", None),
    ],
)
async def test_cards_of_the_demos_buyers_differ(client: stripe.StripeClient, number: str, last4: str | None) -> None:
    """Any number with the first eight digits and a right check digit; others are no test cards."""
    intent = await create(client)
    payment: Any = {"payment_method_data": {"type": "card", "card": {"number": number}}}
    if last4 is None:
        with pytest.raises(stripe.InvalidRequestError):
            await client.v1.payment_intents.confirm_async(intent.id, payment)
        return
    await client.v1.payment_intents.confirm_async(intent.id, payment)
    (charge,) = (await client.v1.charges.list_async({"payment_intent": intent.id})).data
    assert charge.payment_method_details is not None
    assert charge.payment_method_details.card is not None
    assert (charge.payment_method_details.card.last4, charge.payment_method_details.card.fingerprint) == (
        last4,
        f"fp0000{last4}",
    )


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
async def test_a_declined_card_is_a_card_error_and_the_payment_may_be_tried_again(
    client: stripe.StripeClient, receiver: Receiver, card: str, decline_code: str
) -> None:
    intent = await create(client)
    with pytest.raises(stripe.CardError) as caught:
        await confirm(client, intent.id, card)
    assert (caught.value.http_status, caught.value.code) == (402, "card_declined")
    declined = await client.v1.payment_intents.retrieve_async(intent.id)
    assert declined.status == "requires_payment_method"
    assert declined.last_payment_error is not None
    assert declined.last_payment_error.decline_code == decline_code
    assert (await confirm(client, intent.id)).status == "succeeded"
    await receiver.wait_for(5)
    assert receiver.types == [PAID[0], "charge.failed", "payment_intent.payment_failed", *PAID[1:]]
    failed = (await client.v1.charges.list_async({"payment_intent": intent.id})).data[-1]
    assert (failed.status, failed.paid, failed.amount_captured) == ("failed", False, 0)
    assert caught.value.error is not None
    assert caught.value.error.charge == failed.id
    assert caught.value.error.payment_intent is not None
    assert caught.value.error.payment_intent.id == intent.id


async def test_3d_secure_waits_for_the_buyer(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    intent = await create(client)
    confirmed = await confirm(client, intent.id, "pm_card_authenticationRequired")
    assert (confirmed.status, confirmed.amount_received, confirmed.latest_charge) == ("requires_action", 0, None)
    await tell(control, f"/payment_intents/{intent.id}/succeed")
    done = await client.v1.payment_intents.retrieve_async(intent.id)
    assert (done.status, done.amount_received, done.next_action) == ("succeeded", 500, None)
    await receiver.wait_for(4)
    assert receiver.types == [PAID[0], "payment_intent.requires_action", *PAID[1:]]


@pytest.mark.parametrize(("route", "status"), [("succeed", "succeeded"), ("fail", "requires_payment_method")])
async def test_a_slow_payment_is_settled_later(
    client: stripe.StripeClient, control: httpx.AsyncClient, route: str, status: str
) -> None:
    intent = await create(client)
    assert (await confirm(client, intent.id, "pm_card_processing")).status == "processing"
    with refused(stripe.InvalidRequestError, 400, "payment_intent_unexpected_state"):
        await client.v1.payment_intents.cancel_async(intent.id)
    await tell(control, f"/payment_intents/{intent.id}/{route}")
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == status
    assert (await control.post("/payment_intents/pi_missing/fail")).status_code == 404
    if status == "succeeded":
        assert (await control.post(f"/payment_intents/{intent.id}/fail")).status_code == 400
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == status


async def test_a_wrong_sum_or_currency_can_arrive(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    cent, franc = await create(client), await create(client)
    await tell(control, f"/payment_intents/{cent.id}/succeed", amount_received=1)
    await tell(control, f"/payment_intents/{franc.id}/succeed", currency="chf")
    cent = await client.v1.payment_intents.retrieve_async(cent.id)
    franc = await client.v1.payment_intents.retrieve_async(franc.id)
    assert (cent.status, cent.amount, cent.amount_received, cent.currency) == ("succeeded", 500, 1, "usd")
    assert (franc.status, franc.amount_received, franc.currency) == ("succeeded", 500, "chf")


async def test_a_finished_payment_stays_finished(client: stripe.StripeClient, receiver: Receiver) -> None:
    done, canceled = await paid(client), await create(client)
    assert (await client.v1.payment_intents.cancel_async(canceled.id)).status == "canceled"
    for intent in (done, canceled):
        with refused(stripe.InvalidRequestError, 400, "payment_intent_unexpected_state"):
            await confirm(client, intent.id)
        with refused(stripe.InvalidRequestError, 400, "payment_intent_unexpected_state"):
            await client.v1.payment_intents.cancel_async(intent.id)
    await receiver.wait_for(5)
    assert receiver.types == [*PAID, PAID[0], "payment_intent.canceled"]


async def test_a_browser_pays_with_the_client_secret(client: stripe.StripeClient, local: LocalStripe) -> None:
    intent = await create(client)
    path = f"{local.url}/v1/payment_intents/{intent.id}/confirm"
    form = {
        "key": local.publishable_key,
        "client_secret": f"{intent.client_secret}x",
        "payment_method_data[type]": "card",
        "payment_method_data[card][number]": "4242 4242 4242 4242",
    }
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as browser:
        assert (await browser.post(path, data=form)).status_code == 401
        assert (await browser.get(f"{local.url}/v1/events", params={"key": local.publishable_key})).status_code == 401
        form["client_secret"] = str(intent.client_secret)
        assert (await browser.post(path.replace("confirm", "cancel"), data=form)).status_code == 401
        answer = await browser.post(path, data=form, headers={"Origin": "http://shop.example"})
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert answer.headers["access-control-allow-origin"] == "*"
        page = await browser.get(f"{local.url}/pay/{intent.id}", params={"client_secret": str(intent.client_secret)})
        assert "5.00 USD" in page.text
        assert (await browser.get(f"{local.url}/pay/{intent.id}")).status_code == 404
        for target, kept in (("https://shop.example/done?a=1", True), ("javascript:alert(1)", False)):
            query = {"client_secret": str(intent.client_secret), "return_url": target}
            page = await browser.get(f"{local.url}/pay/{intent.id}", params=query)
            assert (f'data-return="https://shop.example/done?a=1&amp;payment_intent={intent.id}' in page.text) is kept
            assert "alert(1)" not in page.text
        assert intent.id in (await browser.get(local.url)).text
