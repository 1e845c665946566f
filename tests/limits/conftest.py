"""A server in the time zone of Kyiv, with an issuer, and users who can pay for anything."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms, parse_key
from app.auth.caller import Permission
from app.clock import request_time
from app.issuers import Issuer
from tests.conftest import make_usage_key
from tests.databases import create_database, drop_database
from tests.demo.oidc_server import SPA, WEB, RunningOIDC, running_oidc
from tests.metering.conftest import PROVIDER, Desk, client, running_desk
from tests.support.wallets import DOLLAR

LIMITS = "/v1/billing/limits"
OWN = "/v1/accounts/me/limits"
NANO = "0.000000003"
PRODUCTS = {"painter": {"price_credits": 3, "initial_free": 0, "daily_free": 0}}
MODEL = "claude-3-5-sonnet"
METRIC = {"type": "llm_tokens", "provider": "anthropic", "input_tokens": 1, "output_tokens": 1}
ClientOf = Callable[..., httpx.AsyncClient]
Names = dict[str, str]


@dataclass
class Teller:
    """A server, the clients of two API keys that may do everything, and the ways to spend three units."""

    desk: Desk
    boss: httpx.AsyncClient
    key_id: str
    other: httpx.AsyncClient
    debtor: httpx.AsyncClient
    names: Names = field(default_factory=lambda: {"agent": "scout", "tool": "painter", "model": MODEL})

    async def user(self) -> str:
        """A new user with 1,000 credits and 1,000 dollars."""
        user_id = await self.desk.user(100_000)
        body = {"user_id": user_id, "amount_minor": 100_000, "transaction_type": "grant"}
        assert (await self.boss.post("/v1/billing/credits", json=body)).status_code == 201
        return user_id

    async def put(self, user_id: str, **fields: Any) -> httpx.Response:
        body = {"user_id": user_id, "window": "day", "unit": "credits", "amount": "3", **fields}
        return await self.boss.put(LIMITS, json=body)

    async def limit(self, user_id: str, **fields: Any) -> dict[str, Any]:
        answer = await self.put(user_id, **fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def limits(self, user_id: str) -> list[dict[str, Any]]:
        answer = await self.boss.get(LIMITS, params={"user_id": user_id})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["limits"])

    async def spent(self, user_id: str) -> list[str]:
        return [limit["spent"] for limit in await self.limits(user_id)]

    async def spend(
        self, route: str, user_id: str, by: httpx.AsyncClient | None = None, **names: str
    ) -> httpx.Response:
        """Spend three credits or nanos by a route. `names`: of the agent, tool and model."""
        path, body = REQUESTS[route](uuid.uuid4().hex, {**self.names, **names})
        return await (by or self.boss).post(path, json={"user_id": user_id, **body})

    async def balance(self, user_id: str) -> tuple[int, int]:
        """The rest: credits with those on hold, and nanos with those on hold."""
        [row] = await self.desk.rows(
            "SELECT paid + free AS credits, money_nanos FROM accounts WHERE account_id = $1",
            await self.desk.account_id(user_id),
        )
        return row["credits"], row["money_nanos"]


def _charge(key: str, names: Names) -> tuple[str, dict[str, Any]]:
    body = {"amount_minor": 300, "idempotency_key": key, "metadata": {"agent_id": names["agent"]}}
    return "/v1/billing/charges", body


def _tool(key: str, names: Names) -> tuple[str, dict[str, Any]]:
    return "/v1/tools/charge", {"product_type": names["tool"], "idempotency_key": key}


def _hold(amount: dict[str, Any]) -> Callable[[str, Names], tuple[str, dict[str, Any]]]:
    def request(key: str, names: Names) -> tuple[str, dict[str, Any]]:
        more = {"product_type": names["tool"], "metadata": {"agent_id": names["agent"]}, "idempotency_key": key}
        return "/v1/billing/holds", {**amount, **more}

    return request


def _event(key: str, names: Names) -> dict[str, Any]:
    metric = {**METRIC, "model": names["model"]}
    return {"event_id": key, "metric": metric, "cost": NANO, "agent_id": names["agent"], "tool": names["tool"]}


def _usage(key: str, names: Names) -> tuple[str, dict[str, Any]]:
    return "/v1/usage", _event(key, names)


def _record(key: str, names: Names) -> tuple[str, dict[str, Any]]:
    body = {"request_id": key, "tool": names["tool"], "agent_id": names["agent"], "estimate": NANO}
    return "/v1/cost-records", body


REQUESTS: dict[str, Callable[[str, Names], tuple[str, dict[str, Any]]]] = {
    "charge": _charge,
    "tool": _tool,
    "hold of credits": _hold({"amount_minor": 300}),
    "hold of money": _hold({"amount": NANO}),
    "usage": _usage,
    "record": _record,
}
"""Each spends three units. The first three are credits, the others nanos."""
CREDIT_ROUTES = ("charge", "tool", "hold of credits")
SCOPES = {
    "charge": ("account", "key", "agent"),
    "tool": ("account", "key", "tool"),
    "hold of credits": ("account", "key", "agent", "tool"),
    "hold of money": ("account", "key", "agent", "tool"),
    "usage": ("account", "key", "agent", "model", "tool"),
    "record": ("account", "key", "agent", "tool"),
}
"""The names in each route's requests."""


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
async def teller(oidc: RunningOIDC) -> AsyncIterator[Teller]:
    audiences = [WEB.client_id, SPA.client_id]
    issuer = Issuer(
        issuer=oidc.issuer,
        jwks_url=oidc.jwks_url,
        audiences=audiences,
        interactive_audiences=[SPA.client_id],
        provider=PROVIDER,
    )
    name = f"limits_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls, issuers=[issuer], products=PRODUCTS, time_zone="Europe/Kyiv", free_uses=0) as desk:
        terms = UsageTerms(PROVIDER, "limits", max_cost_nanos=100 * DOLLAR)
        debt = UsageTerms(PROVIDER, "debt", "debt", debt_limit_nanos=5 * DOLLAR, max_cost_nanos=100 * DOLLAR)
        texts = [await make_usage_key(desk.db, of, "live", *Permission) for of in (terms, terms, debt)]
        parsed = parse_key(texts[0])
        assert parsed is not None
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client(desk.url, text)) for text in texts]
            yield Teller(desk, clients[0], parsed[1], clients[1], clients[2])
    await drop_database(name)


@pytest.fixture
async def user(teller: Teller) -> str:
    return await teller.user()


@pytest.fixture
async def client_of(teller: Teller, oidc: RunningOIDC) -> AsyncIterator[ClientOf]:
    """Clients of users, by the id in their token."""
    async with AsyncExitStack() as stack:

        def open_client(user_id: str, **claims: Any) -> httpx.AsyncClient:
            token = oidc.mint(sub=user_id, jti=uuid.uuid4().hex, **claims)
            headers = {"Authorization": f"Bearer {token}"}
            opened = httpx.AsyncClient(base_url=teller.desk.url, headers=headers, timeout=30)
            stack.push_async_callback(opened.aclose)
            return opened

        yield open_client


@pytest.fixture
def person(client_of: ClientOf, user: str) -> httpx.AsyncClient:
    """The user, with a token that agents do not have."""
    return client_of(user, aud=SPA.client_id)


@pytest.fixture
def set_time(teller: Teller) -> Iterator[Callable[[datetime], None]]:
    """Set the server's clock until the test ends."""

    def move(to: datetime) -> None:
        teller.desk.app.dependency_overrides[request_time] = lambda: to

    yield move
    teller.desk.app.dependency_overrides.pop(request_time, None)
