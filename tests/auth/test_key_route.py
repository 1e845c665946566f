"""The short way to an endpoint gives the answers that FastAPI's own way gives, and is taken where it should be."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import fastapi.routing
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.types import ASGIApp

import app.main
from app.auth.api_keys import key_route
from app.auth.api_keys.key_route import HotRoutes, KeyRoute
from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.auth.dependencies import RequireKey, Writer
from app.clock import Now
from app.db import Database
from tests.conftest import ClientFor, Keys, make_usage_key

CHARGE = {
    "amount_minor": 100,
    "currency": "usd",
    "metadata": {"agent_id": 7, "unknown": [1]},
    "customer_email": "a@b.c",
}
JSON = {"Content-Type": "application/json"}
HOT_BODIES: dict[str, dict[str, Any]] = {
    "/v1/billing/credits/check": {"context": {"agent_id": "datum"}},
    "/v1/billing/check": {"wa_id": 5},
    "/v1/billing/charges": {**CHARGE, "idempotency_key": "replayed"},
    "/v1/billing/holds": {"amount_minor": 100, "idempotency_key": "replayed"},
    "/v1/tools/charge": {"product_type": "web_search", "idempotency_key": "replayed"},
}
HOLD_BODIES: dict[str, dict[str, Any]] = {
    "capture": {"amount_minor": 100},
    "release": {"outcome": "refused"},
    "extend": {"expires_in_s": 1},  # it expires later anyway
    "report": {"amount_minor": 100},
}
BODIES: list[bytes | dict[str, Any]] = [
    {},
    {"amount_minor": 0, "product_type": "web_search"},
    {"amount_minor": "100"},
    {"amount_minor": 1e2, "product_type": 1},
    {"amount_minor": 100, "currency": "EUR", "product_type": "no such"},
    {"amount_minor": 10**12, "product_type": "\0"},
    {"amount_minor": 100, "idempotency_key": "", "product_type": ""},
    {"marketing_opt_in": "yes", "context": []},
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b'{"oauth_provider": "\\ud800"}',
    b'{"user_id": "\\ud800"}',
    {"user_id": "ann"},
    {"user_id": 7},
    b'{"amount_minor": NaN}',
    b"[" * 100_000,
    b'{"amount_minor": ' + b"9" * 5_000 + b"}",
    b'{"amount_minor": 1, "amount_minor": "1"} {}',
    b'\xef\xbb\xbf{"amount_minor": 1}',
    '{"amount_minor": 1}'.encode("utf-16"),
]

USER_IDS: list[dict[str, Any]] = [
    {},
    {"user_id": ""},
    {"user_id": 7},
    {"user_id": None},
    {"external_id": "ann"},
    {"oauth_provider": "oauth:google"},
    {"user_id": "ann", "oauth_provider": "oauth:zero", "external_id": "ann"},
]


@pytest.fixture
def fastapis_way(app: FastAPI) -> Callable[[], Any]:
    @contextmanager
    def overriding() -> Iterator[None]:
        app.dependency_overrides[overriding] = overriding  # overrides nothing, but there is one
        try:
            yield
        finally:
            del app.dependency_overrides[overriding]

    return overriding


@pytest.fixture
def no_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI solves none."""

    async def refuse(**_: object) -> None:
        raise AssertionError("FastAPI solves dependencies")

    monkeypatch.setattr(fastapi.routing, "solve_dependencies", refuse)


def said(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, without what is new with each request."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    body = answer.json()
    body.pop("request_id", None)
    return answer.status_code, headers, body


@pytest.mark.parametrize("path", HOT_BODIES)
@pytest.mark.usefixtures("no_dependencies")
async def test_hot_routes_solve_no_dependencies(path: str, agent: httpx.AsyncClient, user: dict[str, str]) -> None:
    for _ in range(2):  # the first use and its replay
        assert (await agent.post(path, json={**user, **HOT_BODIES[path]})).status_code in (200, 201, 409)


@pytest.mark.parametrize("path", HOT_BODIES)
async def test_both_ways_answer_alike(
    path: str, agent: httpx.AsyncClient, user: dict[str, str], fastapis_way: Callable[[], Any]
) -> None:
    for i, given in enumerate([HOT_BODIES[path], *BODIES]):
        once = {**user, "idempotency_key": f"k{i}"}
        content = given if isinstance(given, bytes) else json.dumps({**once, **given}).encode()
        await agent.post(path, content=content, headers=JSON)  # both then replay it
        for headers in (JSON, {**JSON, "Idempotency-Key": "x" * 300}, {"Content-Type": "text/plain"}, {}):
            short = await agent.post(path, content=content, headers=headers)
            with fastapis_way():
                assert said(short) == said(await agent.post(path, content=content, headers=headers)), content


@pytest.mark.parametrize("path", HOT_BODIES)
async def test_both_ways_answer_alike_about_a_user_id(
    path: str, db: Database, client_for: ClientFor, fastapis_way: Callable[[], Any]
) -> None:
    terms = UsageTerms(identity_provider="oauth:zero")
    client = client_for(await make_usage_key(db, terms, "live", Permission.READ, Permission.WRITE))
    user_id, statuses = str(uuid.uuid4()), set()
    for named in USER_IDS:
        body = {**HOT_BODIES[path], "user_id": user_id, **named}
        await client.post(path, json=body)  # both then replay it
        short = await client.post(path, json=body)
        with fastapis_way():
            assert said(short) == said(await client.post(path, json=body)), named
        statuses.add(short.status_code)
    assert 422 in statuses
    assert statuses & {200, 201, 409}


@pytest.mark.parametrize("path", HOT_BODIES)
async def test_both_ways_refuse_alike(
    path: str, client_for: ClientFor, keys: Keys, user: dict[str, str], fastapis_way: Callable[[], Any]
) -> None:
    for key in (None, "", "x", keys.agent[:-1] + "?", keys.reader, keys.test):
        for content in (json.dumps({**user, **HOT_BODIES[path]}).encode(), b"{", b" " * 2_000_000):
            client = client_for(key)
            headers = JSON
            if key == keys.test:  # which may charge in its own world: both ways then replay it
                await client.post(path, content=content, headers=headers)
            short = await client.post(path, content=content, headers=headers)
            with fastapis_way():
                longer = await client.post(path, content=content, headers=headers)
            assert said(short) == said(longer), key


@pytest.mark.parametrize("change", HOLD_BODIES)
@pytest.mark.usefixtures("no_dependencies")
async def test_a_change_of_a_hold_solves_no_dependencies(
    change: str, agent: httpx.AsyncClient, user: dict[str, str]
) -> None:
    hold = (await agent.post("/v1/billing/holds", json={**user, "amount_minor": 100})).json()
    answer = await agent.post(f"/v1/billing/holds/{hold['hold_id']}/{change}", json=HOLD_BODIES[change])
    assert (answer.status_code, answer.json()["hold_id"]) == (200, hold["hold_id"])


@pytest.mark.parametrize("change", HOLD_BODIES)
async def test_both_ways_change_a_hold_alike(
    change: str, agent: httpx.AsyncClient, user: dict[str, str], fastapis_way: Callable[[], Any]
) -> None:
    hold = (await agent.post("/v1/billing/holds", json={**user, "amount_minor": 100})).json()
    for given in [HOLD_BODIES[change], *BODIES]:
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        for hold_id in (hold["hold_id"], hold["hold_id"].upper(), "x", "%00", "a%2Fb"):
            path = f"/v1/billing/holds/{hold_id}/{change}"
            await agent.post(path, content=content, headers=JSON)  # both then repeat it
            short = await agent.post(path, content=content, headers=JSON)
            with fastapis_way():
                assert said(short) == said(await agent.post(path, content=content, headers=JSON)), (path, content)


def test_routes_with_other_parameters_go_fastapis_way() -> None:
    routes = [route for module in app.main.ROUTERS for route in module.router.routes]
    hot = HotRoutes(cast(ASGIApp, None), routes=routes)
    usage = {"/v1/usage", *(f"/v1/usage/{name}" for name in ("batch", "check", "compute", "quote")), "/v1/cost-records"}
    usage |= {f"/v1/cost-records/{{record_id}}/{change}" for change in ("items", "complete")}
    holds = (f"/v1/billing/holds/{{hold_id}}/{change}" for change in HOLD_BODIES)
    more = ("/v1/billing/litellm/usage", "/v1/billing/charges/batch", "/v1/billing/runs")
    assert hot.paths == {*HOT_BODIES, *more, *usage, *holds}


class Item(BaseModel):
    name: str


async def endpoint(body: Item, request: Request, caller: Writer, now: Now) -> Item:
    return body


async def endpoint_with_text(name: str, body: Item, request: Request, caller: Writer, now: Now) -> Item:
    return body


async def endpoint_with_number(name: int, body: Item, request: Request, caller: Writer, now: Now) -> Item:
    return body


def test_only_a_post_route_without_further_dependencies_goes_the_short_way() -> None:
    router = APIRouter(route_class=KeyRoute)
    router.post("/post")(endpoint)
    router.put("/put")(endpoint)
    router.post("/post-with-a-dependency", dependencies=[Depends(lambda: None)])(endpoint)
    router.post("/{name}/text")(endpoint_with_text)
    router.post("/{name}/number")(endpoint_with_number)
    assert HotRoutes(cast(ASGIApp, None), routes=router.routes).paths == {"/post", "/{name}/text"}


@pytest.mark.parametrize(("fresh_s", "checks"), [(60.0, 1), (0.0, 2)])
async def test_a_check_that_is_old_once_the_body_has_arrived_is_repeated(
    agent: httpx.AsyncClient, user: dict[str, str], monkeypatch: pytest.MonkeyPatch, fresh_s: float, checks: int
) -> None:
    checked = []
    authenticate = RequireKey.authenticate

    async def watched(self: RequireKey, *args: Any) -> Any:
        checked.append(args)
        return await authenticate(self, *args)

    monkeypatch.setattr(RequireKey, "authenticate", watched)
    monkeypatch.setattr(key_route, "FRESH_S", fresh_s)
    assert (await agent.post("/v1/billing/check", json=user)).status_code == 200
    assert len(checked) == checks
