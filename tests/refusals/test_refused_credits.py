"""402 answers of credits over HTTP: an agent that reads nothing else goes on by what they contain."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.clock import request_time
from app.db import Database
from app.ledger.locked_account import Cause, Kind
from tests.books import connected
from tests.conftest import ACTOR, make_key, running_app, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.servers import Server, running_server, running_stripe
from tests.support.wallets import locked
from tests.tools.test_tool_charges import tool

CHARGES, HOLDS, CREDITS = (f"/v1/billing/{name}" for name in ("charges", "holds", "credits"))
TOOLS = "/v1/tools/charge"
PURCHASE = {
    "type": "purchase",
    "pack": "standard",
    "count": 1,
    "credits": 20,
    "price_minor": 500,
    "currency": "USD",
    "currency_digits": 2,
    "method": "POST",
    "path": "/v1/billing/purchases",
}
User = dict[str, str]


@pytest.fixture(scope="module")
async def books(worker_id: str) -> AsyncIterator[Urls]:
    name = f"billing_refusals_{worker_id}"
    yield await create_database(name)
    await drop_database(name)


@pytest.fixture(scope="module")
async def key(books: Urls) -> str:
    db = Database(SecretStr(books.service))
    key = await make_key(db, "live", Permission.READ, Permission.WRITE, Permission.CREDIT)
    await db.close()
    return key


@pytest.fixture(scope="module")
def server(books: Urls) -> Iterator[Server]:
    more = {"DAILY_FREE_USES": "2"}
    with running_stripe() as stripe, running_server(books, env={**stripe.environment, **more}) as server:
        yield server


@pytest.fixture
async def client(server: Server, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=30) as client:
        yield client


def charge(user: User, credits: int, key: str = "k") -> dict[str, Any]:
    return {**user, "amount_minor": credits * 100, "idempotency_key": key}


def smaller(credits: int) -> dict[str, Any]:
    return {"type": "smaller_amount", "amount_minor": credits * 100, "amount": None, "currency": None}


def tomorrow() -> str:
    return f"{datetime.now(UTC).date() + timedelta(days=1)}T00:00:00.000Z"


async def refused(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The remedies of a refusal, whose other members are right. A wait until midnight is named `tomorrow`."""
    before = tomorrow()
    answer = await client.post(path, json=body)
    content = answer.json()
    assert (answer.status_code, content["code"]) == (402, "insufficient_credits"), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert content["retryable"] is False
    assert content["shortfall_minor"] == content["required_minor"] - content["balance_minor"] > 0
    for remedy in content["remedies"]:
        if remedy["type"] == "wait":
            assert before <= remedy.pop("until") <= tomorrow()
    remedies: list[dict[str, Any]] = content["remedies"]
    return remedies


WAIT = {"type": "wait", "reason": "daily_free_uses"}


@pytest.mark.parametrize("path", [CHARGES, HOLDS])
async def test_remedies_of_an_amount(path: str, client: httpx.AsyncClient, user: User) -> None:
    """A new user has three free uses and two of each day."""
    assert await refused(client, path, charge(user, 6)) == [smaller(5), PURCHASE]
    assert (await client.post(path, json=charge(user, 5))).status_code == 201
    assert await refused(client, path, charge(user, 2, "k2")) == [WAIT, PURCHASE]
    assert await refused(client, path, charge(user, 3, "k2")) == [PURCHASE]
    assert await refused(client, path, charge(user, 100, "k2")) == [{**PURCHASE, "count": 5}]
    assert await refused(client, path, {**charge(user, 1, "k2"), "amount_minor": 2**63 - 1}) == []


async def test_an_agent_that_reads_only_refusals_shrinks_and_buys(client: httpx.AsyncClient, user: User) -> None:
    [shrink, buy] = await refused(client, CHARGES, charge(user, 8))
    smaller_charge = {**charge(user, 8), "amount_minor": shrink["amount_minor"]}
    assert (await client.post(CHARGES, json=smaller_charge)).status_code == 201  # under the refused one's key
    bought = await client.request(buy["method"], buy["path"], json={**user, "pack": buy["pack"]})
    assert (bought.status_code, bought.json()["amount_minor"]) == (201, buy["price_minor"])
    paid = {**user, "amount_minor": buy["credits"] * 100, "transaction_type": "purchase"}
    assert (await client.post(CREDITS, json=paid)).status_code == 201  # as the payment books it
    assert (await client.post(CHARGES, json=charge(user, 8, "again"))).status_code == 201


@pytest.mark.parametrize(
    ("product", "price", "expected"), [("web_search", 1, [WAIT, PURCHASE]), ("image_gen", 10, [PURCHASE])]
)
async def test_remedies_of_a_use_with_one_price(
    product: str, price: int, expected: list[dict[str, Any]], client: httpx.AsyncClient, user: User
) -> None:
    """Free uses of a search renew each day, those of an image do not. Free credits do not pay for tools."""
    used = 0
    while (await client.post(TOOLS, json=tool(user, f"k{used}", product))).status_code == 200:
        used += 1
    assert used > 0
    assert await refused(client, TOOLS, tool(user, "refused", product)) == expected
    few = {**user, "amount_minor": (price - 1) * 100, "transaction_type": "grant"}
    if price > 1:
        assert (await client.post(CREDITS, json=few)).status_code == 201
        assert await refused(client, TOOLS, tool(user, "refused", product)) == expected


async def test_a_purchase_covers_the_debt_too(client: httpx.AsyncClient, user: User, books: Urls) -> None:
    [*_, before] = await refused(client, CHARGES, charge(user, 25))
    assert before["count"] == 1  # twenty are missing
    await _owe(books, user, 1)
    [*_, after] = await refused(client, CHARGES, charge(user, 25))
    assert after["count"] == 2


async def _owe(urls: Urls, user: User, credits: int) -> None:
    async with connected(urls) as connection:
        account_id = await connection.fetchval(
            "SELECT account_id FROM account_identities WHERE external_id = $1", user["external_id"]
        )
    db, now = Database(SecretStr(urls.service)), datetime.now(UTC)
    async with locked(db, account_id, now) as account:
        account.take_back_paid(credits, Kind.REFUND, Cause("account", account_id), ACTOR, now)
    await db.close()


async def test_after_the_wait_the_same_request_is_paid(own_database: Urls, user: User) -> None:
    """The clock of the application is moved to `until`, and one millisecond before it."""
    async with running_app(settings_for(own_database, daily_free_uses=2, free_uses=0)) as app:
        key = await make_key(app.state.db, "live", Permission.WRITE)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://billing") as client:
            client.headers["X-API-Key"] = key
            assert (await client.post(CHARGES, json=charge(user, 1, "first"))).status_code == 201
            answer = await client.post(CHARGES, json=charge(user, 2))
            [less, wait] = answer.json()["remedies"]  # without a payment provider nothing is for sale
            assert (less["amount_minor"], wait["type"]) == (100, "wait")
            until = datetime.fromisoformat(wait["until"])
            for moment, status in ((until - timedelta(milliseconds=1), 402), (until, 201), (until, 409)):
                app.dependency_overrides[request_time] = lambda moment=moment: moment
                assert (await client.post(CHARGES, json=charge(user, 2))).status_code == status
