"""A webhook is believed by its signature only, applied once, and answered after its effect is committed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from app.accounts.erasure import erase_person, forget_texts
from app.demo.stripe.webhooks import signature
from app.payments.erasure import TEXTS
from app.payments.stripe_gateway import StripeGateway
from tests.books import account_locked
from tests.payments.conftest import TEST_SECRET, Event, Shop

PATH = "/v1/billing/webhooks/stripe"
SUCCEEDED = "payment_intent.succeeded"


def signed(shop: Shop, payload: bytes, secret: str | None = None, age_s: int = 0) -> dict[str, str]:
    return {"Stripe-Signature": signature(secret or shop.local.webhook_secret, payload, int(time.time()) - age_s)}


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key: the signature is the credential."""
    transport = httpx.ASGITransport(shop.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://billing") as client:
        yield client


async def paid(shop: Shop) -> tuple[UUID, Event]:
    """Return an account that has paid, and the event that reports it."""
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    return account_id, (await shop.events(SUCCEEDED))[-1]


async def post(shop: Shop, client: httpx.AsyncClient, event: object) -> httpx.Response:
    payload = json.dumps(event).encode()
    return await client.post(PATH, content=payload, headers=signed(shop, payload))


async def test_forged_stale_and_garbled_signatures_are_refused(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    payload = json.dumps(event).encode()
    good = signed(shop, payload)["Stripe-Signature"]
    mac = good.partition("v1=")[2]
    for header in (
        None,
        "",
        "t=1",
        "v1=00",
        f"v1={mac}",
        f"t={int(time.time())},v0={mac}",
        f"t={'9' * 5000},v1={mac}",
        "t=now,v1=00",
        ",=,=,",
        f"t={int(time.time())},v1=\xe9\xff",
        good.replace(mac[:8], "00000000"),
        signed(shop, payload, secret="whsec_of_somebody_else")["Stripe-Signature"],
        signed(shop, payload, age_s=301)["Stripe-Signature"],
        signed(shop, payload, age_s=-310)["Stripe-Signature"],
        signed(shop, payload + b" ")["Stripe-Signature"],
    ):
        headers = [] if header is None else [(b"Stripe-Signature", header.encode("latin-1"))]
        answer = await client.post(PATH, content=payload, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature"), header
    for body in (b"", b"\xff\xfe", b"\x00", b"null", b"[]", b"{", b'{"id": 1}', b'{"object": "v2.core.event"}'):
        answer = await client.post(PATH, content=body, headers=signed(shop, body) if body != b"\xff\xfe" else {})
        assert answer.status_code == 400, body
    assert await shop.inbox() == {}
    assert await shop.balances(account_id) == (0, 0)
    for age_s in (290, -290):
        fresh_enough = signed(shop, payload, age_s=age_s)
        assert (await client.post(PATH, content=payload, headers=fresh_enough)).status_code == 200
    assert await shop.balances(account_id) == (20, 0)


async def test_other_environments_secret_moves_nothing_here(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    payload = json.dumps(event).encode()
    answer = await client.post(PATH, content=payload, headers=signed(shop, payload, TEST_SECRET))
    assert answer.status_code == 200  # signed by Stripe, but none of the test environment's payments
    assert await shop.inbox() == {event["id"]: "ignored"}
    assert await shop.balances(account_id) == (0, 0)


async def test_one_event_delivered_many_times_at_once_applies_once(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    answers = await asyncio.gather(*(post(shop, client, event) for _ in range(15)))
    assert {answer.status_code for answer in answers} == {200}
    assert await shop.balances(account_id) == (20, 0)
    assert len(await shop.rows("SELECT FROM credits WHERE account_id = $1", account_id)) == 1


async def test_webhook_and_poll_at_once_book_once(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    payment_id = event["data"]["object"]["id"]
    polls = (shop.payments.payment("live", payment_id, shop.now) for _ in range(6))
    answers = await asyncio.gather(*polls, *(post(shop, client, event) for _ in range(6)))
    assert {getattr(a, "status", "succeeded") for a in answers} == {"succeeded"}
    assert await shop.balances(account_id) == (20, 0)


async def test_lock_that_is_not_had_in_time_leaves_nothing_behind(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    async with account_locked(shop.urls, account_id):
        answer = await post(shop, client, event)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert await shop.inbox() == {}
    assert (await post(shop, client, event)).status_code == 200
    assert await shop.balances(account_id) == (20, 0)


async def test_commit_that_fails_is_not_answered_with_200(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    await shop.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused at commit'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON payment_events DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()
        """
    )
    assert (await post(shop, client, event)).status_code == 500
    assert await shop.inbox() == {}
    assert await shop.balances(account_id) == (0, 0)
    await shop.execute("DROP TRIGGER refuse ON payment_events")
    assert (await post(shop, client, event)).status_code == 200
    assert await shop.balances(account_id) == (20, 0)


async def test_what_is_not_ours_or_malformed_is_taken_and_ignored(shop: Shop, client: httpx.AsyncClient) -> None:
    """Stripe would send it again for days, if it were refused."""
    _, event = await paid(shop)

    def variant(kind: str, subject: object) -> Event:
        return {**event, "id": f"evt_{len(variants)}", "type": kind, "data": {"object": subject}}

    variants: list[Event] = []
    intent = event["data"]["object"]
    for kind, subject in (
        (SUCCEEDED, {**intent, "id": "pi_of_another_shop", "metadata": {}}),
        (SUCCEEDED, {**intent, "id": "pi_forger", "metadata": {**intent["metadata"], "account_id": "x"}}),
        (
            SUCCEEDED,
            {**intent, "id": "pi_x", "metadata": {"account_id": str(UUID(int=1)), "purchase_id": str(UUID(int=2))}},
        ),
        (SUCCEEDED, {**intent, "amount_received": "500"}),
        (SUCCEEDED, {**intent, "amount_received": 10**30}),
        (SUCCEEDED, {**intent, "amount_received": -1}),
        (SUCCEEDED, {"id": "pi_empty"}),
        (SUCCEEDED, "a string"),
        (SUCCEEDED, None),
        (SUCCEEDED, []),
        ("charge.refunded", {"payment_intent": None}),
        ("charge.refunded", {"payment_intent": intent["id"], "amount_refunded": None}),
        ("charge.dispute.created", {"payment_intent": intent["id"], "id": "du_1", "amount": 1, "status": "new word"}),
        ("charge.dispute.created", {"payment_intent": intent["id"], "id": "du\x00", "amount": 1, "status": "lost"}),
        ("customer.created", {"id": "cus_1"}),
    ):
        variants.append(variant(kind, subject))
    for sent in variants:
        assert (await post(shop, client, sent)).status_code == 200, sent
    assert set((await shop.inbox()).values()) == {"ignored"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"related_object": None}, {"created": "2026-11-29T20:00:00+01:00"}, {"type": "v2.core.account.created"}],
)
async def test_thin_event_is_acknowledged_and_its_cause_logged(
    shop: Shop, client: httpx.AsyncClient, changes: Event, capfd: pytest.CaptureFixture[str]
) -> None:
    """A webhook endpoint that is set to thin payloads sends no objects: Stripe would repeat them for days."""
    thin = {
        "id": "evt_thin",
        "object": "v2.core.event",
        "type": "v1.charge.refunded",
        "created": "2026-11-29T20:00:00.123Z",
        "livemode": True,
        "related_object": {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"},
        **changes,
    }
    for _ in range(2):
        assert (await post(shop, client, thin)).status_code == 200
    assert await shop.inbox() == {"evt_thin": "ignored"}
    assert "snapshot payloads" in capfd.readouterr().err
    forged = json.dumps(thin).encode()
    refused = await client.post(PATH, content=forged, headers=signed(shop, forged, secret="whsec_of_somebody_else"))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_signature")


async def test_payment_that_names_our_purchase_but_is_another_is_not_booked(
    shop: Shop, client: httpx.AsyncClient
) -> None:
    """A holder of our Stripe key can write any metadata: the purchase is bound to the payment given to its buyer."""
    account_id, event = await paid(shop)
    intent = event["data"]["object"]
    forged = {**event, "id": "evt_forged", "data": {"object": {**intent, "id": "pi_forged"}}}
    assert (await post(shop, client, forged)).status_code == 200
    assert await shop.balances(account_id) == (0, 0)
    assert await shop.inbox() == {"evt_forged": "ignored"}


async def test_refund_that_overtakes_what_makes_the_payment_ours_is_not_lost(
    shop: Shop, client: httpx.AsyncClient
) -> None:
    """It was ignored at first; repeated, by Stripe or by reconciliation, it takes effect."""
    account_id, event = await paid(shop)
    await shop.refund(event["data"]["object"]["id"], 250)
    [refunded] = await shop.events("refund.created")  # unlike a charge, it has none of our ids
    await shop.execute("UPDATE purchases SET payment_intent_id = NULL")  # as if we had died before noting it
    await post(shop, client, refunded)
    assert await shop.inbox() == {refunded["id"]: "ignored"}
    await post(shop, client, event)
    assert await shop.balances(account_id) == (20, 0)
    await post(shop, client, refunded)
    assert await shop.balances(account_id) == (10, 0)
    assert set((await shop.inbox()).values()) == {"applied"}


async def test_charge_makes_the_payment_ours_by_the_ids_in_its_metadata(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    await shop.refund(event["data"]["object"]["id"], 250)
    [refunded] = await shop.events("charge.refunded")
    await shop.execute("UPDATE purchases SET payment_intent_id = NULL")
    await post(shop, client, refunded)
    await post(shop, client, event)
    assert await shop.balances(account_id) == (10, 0)


async def test_the_card_of_an_erased_person_is_not_learnt_again(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id, event = await paid(shop)
    [charged] = await shop.events("charge.succeeded")
    for delivered in (event, charged):
        await post(shop, client, delivered)
    assert [p["card_fingerprint"] is None for p in await shop.purchases(account_id)] == [False]
    async with shop.db.transaction() as tx:
        await erase_person(tx, account_id, shop.now)
    await forget_texts(shop.db, account_id, [TEXTS])
    await shop.refund(event["data"]["object"]["id"], 250)
    await shop.deliver_all(("charge.refunded",))
    [purchase] = await shop.purchases(account_id)
    assert (purchase["refunded_minor"], purchase["card_fingerprint"]) == (250, None)


async def test_status_word_that_is_new_to_us_does_not_break_the_purchase(shop: Shop, client: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.open(account_id)
    [intent] = await shop.intents()
    event = {"id": "evt_1", "type": "payment_intent.processing", "created": int(time.time()) + 60}
    answer = await post(shop, client, {**event, "data": {"object": {**intent, "status": "a_word_of_2030"}}})
    assert answer.status_code == 200
    assert [p["status"] for p in await shop.purchases(account_id)] == ["unknown"]


async def test_event_of_stripes_test_mode_moves_nothing_in_the_live_environment(shop: Shop) -> None:
    """Stripe sends some live endpoints events of its test mode as well, signed with the live secret."""
    _, event = await paid(shop)
    settings = shop.settings.model_copy(update={"stripe_api_base": None})
    gateway = StripeGateway(settings, shop.billing.configuration)
    for livemode in (True, False):
        payload = json.dumps({**event, "livemode": livemode}).encode()
        environment, parsed = await gateway.verify_webhook(payload, signed(shop, payload)["Stripe-Signature"])
        assert environment == "live"
        assert (parsed.facts is not None) is livemode
    await gateway.close()
