"""Callers with good credentials who want what is not theirs: other accounts, the other environment, other columns."""

import asyncio
import contextlib
import json
import socket
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from app.accounts.directory import Identity
from app.billing.service import BillingService
from app.issuers import Issuer
from tests.conftest import ClientFor, Keys, running_app, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.servers import LocalStripe, running_stripe

Body = dict[str, Any]
ALICE, BOB = "alice-of-the-hostile-tests", "bob-of-the-hostile-tests"
PROVIDER = "oauth:local"


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as provider:
        yield provider


@pytest.fixture(scope="module")
def stripe() -> Iterator[LocalStripe]:
    with running_stripe() as stripe:
        yield stripe


@pytest.fixture(scope="module")
async def http(database: Urls, oidc: RunningOIDC, stripe: LocalStripe) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that users may call and that can sell in the live environment."""
    issuer = Issuer(issuer=oidc.issuer, jwks_url=oidc.jwks_url, audiences=[WEB.client_id], provider=PROVIDER)
    keys = stripe.keys
    settings = settings_for(database, issuers=[issuer], stripe_live=keys, stripe_api_base=stripe.url)
    async with (
        running_app(settings) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing") as client,
    ):
        yield client


@pytest.fixture
def bob(oidc: RunningOIDC) -> dict[str, str]:
    return {"Authorization": f"Bearer {oidc.mint(sub=BOB, jti=uuid.uuid4().hex)}"}


def live(keys: Keys) -> dict[str, str]:
    return {"X-API-Key": keys.credit}


async def opened(http: httpx.AsyncClient, keys: Keys, external_id: str, credits: int = 50) -> Body:
    """A live account with paid credits: its reply."""
    user = {"oauth_provider": PROVIDER, "external_id": external_id}
    await http.post("/v1/billing/accounts", json=user, headers=live(keys))
    grant = {**user, "amount_minor": credits * 100, "transaction_type": "grant"}
    assert (await http.post("/v1/billing/credits", json=grant, headers=live(keys))).status_code == 201
    account: Body = (await http.get(f"/v1/billing/accounts/{PROVIDER}/{external_id}", headers=live(keys))).json()
    return account


async def test_a_users_token_reaches_no_other_account(http: httpx.AsyncClient, keys: Keys, bob: dict[str, str]) -> None:
    """The token's own identity counts, not the identity that the request names in its body or its query."""
    before = await opened(http, keys, ALICE)
    alice = {"oauth_provider": PROVIDER, "external_id": ALICE}
    bought = await http.post("/v1/billing/purchases", json=alice, headers=live(keys))
    payment_id = bought.json()["payment_id"]
    charge = {**alice, "amount_minor": 100, "idempotency_key": "hostile"}
    charged = await http.post("/v1/billing/charges", json=charge, headers=bob)
    assert charged.status_code == 201
    assert charged.json()["account_id"] != before["account_id"]
    checked = await http.post("/v1/billing/credits/check", json=alice, headers=bob)
    assert checked.json()["credits_remaining"] == 0
    listed = await http.get("/v1/billing/transactions", params=alice, headers=bob)
    assert [row["transaction_id"] for row in listed.json()["transactions"]] == [charged.json()["charge_id"]]
    tools = await http.get("/v1/tools/balance/web_search", params=alice, headers=bob)
    assert tools.json()["main_pool_credits"] == 0
    own = await http.post("/v1/billing/purchases", json=alice, headers=bob)
    assert own.json()["payment_id"] != payment_id
    for path in (payment_id, f"{payment_id}/status"):
        assert (await http.get(f"/v1/billing/purchases/{path}", params=alice, headers=bob)).status_code == 404
    for path in (before["account_id"], f"{PROVIDER}/{ALICE}"):
        assert (await http.get(f"/v1/billing/accounts/{path}", headers=bob)).status_code == 401
    after = (await http.get(f"/v1/billing/accounts/{before['account_id']}", headers=live(keys))).json()
    assert after == before


async def test_a_test_key_reaches_nothing_of_the_live_environment(http: httpx.AsyncClient, keys: Keys) -> None:
    name = f"{uuid.uuid4()}@example.com"
    before = await opened(http, keys, name)
    user = {"oauth_provider": PROVIDER, "external_id": name}
    charged = await http.post("/v1/billing/charges", json={**user, "amount_minor": 100}, headers=live(keys))
    bought = await http.post("/v1/billing/purchases", json=user, headers=live(keys))
    test = {"X-API-Key": keys.test}
    for path in (
        f"accounts/{before['account_id']}",
        f"accounts/{PROVIDER}/{name}",
        f"charges/{charged.json()['charge_id']}",
        f"purchases/{bought.json()['payment_id']}",
        f"purchases/{bought.json()['payment_id']}/status",
    ):
        assert (await http.get(f"/v1/billing/{path}", headers=test)).status_code == 404, path
    assert (await http.get("/v1/billing/transactions", params=user, headers=test)).json()["total_count"] == 0
    grant = {**user, "amount_minor": 100, "transaction_type": "grant"}
    assert (await http.post("/v1/billing/credits", json=grant, headers=test)).status_code == 404
    other = await http.post("/v1/billing/charges", json={**user, "amount_minor": 100}, headers=test)
    assert other.json()["account_id"] != before["account_id"]


async def test_a_request_sets_no_column_that_it_was_not_asked_for(
    http: httpx.AsyncClient, keys: Keys, client_for: ClientFor
) -> None:
    """Unknown fields are ignored, those of tables included; minting needs the permission to mint."""
    name = f"{uuid.uuid4()}@example.com"
    user = {"oauth_provider": PROVIDER, "external_id": name}
    wishes = {
        **dict.fromkeys(("paid", "free", "balance_minor", "paid_credits", "credits", "cost"), 1000000),
        "account_id": str(uuid.uuid4()),
        "environment": "test",
        "status": "closed",
        "debt": -5,
        "total_uses": -1,
        "price_minor": 0,
        "price_credits": 0,
        "balance_after": 1,
        "created_at": "1970-01-01T00:00:00Z",
        "permissions": ["billing:credit"],
        "actor": {"type": "admin", "id": "me"},
        "role": "admin",
    }
    agent = {"X-API-Key": keys.agent}
    minting = await http.post(
        "/v1/billing/accounts", json={**user, **wishes, "initial_balance_minor": 100}, headers=agent
    )
    assert (minting.status_code, minting.json()["code"]) == (403, "missing_permission")
    made = await http.post("/v1/billing/accounts", json={**user, **wishes}, headers=agent)
    account = made.json()
    assert made.status_code == 201
    assert (account["paid_credits"], account["free_uses_remaining"], account["total_uses"]) == (0, 3, 0)
    assert (account["status"], account["account_id"] != wishes["account_id"]) == ("active", True)
    assert not account["created_at"].startswith("1970")
    charged = await http.post("/v1/billing/charges", json={**user, **wishes, "amount_minor": 200}, headers=agent)
    assert (charged.status_code, charged.json()["balance_after"]) == (201, 0)
    tool = {**user, **wishes, "product_type": "image_gen"}
    used = [(await http.post("/v1/tools/charge", json=tool, headers=agent)).status_code for _ in range(6)]
    assert used == [200] * 5 + [402]  # five are free, and the price is the catalogue's
    purchase = await http.post("/v1/billing/purchases", json={**user, **wishes, "amount_minor": 1}, headers=agent)
    assert (purchase.json()["amount_minor"], purchase.json()["uses_purchased"]) == (500, 20)
    after = (await http.get(f"/v1/billing/accounts/{account['account_id']}", headers=agent)).json()
    assert (after["paid_credits"], after["free_uses_remaining"], after["total_uses"]) == (0, 1, 2)


async def test_no_address_that_a_caller_names_is_ever_called(http: httpx.AsyncClient, keys: Keys) -> None:
    """Return addresses are passed on and not fetched, nor is anything else that looks like an address."""
    called: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/latest/meta-data"
        user = {"oauth_provider": PROVIDER, "external_id": url, "customer_email": url, "display_name": url}
        for path, more in (
            ("purchases", {"return_url": url}),
            ("credits/check", {"context": {"agent_id": url}}),
            ("charges", {"amount_minor": 100, "description": url}),
        ):
            answer = await http.post(f"/v1/billing/{path}", json={**user, **more}, headers=live(keys))
            assert answer.status_code in (200, 201)
        header = {"alg": "RS256", "kid": url, "jku": url, "x5u": url}
        claims = {"iss": url, "aud": WEB.client_id, "sub": "x", "exp": 4_000_000_000}
        token = ".".join([*(_base64url(json.dumps(part).encode()) for part in (header, claims)), "AAAA"])
        refused = await http.post("/v1/billing/credits/check", json={}, headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 401
        with contextlib.suppress(TimeoutError):
            called.append(await asyncio.to_thread(listener.accept))
    assert not called


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "//evil.example",
        "https://",
        "ftp://a/",
        "gopher://a",
    ],
)
async def test_a_return_address_is_a_web_address(http: httpx.AsyncClient, keys: Keys, url: str) -> None:
    user = {"oauth_provider": PROVIDER, "external_id": "return@example.com", "return_url": url}
    answer = await http.post("/v1/billing/purchases", json=user, headers=live(keys))
    assert answer.status_code == 422


async def test_text_that_looks_like_sql_is_text(http: httpx.AsyncClient, keys: Keys, billing: BillingService) -> None:
    for text in ("'; DROP TABLE accounts; --", "x' OR '1'='1", "\\'; SELECT pg_sleep(5); --", "%", "$1", "a\u0027--"):
        name = f"{text}{uuid.uuid4()}"
        user = {"oauth_provider": f"oauth:{text}", "external_id": name}
        charge = {**user, "amount_minor": 100, "description": text, "idempotency_key": text}
        first = await http.post("/v1/billing/charges", json=charge, headers=live(keys))
        again = await http.post("/v1/billing/charges", json=charge, headers=live(keys))
        assert (first.status_code, again.status_code, first.json()["description"]) == (201, 409, text)
        found = await billing.accounts.find_account_id(Identity("live", f"oauth:{text}", name))
        assert str(found) == first.json()["account_id"]
        rows = (await http.get("/v1/billing/transactions", params=user, headers=live(keys))).json()
        assert [row["description"] for row in rows["transactions"]] == [text]
