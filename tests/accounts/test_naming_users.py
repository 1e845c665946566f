"""Every route that names a user takes `user_id` as well, and means the same user; older clients notice nothing."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.db import Database
from app.main import create_app
from app.settings import Settings
from tests.conftest import BOUNDED, make_usage_key
from tests.databases import Urls
from tests.metering.conftest import llm, put_in_force
from tests.servers import running_server, running_stripe

PROVIDER = "oauth:zero"
CHARGE, CREDIT = {"amount_minor": 100}, {"amount_minor": 100, "transaction_type": "grant"}
LLM = {
    "interaction_id": "i",
    "call_id": "c",
    "total_llm_calls": 1,
    "total_prompt_tokens": 1,
    "total_completion_tokens": 1,
    "models_used": [],
    "actual_cost_cents": 1,
    "duration_ms": 1,
}
FREE_USE = {"cost_cents": 0, "metric": llm()}
LIMIT = {"window": "day", "unit": "uses", "amount": "1000", "action": "notify"}
ASKS = {"scope": {"type": "agent", "value": "asker"}, "window": "day", "unit": "uses", "amount": "0", "action": "ask"}
COMPUTE = {"event_id": "computed", "agent_id": "a", "cpu_hours": 0.1, "memory_gb_hours": 0.1}


@dataclass(frozen=True)
class Route:
    """A route that names a user, what else the request contains, and the member of the answer that shows which user."""

    method: str
    path: str
    shown: str
    request: Mapping[str, object] = field(default_factory=dict)
    is_older: bool = True
    """Than `user_id`: the field counts for keys with an identity_provider."""
    currency: str = "USD"

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


KEYED = {"idempotency_key": "repeated"}
ROUTES = [
    Route("POST", "/v1/billing/accounts", "account_id"),
    Route("GET", "/v1/billing/accounts/by-user", "account_id", is_older=False),
    Route("POST", "/v1/billing/check", "credits_remaining"),
    Route("POST", "/v1/billing/credits/check", "credits_remaining"),
    Route("POST", "/v1/billing/charges", "charge_id", {**CHARGE, **KEYED}),
    Route("GET", "/v1/billing/charges/by-key", "charge_id", {"idempotency_key": "opening"}),
    Route("POST", "/v1/billing/credits", "credit_id", {**CREDIT, **KEYED}),
    Route("GET", "/v1/billing/transactions", "transactions"),
    Route("POST", "/v1/billing/litellm/usage", "usage_log_id", LLM),
    Route("POST", "/v1/billing/purchases", "payment_id"),
    Route("GET", "/v1/billing/purchases/{payment_id}", "payment_id"),
    Route("GET", "/v1/billing/purchases/{payment_id}/status", "payment_id"),
    Route("GET", "/v1/billing/packs", "packs", currency="EUR"),
    Route("POST", "/v1/billing/grants", "grant_id", {**KEYED, "amount_minor": 100}, is_older=False),
    Route("GET", "/v1/billing/grants", "grants", is_older=False),
    Route("POST", "/v1/billing/holds", "hold_id", {**KEYED, "amount_minor": 100}, is_older=False),
    Route("PUT", "/v1/billing/limits", "id", LIMIT, is_older=False),
    Route("GET", "/v1/billing/limits", "limits", is_older=False),
    Route("GET", "/v1/billing/approvals", "approvals", is_older=False),
    Route("POST", "/api/billing/check", "balance_usd", {"estimated_cost_usd": 0}, is_older=False),
    Route("POST", "/v1/billing/runs", "created_at", {"run_id": "new"}, is_older=False),
    Route("GET", "/v1/billing/runs", "runs", is_older=False),
    Route("GET", "/v1/billing/runs/{run_id}", "created_at", is_older=False),
    Route("PATCH", "/v1/billing/runs/{run_id}", "created_at", {"status": "open"}, is_older=False),
    Route("POST", "/v1/credits/add", "transaction_id", {**KEYED, "amount_cents": 5, "reason": "r"}, is_older=False),
    Route("POST", "/v1/credits/signup-grant", "balance_cents", is_older=False),
    Route("POST", "/v1/credits/daily-grant", "balance_cents", is_older=False),
    Route("GET", "/v1/tools/balance", "balances"),
    Route("GET", "/v1/tools/balance/{product_type}", "main_pool_credits"),
    Route("GET", "/v1/tools/check/{product_type}", "main_pool_credits"),
    Route("POST", "/v1/tools/charge", "usage_log_id", {**KEYED, "product_type": "web_search"}),
    Route("POST", "/v1/usage", "transaction_id", {**FREE_USE, "event_id": "used"}, is_older=False),
    Route("POST", "/v1/usage/check", "balance", {"required_cents": 1}, is_older=False),
    Route("POST", "/v1/usage/compute", "transaction_id", COMPUTE, is_older=False),
    Route("GET", "/v1/usage", "events", is_older=False),
    Route("GET", "/v1/usage/events/{event_id}", "transaction_id", is_older=False),
    Route("POST", "/v1/cost-records", "record_id", {"request_id": "r", "tool": "search"}, is_older=False),
]
LIMITS = "/v1/billing/limits"
OLDER = [route for route in ROUTES if route.is_older]
BY_PATH = {"GET /v1/billing/accounts/{oauth_provider}/{external_id}": "GET /v1/billing/accounts/by-user"}
"""Routes whose path names the user by identity, and the ones that take `user_id` instead."""
QUOTE = "POST /v1/usage/quote"
"""Its user is optional, and only changes the price: tests/metering/test_plan_markups.py covers it."""
BAD_USER_IDS = ("", "a\0b", "x" * 256)
BAD_VALUES = (*BAD_USER_IDS, 7, ["a"], {"a": 1}, "\ud800", False)
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
each_older_route = pytest.mark.parametrize("route", OLDER, ids=lambda route: route.name)


def members(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> set[str]:
    """Return the names of a body's members."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", ()))


def test_every_route_that_names_a_user_takes_user_id_and_is_in_the_table(settings: Settings) -> None:
    described = create_app(settings).openapi()
    schemas, found, without = described["components"]["schemas"], set(), set()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                names |= members(content["schema"], schemas)
            if names & {"external_id", "user_id"}:
                found.add(f"{method.upper()} {path}")
                without |= set() if "user_id" in names else {f"{method.upper()} {path}"}
    assert without == set(BY_PATH)
    assert found - without == {QUOTE, *(route.name for route in ROUTES)}
    assert set(BY_PATH.values()) <= found


@dataclass
class User:
    user_id: str
    payment_id: str

    @property
    def identity(self) -> dict[str, str]:
        return {"oauth_provider": PROVIDER, "external_id": self.user_id}


class Caller:
    """Calls a running server with a key that has an identity_provider, and with one that has none."""

    def __init__(self, http: httpx.AsyncClient, key: str, plain_key: str) -> None:
        self.http, self.key, self.plain_key = http, key, plain_key

    async def user(self, credits: int, currency: str) -> User:
        """A new user with an account, credits, a charge, an open purchase, and with usage if they pay in dollars."""
        user = User(str(uuid.uuid4()), "pi_none")
        opening = {"initial_balance_minor": credits * 100, "currency": currency}
        assert (await self.post("/v1/billing/accounts", **user.identity, **opening)).status_code == 201
        for key in ("opening", "second"):
            charge = {**user.identity, **CHARGE, "idempotency_key": key}
            assert (await self.post("/v1/billing/charges", **charge)).status_code == 201
        if currency == "USD":
            bought = await self.post("/v1/billing/purchases", **user.identity)
            added = await self.post("/v1/credits/add", **user.identity, amount_cents=credits, reason="opening")
            event = await self.post("/v1/usage", **user.identity, **FREE_USE, event_id="opening")
            grant = await self.post("/v1/billing/grants", **user.identity, amount_minor=100, idempotency_key="opening")
            limit = await self.http.put(LIMITS, json={**user.identity, **LIMIT}, headers={"X-API-Key": self.key})
            run = await self.post("/v1/billing/runs", **user.identity, run_id="opening")
            asks = await self.http.put(LIMITS, json={**user.identity, **ASKS}, headers={"X-API-Key": self.key})
            asked = {**user.identity, **CHARGE, "metadata": {"agent_id": "asker"}}
            assert (await self.post("/v1/billing/charges", **asked)).json()["code"] == "approval_required"
            answers = (bought, added, event, grant, limit, run, asks)
            assert {answer.status_code for answer in answers} <= {200, 201}, [answer.text for answer in answers]
            user.payment_id = bought.json()["payment_id"]
        return user

    async def post(self, path: str, **body: object) -> httpx.Response:
        return await self.http.post(path, json=body, headers={"X-API-Key": self.key})

    async def send(
        self, route: Route, user: User, named: Mapping[str, Any], *, has_provider: bool = True
    ) -> httpx.Response:
        """Send the route's request for the user's payment or event, with these fields as the named user."""
        ids = {"event_id": "opening", "run_id": "opening", "product_type": "web_search"}
        path = route.path.format(payment_id=user.payment_id, **ids)
        fields = {**route.request, **named}
        where: dict[str, Any] = {"params": fields} if route.method == "GET" else {"content": json.dumps(fields)}
        headers = {"X-API-Key": self.key if has_provider else self.plain_key, "Content-Type": "application/json"}
        return await self.http.request(route.method, path, headers=headers, **where)


@pytest.fixture(scope="module")
async def caller(db: Database, database: Urls) -> AsyncIterator[Caller]:
    await put_in_force(db)
    terms = UsageTerms(PROVIDER, max_cost_nanos=BOUNDED.max_cost_nanos)
    key = await make_usage_key(db, terms, "live", *Permission)
    plain_key = await make_usage_key(db, BOUNDED, "live", *Permission)
    with running_stripe() as stripe, running_server(database, env=stripe.environment) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            yield Caller(http, key, plain_key)


@dataclass
class Users:
    """Users that all tests of this file share: each request changes their accounts at most once."""

    by_currency: dict[str, User]
    other: User

    def of(self, route: Route) -> User:
        return self.by_currency[route.currency]


@pytest.fixture(scope="module")
async def users(caller: Caller) -> Users:
    by_currency = {currency: await caller.user(7, currency) for currency in ("USD", "EUR")}
    return Users(by_currency, other=await caller.user(50, "USD"))


def field_of(answer: httpx.Response) -> str:
    """The field that a 422 names."""
    assert answer.status_code == 422, answer.text
    body = answer.json()
    return str(body["field"] if "field" in body else body["detail"][0]["loc"][-1])


@each_route
async def test_a_user_id_names_the_user_of_the_identity(route: Route, caller: Caller, users: Users) -> None:
    user, other = users.of(route), users.other
    by_id = await caller.send(route, user, {"user_id": user.user_id.upper()})
    by_identity = await caller.send(route, user, user.identity)
    by_both = await caller.send(route, user, {**user.identity, "user_id": user.user_id.replace("-", "")})
    assert by_id.status_code in (200, 201, 409), by_id.text
    shown = by_id.json()[route.shown]
    assert [answer.json()[route.shown] for answer in (by_identity, by_both)] == [shown] * 2
    of_other = await caller.send(route, user, {"user_id": other.user_id})
    assert of_other.json().get(route.shown) != shown, "the answer does not depend on the user"


@each_route
async def test_a_user_id_that_contradicts_or_cannot_be_used_is_422_and_named(
    route: Route, caller: Caller, users: Users
) -> None:
    user, other = users.of(route), users.other
    wrong: list[dict[str, Any]] = [
        {**other.identity, "user_id": user.user_id},
        {"oauth_provider": "oauth:google", "external_id": user.user_id, "user_id": user.user_id},
        *({"user_id": bad} for bad in (BAD_USER_IDS if route.method == "GET" else BAD_VALUES)),
    ]
    for named in wrong:
        assert field_of(await caller.send(route, user, named)) == "user_id", named
    without_provider = await caller.send(route, user, {"user_id": user.user_id}, has_provider=False)
    assert field_of(without_provider) == "user_id"
    assert "identity_provider" in without_provider.json()["detail"]


@each_older_route
async def test_an_older_route_ignores_a_user_id_that_it_ignored_before(
    route: Route, caller: Caller, users: Users
) -> None:
    user, other = users.of(route), users.other
    ignored = [other.user_id, *(BAD_USER_IDS if route.method == "GET" else BAD_VALUES)]
    without = (await caller.send(route, user, user.identity, has_provider=False)).json()[route.shown]
    for value in ignored:
        answer = await caller.send(route, user, {**user.identity, "user_id": value}, has_provider=False)
        assert answer.json()[route.shown] == without, (value, answer.text)
