"""Hostile clients against a real server process: connections, heads, bodies and paths; and the data that it reveals.

Beside test_nasty_input.py, which is about values. docs/security.md maps threats to these tests.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from tests.conftest import make_key, settings_for
from tests.databases import PASSWORD, Urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.raw_http import connect, exchange, post
from tests.servers import Server, running_server, running_stripe

HEAD_TIMEOUT_S, REQUEST_TIMEOUT_S = 1.0, 1.5
SECRETS = {
    "METRICS_TOKEN": "metrics-token-that-nobody-may-see-0001",
    "ADMIN_SESSION_SECRET": "session-secret-that-nobody-may-see-0002",
    "ADMIN_OAUTH_CLIENT_SECRET": "client-secret-that-nobody-may-see-0003",
    "ENCRYPTION_KEYS": json.dumps({"k1": base64.b64encode(b"sealing-key-nobody-may-see-00004").decode()}),
}
CHECK = "/v1/billing/credits/check"


def somebody() -> dict[str, str]:
    return {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as provider:
        yield provider


@pytest.fixture(scope="module")
def server(database: Urls, oidc: RunningOIDC) -> Iterator[Server]:
    issuer = {"issuer": oidc.issuer, "jwks_url": oidc.jwks_url, "audiences": [WEB.client_id], "provider": "oauth:local"}
    env = {
        **SECRETS,
        "ISSUERS": json.dumps([issuer]),
        "ADMIN_OAUTH_ISSUER": oidc.issuer,
        "ADMIN_OAUTH_CLIENT_ID": "back-office",
        "PUBLIC_URL": "https://billing.example.com",
        "LOG_LEVEL": "INFO",
        "REQUEST_HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S),
        "REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S),
    }
    with running_stripe() as stripe, running_server(database, env={**stripe.environment, **env}) as server:
        yield server


@pytest.fixture(scope="module")
async def key(db: Database) -> str:
    return await make_key(db, "live", *Permission)


@pytest.fixture
async def client(server: Server, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=10) as client:
        yield client


# --- slow clients ---


def closes_within(connection: socket.socket, seconds: float, trickle: bytes = b"") -> bool:
    """Whether the server ends the connection in time, though a byte of `trickle` arrives every 0.2 s."""
    connection.settimeout(0.2)
    deadline = time.monotonic() + seconds
    at = 0
    while time.monotonic() < deadline:
        try:
            if not connection.recv(65_536):
                return True
        except TimeoutError:
            with contextlib.suppress(ConnectionError):
                connection.sendall(trickle[at : at + 1])
            at += 1
        except ConnectionError:
            return True
    return False


HEAD = b"POST /v1/billing/credits/check HTTP/1.1\r\nHost: billing\r\nX-Slow: " + b"a" * 1000
WHOLE = b"GET / HTTP/1.1\r\nHost: billing\r\n\r\n"


async def test_a_head_that_does_not_come_ends_the_connection(server: Server) -> None:
    cases = {
        "a connection and nothing more": (b"", b""),
        "line breaks before a request": (b"", b"\r\n" * 500),
        "a head from its first byte on": (b"", HEAD),
        "half a head": (HEAD[:40], HEAD[40:]),
        "the second request of a connection": (WHOLE, HEAD),
        "line breaks after a request": (WHOLE, b"\r\n" * 500),
    }

    def hold(begun: bytes, trickle: bytes) -> bool:
        with connect(server) as connection:
            connection.sendall(begun)
            return closes_within(connection, HEAD_TIMEOUT_S + 5, trickle)

    ended = await asyncio.gather(*(asyncio.to_thread(hold, *case) for case in cases.values()))
    assert dict(zip(cases, ended, strict=True)) == dict.fromkeys(cases, True)


async def test_a_body_that_does_not_come_is_answered_in_time(server: Server, key: str) -> None:
    def drip() -> bytes:
        with connect(server) as connection:
            connection.sendall(post(CHECK, b"{", b"Content-Length: 1000", b"X-API-Key: " + key.encode()))
            connection.settimeout(REQUEST_TIMEOUT_S + 5)
            return connection.recv(4096)

    assert (await asyncio.to_thread(drip)).startswith(b"HTTP/1.1 503")


async def test_many_slow_clients_keep_nobody_else_waiting(server: Server, client: httpx.AsyncClient) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(server)).sendall(HEAD)
        answers = [await client.post(CHECK, json=somebody()) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}


# --- heads, bodies and paths that two readers could read differently ---

SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: billing\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        post("/v1/outer", b"0\r\n\r\n" + SMUGGLED, b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        post("/v1/outer", b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", b"Content-Length: 49"),
        post("/v1/outer", SMUGGLED, b"Content-Length: 0", b"Content-Length: %d" % len(SMUGGLED)),
        post("/v1/outer", b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        post("/v1/outer", b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: xchunked"),
        post("/v1/outer", b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding : chunked", b"Content-Length: 49"),
        post("/v1/outer", SMUGGLED, b"Content-Length: +0"),
        post("/v1/outer", SMUGGLED, b"Content-Length: 0, 49"),
        b"GET /v1/outer HTTP/1.1\r\nHost: billing\r\nX: a\nGET /v1/smuggled HTTP/1.1\r\n\r\n",
        b"GET /v1/outer HTTP/1.1\r\nHost: billing\r\nX: a\rGET /v1/smuggled HTTP/1.1\r\n\r\n",
    ],
)
async def test_no_second_request_hides_in_an_ambiguous_one(server: Server, request_bytes: bytes) -> None:
    came = await asyncio.to_thread(exchange, server, request_bytes)
    assert came.count(b"HTTP/1.1 ") <= 1, came
    assert b"HTTP/1.1 2" not in came


async def test_two_keys_or_tokens_in_one_request_are_none(server: Server, key: str, db: Database) -> None:
    """A proxy or a log may have read either of them, so neither is accepted."""
    other = (await make_key(db, "live", *Permission)).encode()
    body = json.dumps(somebody()).encode()
    for headers in ((b"X-API-Key: " + key.encode(), b"x-api-key: " + other), (b"Authorization: Bearer a",) * 2):
        came = await asyncio.to_thread(exchange, server, post(CHECK, body, *headers))
        assert came.startswith(b"HTTP/1.1 401"), came


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin/users",
        "/v1/%2e%2e/admin/users",
        "/v1/..%2fadmin/users",
        "//admin/users",
        "/admin//users",
        "/ADMIN/users",
        "/admin/users/",
        "/admin/users;a=b",
        "/admin%2fusers",
        "/admin-ui/../admin/users",
        "/admin-ui/..%2f..%2fpyproject.toml",
        "/v1/billing/accounts/../../../metrics",
        "http://billing/admin/users",
        "/metrics/",
        "/%6detrics",
    ],
)
async def test_no_spelling_of_a_path_leads_past_its_guard(server: Server, key: str, path: str) -> None:
    """The route itself decides which callers it admits: a proxy's guard of a prefix is never the only one."""
    head = f"GET {path} HTTP/1.1\r\nHost: billing\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
    came = await asyncio.to_thread(exchange, server, head.encode())
    status = int(came.split(b" ", 2)[1])
    assert status in (401, 404, 422) or (status == 200 and b"<!doctype html>" in came.lower())
    assert b"external_id" not in came
    assert b"[project]" not in came
    assert b"location:" not in came.lower()


async def test_a_body_is_never_decompressed(server: Server, client: httpx.AsyncClient) -> None:
    """A hundred megabytes in a hundred kilobytes stay a hundred kilobytes that are no JSON."""
    before_kib = resident_kib(server)
    body = somebody()
    small = gzip.compress(json.dumps(body).encode())
    bomb = gzip.compress(b" " * 100_000_000 + json.dumps(body).encode())
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        for content in (small, bomb):
            headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
            answer = await client.post(CHECK, content=content, headers=headers)
            assert answer.status_code in (400, 422), answer.text
    if before_kib:
        assert resident_kib(server) - before_kib < 50_000


def resident_kib(server: Server) -> int:
    """0 where the system does not tell."""
    status = Path(f"/proc/{server.process.pid}/status")
    return int(re.findall(r"VmRSS:\s+(\d+)", status.read_text())[0]) if status.exists() else 0


# --- other sites ---


async def test_no_other_site_may_read_an_answer(client: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in (CHECK, "/v1/billing/charges", "/admin/users", "/admin/oauth/user", "/", "/metrics"):
        preflight = await client.options(path, headers={**origin, "Access-Control-Request-Headers": "x-api-key"})
        assert preflight.status_code == 405
        answer = await client.get(path, headers=origin)
        for headers in (preflight.headers, answer.headers):
            assert not [name for name in headers if name.lower().startswith("access-control-")]


async def test_the_host_that_a_request_names_leads_nowhere(client: httpx.AsyncClient) -> None:
    evil = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    answer = await client.get("/admin/oauth/login", headers=evil)
    assert answer.status_code == 302
    assert "evil" not in answer.headers["Location"]
    assert "redirect_uri=https%3A%2F%2Fbilling.example.com%2F" in answer.headers["Location"]


# --- what is given away ---


async def test_secrets_and_persons_are_in_no_log_answer_or_metric(
    server: Server, client: httpx.AsyncClient, key: str, oidc: RunningOIDC, database: Urls
) -> None:
    """Check all text of successful and failing requests; and that each line of the log is one object."""
    user = {
        **somebody(),
        "customer_email": "mail-of-a-person@example.com",
        "display_name": 'A "Person"\nof\x1b[31m two lines',
    }
    token = oidc.mint(sub="subject-of-a-person", email="token-mail@example.com", jti=uuid.uuid4().hex)
    wrong_key, wrong_token = key[:-8] + "wrongkey", token[:-8] + "wrongsig"
    bearer = {"Authorization": f"Bearer {token}"}
    answers = [
        await client.post(CHECK, json=user),
        await client.post(
            "/v1/billing/charges", json={**user, "amount_minor": 100, "idempotency_key": "key-of-a-person"}
        ),
        await client.post("/v1/billing/charges", json={**user, "amount_minor": 10**15, "description": "\n{}\x00"}),
        await client.post("/v1/billing/charges", json={**user, "amount_minor": 10**15, "description": '"}\n{"a": "b'}),
        await client.post("/v1/billing/purchases", json=user),
        await client.post(CHECK, json=user, headers={"X-API-Key": wrong_key}),
        await client.post(CHECK, json=user, headers={"X-API-Key": "", **bearer}),
        await client.post(CHECK, json=user, headers={"X-API-Key": "", "Authorization": f"Bearer {wrong_token}"}),
        await client.get("/metrics", headers={"Authorization": "Bearer wrong-metrics-token"}),
        await client.get("/admin/oauth/callback", params={"code": "code-of-a-person", "state": "x", "error": "a\nb"}),
        await client.get("/admin/users", headers=bearer),
        await client.post("/v1/billing/webhooks/stripe", json={"id": "evt"}, headers={"Stripe-Signature": "t=1,v1=00"}),
        await client.get("/v1/status"),
        await client.get("/openapi.json"),
        await client.get("/nowhere/of-a-person", params={"token": token}),
    ]
    metrics = await client.get("/metrics", headers={"Authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"})
    assert metrics.status_code == 200
    log = server.printed()
    assert [json.loads(line) for line in log.splitlines()][-1]["event"] == "request"
    said = "\n".join(answer.text + repr(answer.headers) for answer in [*answers, metrics]) + log
    sealing = json.loads(SECRETS["ENCRYPTION_KEYS"])["k1"]
    stripe_secrets = ("sk_test_tests", "whsec_of_the_tests")
    texts = [*SECRETS.values(), sealing, *stripe_secrets, PASSWORD, key, key[-43:], wrong_key, token, wrong_token]
    for secret in texts:
        assert secret not in said
    names = ("of-a-person", "token-mail", user["external_id"], 'A "Person"')
    for name in names:
        assert name not in log
        assert name not in metrics.text


async def test_settings_keep_their_secrets_to_themselves(database: Urls) -> None:
    settings = settings_for(
        database, **{name.lower(): value for name, value in SECRETS.items() if name != "ENCRYPTION_KEYS"}
    )
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"
    for secret in [*SECRETS.values(), PASSWORD]:
        assert secret not in shown
    assert isinstance(settings.database_url, SecretStr)
