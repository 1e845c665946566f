"""Webhooks of the local Stripe: signed, retried, and delivered as badly as one likes."""

import asyncio
from typing import Any

import httpx
import stripe

from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.sdk import PAID, create, paid, settled, tell


async def test_events_arrive_signed_and_in_order(client: stripe.StripeClient, receiver: Receiver) -> None:
    intents = [await paid(client) for _ in range(3)]
    await receiver.wait_for(9)
    assert receiver.types == PAID * 3
    assert receiver.refused == []
    assert [event.data.object["id"] for event in receiver.events[2::3]] == [intent.id for intent in intents]
    logged = (await client.v1.events.list_async({"limit": 100})).data
    assert [event.id for event in receiver.events] == [event.id for event in logged][::-1]


async def test_the_signature_is_made_with_the_secret(client: stripe.StripeClient, receiver: Receiver) -> None:
    receiver.secret = "whsec_of_somebody_else"
    await create(client)
    await receiver.wait_for(1)
    assert receiver.events == []


async def test_a_failed_delivery_is_retried_until_it_succeeds(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.answers.extend([500, 302, 404])
    await create(client)
    await receiver.wait_for(4)
    assert len({event.id for event in receiver.events}) == 1
    outcomes = [(d["attempt"], d["outcome"]) for d in await settled(control)]
    assert outcomes == [(1, "500"), (2, "302"), (3, "404"), (4, "200")]


async def test_retries_end_with_the_schedule(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.answers.extend([500] * 10)
    await create(client)
    await receiver.wait_for(4)
    assert [d["outcome"] for d in await settled(control)] == ["500"] * 4


async def test_a_failing_event_does_not_hold_up_the_next(client: stripe.StripeClient, receiver: Receiver) -> None:
    receiver.answers.append(500)
    await paid(client)
    await receiver.wait_for(4)
    assert sorted(receiver.types[1:]) == sorted(PAID)
    assert receiver.types[:2] == PAID[:2] or receiver.types[:2] == [PAID[0], PAID[0]]


async def test_deliveries_are_dropped_but_stay_in_the_log(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await tell(control, "/webhooks", drop=1, types=["payment_intent.succeeded"])
    await paid(client)
    await paid(client)
    await receiver.wait_for(5)
    await settled(control)
    assert receiver.types == [*PAID[:2], *PAID]
    lost = (await client.v1.events.list_async({"type": "payment_intent.succeeded"})).data[-1]
    assert lost.id not in [event.id for event in receiver.events]
    await tell(control, f"/events/{lost.id}/resend")
    await receiver.wait_for(6)
    assert receiver.events[-1].id == lost.id


async def test_deliveries_are_duplicated(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await tell(control, "/webhooks", duplicate=1, types=["payment_intent.succeeded"])
    await paid(client)
    await receiver.wait_for(4)
    await settled(control)
    assert receiver.types == [*PAID, PAID[2]]
    assert receiver.events[2].id == receiver.events[3].id


async def test_deliveries_are_held_and_released_in_reverse(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await tell(control, "/webhooks", hold=True)
    await paid(client)
    await asyncio.sleep(0.1)
    assert receiver.types == []
    assert await tell(control, "/webhooks/release", reverse=True) == {"released": 3}
    await receiver.wait_for(3)
    assert receiver.types == PAID[::-1]


async def test_webhooks_go_where_they_are_told(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await tell(control, "/webhooks/url", url=None)
    await create(client)
    assert await settled(control) == []
    await tell(control, "/webhooks/url", url=receiver.url)
    await create(client)
    await receiver.wait_for(1)


async def test_what_claims_to_be_of_another_time_is_logged_at_it_and_not_delivered(
    client: stripe.StripeClient, receiver: Receiver
) -> None:
    options: Any = {"headers": {"Local-Stripe-Time": "1700000000"}}
    params: Any = {"amount": 500, "currency": "usd"}
    intent = await client.v1.payment_intents.create_async(params, options)
    await client.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"}, options)
    logged = (await client.v1.events.list_async({"created": 1_700_000_000})).data
    assert [event.type for event in logged] == PAID[::-1]
    assert intent.created == 1_700_000_000
    now = await paid(client)  # a request that claims nothing is of now, and what it does is delivered
    assert now.created > 1_700_000_000
    await receiver.wait_for(3)
    assert {event.data.object["created"] for event in receiver.events} != {1_700_000_000}
    assert not {event.id for event in receiver.events} & {event.id for event in logged}


async def test_deliveries_are_delayed(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await tell(control, "/webhooks", delay_s=0.5)
    await create(client)
    await asyncio.sleep(0.2)
    assert receiver.types == []
    await receiver.wait_for(1)
