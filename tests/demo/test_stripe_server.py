"""The local Stripe keeps its promises, as the official SDK sees them."""

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from app.demo.stripe import AccountConfig, create_app
from tests.demo.stripe_receiver import Receiver, running_receiver
from tests.servers import LocalStripe, running_stripe, serving

TIMEOUT_S = 5.0
PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


@asynccontextmanager
async def sdk(url: str, key: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[stripe.StripeClient]:
    """The official client, without retries of its own."""
    http = stripe.HTTPXClient(timeout=timeout_s)
    try:
        yield stripe.StripeClient(key, base_addresses={"api": url}, http_client=http, max_network_retries=0)
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]  # stripe leaves it untyped


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def local(receiver: Receiver) -> Iterator[LocalStripe]:
    """A local Stripe of this test's own, whose webhooks go to the receiver."""
    with running_stripe(receiver.url, retry_schedule_s=(0.05, 0.05, 0.1)) as running:
        receiver.secret = running.webhook_secret
        yield running


@pytest.fixture
async def client(local: LocalStripe) -> AsyncIterator[stripe.StripeClient]:
    async with sdk(local.url, local.secret_key) as made:
        yield made


@pytest.fixture
async def control(local: LocalStripe) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{local.url}/_control", timeout=TIMEOUT_S, trust_env=False) as made:
        yield made


@contextmanager
def refused(kind: type[stripe.StripeError], status: int, code: str | None = None) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
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


# --- payment intents


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
    asked = await confirm(client, intent.id, "pm_card_authenticationRequired")
    assert (asked.status, asked.amount_received, asked.latest_charge) == ("requires_action", 0, None)
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


# --- refusals


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


@pytest.mark.parametrize(("method", "path", "body", "status"), NASTY)
async def test_nonsense_is_refused_in_stripes_words(
    local: LocalStripe, method: str, path: str, body: bytes, status: int
) -> None:
    async with httpx.AsyncClient(base_url=local.url, timeout=TIMEOUT_S, trust_env=False) as plain:
        answer = await plain.request(
            method, path, content=body, headers={"Authorization": f"Bearer {local.secret_key}"}
        )
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
        for header in ("Basic !", "Basic /w==", "Bearer", "Bearer sk_test_other"):
            assert (await plain.get("/v1/events", headers={"Authorization": header})).status_code == 401


async def test_a_slow_answer_times_out(local: LocalStripe, control: httpx.AsyncClient) -> None:
    await tell(control, "/failures", path="/v1/payment_intents", after=True, slow_s=1)
    async with sdk(local.url, local.secret_key, timeout_s=0.3) as impatient:
        with pytest.raises(stripe.APIConnectionError):
            await create(impatient, key="same")
        assert len((await impatient.v1.payment_intents.list_async()).data) == 1


# --- idempotency


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


# --- refunds and disputes


async def test_refunds_in_part_and_in_full(client: stripe.StripeClient, receiver: Receiver) -> None:
    intent = await paid(client)
    first = await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 100})
    assert (first.amount, first.status, first.payment_intent) == (100, "succeeded", intent.id)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 401})
    rest = await client.v1.refunds.create_async({"charge": str(intent.latest_charge)})
    assert rest.amount == 400
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (500, True)
    with refused(stripe.InvalidRequestError, 400, "charge_already_refunded"):
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    listed = await client.v1.refunds.list_async({"charge": charge.id})
    assert [refund.id for refund in listed.data] == [rest.id, first.id]
    assert (await client.v1.refunds.retrieve_async(first.id)).amount == 100
    await receiver.wait_for(7)
    snapshots = [event.data.object for event in receiver.events if event.type == "charge.refunded"]
    assert [(s["amount_refunded"], s["refunded"]) for s in snapshots] == [(100, False), (500, True)]


async def test_nothing_is_refunded_of_an_unpaid_payment(client: stripe.StripeClient) -> None:
    intent = await create(client)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert (await client.v1.refunds.list_async()).data == []


@pytest.mark.parametrize(
    ("outcome", "types"),
    [
        ("won", ["charge.dispute.closed", "charge.dispute.funds_reinstated"]),
        ("lost", ["charge.dispute.closed"]),
    ],
)
async def test_a_dispute_is_opened_and_decided(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver, outcome: str, types: list[str]
) -> None:
    intent = await paid(client)
    await tell(control, f"/payment_intents/{intent.id}/dispute", amount=300)
    disputes = (await client.v1.disputes.list_async({"payment_intent": intent.id})).data
    assert [(d.amount, d.status, d.charge) for d in disputes] == [(300, "needs_response", intent.latest_charge)]
    assert (await client.v1.charges.retrieve_async(str(intent.latest_charge))).disputed
    await tell(control, f"/disputes/{disputes[0].id}/close", outcome=outcome)
    assert (await client.v1.disputes.retrieve_async(disputes[0].id)).status == outcome
    await receiver.wait_for(5 + len(types))
    assert receiver.types == [*PAID, "charge.dispute.created", "charge.dispute.funds_withdrawn", *types]
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.disputes.close_async(disputes[0].id)


async def test_a_card_that_disputes_and_a_dispute_that_is_accepted(client: stripe.StripeClient) -> None:
    intent = await confirm(client, (await create(client)).id, "pm_card_createDispute")
    assert intent.status == "succeeded"
    dispute = (await client.v1.disputes.list_async({"charge": str(intent.latest_charge)})).data[0]
    assert (dispute.amount, dispute.reason) == (500, "fraudulent")
    with refused(stripe.InvalidRequestError, 400, "charge_disputed"):
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert (await client.v1.disputes.close_async(dispute.id)).status == "lost"


async def test_an_inquiry_withdraws_nothing(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    intent = await paid(client)
    dispute = await tell(control, f"/payment_intents/{intent.id}/dispute", inquiry=True)
    assert dispute["status"] == "warning_needs_response"
    assert (await client.v1.events.list_async({"type": "charge.dispute.created"})).data
    assert (await tell(control, f"/disputes/{dispute['id']}/close", outcome="won"))["status"] == "warning_closed"
    funds = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"]
    assert (await client.v1.events.list_async({"types": funds})).data == []


# --- events and lists


async def test_the_event_log_tells_what_was_so_at_the_time(client: stripe.StripeClient) -> None:
    intent = await paid(client)
    events = (await client.v1.events.list_async({"limit": 100})).data
    assert [event.type for event in events] == PAID[::-1]
    told = {event.type: event.data.object["status"] for event in events}
    assert told["payment_intent.created"] == "requires_payment_method"
    assert told["payment_intent.succeeded"] == "succeeded"
    assert (await client.v1.events.retrieve_async(events[0].id)).data.object["id"] == intent.id
    chosen = await client.v1.events.list_async({"types": [PAID[0], PAID[1]]})
    assert [event.type for event in chosen.data] == [PAID[1], PAID[0]]
    first = events[-1].created
    assert len((await client.v1.events.list_async({"created": {"gte": first}})).data) == 3
    assert (await client.v1.events.list_async({"created": {"gte": events[0].created + 1}})).data == []
    assert (await client.v1.events.list_async({"created": {"lte": first - 1}})).data == []
    assert (await client.v1.events.list_async({"created": {"gt": events[0].created}})).data == []
    assert (await client.v1.events.list_async({"created": {"lt": first}})).data == []
    assert (await client.v1.events.list_async({"created": first - 1})).data == []


async def test_lists_page_by_cursor(client: stripe.StripeClient) -> None:
    ids = [(await create(client)).id for _ in range(7)][::-1]
    service = client.v1.payment_intents
    page = await service.list_async({"limit": 3})
    assert ([intent.id for intent in page.data], page.has_more) == (ids[:3], True)
    last = await service.list_async({"limit": 3, "starting_after": ids[3]})
    assert ([intent.id for intent in last.data], last.has_more) == (ids[4:], False)
    before = await service.list_async({"limit": 2, "ending_before": ids[4]})
    assert ([intent.id for intent in before.data], before.has_more) == (ids[2:4], True)
    assert [intent.id async for intent in before.auto_paging_iter()] == ids[:4][::-1]
    first = await service.list_async({"limit": 4, "ending_before": ids[4]})
    assert ([intent.id for intent in first.data], first.has_more) == (ids[:4], False)
    assert [intent.id async for intent in page.auto_paging_iter()] == ids
    with refused(stripe.InvalidRequestError, 400):
        await service.list_async({"limit": 101})


# --- webhooks


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


async def settled(control: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The deliveries, once none is under way."""
    for _ in range(200):
        state = (await control.get("/deliveries")).raise_for_status().json()
        if state["idle"]:
            deliveries: list[dict[str, Any]] = state["deliveries"]
            return deliveries
        await asyncio.sleep(0.02)
    raise AssertionError(f"never idle: {state}")


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


# --- accounts, and a restart

TWO = {
    "sk_test_one": AccountConfig("pk_test_one", "whsec_one"),
    "sk_test_two": AccountConfig("pk_test_two", "whsec_two"),
}


async def test_two_keys_are_two_accounts() -> None:
    with serving(create_app(accounts=TWO)) as url:
        async with sdk(url, "sk_test_one") as one, sdk(url, "sk_test_two") as two:
            intent = await create(one, key="same")
            with refused(stripe.InvalidRequestError, 404, "resource_missing"):
                await two.v1.payment_intents.retrieve_async(intent.id)
            assert (await two.v1.events.list_async()).data == []
            other = await create(two, amount=700, key="same")
            assert (other.id != intent.id, other.amount) == (True, 700)


async def test_a_restart_keeps_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "stripe.json"
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with sdk(url, "sk_test_one") as client:
            intent = await create(client, key="kept")
            await confirm(client, intent.id)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "sk_test_one" not in path.read_text(encoding="utf-8")
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with sdk(url, "sk_test_one") as client:
            assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == "succeeded"
            assert (await create(client, key="kept")).id == intent.id
            assert len((await client.v1.events.list_async()).data) == 3
            refund = await client.v1.refunds.create_async({"payment_intent": intent.id})
            assert refund.amount == 500


async def test_a_restart_takes_up_what_was_not_delivered(receiver: Receiver, tmp_path: Path) -> None:
    receiver.secret = "whsec_one"
    receiver.answers.append(500)
    account = {"sk_test_one": AccountConfig("pk_test_one", "whsec_one", receiver.url)}
    path = tmp_path / "stripe.json"
    with serving(create_app(accounts=account, state_path=path, retry_schedule_s=(60,))) as url:
        async with sdk(url, "sk_test_one") as client:
            await create(client)
        await receiver.wait_for(1)
    with serving(create_app(accounts=account, state_path=path)):
        await receiver.wait_for(2)
    with serving(create_app(accounts=account, state_path=path)):
        await asyncio.sleep(0.3)
    assert receiver.events[0].id == receiver.events[1].id
    assert len(receiver.events) == 2
