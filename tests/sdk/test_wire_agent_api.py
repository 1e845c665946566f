"""The agent's own billing API, by the examples of its documentation and of the integration guide."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from ciris_billing import AsyncBillingClient, Options, PurchaseStatus, Retry
from ciris_billing.fastapi import STATUS_WORDS, CIRISBillingProvider, PaymentState, SimpleCreditProvider
from tests.conftest import settings_for
from tests.databases import Urls
from tests.sdk.agent import browser, create_agent
from tests.sdk.conftest import Faulty, Service
from tests.sdk.reactions import Reaction
from tests.servers import serving

CREDITS = {
    "has_credit",
    "credits_remaining",
    "free_uses_remaining",
    "total_uses",
    "plan_name",
    "purchase_required",
    "purchase_options",
}
PURCHASE = {"payment_id", "client_secret", "amount_minor", "currency", "uses_purchased", "publishable_key"}
PATHS = pytest.mark.parametrize("base", ["/v1/api/billing", "/api"], ids=["documented", "alias"])


@pytest.fixture
async def agent(service: Service) -> AsyncIterator[FastAPI]:
    async with AsyncBillingClient(service.url, service.keys.agent) as client:
        yield create_agent(CIRISBillingProvider(client, agent_id="datum"))


@pytest.fixture
async def ui(agent: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(agent, f"{uuid.uuid4()}@example.com") as client:
        yield client


async def use_up(ui: httpx.AsyncClient) -> None:
    for message in range(3):
        assert (await ui.post(f"/interact/{message}")).status_code == 200


@PATHS
async def test_credit_status(ui: httpx.AsyncClient, base: str) -> None:
    new = (await ui.get(f"{base}/credits")).json()
    assert new == {
        "has_credit": True,
        "credits_remaining": 0,
        "free_uses_remaining": 3,
        "total_uses": 0,
        "plan_name": "free",
        "purchase_required": False,
        "purchase_options": None,
    }
    await use_up(ui)
    used = (await ui.get(f"{base}/credits")).json()
    assert set(used) == CREDITS
    assert (used["has_credit"], used["purchase_required"], used["total_uses"]) == (False, True, 3)
    assert used["purchase_options"] == {"price_minor": 500, "uses": 20, "currency": "USD"}


@PATHS
async def test_whole_purchase(ui: httpx.AsyncClient, service: Service, base: str) -> None:
    body = {"return_url": "https://yourapp.com/payment-complete"}
    answer = await ui.post(f"{base}/purchase/initiate", json=body)
    assert answer.status_code == 200
    purchase = answer.json()
    assert set(purchase) == PURCHASE
    assert (purchase["amount_minor"], purchase["currency"], purchase["uses_purchased"]) == (500, "USD", 20)
    assert purchase["client_secret"].startswith(purchase["payment_id"] + "_secret_")
    assert purchase["publishable_key"] == service.stripe.publishable_key
    path = f"{base}/purchase/status/{purchase['payment_id']}"
    begun = (await ui.get(path)).json()
    assert begun == {"status": "requires_payment_method", "credits_added": 0, "balance_after": 0}
    await asyncio.to_thread(service.pay, purchase["payment_id"], purchase["client_secret"])
    assert (await ui.get(path)).json() == {"status": "succeeded", "credits_added": 20, "balance_after": 20}
    assert (await ui.get(f"{base}/credits")).json()["credits_remaining"] == 20


async def test_declined_and_canceled_words(ui: httpx.AsyncClient, service: Service) -> None:
    purchase = (await ui.post("/v1/api/billing/purchase/initiate")).json()
    path = f"/v1/api/billing/purchase/status/{purchase['payment_id']}"
    secret = purchase["client_secret"]
    await asyncio.to_thread(service.pay, purchase["payment_id"], secret, "pm_card_chargeDeclined")
    assert (await ui.get(path)).json() == {"status": "failed", "credits_added": 0, "balance_after": 0}
    async with httpx.AsyncClient(auth=(service.stripe.secret_key, "")) as stripe:
        await stripe.post(f"{service.stripe.url}/v1/payment_intents/{purchase['payment_id']}/cancel")
    assert (await ui.get(path)).json()["status"] == "canceled"


def test_ui_hears_only_words_that_it_knows() -> None:
    fields: dict[str, Any] = {
        "payment_id": "pi_1",
        "client_secret": None,
        "amount_minor": 500,
        "currency": "USD",
        "uses_purchased": 20,
        "publishable_key": "pk",
        "credits_added": 0,
        "balance_after": 0,
    }
    for word, read in {"requires_capture": "processing", "of a newer service": "unknown", "pending": "pending"}.items():
        state = PaymentState.of(PurchaseStatus(status=word, **fields))
        assert state.status == read
        assert state.status in STATUS_WORDS


async def test_somebody_else_s_payment_is_not_found(agent: FastAPI, ui: httpx.AsyncClient) -> None:
    purchase = (await ui.post("/v1/api/billing/purchase/initiate", json={})).json()
    async with browser(agent, "somebody-else@example.com") as other:
        await other.get("/v1/api/billing/credits")
        paths = [purchase["payment_id"], "pi_unknown", "no%20payment"]
        answers = [await other.get(f"/v1/api/billing/purchase/status/{path}") for path in paths]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(404, {"detail": "Payment not found"})] * 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/credits"),
        ("POST", "/purchase/initiate"),
        ("GET", "/purchase/status/pi_1"),
        ("GET", "/transactions"),
    ],
)
async def test_nobody_is_let_in(agent: FastAPI, method: str, path: str) -> None:
    async with browser(agent, None) as nobody:
        answer = await nobody.request(method, f"/v1/api/billing{path}")
    assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})


async def test_transactions(ui: httpx.AsyncClient) -> None:
    await use_up(ui)
    page = (await ui.get("/v1/api/billing/transactions", params={"limit": 2})).json()
    assert (page["total_count"], page["has_more"], len(page["transactions"])) == (3, True, 2)
    assert page["transactions"][0]["metadata"]["agent_id"] == "datum"
    assert (await ui.get("/v1/api/billing/transactions", params={"limit": 501})).status_code == 422


async def test_free_provider_sells_nothing() -> None:
    agent = create_agent(SimpleCreditProvider(free_uses=3))
    async with browser(agent, "ada") as ui:
        assert (await ui.get("/v1/api/billing/credits")).json()["free_uses_remaining"] == 3
        refusals = [
            await ui.post("/v1/api/billing/purchase/initiate", json={"return_url": "https://yourapp.com"}),
            await ui.get("/v1/api/billing/purchase/status/pi_1"),
        ]
        for answer in refusals:
            assert (answer.status_code, answer.json()) == (403, {"detail": "Billing not enabled for this agent"})
        assert [(await ui.post("/interact/0")).status_code for _ in range(2)] == [200, 200]
        await use_up(ui)  # message 0 for the third time: it is paid for
        assert (await ui.post("/interact/4")).status_code == 402
        credits = (await ui.get("/api/credits")).json()
        assert (credits["has_credit"], credits["purchase_required"], credits["total_uses"]) == (False, False, 3)
        page = (await ui.get("/v1/api/billing/transactions", params={"limit": 2})).json()
        assert (page["total_count"], page["has_more"], page["transactions"][0]["amount_minor"]) == (3, True, -100)
    async with browser(agent, "grace") as other:
        assert (await other.get("/v1/api/billing/transactions")).json()["transactions"] == []


async def test_interaction_is_charged_once_it_succeeded(ui: httpx.AsyncClient) -> None:
    assert (await ui.post("/interact/broken")).status_code == 502
    assert (await ui.post("/interact/1")).json() == {"uses": 3}
    assert (await ui.post("/interact/1")).json() == {"uses": 2}
    refused = await ui.post("/interact/dear")  # its price is known only after it
    assert (refused.status_code, refused.json()["detail"]) == (
        402,
        "Insufficient credits. Balance: 200, Required: 100000",
    )
    for _ in range(2):
        assert (await ui.post("/unnamed")).status_code == 200
    assert (await ui.post("/unnamed")).json() == {"detail": "No free uses or credits remaining"}
    assert (await ui.get("/api/credits")).json()["total_uses"] == 3


async def test_trouble_between_agent_and_service(faulty: Faulty, service: Service) -> None:
    options = Options(retry=Retry(attempts=1))
    path = "/v1/api/billing/credits"
    async with (
        AsyncBillingClient(faulty.url, service.keys.agent, options=options) as client,
        browser(create_agent(CIRISBillingProvider(client)), "ada") as ui,
    ):
        faulty.reactions = [Reaction(503, headers={"Retry-After": "2"}), Reaction(429), Reaction(500)]
        answers = [await ui.get(path) for _ in range(3)]
        invalid = await ui.post("/v1/api/billing/purchase/initiate", json={"return_url": "javascript:alert(1)"})
        faulty.reactions = [Reaction(401)]
        answers.append(await ui.get(path))
    assert [answer.status_code for answer in answers] == [503, 503, 500, 500]  # never 401: the user is signed in
    assert answers[0].json() == {"detail": "Billing service unavailable"}
    assert answers[0].headers["Retry-After"] == "3"
    assert answers[2].json() == answers[3].json() == {"detail": "Internal server error"}
    assert invalid.status_code == 422


async def test_service_without_stripe_is_the_operator_s_affair(database: Urls, service: Service) -> None:
    with serving(create_app(settings_for(database))) as url:
        async with (
            AsyncBillingClient(url, service.keys.agent) as client,
            browser(create_agent(CIRISBillingProvider(client)), "ada") as ui,
        ):
            answer = await ui.post("/v1/api/billing/purchase/initiate")
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})
