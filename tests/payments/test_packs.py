"""`GET /v1/billing/packs`: the packs that a user can buy, without creating the user."""

import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI

from app.issuers import Issuer
from app.packs import Pack
from app.settings import Settings
from tests.books import connected
from tests.conftest import Keys, running_app
from tests.databases import Urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc

PACKS = {
    "standard": Pack(price_minor=500, currency="USD", credits=20),
    "standard_jpy": Pack(price_minor=700, currency="JPY", credits=20),
    "large": Pack(price_minor=2000, currency="USD", credits=100),
}
USD = [("standard", 20, 500, "USD", 2), ("large", 100, 2000, "USD", 2)]
JPY = [("standard_jpy", 20, 700, "JPY", 0)]


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="module")
async def site(settings: Settings, oidc: RunningOIDC) -> AsyncIterator[FastAPI]:
    issuer = Issuer.model_validate(
        {
            "issuer": oidc.issuer,
            "jwks_url": oidc.jwks_url,
            "audiences": [WEB.client_id],
            "provider": "oauth:google",
            "subject_claim": "email",
        }
    )
    async with running_app(settings.model_copy(update={"packs": PACKS, "issuers": [issuer]})) as app:
        yield app


@pytest.fixture
async def http(site: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://billing") as client:
        yield client


def offered(answer: httpx.Response) -> list[tuple[object, ...]]:
    assert answer.status_code == 200, answer.text
    names = ("pack", "credits", "price_minor", "currency", "currency_digits")
    return [tuple(pack[name] for name in names) for pack in answer.json()["packs"]]


async def packs(http: httpx.AsyncClient, headers: dict[str, str], **query: str) -> list[tuple[object, ...]]:
    return offered(await http.get("/v1/billing/packs", headers=headers, params=query))


async def test_packs_are_those_of_the_accounts_currency(
    http: httpx.AsyncClient, keys: Keys, user: dict[str, str], database: Urls
) -> None:
    reader = {"X-API-Key": keys.reader}
    assert await packs(http, reader) == [USD[0], *JPY, USD[1]]
    assert await packs(http, reader, **user) == USD
    japanese = {**user, "external_id": f"{uuid.uuid4()}@example.jp"}
    made = await http.post(
        "/v1/billing/accounts", headers={"X-API-Key": keys.agent}, json={**japanese, "currency": "JPY"}
    )
    assert made.status_code == 201
    assert await packs(http, reader, **japanese) == JPY
    async with connected(database) as connection:
        found = await connection.fetchval(
            "SELECT count(*) FROM account_identities WHERE external_id = $1", user["external_id"]
        )
    assert found == 0  # to look at prices creates no account


async def test_a_user_sees_the_packs_of_their_own_account(
    http: httpx.AsyncClient, keys: Keys, oidc: RunningOIDC, user: dict[str, str]
) -> None:
    email = user["external_id"]
    made = await http.post("/v1/billing/accounts", headers={"X-API-Key": keys.agent}, json={**user, "currency": "JPY"})
    assert made.status_code == 201
    token = oidc.mint(sub=email, email=email, email_verified=True)
    mine = {"Authorization": f"Bearer {token}"}
    assert await packs(http, mine) == JPY
    assert await packs(http, mine, oauth_provider="oauth:google", external_id="another@example.com") == JPY


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, {}, 401),
        ({"X-API-Key": "reader"}, {"oauth_provider": "oauth:google"}, 422),
        ({"X-API-Key": "reader"}, {"external_id": "ada@example.com"}, 422),
        ({"X-API-Key": "reader"}, {"oauth_provider": "google", "external_id": "a"}, 422),
    ],
)
async def test_packs_are_refused_to_whom_the_request_does_not_name(
    http: httpx.AsyncClient, keys: Keys, headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    given = {name: keys.reader if value == "reader" else value for name, value in headers.items()}
    assert (await http.get("/v1/billing/packs", headers=given, params=query)).status_code == status
