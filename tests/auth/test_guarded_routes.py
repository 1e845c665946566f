"""Limits and callers are checked before a body is read, let alone parsed."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr

from app.auth import guarded_route
from app.auth.api_keys import key_route
from app.auth.api_keys.service import revoke_key
from app.auth.caller import Permission
from app.auth.guarded_route import FRESH_S, GuardedRoute
from app.db import Database
from app.main import ROUTERS
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.raw_http import connect, read_answer
from tests.servers import Server, running_server
from tests.support.invalid_requests import MIB, WEBHOOK

LIMIT = 30
SOMEBODY = {"oauth_provider": "oauth:google", "external_id": "counted@example.com"}
CHECK = "/v1/billing/check"
PATHS = (CHECK, "/v1/billing/accounts")
"""One goes the short way, one FastAPI's."""
MALFORMED = {
    "no JSON": b"{",
    "no UTF-8": b"\xff",
    "nothing": b"",
    "another shape": b"[]",
    "a wrong field": b'{"amount_minor": "x"}',
}
ROUTES = [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]
WITH_BODY = [(route, method) for route in ROUTES if route.body_field is not None for method in route.methods or ()]


def client_of(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing", headers=headers)


def test_every_route_with_a_body_is_guarded() -> None:
    assert len(WITH_BODY) > 20
    for route, _ in WITH_BODY:
        assert isinstance(route, GuardedRoute), route.path
        assert route.guard() is not None, route.path
    writes = [route for route in ROUTES if "GET" not in (route.methods or ())]
    unguarded = {route.path for route in writes if not isinstance(route, GuardedRoute)}
    # A webhook's credential is the signature of its body. Signing out has a session and no body.
    assert unguarded == {WEBHOOK, "/webhooks/stripe", "/admin/oauth/logout"}


@pytest.fixture
async def limited(database: Urls) -> AsyncIterator[FastAPI]:
    async with running_app(settings_for(database, rate_limit_per_address=LIMIT)) as app:
        yield app


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("credential", ["none", "good key", "wrong key", "token"])
async def test_the_address_limit_counts_what_does_not_parse(
    limited: FastAPI, db: Database, what: str, credential: str
) -> None:
    headers = {"Content-Type": "application/json"}
    if credential.endswith("key"):
        headers["X-API-Key"] = await make_key(db, "live", *Permission) if credential == "good key" else "wrong"
    elif credential == "token":
        headers["Authorization"] = "Bearer a.b.c"
    async with client_of(limited, **headers) as client:
        answers = [await client.post("/v1/billing/charges", content=MALFORMED[what]) for _ in range(LIMIT + 20)]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses[:LIMIT]) <= ({400, 422} if credential == "good key" else {401})
    assert statuses.count(429) >= 15  # the bucket fills up by one in two seconds


async def test_the_address_limit_holds_at_every_route_before_its_body(database: Urls) -> None:
    async with running_app(settings_for(database, rate_limit_per_address=1)) as app:
        for number, (route, method) in enumerate(WITH_BODY):
            path = route.path.replace("{", "").replace("}", "").replace(":path", "")
            transport = httpx.ASGITransport(app, client=(f"10.0.0.{number}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://billing") as client:
                statuses = [(await client.request(method, path, content=b"{")).status_code for _ in range(2)]
            assert statuses == [401, 429], (method, route.path)


@pytest.mark.parametrize("content", [b"{", json.dumps(SOMEBODY).encode()])
async def test_a_request_whose_check_is_repeated_is_counted_once(
    database: Urls, db: Database, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(guarded_route, "FRESH_S", 0.0)
    monkeypatch.setattr(key_route, "FRESH_S", 0.0)
    headers = {"X-API-Key": await make_key(db, "live", *Permission), "Content-Type": "application/json"}
    settings = settings_for(database, rate_limit_per_address=1, rate_limit_per_key=1)
    async with running_app(settings) as app, client_of(app, **headers) as client:
        statuses = [(await client.post(CHECK, content=content)).status_code for _ in range(2)]
    assert statuses == [422 if content == b"{" else 200, 429]


async def test_a_request_is_counted_once(database: Urls, db: Database) -> None:
    """Although its guard is asked twice."""
    key = await make_key(db, "live", *Permission)
    settings = settings_for(database, rate_limit_per_address=LIMIT, rate_limit_per_key=LIMIT)
    async with running_app(settings) as app, client_of(app, **{"X-API-Key": key}) as client:
        began_s = time.monotonic()
        statuses = [(await client.post(path, json=SOMEBODY)).status_code for path in PATHS * (LIMIT // 2)]
        assert set(statuses) <= {200, 201}
        refilled = int((time.monotonic() - began_s) * LIMIT / 60) + 1
        statuses = [(await client.post(CHECK, json=SOMEBODY)).status_code for _ in range(refilled + 5)]
    assert 429 in statuses


# --- over the wire ---


@pytest.fixture(scope="module")
def server(database: Urls) -> Iterator[Server]:
    with running_server(database) as server:
        yield server


def head(path: str, length: int, *headers: str) -> bytes:
    declared = ("Content-Type: application/json", f"Content-Length: {length}")
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *declared, *headers, "", ""]).encode()


@pytest.mark.parametrize("path", [*PATHS, "/v1/billing/purchases", "/admin/api-keys"])
def test_a_caller_without_a_credential_is_refused_before_the_body_has_come(server: Server, path: str) -> None:
    wrong = ("X-API-Key: cbk_live_x", "Authorization: Bearer a.b.c", "Cookie: ciris_billing_admin=a")
    for credential in ((), *((header,) for header in wrong)):
        with connect(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(head(path, MIB, *credential))
            assert read_answer(stream).status == 401, credential
            # The connection continues: the server discards the body when it arrives.
            connection.sendall(b"x" * MIB + b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_answer(stream).status == 200


async def test_a_key_revoked_while_the_body_comes_does_not_work(server: Server, database: Urls, now: datetime) -> None:
    db = Database(SecretStr(database.service))
    key = await make_key(db, "live", *Permission)
    user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}) as client:
        for path in PATHS:
            assert (await client.post(path, json=user)).status_code == 200
    body = json.dumps(user).encode()
    begun, revoked, loop = [asyncio.Event() for _ in PATHS], asyncio.Event(), asyncio.get_running_loop()

    def send(path: str, is_begun: asyncio.Event) -> int:
        with connect(server) as connection, connection.makefile("rb") as stream:
            connection.sendall(head(path, len(body), f"X-API-Key: {key}") + body[:-1])
            loop.call_soon_threadsafe(is_begun.set)
            asyncio.run_coroutine_threadsafe(revoked.wait(), loop).result()
            connection.sendall(body[-1:])
            status: int = read_answer(stream).status
            return status

    pairs = zip(PATHS, begun, strict=True)
    sending = [asyncio.create_task(asyncio.to_thread(send, path, event)) for path, event in pairs]
    await asyncio.gather(*(event.wait() for event in begun))
    async with db.transaction() as tx:
        await revoke_key(tx, key.split("_")[2], now=now)
    await asyncio.sleep(1 + FRESH_S)  # as long as a revocation may take
    revoked.set()
    assert await asyncio.gather(*sending) == [401, 401]
    await db.close()
