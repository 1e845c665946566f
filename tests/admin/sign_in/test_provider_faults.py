"""A provider that is unavailable or answers nonsense admits no one and causes no failure."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from app.demo.oidc import Client, create_app
from tests.admin.conftest import Office
from tests.admin.sign_in.conftest import CALLBACK, PEOPLE, Browser, no_new_session, refused
from tests.conftest import running_app, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import SPA, RunningOIDC
from tests.servers import free_port, serving


def busy(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] in ("busy", "issuer_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Set-Cookie" not in answer.headers


async def test_an_absent_provider_is_503_until_it_is_back(office: Office, provider: RunningOIDC) -> None:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    settings = office.app.state.settings.model_copy(update={"admin_oauth_issuer": issuer})
    async with running_app(settings) as app:
        http = httpx.Client(base_url=issuer, timeout=10, trust_env=False)
        browser = Browser(app, RunningOIDC(issuer, port, http))
        busy(await browser.http.get("/admin/oauth/login"))
        clients = [Client(SPA.client_id, None, (f"http://127.0.0.1{CALLBACK}",))]
        with serving(create_app(issuer=issuer, clients=clients, users=PEOPLE), port), http:
            assert (await browser.sign_in()).status_code == 302
            query = browser.consent(await browser.begin())
        async with no_new_session(office):
            busy(await browser.end(query))
        await browser.http.aclose()


@pytest.mark.parametrize("mode", ["error", "black_hole"])
async def test_a_token_endpoint_that_fails_is_503(
    office: Office, browser: Browser, provider: RunningOIDC, mode: str
) -> None:
    async with no_new_session(office):
        provider.switch(token_endpoint=mode)
        busy(await browser.sign_in())
    provider.reset()
    assert (await browser.sign_in()).status_code == 302


@pytest.mark.parametrize("mode", ["error", "black_hole"])
async def test_keys_that_cannot_be_fetched_are_503(office: Office, provider: RunningOIDC, mode: str) -> None:
    async with running_app(office.app.state.settings) as app, no_new_session(office):
        browser = Browser(app, provider)
        provider.switch(jwks=mode)
        busy(await browser.sign_in())
        await browser.http.aclose()


class FaultyProvider:
    """A provider that answers what a test puts here."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.discovery: Response = JSONResponse(self.document())
        self.token: Response = Response()
        self.app = FastAPI()
        self.app.add_api_route("/.well-known/openid-configuration", self._discovery)
        self.app.add_api_route("/token", self._token, methods=["POST"])

    def document(self, **changes: object) -> dict[str, Any]:
        endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        return {"issuer": self.issuer, **{k: f"{self.issuer}/{v}" for k, v in endpoints.items()}, **changes}

    async def _discovery(self, request: Request) -> Response:
        return self.discovery

    async def _token(self, request: Request) -> Response:
        return self.token


@pytest.fixture(scope="module")
async def faulty(office: Office) -> AsyncIterator[tuple[FaultyProvider, Office]]:
    """The provider, and an office that trusts it."""
    port = free_port()
    provider = FaultyProvider(f"http://127.0.0.1:{port}")
    settings = office.app.state.settings.model_copy(update={"admin_oauth_issuer": provider.issuer})
    with serving(provider.app, port):
        async with running_app(settings) as app:
            yield provider, Office(app, office.urls)


BODIES = [
    *("", "{}", "[]", "null", "5", '"x"', "<h1>Welcome", '{"id_token":'),
    *('{"id_token": null}', '{"id_token": 5}', '{"id_token": ["a"]}', '{"id_token": "a.b.c"}', '{"id_token": "é"}'),
    f'{{"id_token": "{"x" * 20_000}"}}',
    *('{"expires_in": "x"}', '{"expires_in": [1]}', '{"expires_in": 1e400}', '{"expires_at": [1]}'),
    *('{"error": "invalid_grant"}', '{"error": null}', '{"error": ["x"]}'),
]
TOKEN_ANSWERS = [(status, body) for status in (200, 400) for body in BODIES]
TOKEN_ANSWERS += [(status, "{}") for status in (302, 401, 404, 500, 502)]


@pytest.mark.parametrize(("status", "body"), TOKEN_ANSWERS)
async def test_whatever_the_token_endpoint_says_the_answer_is_a_refusal(
    faulty: tuple[FaultyProvider, Office], status: int, body: str
) -> None:
    provider, office = faulty
    provider.discovery = JSONResponse(provider.document())
    provider.token = Response(body, status, media_type="application/json")
    async with office.client(None) as http, no_new_session(office):
        login = await http.get("/admin/oauth/login")
        state = parse_qs(urlsplit(login.headers["Location"]).query)["state"][0]
        answer = await http.get(CALLBACK, params={"state": state, "code": "a-code"})
        assert answer.status_code in (400, 503), answer.text
        assert answer.json()["code"] in ("sign_in_failed", "busy")


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://elsewhere.example"},
        *({name: None} for name in ("issuer", "jwks_uri")),
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_a_discovery_document_that_is_wrong_is_503(office: Office, changes: dict[str, object]) -> None:
    port = free_port()
    provider = FaultyProvider(f"http://127.0.0.1:{port}")
    provider.discovery = JSONResponse(provider.document(**changes))
    await _discovery_fails(office, provider, port)


@pytest.mark.parametrize(
    "answer",
    [
        *(Response(body, media_type="application/json") for body in ("[]", "null", '"x"', "{}")),
        HTMLResponse("<h1>Sign in to the network"),
        RedirectResponse("http://127.0.0.1:1/elsewhere"),
        Response(b"\xff\xfe", media_type="application/json"),
        Response(status_code=500),
    ],
    ids=["list", "null", "text", "empty", "html", "redirect", "bytes", "error"],
)
async def test_a_discovery_document_that_is_none_is_503(office: Office, answer: Response) -> None:
    port = free_port()
    provider = FaultyProvider(f"http://127.0.0.1:{port}")
    provider.discovery = answer
    await _discovery_fails(office, provider, port)


async def _discovery_fails(office: Office, provider: FaultyProvider, port: int) -> None:
    settings = office.app.state.settings.model_copy(update={"admin_oauth_issuer": provider.issuer})
    with serving(provider.app, port):
        async with running_app(settings) as app, Office(app, office.urls).client(None) as http:
            busy(await http.get("/admin/oauth/login"))


@pytest.mark.parametrize("path", ["/admin/oauth/login", f"{CALLBACK}?code=x&state=y"])
@pytest.mark.parametrize("missing", ["admin_oauth_client_id", "admin_session_secret"])
async def test_without_configuration_signing_in_is_503(office: Office, missing: str, path: str) -> None:
    settings = office.app.state.settings.model_copy(update={missing: None})
    async with running_app(settings) as app, Office(app, office.urls).client(None) as http:
        answer = await http.get(path)
        refused(answer, 503, "sign_in_not_configured")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_beginning_often_is_limited_by_address(database: Urls, office: Office) -> None:
    settings = settings_for(database, rate_limit_per_address=3)
    async with running_app(settings) as app, Office(app, database).client(None) as http:
        codes = [(await http.get(path)).status_code for path in ("/admin/oauth/login", CALLBACK) for _ in range(3)]
    assert codes == [503, 503, 503, 429, 429, 429]
