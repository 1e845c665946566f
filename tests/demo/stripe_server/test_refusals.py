"""Rejections, faults and delays of the local Stripe, as the official SDK reports them."""

import httpx
import pytest
import stripe

from tests.demo.stripe_server.sdk import TIMEOUT_S, confirm, create, refused, sdk, tell
from tests.servers import LocalStripe


async def test_refusals_raise_the_classes_of_the_sdk(client: stripe.StripeClient, local: LocalStripe) -> None:
    with refused(stripe.InvalidRequestError, 404, "resource_missing"):
        await client.v1.payment_intents.retrieve_async("pi_missing")
    with refused(stripe.InvalidRequestError, 400, "parameter_missing"):
        await client.v1.payment_intents.create_async({"currency": "usd"})  # type: ignore[typeddict-item]  # on purpose
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.payment_intents.create_async({"currency": "usd", "amount": 0})
    with refused(stripe.InvalidRequestError, 400):
        await confirm(client, (await create(client)).id, "pm_card_unheard_of")
    async with sdk(local.url, "sk_test_other") as stranger:
        with refused(stripe.AuthenticationError, 401):
            await stranger.v1.payment_intents.list_async()


@pytest.mark.parametrize(
    ("status", "kind"), [(500, stripe.APIError), (503, stripe.APIError), (429, stripe.RateLimitError)]
)
async def test_calls_fail_on_request_before_they_are_carried_out(
    client: stripe.StripeClient, control: httpx.AsyncClient, status: int, kind: type[stripe.StripeError]
) -> None:
    await tell(control, "/failures", method="POST", path="/v1/payment_intents", times=2, status=status)
    for _ in range(2):
        with refused(kind, status):
            await create(client, key="same")
    assert (await client.v1.payment_intents.list_async()).data == []
    if status >= 500:  # Stripe keeps its own failures under the key
        with refused(kind, status):
            await create(client, key="same")
    intent = await create(client, key="same" if status < 500 else "another")
    assert [i.id for i in (await client.v1.payment_intents.list_async()).data] == [intent.id]


async def test_an_answer_lost_after_the_fact_is_found_by_its_idempotency_key(
    client: stripe.StripeClient, control: httpx.AsyncClient
) -> None:
    await tell(control, "/failures", path="/v1/payment_intents", after=True)
    with refused(stripe.APIError, 500):
        await create(client, key="same")
    made = (await client.v1.payment_intents.list_async()).data
    assert len(made) == 1
    assert (await create(client, key="same")).id == made[0].id


@pytest.mark.parametrize("after", [False, True])
async def test_a_connection_breaks(client: stripe.StripeClient, control: httpx.AsyncClient, after: bool) -> None:
    await tell(control, "/failures", path="/v1/payment_intents", status=None, after=after)
    with pytest.raises(stripe.APIConnectionError):
        await create(client, key="same")
    assert len((await client.v1.payment_intents.list_async()).data) == after
    assert (await create(client, key="same")).amount == 500
    assert len((await client.v1.payment_intents.list_async()).data) == 1


NASTY = [
    ("GET", "/v1/events?created[gte]=x", b"", 400),
    ("GET", "/v1/events?created[around]=1", b"", 400),
    ("GET", "/v1/events?limit=0", b"", 400),
    ("GET", "/v1/events?starting_after=evt_missing", b"", 400),
    ("GET", "/v1/events?a=1&a[b]=2", b"", 400),
    ("GET", "/v1/unheard_of", b"", 404),
    ("POST", "/v1/payment_intents", b"\xff", 400),
    ("POST", "/v1/payment_intents", b"amount=%ff", 400),
    ("POST", "/v1/payment_intents", b"amount=500&currency[]=usd", 400),
    ("POST", "/v1/payment_intents", b"amount=500&currency=usd&metadata=1", 400),
    ("POST", "/v1/payment_intents", "amount=٣&currency=usd".encode(), 400),
]


async def test_nonsense_is_refused_in_stripes_words(local: LocalStripe) -> None:
    async with httpx.AsyncClient(base_url=local.url, timeout=TIMEOUT_S, trust_env=False) as plain:
        for method, path, body, status in NASTY:
            key = {"Authorization": f"Bearer {local.secret_key}"}
            answer = await plain.request(method, path, content=body, headers=key)
            refusal = (answer.status_code, answer.json()["error"]["type"])
            assert refusal == (status, "invalid_request_error"), (path, body)
        for header in ("Basic !", "Basic /w==", "Bearer", "Bearer sk_test_other"):
            assert (await plain.get("/v1/events", headers={"Authorization": header})).status_code == 401


async def test_a_slow_answer_times_out(local: LocalStripe, control: httpx.AsyncClient) -> None:
    await tell(control, "/failures", path="/v1/payment_intents", after=True, slow_s=1)
    async with sdk(local.url, local.secret_key, timeout_s=0.3) as impatient:
        with pytest.raises(stripe.APIConnectionError):
            await create(impatient, key="same")
        assert len((await impatient.v1.payment_intents.list_async()).data) == 1


async def test_a_restricted_key_does_all_but_read_the_balance(local: LocalStripe) -> None:
    async with sdk(local.url, local.secret_key.replace("sk_", "rk_", 1)) as restricted:
        intent = await create(restricted)
        assert [one.id for one in (await restricted.v1.payment_intents.list_async()).data] == [intent.id]
        with refused(stripe.PermissionError, 403):
            await restricted.v1.balance.retrieve_async()
    async with sdk(local.url, f"{local.secret_key.replace('sk_', 'rk_', 1)}x") as unknown:
        with refused(stripe.AuthenticationError, 401):
            await unknown.v1.balance.retrieve_async()
