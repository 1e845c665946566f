"""Idempotency keys at the local Stripe, as the official SDK sees them."""

import asyncio
from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_server.sdk import create, refused, tell


async def test_the_same_key_gives_the_same_answer(client: stripe.StripeClient) -> None:
    first, second = await create(client, key="same"), await create(client, key="same")
    assert first.last_response is not None
    assert second.last_response is not None
    assert second.to_dict() == first.to_dict()
    assert "idempotent-replayed" not in first.last_response.headers
    assert second.last_response.headers["idempotent-replayed"] == "true"
    with refused(stripe.IdempotencyError, 400):
        await create(client, amount=600, key="same")
    assert len((await client.v1.payment_intents.list_async()).data) == 1


async def test_a_key_is_in_use_while_its_first_request_is_under_way(
    client: stripe.StripeClient, control: httpx.AsyncClient
) -> None:
    await tell(control, "/failures", path="/v1/payment_intents", hold_s=0.5)
    first = asyncio.create_task(create(client, key="same"))
    await asyncio.sleep(0.2)
    with pytest.raises(stripe.StripeError) as caught:
        await create(client, key="same")
    assert caught.value.error is not None
    assert (caught.value.http_status, caught.value.error.code) == (409, "idempotency_key_in_use")
    made = await first
    assert (await create(client, key="same")).id == made.id


async def test_a_declined_card_is_remembered_and_a_refused_request_is_not(client: stripe.StripeClient) -> None:
    intent = await create(client)
    options: Any = {"idempotency_key": "declined"}
    service = client.v1.payment_intents
    for _ in range(2):
        with refused(stripe.CardError, 402, "card_declined"):
            await service.confirm_async(intent.id, {"payment_method": "pm_card_chargeDeclined"}, options)
    failures = await client.v1.events.list_async({"type": "payment_intent.payment_failed"})
    assert len(failures.data) == 1
    with refused(stripe.InvalidRequestError, 400):
        await create(client, amount=0, key="refused")
    assert (await create(client, key="refused")).amount == 500


async def test_of_racing_equal_requests_one_is_carried_out(client: stripe.StripeClient) -> None:
    answers = await asyncio.gather(*(create(client, key="race") for _ in range(20)), return_exceptions=True)
    made = {answer.id for answer in answers if isinstance(answer, stripe.PaymentIntent)}
    others = [answer for answer in answers if not isinstance(answer, stripe.PaymentIntent)]
    assert len(made) == 1
    assert len((await client.v1.payment_intents.list_async()).data) == 1
    for other in others:
        assert isinstance(other, stripe.StripeError)
        assert other.error is not None
        assert (other.http_status, other.error.code) == (409, "idempotency_key_in_use")
