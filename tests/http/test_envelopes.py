"""Error envelopes: every failure on the routes of Z-Billing and SecondLayer has the members that their clients read."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.auth.dependencies import EndUser, MoneyMinter
from app.auth.errors import RateLimited
from app.errors import Busy, InvalidRequest, error_body
from app.http.envelopes import ENVELOPES, envelope_of, second_layer, z_billing
from app.http.protocol import MAX_HEAD_BYTES, Refused, refusal
from app.http.schemas import CodedErrorReply, CodedInvalidReply, NamedErrorReply, NamedInvalidReply
from app.ledger.errors import AccountNotFound
from app.main import create_app
from tests.conftest import settings_for
from tests.databases import Urls
from tests.raw_http import ask, post
from tests.servers import serving

OURS = {"detail", "code", "request_id"}
Z, SECOND, PLAIN = "/v1/usage", "/api/billing", "/v1/billing"
TIMEOUT_S, MAX_BODY_BYTES = 0.2, 2048


@dataclass(frozen=True)
class Failure:
    """A failing answer that a route writes itself."""

    status: int
    code: str
    detail: str
    more: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        return JSONResponse({**error_body(self.detail, self.code), **self.more}, self.status, self.headers)


BROKE = {"details": {"balance": 1, "required": 2}, "balance": {"current_usd": 0.01}}
FAILURES: dict[str, Failure | Exception] = {
    "broke": Failure(402, "insufficient_money", "Insufficient money", BROKE),
    "repeated": Failure(409, "duplicate_event", "Event e-1 already processed"),
    "exists": Failure(409, "account_exists", "Account already exists"),
    "missing": AccountNotFound(),
    "fast": RateLimited("API key", retry_after_s=7),
    "day": Failure(429, "daily_limit_exceeded", "Daily limit exceeded"),
    "invalid": InvalidRequest("amount must be positive", field="amount"),
    "bug": RuntimeError("secret"),
    "busy": Busy(),
    "provider": Failure(502, "payment_provider_error", "The payment provider failed"),
}


class Body(BaseModel):
    number: int


def with_failures(app: FastAPI) -> FastAPI:
    """Add, under the prefix of each envelope and of none, routes that fail in every way."""
    for prefix in (Z, SECOND, PLAIN):

        @app.get(f"{prefix}/fail/{{how}}")
        async def fail(how: str) -> JSONResponse:
            failure = FAILURES[how]
            if isinstance(failure, Exception):
                raise failure
            return failure.response()

        @app.post(f"{prefix}/body")
        async def body(body: Body) -> Body:
            return body

        @app.get(f"{prefix}/query")
        async def query(limit: Annotated[int, Query(ge=1)]) -> int:
            return limit

        @app.get(f"{prefix}/slow")
        async def slow() -> None:
            await asyncio.sleep(60)

        @app.get(f"{prefix}/user")
        async def user(caller: EndUser) -> None: ...

        @app.get(f"{prefix}/money")
        async def money(caller: MoneyMinter) -> None: ...

        @app.get(f"{prefix}/echo")
        async def echo(request: Request) -> dict[str, str]:
            return {"path": request.url.path}

    return app


@pytest.fixture(scope="module")
def url(database: Urls) -> Iterator[str]:
    settings = settings_for(database, max_body_bytes=MAX_BODY_BYTES)
    with serving(with_failures(create_app(settings))) as url:
        yield url


def check_z(answer: Any, status: int, code: str) -> str:
    """Return the message of a failure in Z-Billing's envelope."""
    body = answer.json()
    assert (answer.status_code, body["error"]["code"]) == (status, code), body
    (CodedInvalidReply if status == 422 else CodedErrorReply).model_validate(body, strict=True)
    assert set(body["error"]) - {"details"} == {"code", "message"}
    assert body["request_id"] == answer.headers["X-Request-ID"]
    message: str = body["error"]["message"]
    assert message
    return message


def check_second(answer: Any, status: int, code: str) -> str:
    """Return the message of a failure in SecondLayer's envelope."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    (NamedInvalidReply if status == 422 else NamedErrorReply).model_validate(body, strict=True)
    assert body["request_id"] == answer.headers["X-Request-ID"]
    message: str = body["message"]
    assert message
    return message


@pytest.mark.parametrize(
    ("how", "status", "z_code", "second_code"),
    [
        ("broke", 402, "insufficient_credits", "INSUFFICIENT_BALANCE"),
        ("repeated", 409, "duplicate_event", "duplicate_event"),
        ("exists", 409, "conflict", "account_exists"),
        ("missing", 404, "not_found", "account_not_found"),
        ("fast", 429, "rate_limited", "RATE_LIMIT_EXCEEDED"),
        ("day", 429, "rate_limited", "DAILY_LIMIT_EXCEEDED"),
        ("invalid", 422, "bad_request", "invalid_request"),
        ("bug", 500, "internal_error", "internal_error"),
        ("busy", 503, "unavailable", "BILLING_UNAVAILABLE"),
        ("provider", 502, "external_service_error", "payment_provider_error"),
    ],
)
def test_errors_of_the_application(how: str, status: int, z_code: str, second_code: str, url: str) -> None:
    z, second, plain = (httpx.get(f"{url}{prefix}/fail/{how}") for prefix in (Z, SECOND, PLAIN))
    message = check_z(z, status, z_code)
    assert check_second(second, status, second_code) == message == plain.json()["detail"]
    assert set(plain.json()) & {"error", "message"} == set()
    assert "secret" not in z.text + second.text
    assert z.json()["code"] == plain.json()["code"]
    for answer in (z, second):
        assert answer.headers.get("Retry-After") == plain.headers.get("Retry-After")
        assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_figures_and_details(url: str) -> None:
    z, second = (httpx.get(f"{url}{prefix}/fail/broke").json() for prefix in (Z, SECOND))
    assert z["error"]["details"] == {"balance": 1, "required": 2}
    assert z["balance"] == second["balance"] == {"current_usd": 0.01}
    assert "details" not in z
    assert "details" not in second
    assert httpx.get(f"{url}{Z}/fail/invalid").json()["field"] == "amount"


def test_the_client_finds_the_missing_account_by_its_capital(url: str) -> None:
    assert "Account" in httpx.get(f"{url}{Z}/fail/missing").json()["error"]["message"]
    assert "Account" not in httpx.get(f"{url}{Z}/nowhere").json()["error"]["message"]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "z_code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("GET", "/", {}, 404, "not_found"),
        ("DELETE", "/body", {}, 405, "bad_request"),
        ("OPTIONS", "/body", {}, 405, "bad_request"),
        ("BREW", "/body", {}, 400, "bad_request"),
        ("POST", "/body", {"content": b"{", "headers": JSON}, 422, "bad_request"),
        ("POST", "/body", {"content": b"\xff", "headers": JSON}, 400, "bad_request"),
        ("POST", "/body", {"content": b"number=1"}, 422, "bad_request"),
        ("POST", "/body", {"content": b"", "headers": JSON}, 422, "bad_request"),
        ("POST", "/body", {"json": {"number": "x"}}, 422, "bad_request"),
        ("POST", "/body", {"content": b"x" * (MAX_BODY_BYTES + 1)}, 413, "bad_request"),
        ("POST", "/body", {"content": iter([b" " * MAX_BODY_BYTES, b"1"]), "headers": JSON}, 413, "bad_request"),
        ("GET", "/query", {"params": {"limit": "many"}}, 422, "bad_request"),
        ("GET", "/user", {}, 401, "unauthorized"),
        ("GET", "/user", {"headers": {"Authorization": "Bearer a.b.c"}}, 401, "unauthorized"),
        ("GET", "/money", {}, 401, "unauthorized"),
        ("GET", "/money", {"headers": {"X-Admin-Key": "wrong"}}, 401, "unauthorized"),
        ("GET", "/money", {"headers": {"X-API-Key": "wrong"}}, 401, "unauthorized"),
    ],
)
def test_errors_of_the_framework_and_the_middleware(
    method: str, path: str, sent: dict[str, Any], status: int, z_code: str, url: str
) -> None:
    parts = list(sent["content"]) if isinstance(sent.get("content"), Iterator) else None

    def ask_at(prefix: str) -> httpx.Response:
        again = {**sent, "content": iter(parts)} if parts is not None else sent
        return httpx.request(method, f"{url}{prefix}{path}", **again)

    message = check_z(ask_at(Z), status, z_code)
    second = ask_at(SECOND)
    check_second(second, status, second.json()["code"])
    assert (message == "unauthorized") is (status == 401)
    if status == 401:
        assert (second.json()["error"], second.json()["code"]) == ("Unauthorized", "NO_USER_CONTEXT")


def test_a_request_that_takes_too_long(database: Urls) -> None:
    with serving(with_failures(create_app(settings_for(database, request_timeout_s=TIMEOUT_S)))) as url:
        z, second = (httpx.get(f"{url}{prefix}/slow") for prefix in (Z, SECOND))
    check_z(z, 503, "unavailable")
    check_second(second, 503, "BILLING_UNAVAILABLE")


def test_a_wrong_field_is_in_the_message(url: str) -> None:
    answer = httpx.post(f"{url}{Z}/body", json={"number": "x"})
    assert check_z(answer, 422, "bad_request").startswith("number: ")
    assert answer.json()["detail"][0]["loc"] == ["body", "number"]


def test_head_has_the_status_and_no_body(url: str) -> None:
    answer = httpx.head(f"{url}{Z}/fail/missing")
    assert (answer.status_code, answer.content, "Content-Length" in answer.headers) == (404, b"", False)


def test_success_passes_unchanged(url: str) -> None:
    for prefix in (Z, SECOND, PLAIN):
        assert httpx.get(f"{url}{prefix}/echo").json() == {"path": f"{prefix}/echo"}


@pytest.mark.parametrize("target", [Z, f"{Z}/batch?a=b", "/v1/%75sage", f"http://billing{Z}", f"{SECOND}/balance"])
def test_heads_that_the_server_refuses(target: str, url: str) -> None:
    """The protocol class answers these: no application is asked."""
    head = f"GET {target} HTTP/1.1\r\nHost: billing\r\nX-Request-ID: mine\r\n".encode()
    for rest, status in ((b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", 431), (b"no header\r\n\r\n", 400)):
        answer = ask(url, head + rest)
        body = answer.json
        assert (answer.status, body["code"]) == (status, {431: "head_too_large", 400: "bad_request"}[status])
        if SECOND in target:
            assert isinstance(body["error"], str)
            assert body["message"] == body["detail"]
        else:
            assert body["error"] == {"code": "bad_request", "message": body["detail"]}


def test_a_target_that_is_too_long(url: str) -> None:
    answer = ask(url, f"GET {Z}?{'x' * MAX_HEAD_BYTES} HTTP/1.1\r\nHost: billing\r\n\r\n".encode())
    assert (answer.status, answer.json["error"]["code"]) == (431, "bad_request")


@pytest.mark.parametrize("target", ["", "*", "%", "//", "http://", "\x80", Z[:-1], "/v1/billing/check"])
def test_other_targets_get_the_plain_body(target: str) -> None:
    written = refusal(Refused(503, "Busy"), target.encode("latin-1"), "mine")
    assert set(json.loads(written.partition(b"\r\n\r\n")[2])) == OURS


def test_load_shedding_before_the_router() -> None:
    """The bytes that the protocol class writes: it sheds load only on the hot routes."""
    head, _, body = refusal(Refused(503, "Busy"), b"/v1/usage", "mine", b"Retry-After: 1\r\n").partition(b"\r\n\r\n")
    assert b"Retry-After: 1" in head
    assert json.loads(body)["error"] == {"code": "unavailable", "message": "Busy"}


def test_a_malformed_body_over_a_real_connection(url: str) -> None:
    answer = ask(url, post(f"{Z}/body", b'{"number": 1' + b"0" * 5000, b"Content-Length: 99999999999999999999"))
    assert answer.status in (400, 413)
    assert answer.json["error"]["code"] == "bad_request"


@pytest.mark.parametrize("path", ENVELOPES)
def test_the_table_names_paths_and_those_below(path: str) -> None:
    expected = second_layer if path in ("/api/billing", "/api/keys") else z_billing
    for below in (path, f"{path}/", f"{path}/a", f"{path}/a/b/c/d"):
        assert envelope_of(below) is expected
    for other in (f"{path}x", path[:-1], f"/x{path}", path[1:], f"{path[0]}{path}"):
        assert envelope_of(other) is None


@pytest.mark.parametrize(
    "path", ["/", "", "/v1", "/api", "/v1/billing/charges", "/v1/tools/charge", "/admin", "/health"]
)
def test_other_routes_have_no_envelope(path: str) -> None:
    assert envelope_of(path) is None


def test_openapi_describes_the_envelopes(database: Urls) -> None:
    api = create_app(settings_for(database)).openapi()
    schemas = api["components"]["schemas"]
    found = 0
    for path, operations in api["paths"].items():
        envelope = envelope_of(path)
        expected = {"error", "message"} if envelope is second_layer else {"error"} if envelope is z_billing else set()
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if envelope is None or int(status) < 400:
                    continue
                schema = response["content"]["application/json"]["schema"]
                for option in schema.get("anyOf", [schema]):
                    name = option["$ref"].rpartition("/")[2]
                    assert expected <= set(schemas[name]["required"]), f"{method} {path} {status}: {name}"
                    found += 1
    assert found > 50
