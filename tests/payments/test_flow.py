"""Purchases end to end: a real server, the local Stripe, signed webhooks over HTTP, the official SDK."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import stripe
from pydantic import SecretStr

from app.auth.caller import Permission
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from tests.books import account_locked, balances, connected
from tests.conftest import make_key, settings_for
from tests.databases import Urls
from tests.servers import LocalStripe, Server, free_port, running_server, running_stripe

USER = {"oauth_provider": "oauth:google", "external_id": "buyer@example.com"}


@dataclass(frozen=True)
class ServerAndStripe:
    """A server, its Stripe, a client of the one and an SDK for the other."""

    server: Server
    local: LocalStripe
    client: httpx.AsyncClient
    sdk: stripe.StripeClient
    urls: Urls

    async def buy(self, **fields: object) -> dict[str, Any]:
        answer = await self.client.post("/v1/billing/purchases", json={**USER, **fields})
        assert answer.status_code == 201, answer.text
        bought: dict[str, Any] = answer.json()
        return bought

    async def pay(self, payment_id: str, card: str = "pm_card_visa") -> None:
        await self.sdk.v1.payment_intents.confirm_async(payment_id, {"payment_method": card})

    async def status(self, payment_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/v1/billing/purchases/{payment_id}/status")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def control(self, path: str, /, **fields: object) -> Any:
        async with httpx.AsyncClient() as client:
            return (await client.post(f"{self.local.url}/_control/{path}", json=fields)).json()

    async def credits(self) -> int:
        check = await self.client.post("/v1/billing/check", json=USER)
        return int(check.json()["credits_remaining"])

    async def until(self, condition: Callable[[int], bool]) -> int:
        """The paid credits, once they are as expected: webhooks take a moment."""
        for _ in range(1200):
            credits = await self.credits()
            if condition(credits):
                return credits
            await asyncio.sleep(0.05)
        raise AssertionError(f"{credits} credits after a minute")

    async def account_id(self) -> UUID:
        path = f"/v1/billing/accounts/{USER['oauth_provider']}/{USER['external_id']}"
        return UUID((await self.client.get(path)).json()["account_id"])


@pytest.fixture
def stripe_and_server(own_database: Urls) -> Iterator[tuple[LocalStripe, Server]]:
    port = free_port()
    with (
        running_stripe(f"http://127.0.0.1:{port}/v1/billing/webhooks/stripe") as local,
        running_server(own_database, port=port, env=local.environment) as server,
    ):
        yield local, server


@pytest.fixture
async def environment(
    stripe_and_server: tuple[LocalStripe, Server], own_database: Urls
) -> AsyncIterator[ServerAndStripe]:
    local, server = stripe_and_server
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    sdk = stripe.StripeClient(
        local.secret_key, base_addresses={"api": local.url}, http_client=stripe.HTTPXClient(timeout=5)
    )
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=10) as client:
        yield ServerAndStripe(server, local, client, sdk, own_database)


async def test_purchase_is_paid_by_the_webhook(environment: ServerAndStripe) -> None:
    bought = await environment.buy()
    fields = {"payment_id", "client_secret", "amount_minor", "currency", "uses_purchased", "status", "publishable_key"}
    assert set(bought) == fields
    assert (bought["amount_minor"], bought["uses_purchased"], bought["status"]) == (500, 20, "requires_payment_method")
    await environment.pay(bought["payment_id"])
    assert await environment.until(lambda credits: credits > 0) == 20
    status = await environment.status(bought["payment_id"])
    assert set(status) == fields | {"credits_added", "balance_after"}
    assert (status["status"], status["credits_added"], status["balance_after"]) == ("succeeded", 20, 20)
    given = await environment.client.post("/v1/billing/grants", json={**USER, "amount_minor": 300})
    assert given.status_code == 201
    assert (await environment.status(bought["payment_id"]))["balance_after"] == 23  # live grants count


async def test_poll_books_what_no_webhook_told(environment: ServerAndStripe) -> None:
    await environment.control("webhooks", drop=100)
    bought = await environment.buy()
    await environment.pay(bought["payment_id"])
    assert (await environment.status(bought["payment_id"]))["status"] == "succeeded"
    assert await environment.credits() == 20


async def test_declined_card_can_be_followed_by_a_good_one(environment: ServerAndStripe) -> None:
    bought = await environment.buy()
    with pytest.raises(stripe.CardError):
        await environment.pay(bought["payment_id"], "pm_card_chargeDeclined")
    assert (await environment.status(bought["payment_id"]))["status"] == "failed"
    assert (await environment.buy())["payment_id"] == bought["payment_id"]
    await environment.pay(bought["payment_id"])
    assert await environment.until(lambda credits: credits > 0) == 20


async def test_second_click_gets_the_same_payment(environment: ServerAndStripe) -> None:
    clicks = await asyncio.gather(*(environment.buy() for _ in range(12)))
    assert len({bought["payment_id"] for bought in clicks}) == 1
    assert len({bought["client_secret"] for bought in clicks}) == 1
    listed = await environment.sdk.v1.payment_intents.list_async()
    assert len(listed.data) == 1
    keyed = [await environment.buy(idempotency_key="a"), await environment.buy(idempotency_key="a")]
    assert keyed[0]["payment_id"] == keyed[1]["payment_id"] != clicks[0]["payment_id"]


async def test_webhook_that_fails_inside_is_retried_to_success(environment: ServerAndStripe) -> None:
    bought = await environment.buy()
    async with account_locked(environment.urls, await environment.account_id()):
        await environment.pay(bought["payment_id"])
        await asyncio.sleep(3.6)  # longer than a lock is waited for
    assert await environment.until(lambda credits: credits > 0) == 20
    async with httpx.AsyncClient() as client:
        outcomes = (await client.get(f"{environment.local.url}/_control/deliveries")).json()["deliveries"]
    assert "503" in {delivery["outcome"] for delivery in outcomes}


async def test_dropped_doubled_and_reversed_webhooks_are_healed_by_reconciliation(environment: ServerAndStripe) -> None:
    await environment.control("webhooks", drop=1, types=["payment_intent.succeeded"])
    bought = await environment.buy()
    await environment.pay(bought["payment_id"])
    await environment.sdk.v1.refunds.create_async({"payment_intent": bought["payment_id"], "amount": 100})
    await environment.control("webhooks", drop=1000)
    await environment.sdk.v1.refunds.create_async({"payment_intent": bought["payment_id"], "amount": 150})
    settings = settings_for(environment.urls, stripe_live=environment.local.keys, stripe_api_base=environment.local.url)
    db = Database(settings.database_url)
    configuration = Configuration(db, settings)
    gateway = StripeGateway(settings, configuration)
    service = PaymentService(db, configuration, BillingService(db, configuration), gateway)
    await service.reconcile(datetime.now(UTC) + timedelta(minutes=11))
    again = await service.reconcile(datetime.now(UTC) + timedelta(minutes=12))
    await gateway.close()
    await db.close()
    assert again == {"events": 0, "payments": 0, "failed": 0}
    assert (await balances(environment.urls, await environment.account_id()))["paid"] == 10


async def test_death_between_stripes_answer_and_our_note_of_it_is_healed(environment: ServerAndStripe) -> None:
    """Stripe made the payment, but its answer was lost: the user clicks again, and pays once."""
    await environment.control(
        "failures", path="/v1/payment_intents", after=True, status=None, times=3
    )  # with its retries
    lost = await environment.client.post("/v1/billing/purchases", json=USER)
    assert (lost.status_code, lost.json()["code"]) == (503, "payment_provider_unavailable")
    bought = await environment.buy()
    assert len((await environment.sdk.v1.payment_intents.list_async()).data) == 1
    await environment.pay(bought["payment_id"])
    assert await environment.until(lambda credits: credits > 0) == 20


async def test_stripe_that_hangs_is_a_503_in_time(environment: ServerAndStripe) -> None:
    await environment.control("failures", path="/v1/payment_intents", slow_s=6, status=500)
    async with asyncio.timeout(5):
        answer = await environment.client.post("/v1/billing/purchases", json=USER)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


async def test_booked_purchase_is_answered_without_stripe(environment: ServerAndStripe) -> None:
    bought = await environment.buy()
    await environment.pay(bought["payment_id"])
    await environment.until(lambda credits: credits == 20)
    await environment.control("failures", method="GET", path="/v1/payment_intents", times=5)
    assert (await environment.status(bought["payment_id"]))["status"] == "succeeded"


async def test_dispute_takes_the_credits_and_its_win_brings_them_back(environment: ServerAndStripe) -> None:
    bought = await environment.buy()
    await environment.pay(bought["payment_id"], "pm_card_createDispute")
    for _ in range(1200):
        async with connected(environment.urls) as connection:
            disputes = await connection.fetch("SELECT dispute_id FROM purchase_disputes")
        if disputes:
            break
        await asyncio.sleep(0.05)
    assert await environment.until(lambda credits: credits == 0) == 0
    await environment.control(f"disputes/{disputes[0]['dispute_id']}/close", outcome="won")
    assert await environment.until(lambda credits: credits > 0) == 20


async def test_unknown_payment_pack_and_return_url(environment: ServerAndStripe) -> None:
    assert (await environment.client.get("/v1/billing/purchases/pi_unknown")).status_code == 404
    for fields, code in (
        ({"pack": "gold"}, "unknown_pack"),
        ({"return_url": "javascript:alert(1)"}, "validation_error"),
        ({"return_url": "/relative"}, "validation_error"),
    ):
        answer = await environment.client.post("/v1/billing/purchases", json={**USER, **fields})
        assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_without_a_provider_purchases_answer_503(agent: httpx.AsyncClient, user: dict[str, str]) -> None:
    answer = await agent.post("/v1/billing/purchases", json=user)
    assert (answer.status_code, answer.json()["code"]) == (503, "payments_not_configured")
