"""A running server, and a caller that does every kind of work in runs."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from tests.conftest import make_usage_key
from tests.databases import create_database, drop_database
from tests.metering.conftest import PROVIDER, Desk, client, running_desk
from tests.support.wallets import DOLLAR

RUNS, CHARGES, HOLDS, TOOLS = "/v1/billing/runs", "/v1/billing/charges", "/v1/billing/holds", "/v1/tools/charge"
USAGE, RECORDS = "/v1/usage", "/v1/cost-records"
PRODUCTS = {"search": {"price_credits": 2, "initial_free": 0, "daily_free": 0}}


@dataclass
class Agent:
    """A user with 1,000 credits and 100 dollars, and an API key that acts for them."""

    desk: Desk
    http: httpx.AsyncClient
    user_id: str

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(path, json={"user_id": self.user_id, **body})

    async def register(self, run_id: str, **body: Any) -> dict[str, Any]:
        """Register a run that is new. `credits` and `money` are its budget."""
        answer = await self.post(RUNS, run_id=run_id, **with_budget(body))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def change(self, run_id: str, **body: Any) -> httpx.Response:
        return await self.http.patch(f"{RUNS}/{run_id}", json={"user_id": self.user_id, **with_budget(body)})

    async def get(self, run_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"{RUNS}/{run_id}", params={"user_id": self.user_id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def spent(self, run_id: str) -> tuple[int, str, int]:
        """(credits, money, uses) of a run."""
        run = await self.get(run_id)
        return run["spent"]["amount_minor"] // 100, run["spent"]["amount"], run["uses"]

    async def charge(self, credits: int, run_id: str | None, **body: Any) -> httpx.Response:
        return await self.post(CHARGES, amount_minor=credits * 100, run_id=run_id, **body)

    async def use(self, cents: int, run_id: str | None, **body: Any) -> httpx.Response:
        """Report usage at a stated cost."""
        metric = {"type": "api_calls", "endpoint": "/", "count": 1}
        event = {"event_id": uuid.uuid4().hex, "metric": metric, "cost_cents": cents, "run_id": run_id}
        return await self.post(USAGE, **{**event, **body})

    async def hold(self, credits: int, run_id: str | None, **body: Any) -> httpx.Response:
        return await self.post(HOLDS, amount_minor=credits * 100, run_id=run_id, **body)

    async def settle(self, hold: httpx.Response, how: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"{HOLDS}/{hold.json()['hold_id']}/{how}", json=body)


def with_budget(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with `credits` or `money` as its budget."""
    body = dict(body)
    if "credits" in body:
        body["budget"] = {"amount_minor": body.pop("credits") * 100}
    if "money" in body:
        body["budget"] = {"amount": body.pop("money")}
    return body


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """(status, code, the run that refuses) of an answer."""
    body = answer.json()
    if answer.status_code == 402:
        assert (answer.headers["Cache-Control"], body["retryable"]) == ("no-store", False)
    return answer.status_code, body["code"], body["run"]["run_id"]


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


@pytest.fixture(scope="package")
async def desk() -> AsyncIterator[Desk]:
    """One server for all tests of runs, with its own database."""
    name = f"runs_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls, products=PRODUCTS) as desk:
        yield desk
    await drop_database(name)


@pytest.fixture(scope="package")
async def http(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    terms = UsageTerms(PROVIDER, max_cost_nanos=1000 * DOLLAR)
    key = await make_usage_key(desk.db, terms, "live", *Permission)
    async with client(desk.url, key) as http:
        yield http


@pytest.fixture
async def agent(desk: Desk, http: httpx.AsyncClient) -> Agent:
    user_id = await desk.user(100_00)
    agent = Agent(desk, http, user_id)
    given = await agent.post("/v1/billing/credits", amount_minor=100_000, transaction_type="grant")
    assert given.status_code == 201, given.text
    return agent
