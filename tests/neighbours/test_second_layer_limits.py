"""SecondLayer's limits: 10 dollars a day and 100 a month, the users' lower ones, and the refusals that it knows."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.accounts.service import AccountService
from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.clock import request_time
from app.configuration.service import Configuration
from app.db.version_mark import VersionMark
from app.issuers import Issuer
from app.limits.service import LimitService
from tests.conftest import make_usage_key
from tests.databases import create_database, drop_database
from tests.demo.oidc_server import SPA, WEB, RunningOIDC
from tests.metering.conftest import PROVIDER, Desk, client, running_desk, usage
from tests.neighbours.conftest import ClientOf

BALANCE, SETTINGS, CHECK = "/api/billing/balance", "/api/billing/settings", "/api/billing/check"
LIMITS = "/v1/billing/limits"
BAD: tuple[Any, ...] = (-1, "x", True, [], 1e18, 0.0000000001, "1e400")


@pytest.fixture(scope="module")
async def desk(oidc: RunningOIDC) -> AsyncIterator[Desk]:
    """The issuer's users have limits from the start."""
    issuer = Issuer(
        issuer=oidc.issuer,
        jwks_url=oidc.jwks_url,
        audiences=[WEB.client_id, SPA.client_id],
        interactive_audiences=[SPA.client_id],
        provider=PROVIDER,
        default_limits={"day": "10", "month": "100"},
    )
    name = f"second_layer_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls, issuers=[issuer], time_zone="Europe/Kyiv") as desk:
        terms = UsageTerms(PROVIDER, "boss", max_cost_nanos=10**12)
        desk.clients["boss"] = client(desk.url, await make_usage_key(desk.db, terms, "live", *Permission))
        yield desk
        await desk.boss.aclose()
    await drop_database(name)


@pytest.fixture
async def user_id(desk: Desk) -> str:
    """A user with 1,000 dollars."""
    return await desk.user(100_000)


async def shown(own: httpx.AsyncClient) -> tuple[float, float]:
    body = (await own.get(BALANCE)).json()
    flat = body["daily_limit_usd"], body["monthly_limit_usd"]
    assert (body["billing"]["limits"]["daily_usd"], body["billing"]["limits"]["monthly_usd"]) == flat
    return flat


async def spend(desk: Desk, user_id: str, dollars: str) -> httpx.Response:
    return await desk.boss.post("/v1/usage", json=usage(user_id, cost=dollars))


async def ask(own: httpx.AsyncClient, estimate: float, **more: Any) -> httpx.Response:
    return await own.post(CHECK, json={"estimated_cost_usd": estimate, **more})


async def limits_of(desk: Desk, user_id: str) -> list[dict[str, Any]]:
    limits: list[dict[str, Any]] = (await desk.boss.get(LIMITS, params={"user_id": user_id})).json()["limits"]
    return limits


async def test_users_of_the_issuer_are_limited_from_the_start(desk: Desk, user_id: str) -> None:
    """Before any request of the user's own."""
    limits = await limits_of(desk, user_id)
    assert [(limit["window"], limit["amount"], limit["owner"]) for limit in limits] == [
        ("day", "10.000000", "operator"),
        ("month", "100.000000", "operator"),
    ]
    assert (await spend(desk, user_id, "10")).status_code == 200
    refused = await spend(desk, user_id, "0.000000001")
    assert (refused.status_code, refused.json()["code"]) == (402, "limit_exceeded")


async def test_both_balances_show_the_limits_in_force(desk: Desk, user_id: str, own: httpx.AsyncClient) -> None:
    assert await shown(own) == (10, 100)
    for body, expected in [
        ({"daily_limit_usd": 7.5}, (7.5, 100)),
        ({"monthly_limit_usd": 50}, (7.5, 50)),
        ({}, (7.5, 50)),
        ({"daily_limit_usd": None, "monthlyLimitUsd": 40.25}, (7.5, 40.25)),
        ({"dailyLimitUsd": 0}, (0, 40.25)),
    ]:
        answer = await own.put(SETTINGS, json=body)
        assert (answer.status_code, answer.json()["success"]) == (200, True), answer.text
        assert await shown(own) == expected
    owners = {(limit["window"], limit["owner"]): limit["amount"] for limit in await limits_of(desk, user_id)}
    assert owners["day", "operator"] == "10.000000"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"daily_limit_usd": 10.01}, 422, "above_operator_limit"),
        ({"daily_limit_usd": 1, "monthly_limit_usd": 101}, 422, "above_operator_limit"),
        *(({"daily_limit_usd": bad}, 422, "validation_error") for bad in BAD),
    ],
)
async def test_settings_that_cannot_be_are_refused_as_a_whole(
    body: dict[str, Any], status: int, code: str, own: httpx.AsyncClient
) -> None:
    answer = await own.put(SETTINGS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert {"error", "message"} <= set(answer.json())
    assert await shown(own) == (10, 100)


async def test_raising_an_own_limit_needs_a_person(user_id: str, client_of: ClientOf) -> None:
    agent, person = client_of(user_id), client_of(user_id, aud=SPA.client_id)
    assert (await agent.put(SETTINGS, json={"daily_limit_usd": 5})).status_code == 200
    refused = await agent.put(SETTINGS, json={"daily_limit_usd": 6})
    assert (refused.status_code, refused.json()["code"]) == (403, "person_required")
    assert (await person.put(SETTINGS, json={"daily_limit_usd": 6})).status_code == 200
    assert await shown(agent) == (6, 100)


async def test_an_estimate_is_refused_for_money_then_the_day_then_the_month(
    desk: Desk, user_id: str, own: httpx.AsyncClient
) -> None:
    assert (await ask(own, 10)).json() == {
        "success": True,
        "allowed": True,
        "balance_usd": 1000,
        "required_usd": 10,
    }
    money = await ask(own, 1000.5)
    assert (money.status_code, money.json()["code"]) == (402, "INSUFFICIENT_BALANCE")
    assert money.json()["balance"] == {"current_usd": 1000, "required_usd": 1000.5, "shortfall_usd": 0.5}
    assert (money.json()["current_balance_usd"], money.json()["topup_url"][:4]) == (1000, "http")
    assert (await spend(desk, user_id, "4")).status_code == 200
    assert (await ask(own, 6)).status_code == 200
    day = await ask(own, 6.01)
    assert (day.status_code, day.json()["code"], day.json()["error"]) == (
        429,
        "DAILY_LIMIT_EXCEEDED",
        "Too Many Requests",
    )
    numbers = {"daily_limit_usd": 10, "daily_spent_usd": 4, "monthly_limit_usd": 100, "monthly_spent_usd": 4}
    assert day.json()["limits"] == numbers
    assert (await ask(own, 101)).json()["code"] == "DAILY_LIMIT_EXCEEDED"
    assert (await own.put(SETTINGS, json={"monthly_limit_usd": 5})).status_code == 200
    month = await ask(own, 2)
    assert (month.status_code, month.json()["code"]) == (429, "MONTHLY_LIMIT_EXCEEDED")
    assert month.json()["limits"] == {**numbers, "monthly_limit_usd": 5}


async def test_days_and_months_are_those_of_the_time_zone(desk: Desk, user_id: str) -> None:
    """The last second of March in Kyiv, where it is summer, and the first one of April."""
    first = datetime(2027, 3, 31, 21, 0, tzinfo=UTC)
    named = {"user_id": user_id}
    try:
        desk.app.dependency_overrides[request_time] = lambda: first - timedelta(seconds=1)
        assert (await spend(desk, user_id, "10")).status_code == 200
        full = await ask(desk.boss, 0.5, **named)
        assert (full.status_code, full.json()["code"]) == (429, "DAILY_LIMIT_EXCEEDED")
        desk.app.dependency_overrides[request_time] = lambda: first
        assert (await ask(desk.boss, 10, **named)).status_code == 200
        assert (await spend(desk, user_id, "4")).status_code == 200
        numbers = (await ask(desk.boss, 6.5, **named)).json()["limits"]
    finally:
        desk.app.dependency_overrides.pop(request_time)
    assert (numbers["daily_spent_usd"], numbers["monthly_spent_usd"]) == (4, 4)


async def test_open_holds_and_records_count_in_the_question(desk: Desk, user_id: str, own: httpx.AsyncClient) -> None:
    hold = {"user_id": user_id, "amount": "6.00"}
    assert (await desk.boss.post("/v1/billing/holds", json=hold)).status_code == 201
    record = {"user_id": user_id, "request_id": "r", "tool": "search", "estimate": "3"}
    assert (await desk.boss.post("/v1/cost-records", json=record)).status_code == 201
    assert (await ask(own, 1)).status_code == 200
    assert (await ask(own, 1.01)).json()["limits"]["daily_spent_usd"] == 9


async def test_callers_with_a_key_get_their_own_refusals(desk: Desk, user_id: str) -> None:
    named = {"user_id": user_id}
    poor = await ask(desk.boss, 1001, **named)
    assert (poor.status_code, poor.json()["code"]) == (402, "INSUFFICIENT_CREDITS")
    assert (poor.json()["currentBalance"], poor.json()["creditsRequired"]) == (1000, 1001)
    assert (await ask(desk.boss, 11, **named)).json()["code"] == "DAILY_LIMIT_EXCEEDED"
    limit = {**named, "window": "day", "unit": "uses", "amount": "1"}
    assert (await desk.boss.put(LIMITS, json=limit)).status_code == 200
    assert (await ask(desk.boss, 1, **named)).status_code == 200
    assert (await spend(desk, user_id, "1")).status_code == 200
    many = await ask(desk.boss, 1, **named)
    assert (many.status_code, many.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert (many.json()["requestsToday"], many.json()["rateLimitPerDay"]) == (1, 1)
    assert many.json()["reason"] == many.json()["message"]


@pytest.mark.parametrize(("method", "path"), [("PUT", SETTINGS), ("POST", CHECK), ("GET", BALANCE)])
async def test_nobody_is_refused_in_the_envelope(method: str, path: str, desk: Desk) -> None:
    answer = await desk.nobody.request(method, path, json={"estimated_cost_usd": 1})
    body = answer.json()
    assert (answer.status_code, body["error"], body["code"]) == (401, "Unauthorized", "NO_USER_CONTEXT")


async def test_a_stopped_account_is_told_so(desk: Desk, user_id: str, own: httpx.AsyncClient) -> None:
    account = await desk.account_id(user_id)
    suspend = "UPDATE accounts SET status = 'suspended', status_reason = 'why' WHERE account_id = $1 RETURNING 1"
    await desk.rows(suspend, account)
    answer = await ask(own, 1)
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")


async def test_older_accounts_get_the_limits_from_the_worker_once(desk: Desk, user_id: str) -> None:
    """An account that was made before the setting; one whose limit an admin removed keeps none."""
    account = await desk.account_id(user_id)
    for table in ("limit_counters", "limits"):
        await rows_as_owner(desk, f"DELETE FROM {table} WHERE account_id = $1", account)
    await rows_as_owner(desk, "UPDATE accounts SET has_limits = false WHERE account_id = $1", account)
    service = worker_of(desk)
    assert await service.give_missing_defaults(datetime.now(UTC)) >= 1
    day, month = await limits_of(desk, user_id)
    assert (day["amount"], month["amount"]) == ("10.000000", "100.000000")
    assert (await desk.boss.delete(f"{LIMITS}/{day['id']}")).status_code == 200
    assert await service.give_missing_defaults(datetime.now(UTC)) == 0
    assert [limit["id"] for limit in await limits_of(desk, user_id)] == [month["id"]]


async def test_a_soft_limit_does_not_replace_a_default_one(desk: Desk, user_id: str) -> None:
    account = await desk.account_id(user_id)
    for table in ("limit_counters", "limits"):
        await rows_as_owner(desk, f"DELETE FROM {table} WHERE account_id = $1", account)
    soft = {"user_id": user_id, "window": "day", "unit": "money", "amount": "8", "action": "notify"}
    assert (await desk.boss.put(LIMITS, json=soft)).status_code == 200
    service = worker_of(desk)
    assert await service.give_missing_defaults(datetime.now(UTC)) >= 1
    found = {(limit["window"], limit["action"]): limit["amount"] for limit in await limits_of(desk, user_id)}
    assert found == {("day", "notify"): "8.000000", ("day", "refuse"): "10.000000", ("month", "refuse"): "100.000000"}
    assert await service.give_missing_defaults(datetime.now(UTC)) == 0


def worker_of(desk: Desk) -> LimitService:
    settings = desk.app.state.settings
    accounts = AccountService(desk.db, Configuration(desk.db, settings))
    return LimitService(desk.db, accounts, VersionMark(desk.db))


async def rows_as_owner(desk: Desk, sql: str, *values: object) -> None:
    connection = await asyncpg.connect(desk.urls.owner)
    try:
        await connection.execute(sql, *values)
    finally:
        await connection.close()


def test_default_limits_are_amounts_of_known_windows() -> None:
    values = {"issuer": "i", "jwks_url": "https://i/", "audiences": ["a"], "provider": "oauth:i"}
    for wrong in ({"week": "1"}, {"day": "-1"}, {"day": "1e3"}, {"day": 5}, {"day": "9999999999"}):
        with pytest.raises(ValueError, match="default_limits"):
            Issuer.model_validate({**values, "default_limits": wrong})
    with pytest.raises(ValueError, match="interactive_audiences"):
        Issuer.model_validate({**values, "interactive_audiences": ["b"]})


async def test_an_estimate_that_a_person_approved_fits(desk: Desk, user_id: str, client_of: ClientOf) -> None:
    limit = {"user_id": user_id, "window": "day", "unit": "money", "amount": "1", "action": "ask"}
    assert (await desk.boss.put(LIMITS, json=limit)).status_code == 200
    hold, estimate = {"user_id": user_id, "amount": "3.00"}, {"user_id": user_id, "estimated_cost_usd": 3}
    assert (await desk.boss.post(CHECK, json=estimate)).status_code == 429
    waits = await desk.boss.post("/v1/billing/holds", json=hold)
    assert waits.json()["code"] == "approval_required"
    person = client_of(user_id, aud=SPA.client_id)
    path = f"/v1/accounts/me/approvals/{waits.json()['approval_id']}/approve"
    assert (await person.post(path, json={})).status_code == 200
    assert (await desk.boss.post(CHECK, json=estimate)).status_code == 200
    assert (await desk.boss.post("/v1/billing/holds", json=hold)).status_code == 201
