"""The official SDK as these tests use it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx
import pytest
import stripe

E = TypeVar("E", bound=stripe.StripeError)
TIMEOUT_S = 5.0
PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


@asynccontextmanager
async def sdk(url: str, key: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[stripe.StripeClient]:
    """Yield the official client, with its retries switched off."""
    http = stripe.HTTPXClient(timeout=timeout_s)
    try:
        yield stripe.StripeClient(key, base_addresses={"api": url}, http_client=http, max_network_retries=0)
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]  # stripe leaves it untyped


@contextmanager
def refused(kind: type[E], status: int, code: str | None = None) -> Iterator[pytest.ExceptionInfo[E]]:
    with pytest.raises(kind) as caught:
        yield caught
    assert type(caught.value) is kind
    assert caught.value.http_status == status
    if code is not None:
        assert caught.value.code == code


async def create(client: stripe.StripeClient, amount: int = 500, key: str | None = None) -> stripe.PaymentIntent:
    options: Any = {"idempotency_key": key} if key else {}
    return await client.v1.payment_intents.create_async(
        {
            "amount": amount,
            "currency": "usd",
            "automatic_payment_methods": {"enabled": True},
            "receipt_email": "buyer@example.com",
            "metadata": {"purchase_id": "p-1"},
        },
        options,
    )


async def confirm(client: stripe.StripeClient, intent_id: str, card: str = "pm_card_visa") -> stripe.PaymentIntent:
    return await client.v1.payment_intents.confirm_async(intent_id, {"payment_method": card})


async def paid(client: stripe.StripeClient, amount: int = 500) -> stripe.PaymentIntent:
    return await confirm(client, (await create(client, amount)).id)


async def tell(control: httpx.AsyncClient, path: str, /, **body: Any) -> Any:
    return (await control.post(path, json=body)).raise_for_status().json()


async def settled(control: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The deliveries, once none is under way."""
    for _ in range(3000):
        state = (await control.get("/deliveries")).raise_for_status().json()
        if state["idle"]:
            deliveries: list[dict[str, Any]] = state["deliveries"]
            return deliveries
        await asyncio.sleep(0.02)
    raise AssertionError(f"never idle: {state}")


async def saved_card(client: stripe.StripeClient, customer: str, card: str = "pm_card_visa") -> stripe.PaymentMethod:
    return await client.v1.payment_methods.attach_async(card, {"customer": customer})


async def event_types(client: stripe.StripeClient) -> list[str]:
    """The types of all events, oldest first."""
    return [event.type for event in (await client.v1.events.list_async({"limit": 100})).data[::-1]]
