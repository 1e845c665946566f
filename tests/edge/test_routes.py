"""Routes through the real Caddy: which are public, the headers of every answer, and the client address of a request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.admin.static_pages import HEADERS as PAGES_HEADERS
from app.auth.caller import Permission
from tests.auth.conftest import MakeKey
from tests.auth.conftest import make_key as make_key  # a fixture
from tests.conftest import Keys
from tests.edge.caddy import SITE, Edge, running_caddy
from tests.edge.conftest import BALANCER_ADDRESS

MAX_BODY_BYTES = 1_048_576
SILENCE_S = 0.5
CLIENT, OTHER_CLIENT = "127.0.0.2", "127.0.0.3"
ON_EVERY_ANSWER = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
OF_THE_API = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
}


@pytest.fixture
async def outside(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with edge.client(address=CLIENT) as client:
        yield client


async def raw(edge: Edge, request: bytes) -> bytes:
    """Return the bytes received until the connection is closed or silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=edge.tls(), server_hostname=SITE)
    writer.write(request)
    answer = b""
    with contextlib.suppress(TimeoutError):
        while part := await asyncio.wait_for(reader.read(65536), SILENCE_S if answer else 10):
            answer += part
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/health", 200),
        ("/openapi.json", 200),
        ("/.well-known/ciris-billing-keys.json", 200),
        ("/v1/status", 200),
        ("/v1/billing/transactions", 401),
        ("/v1/billing/accounts/oauth:google/a%2Fb/c@example.com", 401),
        ("/admin/users", 401),
        ("/admin-ui/", 200),
    ],
)
async def test_outside_reaches_the_api(path: str, status: int, outside: httpx.AsyncClient) -> None:
    answer = await outside.get(path)
    assert answer.status_code == status
    assert answer.headers["X-Request-ID"]
    assert {name: answer.headers[name] for name in ON_EVERY_ANSWER} == ON_EVERY_ANSWER
    own = PAGES_HEADERS if path.startswith("/admin-ui") else OF_THE_API
    assert {name: answer.headers.get_list(name) for name in own} == {name: [value] for name, value in own.items()}
    assert not {"server", "via"} & set(answer.headers)


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/METRICS", "/metrics/", "//metrics", "/ready", "/demo", "/demo/pay", "/docs", "/adminx"),
        *("/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/..%2fmetrics", "/health/../metrics", "/admin-ui/../metrics"),
        *("/metrics%00", "/metrics;/v1/", "/%6detrics", "/v1/../v1/../ready", "/.env", "/nowhere"),
    ],
)
async def test_nothing_else_is_there(path: str, edge: Edge) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {SITE}:{edge.port}\r\nConnection: close\r\n\r\n"
    answer = (await raw(edge, request.encode())).decode()
    assert answer.startswith("HTTP/1.1 404 ")
    assert '"code":"not_found"' in answer
    assert f"Strict-Transport-Security: {ON_EVERY_ANSWER['Strict-Transport-Security']}" in answer


async def test_plain_http_leads_to_https_and_nowhere_else(edge: Edge) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{edge.http_port}/v1/status", headers={"Host": SITE})
    assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{SITE}/v1/status")


async def test_a_body_may_be_as_long_as_the_api_takes_it(outside: httpx.AsyncClient) -> None:
    answer = await outside.post("/v1/billing/check", content=b"x" * MAX_BODY_BYTES)
    assert answer.status_code == 401


@pytest.mark.parametrize("surplus", [1, 2 * MAX_BODY_BYTES])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("with_key", [False, True])
async def test_a_longer_body_is_413_and_its_rest_is_no_request(
    surplus: int, chunked: bool, with_key: bool, edge: Edge, make_key: MakeKey
) -> None:
    """Without a credential, a body of undeclared length is 401: the API refuses before it reads."""
    size = MAX_BODY_BYTES + surplus
    smuggled = b"GET /v1/status HTTP/1.1\r\nHost: " + SITE.encode() + b"\r\n\r\n"
    body = (smuggled * (size // len(smuggled) + 1))[:size]
    if chunked:
        framing, body = "Transfer-Encoding: chunked", f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    else:
        framing = f"Content-Length: {size}"
    if with_key:
        framing += f"\r\nX-API-Key: {(await make_key({Permission.READ})).secret_text}"
    head = f"POST /v1/billing/check HTTP/1.1\r\nHost: {SITE}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    answer = await raw(edge, head.encode() + body)
    status, code = (401, "unauthorized") if chunked and not with_key else (413, "body_too_large")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert f'"code":"{code}"'.encode() in answer
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_an_allow_list_means_the_clients_address_whatever_is_forwarded(
    edge: Edge, api: str, make_key: MakeKey
) -> None:
    key = (await make_key({Permission.READ}, ip_allow_list=[CLIENT])).secret_text
    query = {"oauth_provider": "oauth:google", "external_id": "edge@example.com"}
    forgeries: list[list[tuple[str, str]]] = [
        [],
        [("X-Forwarded-For", CLIENT)],
        [("X-Forwarded-For", f"{CLIENT}, 127.0.0.1"), ("X-Forwarded-For", CLIENT)],
        [("Forwarded", f"for={CLIENT}"), ("X-Real-IP", CLIENT)],
    ]
    for headers in forgeries:
        for address, status in ((CLIENT, 200), (OTHER_CLIENT, 403)):
            async with edge.client(key, address=address) as client:
                answer = await client.get("/v1/billing/transactions", params=query, headers=headers)
                assert answer.status_code == status, (headers, address)
        # past the edge: the headers of a client that is no trusted proxy are ignored
        past = httpx.AsyncHTTPTransport(local_address=OTHER_CLIENT)
        async with httpx.AsyncClient(transport=past, base_url=api, headers={"X-API-Key": key}) as client:
            assert (await client.get("/v1/billing/transactions", params=query, headers=headers)).status_code == 403


async def test_a_load_balancer_before_caddy_is_believed_as_far_as_it_saw(
    api: str, make_key: MakeKey, tmp_path: Path
) -> None:
    key = (await make_key({Permission.READ}, ip_allow_list=[CLIENT])).secret_text
    query = {"oauth_provider": "oauth:google", "external_id": "edge@example.com"}
    said = ((CLIENT, 200), (OTHER_CLIENT, 403), (f"{CLIENT}, {OTHER_CLIENT}", 403), (f"{OTHER_CLIENT}, {CLIENT}", 200))
    with running_caddy([api], tmp_path, {"EDGE_TRUSTED_PROXIES": f"{BALANCER_ADDRESS}/32"}) as edge:
        for forwarded, status in said:
            for address, expected in ((BALANCER_ADDRESS, status), (OTHER_CLIENT, 403)):
                async with edge.client(key, address=address) as client:
                    headers = {"X-Forwarded-For": forwarded}
                    answer = await client.get("/v1/billing/transactions", params=query, headers=headers)
                    assert answer.status_code == expected, (address, forwarded)


async def test_trailers_pass_for_no_headers(edge: Edge, make_key: MakeKey) -> None:
    key = (await make_key({Permission.READ}, ip_allow_list=[CLIENT])).secret_text
    answer = await raw(edge, checking_with_trailers(key))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"address_not_allowed" in answer


def checking_with_trailers(key: str) -> bytes:
    """A check whose trailers claim what a proxy would say."""
    body = b'{"oauth_provider": "oauth:google", "external_id": "edge@example.com"}'
    head = (
        f"POST /v1/billing/check HTTP/1.1\r\nHost: {SITE}\r\nX-API-Key: {key}\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        "Trailer: X-Forwarded-For, X-Client-Subject\r\n\r\n"
    )
    tail = f"\r\n0\r\nX-Forwarded-For: {CLIENT}\r\nX-Client-Subject: CN=agent-7,O=Example\r\n\r\n"
    return head.encode() + f"{len(body):x}\r\n".encode() + body + tail.encode()


async def test_no_redirect_leads_out_of_tls(outside: httpx.AsyncClient) -> None:
    answer = await outside.get("/admin-ui")
    assert (answer.status_code, answer.headers["Location"]) == (308, "/admin-ui/")
    assert (await outside.get("/v1/status/")).status_code == 404


async def test_pages_are_compressed_and_what_the_api_says_is_not(outside: httpx.AsyncClient) -> None:
    """Secrets and what callers sent may stand side by side in an answer of the API: its length must tell nothing."""
    headers = {"Accept-Encoding": "gzip"}
    assert (await outside.get("/admin-ui/", headers=headers)).headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in (await outside.get("/openapi.json", headers=headers)).headers


async def test_a_charge_through_the_edge(edge: Edge, keys: Keys, user: dict[str, str]) -> None:
    async with edge.client(keys.agent, address=CLIENT) as client:
        charge = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": "edge-1"}
        first = await client.post("/v1/billing/charges", json=charge)
        again = await client.post("/v1/billing/charges", json=charge)
    assert (first.status_code, again.status_code) == (201, 409)
    assert again.headers["X-Existing-Charge-ID"] == first.json()["charge_id"]


async def test_without_a_replica_callers_are_told_to_come_again(alone: Edge, keys: Keys) -> None:
    async with alone.client(keys.agent) as client:
        answer = await client.post("/v1/billing/charges", json={})
    assert (answer.status_code, answer.headers["Retry-After"], answer.json()["code"]) == (503, "1", "busy")
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
