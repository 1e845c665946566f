"""`POST /v1/credits/purchase` and `GET /v1/payments` over HTTP, read as strictly as the neighbours' clients do."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.issuers import Issuer
from tests.databases import create_database, drop_database
from tests.demo.oidc_server import WEB, RunningOIDC
from tests.metering.conftest import PROVIDER, Desk, running_desk
from tests.neighbours.strict import read, z_error
from tests.servers import LocalStripe, running_stripe
from tests.support.invalid_requests import NASTY_VALUES
from tests.support.wallets import DOLLAR

PURCHASE, PAYMENTS = "/v1/credits/purchase", "/v1/payments"
PAYMENT = {
    "id": str,
    "amount_cents": int,
    "amount_formatted": str,
    "currency": str,
    "status": str,
    "created_at": datetime,
    "refunded_cents": int,
}
FRONTEND, OTHER_ORIGIN = "https://app.example/web", "https://other.example"
OpenClient = Callable[..., httpx.AsyncClient]


@dataclass(frozen=True)
class MoneyShop:
    """A server that sells money, and the local Stripe that calls it."""

    desk: Desk
    local: LocalStripe

    async def control(self, path: str, /, **fields: Any) -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(f"{self.local.url}/_control/{path}", json=fields)).json()

    async def pay(self, bought: dict[str, Any], method: str = "pm_card_visa") -> str:
        """Pay on the page. Return the payment's id once Stripe has delivered its events."""
        payment = await self.control(f"checkout_sessions/{bought['session_id']}/pay", method=method)
        await self.delivered()
        return str(payment["id"])

    async def delivered(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(400):
                if (await client.get(f"{self.local.url}/_control/deliveries")).json()["idle"]:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("Stripe still delivers")


@pytest.fixture(scope="module")
async def shop(oidc: RunningOIDC) -> AsyncIterator[MoneyShop]:
    issuer = Issuer(issuer=oidc.issuer, jwks_url=oidc.jwks_url, audiences=[WEB.client_id], provider=PROVIDER)
    name = f"till_{uuid.uuid4().hex}"
    urls = await create_database(name)
    with running_stripe() as local:
        async with running_desk(
            urls,
            issuers=[issuer],
            stripe_live=local.keys,
            stripe_api_base=local.url,
            frontend_url=FRONTEND,
            return_url_origins=[OTHER_ORIGIN, local.url],
            stripe_timeout_s=20,
            request_timeout_s=30,
        ) as desk:
            made = MoneyShop(desk, local)
            await made.control("webhooks/url", url=f"{desk.url}/webhooks/stripe")
            yield made
    await drop_database(name)


@pytest.fixture
async def open_client(shop: MoneyShop, oidc: RunningOIDC) -> AsyncIterator[OpenClient]:
    async with AsyncExitStack() as stack:

        def open_client(user_id: str) -> httpx.AsyncClient:
            token = oidc.mint(sub=user_id, jti=uuid.uuid4().hex)
            client = httpx.AsyncClient(base_url=shop.desk.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
            stack.push_async_callback(client.aclose)
            return client

        yield open_client


@pytest.fixture
async def own(open_client: OpenClient, user_id: str) -> httpx.AsyncClient:
    """The client of a user with an account."""
    client = open_client(user_id)
    assert (await client.get("/v1/accounts/me")).status_code == 200
    return client


async def buy(client: httpx.AsyncClient, amount_usd: float = 25, **more: Any) -> dict[str, Any]:
    answer = await client.post(PURCHASE, json={"amount_usd": amount_usd, **more})
    assert answer.status_code == 200, answer.text
    return read(answer.json(), {"checkout_url": str, "session_id": str})


async def session(shop: MoneyShop, bought: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {shop.local.secret_key}"}) as sdk:
        found: dict[str, Any] = (await sdk.get(f"{shop.local.url}/v1/checkout/sessions/{bought['session_id']}")).json()
    return found


async def test_user_buys_money_on_the_page(own: httpx.AsyncClient, shop: MoneyShop, user_id: str) -> None:
    bought = await buy(own, 12.34)
    assert bought["checkout_url"] == f"{shop.local.url}/c/pay/{bought['session_id']}"
    made = await session(shop, bought)
    assert made["client_reference_id"] == made["metadata"]["user_id"] == user_id
    assert made["metadata"]["credits_amount"] == "1234"
    assert made["success_url"] == f"{FRONTEND}/billing/success?session_id={{CHECKOUT_SESSION_ID}}"
    assert made["cancel_url"] == f"{FRONTEND}/billing/cancel"
    assert (await own.get("/v1/credits/balance")).json()["balance_cents"] == 0
    await shop.pay(bought)
    assert (await own.get("/v1/credits/balance")).json()["balance_cents"] == 1234
    [transaction] = (await own.get("/v1/credits/transactions")).json()["transactions"]
    assert (transaction["transaction_type"], transaction["amount_cents"]) == ("purchase", 1234)
    assert transaction["description"] == "Purchase of 12.34 USD"
    account = (await own.get("/v1/accounts/me")).json()
    assert account["lifetime_purchased_cents"] == 1234


async def test_the_history_names_the_payment_and_its_refund(own: httpx.AsyncClient, shop: MoneyShop) -> None:
    payment_id = await shop.pay(await buy(own, 20))
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {shop.local.secret_key}"}) as sdk:
        refund = {"payment_intent": payment_id, "amount": 500}
        assert (await sdk.post(f"{shop.local.url}/v1/refunds", data=refund)).status_code == 200
    await shop.delivered()
    names = ("type", "amount_usd", "payment_provider", "payment_id")
    rows = (await own.get("/api/billing/history")).json()["transactions"]
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("refund", 5, "stripe", payment_id),
        ("topup", 20, "stripe", payment_id),
    ]


async def test_amount_minor_buys_as_well(own: httpx.AsyncClient, shop: MoneyShop, user_id: str) -> None:
    answer = await own.post(PURCHASE, json={"amount_minor": 100_000})
    await shop.pay(answer.json())
    assert await shop.desk.wallet(user_id) == (1000 * DOLLAR, 0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount_usd": None},
        {"amount_usd": 4.99},
        {"amount_usd": 1000.01},
        {"amount_usd": -25},
        {"amount_usd": 12.345},
        {"amount_usd": "25"},
        {"amount_usd": True},
        {"amount_usd": [25]},
        {"amount_minor": 499},
        {"amount_minor": 100_001},
        {"amount_minor": 10**30},
        {"amount_minor": 500.0},
        {"amount_minor": True},
        {"amount_usd": 25, "amount_minor": 2500},
    ],
    ids=str,
)
async def test_bad_amount_is_400(own: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await own.post(PURCHASE, json=body)
    assert z_error(answer)[:2] == (400, "bad_request")
    assert (answer.json()["code"], answer.json()["field"]) == ("invalid_amount", next(iter(body), "amount_usd"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1" * 4000, "5e-400"])
async def test_numbers_beyond_numbers_are_refused(own: httpx.AsyncClient, number: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await own.post(PURCHASE, content=f'{{"amount_usd": {number}}}', headers=headers)
    assert answer.status_code in (400, 422)
    assert z_error(answer)[1] == "bad_request"


@pytest.mark.parametrize("field", ["amount_usd", "amount_minor", "success_url", "cancel_url", "idempotency_key"])
async def test_hostile_values_never_fail_the_server(own: httpx.AsyncClient, field: str) -> None:
    for value in NASTY_VALUES:
        amount = "" if field.startswith("amount") else '"amount_minor": 500, '
        headers = {"Content-Type": "application/json"}
        answer = await own.post(PURCHASE, content=f'{{{amount}"{field}": {value}}}', headers=headers)
        assert answer.status_code < 500, (value[:40], answer.text)
        if answer.status_code >= 400:
            z_error(answer)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "http://app.example/",
        "https://app.example:8443/",
        "https://app.example.evil.example/",
        "https://app.example@evil.example/",
        "https://evil.example\\@app.example/",
        "https://app.example\\.evil.example/",
        "https://app.example:99999/",
        "https://[::1/",
        "javascript:alert(1)//app.example",
        "//app.example/",
        "/billing",
        "https://app.example/\n",
        "https://app.example/ü",
        " https://app.example/",
    ],
)
@pytest.mark.parametrize("field", ["success_url", "cancel_url"])
async def test_page_returns_to_allowed_web_apps_only(own: httpx.AsyncClient, field: str, url: str) -> None:
    answer = await own.post(PURCHASE, json={"amount_usd": 25, field: url})
    assert z_error(answer)[:2] == (400, "bad_request")
    assert (answer.json()["code"], answer.json()["field"]) == ("return_url_not_allowed", field)


@pytest.mark.parametrize("url", ["HTTPS://APP.example/done?x={CHECKOUT_SESSION_ID}", f"{OTHER_ORIGIN}:443/back"])
async def test_page_returns_where_the_request_says(own: httpx.AsyncClient, shop: MoneyShop, url: str) -> None:
    made = await session(shop, await buy(own, success_url=url, cancel_url=url))
    assert (made["success_url"], made["cancel_url"]) == (url, url)


async def test_missing_account_is_404_and_others_are_refused(
    shop: MoneyShop, open_client: OpenClient, own: httpx.AsyncClient
) -> None:
    stranger = open_client(str(uuid.uuid4()))
    for call in (stranger.post(PURCHASE, json={"amount_usd": 25}), stranger.get(PAYMENTS)):
        assert z_error(await call) == (404, "not_found", "Account not found")
    for answer in (
        await shop.desk.router.post(PURCHASE, json={"amount_usd": 25}),  # an API key is no user
        await shop.desk.nobody.post(PURCHASE, json={"amount_usd": 25}),
        await shop.desk.nobody.get(PAYMENTS),
    ):
        assert z_error(answer)[0] in (401, 403)


async def test_double_clicks_get_one_page(own: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(own.post(PURCHASE, json={"amount_usd": 25}) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["session_id"] for answer in answers}) == 1


async def test_idempotency_key_of_the_header_or_the_body(own: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "click"}
    first = await own.post(PURCHASE, json={"amount_usd": 25}, headers=headers)
    assert (await own.post(PURCHASE, json={"amount_usd": 25}, headers=headers)).json() == first.json()
    assert await buy(own, idempotency_key="click") == first.json()
    other = await own.post(PURCHASE, json={"amount_usd": 26}, headers=headers)
    assert (z_error(other)[:2], other.json()["code"]) == ((422, "bad_request"), "idempotency_key_reused")
    assert (await buy(own))["session_id"] != first.json()["session_id"]


async def test_stripe_that_fails_is_503_with_a_time_to_retry(own: httpx.AsyncClient, shop: MoneyShop) -> None:
    await shop.control("failures", path="/v1/checkout/sessions", status=500, times=3)
    failed = await own.post(PURCHASE, json={"amount_usd": 25})
    assert z_error(failed)[:2] == (503, "unavailable")
    assert int(failed.headers["Retry-After"]) >= 1
    await buy(own)


# --- payments ---


async def test_payments_are_listed_as_stripe_names_them(own: httpx.AsyncClient, shop: MoneyShop) -> None:
    assert (await own.get(PAYMENTS)).json() == {"payments": [], "has_more": False, "next_cursor": None}
    paid, declined, processing = [await buy(own, amount) for amount in (25, 30, 35)]
    await shop.pay(processing, "pm_card_processing")
    await shop.control(f"checkout_sessions/{declined['session_id']}/pay", method="pm_card_chargeDeclined")
    payment_id = await shop.pay(paid)
    async with httpx.AsyncClient(trust_env=False) as stripe:
        headers = {"Authorization": f"Bearer {shop.local.secret_key}"}
        form = {"payment_intent": payment_id, "amount": "500"}
        assert (await stripe.post(f"{shop.local.url}/v1/refunds", data=form, headers=headers)).status_code == 200
    await shop.delivered()
    answer = (await own.get(PAYMENTS)).json()
    payments = [read(payment, PAYMENT) for payment in answer["payments"]]
    assert [(p["amount_cents"], p["status"], p["refunded_cents"]) for p in payments] == [
        (3500, "processing", 0),
        (3000, "requires_payment_method", 0),
        (2500, "succeeded", 500),
    ]
    last = answer["payments"][-1]
    assert (last["amount_formatted"], last["refunded_formatted"], last["currency"]) == ("$25.00", "$5.00", "usd")
    assert (last["description"], last["bought"], last["credits"]) == ("25.00 USD of credits", "25.000000", None)
    assert last["payment_id"] == payment_id
    assert last["receipt_url"].startswith(shop.local.url)
    assert answer["has_more"] is False
    assert (await own.get("/v1/credits/balance")).json()["balance_cents"] == 2000


async def test_payments_page_without_a_seam(own: httpx.AsyncClient) -> None:
    sessions = [await buy(own, idempotency_key=f"k{i}") for i in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = (await own.get(PAYMENTS, params=query)).json()
        seen += [payment["id"] for payment in page["payments"]]
        query["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) == len(sessions)
    assert (page["has_more"], page["next_cursor"]) == (False, None)
    everything = (await own.get(PAYMENTS, params={"limit": 10_000})).json()["payments"]
    assert [payment["id"] for payment in everything] == seen


@pytest.mark.parametrize(
    ("query", "status"),
    [({"limit": "x"}, 400), ({"limit": "-1"}, 400), ({"limit": ""}, 400), ({"cursor": "x"}, 422)],
)
async def test_bad_pages_are_refused(own: httpx.AsyncClient, query: dict[str, str], status: int) -> None:
    assert z_error(await own.get(PAYMENTS, params=query))[:2] == (status, "bad_request")


async def test_payments_are_the_users_own(own: httpx.AsyncClient, open_client: OpenClient) -> None:
    await buy(own)
    other = open_client(str(uuid.uuid4()))
    await other.get("/v1/accounts/me")
    assert (await other.get(PAYMENTS)).json()["payments"] == []
    theirs = (await own.get(PAYMENTS)).json()["payments"][0]["id"]
    assert (await other.get(PAYMENTS, params={"cursor": theirs})).json()["payments"] == []


async def test_page_that_the_user_pays_returns_to_the_web_app(own: httpx.AsyncClient, shop: MoneyShop) -> None:
    bought = await buy(own)
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = (await browser.get(bought["checkout_url"])).text
    assert f"{FRONTEND}/billing/success?session_id={bought['session_id']}" in page
    assert urlsplit(bought["checkout_url"]).netloc in shop.local.url
    assert "25.00 USD" in page
