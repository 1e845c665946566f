"""CORS: pages of listed origins may call the routes of end users; no other page and no other route is allowed."""

from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError

from app.http.cors import CROSS_ORIGIN
from app.main import create_app
from app.settings import Mode, Settings
from tests.conftest import settings_for
from tests.databases import Urls
from tests.servers import serving

ZOS, DEV = "https://zos.example.com", "http://localhost:5173"
OTHERS = (
    *("https://evil.example.com", "http://zos.example.com", f"{ZOS}.evil.com", f"{ZOS}:8443", f"{ZOS}/"),
    *("https://ZOS.example.com", "null", "*", "", f"{ZOS}, {DEV}", f"{ZOS} {DEV}", f"{ZOS}@evil.example.com"),
)
ALLOW_ORIGIN, ALLOW_CREDENTIALS = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"


@pytest.fixture(scope="module")
def url(database: Urls) -> Iterator[str]:
    with serving(create_app(settings_for(database, cors_origins=[ZOS, DEV]))) as url:
        yield url


def preflight(url: str, path: str, origin: str, **headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", **headers}
    return httpx.options(f"{url}{path}", headers=asked)


def permissions(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", [ZOS, DEV])
@pytest.mark.parametrize("path", [*CROSS_ORIGIN, "/api/billing/payment/stripe/create", "/v1/accounts/me"])
def test_a_listed_origin_may_call_with_credentials(path: str, origin: str, url: str) -> None:
    asked = {"Access-Control-Request-Headers": "authorization, content-type, x-app-platform"}
    answer = preflight(url, path, origin, **asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (answer.headers[ALLOW_ORIGIN], answer.headers[ALLOW_CREDENTIALS]) == (origin, "true")
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "x-app-platform"} <= set(allowed)
    assert {"GET", "POST", "PUT", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert answer.headers["Vary"] == "Origin"
    assert answer.headers["X-Request-ID"]
    refused = httpx.get(f"{url}{path}", headers={"Origin": origin})
    assert refused.status_code in (401, 404, 405) or path == "/v1/plans"  # which needs no credential
    assert (refused.headers[ALLOW_ORIGIN], refused.headers[ALLOW_CREDENTIALS]) == (origin, "true")
    assert refused.headers["Vary"] == "Origin"
    assert "error" in refused.json() or refused.status_code == 200


@pytest.mark.parametrize("origin", OTHERS)
def test_no_other_origin_is_mirrored(origin: str, url: str) -> None:
    for path in CROSS_ORIGIN:
        answers = [preflight(url, path, origin), httpx.get(f"{url}{path}", headers={"Origin": origin})]
        assert [permissions(answer) for answer in answers] == [{}, {}]
        assert {answer.headers["Vary"] for answer in answers} == {"Origin"}
        assert answers[0].status_code in (404, 405)


def test_two_origins_are_none(url: str) -> None:
    answer = httpx.get(f"{url}/v1/accounts/me", headers=[("Origin", ZOS), ("Origin", DEV)])
    assert permissions(answer) == {}


def test_answers_without_an_origin_vary_too(url: str) -> None:
    answer = httpx.get(f"{url}/v1/accounts/me")
    assert (permissions(answer), answer.headers["Vary"]) == ({}, "Origin")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/health", "/v1/status", "/openapi.json", "/metrics", "/admin/users", "/admin-ui/"),
        *("/v1/billing/check", "/v1/billing/transactions", "/v1/tools/balance", "/v1/billing/webhooks/stripe"),
        *("/v1/usage", "/v1/usage/batch", "/v1/usage/meters", "/v1/credits/add", "/v1/credits/signup-grant"),
        *("/v1/events", "/api/v1/events", "/v1/cost-records", "/v1/accountsx", "//v1/accounts", "/V1/accounts"),
    ],
)
def test_other_routes_are_closed_to_pages(path: str, url: str) -> None:
    for answer in (preflight(url, path, ZOS), httpx.get(f"{url}{path}", headers={"Origin": ZOS}, timeout=60)):
        assert permissions(answer) == {}
        assert "Origin" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize("missing", ["Origin", "Access-Control-Request-Method"])
def test_options_without_a_preflights_headers_is_a_plain_request(missing: str, url: str) -> None:
    asked = {"Origin": ZOS, "Access-Control-Request-Method": "POST"}
    del asked[missing]
    assert httpx.options(f"{url}/v1/accounts", headers=asked).status_code in (404, 405)


def test_nothing_is_allowed_by_default(database: Urls) -> None:
    with serving(create_app(settings_for(database))) as url:
        for answer in (
            preflight(url, "/v1/accounts/me", ZOS),
            httpx.get(f"{url}/v1/accounts", headers={"Origin": ZOS}),
        ):
            assert permissions(answer) == {}
            assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "", "zos.example.com", "https://", "https://*.example.com", "ftp://zos.example.com"),
        *(
            f"{ZOS}/",
            f"{ZOS}/app",
            f"{ZOS}?a",
            f"{ZOS}:443",
            f"{ZOS}:0",
            f"{ZOS}:123456",
            f"{ZOS}:x",
            f"https://a@{ZOS}",
        ),
        *("http://localhost:80", "https://zos example.com", "https://ünï.example.com", "https://-a.example.com"),
        "https://" + "a" * 255,
    ],
)
def test_a_setting_that_no_browser_sends_is_refused(origin: str, database: Urls) -> None:
    with pytest.raises(ValidationError, match=r"(?i)cors_origins"):
        settings_for(database, cors_origins=[origin])


def test_origins_are_stored_as_browsers_send_them(database: Urls) -> None:
    settings = settings_for(database, cors_origins=["HTTPS://Zos.Example.com", "http://[::1]:5173"])
    assert settings.cors_origins == [ZOS, "http://[::1]:5173"]


def test_production_needs_tls(database: Urls) -> None:
    values = {"mode": Mode.PRODUCTION, "database_url": database.service, "metrics_token": "m" * 40}
    assert Settings.model_validate({**values, "cors_origins": [ZOS]}).cors_origins == [ZOS]
    with pytest.raises(ValidationError, match="CORS_ORIGINS names an origin without TLS"):
        Settings.model_validate({**values, "cors_origins": [DEV]})
