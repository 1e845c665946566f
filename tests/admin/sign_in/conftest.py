"""A provider whose clients come back to the back office, its people, and browsers."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.auth.admins import sign_in
from app.auth.admins.admins import add_admin, remove_admin
from app.clock import request_time
from app.demo.oidc import Client, User, create_app
from tests.admin.conftest import DOMAIN, Office
from tests.conftest import running_app
from tests.demo.oidc_server import ALICE, BOB, SPA, RunningOIDC
from tests.servers import free_port, serving

FLOW_COOKIE, SESSION_COOKIE = "ciris_billing_sign_in", "ciris_billing_admin"
CALLBACK = "/admin/oauth/callback"
WITH_SECRET = Client("back-office", "a secret: with%odd+characters", (f"http://127.0.0.1{CALLBACK}",))
STRANGER = User("stranger", f"stranger@{DOMAIN}", "Nobody here", hd=DOMAIN)
OUTSIDER = User("outsider", "alice@elsewhere.example", "Of another domain", hd=DOMAIN)
SUBDOMAIN = User("subdomain", f"alice@evil.{DOMAIN}", "Nearly the domain", hd=DOMAIN)
SUFFIX = User("suffix", f"alice@evil{DOMAIN}", "Ends like the domain", hd=DOMAIN)
TWO_ATS = User("two-ats", f"alice@elsewhere.example@{DOMAIN}", "Two at-signs", hd=DOMAIN)
PRIVATE = User("private", ALICE.email, "No hosted domain")
SHOUTING = User("shouting", ALICE.email.upper(), "Alice in capitals", hd=DOMAIN)
KELVIN = User("kelvin", f"\u212aate@{DOMAIN}", "Not kate: the Kelvin sign", hd=DOMAIN)
NUL = User("nul", f"alice\0@{DOMAIN}", "A byte that PostgreSQL refuses", hd=DOMAIN)
SURROGATE = User("surrogate", f"\ud800@{DOMAIN}", "Half a character", hd=DOMAIN)
TEXTUAL = User("textual", ALICE.email, "Verified, in a text", email_verified="true")
MAYBE = User("maybe", ALICE.email, "Not quite verified", email_verified="True")
GONE = User("gone", f"gone@{DOMAIN}", "Let in once, not any more", hd=DOMAIN)
PEOPLE = [
    *(ALICE, BOB, STRANGER, OUTSIDER, SUBDOMAIN, SUFFIX, TWO_ATS),
    *(PRIVATE, SHOUTING, KELVIN, NUL, GONE, TEXTUAL, MAYBE),
]
SetClock = Callable[[datetime], None]


@pytest.fixture(scope="module")
def provider() -> Iterator[RunningOIDC]:
    """As everywhere, but its clients come back to the back office."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    redirects = tuple(f"{base}{CALLBACK}" for base in ("http://127.0.0.1", "https://office.example.com"))
    clients = [Client(SPA.client_id, None, redirects), WITH_SECRET]
    app = create_app(issuer=issuer, clients=clients, users=PEOPLE)
    with serving(app, port), httpx.Client(base_url=issuer, timeout=10, trust_env=False) as http:
        yield RunningOIDC(issuer, port, http)


@pytest.fixture(autouse=True)
async def alice(office: Office, provider: RunningOIDC) -> AsyncIterator[UUID]:
    """Alice is an admin of the lowest role, the clock is right and the provider behaves; also after the test."""
    provider.reset()
    async with office.db.transaction() as tx:
        row = await add_admin(tx, ALICE.email, "viewer", now=datetime.now(UTC))
        # Those of other domains are admins too, so that only the domain keeps them out.
        for email in (f"kate@{DOMAIN}", GONE.email, OUTSIDER.email, SUBDOMAIN.email, SUFFIX.email):
            await add_admin(tx, email, "admin", now=datetime.now(UTC))
        await remove_admin(tx, GONE.email, now=datetime.now(UTC))
    yield row.admin_id
    office.app.dependency_overrides.pop(request_time, None)
    provider.reset()


@pytest.fixture
def at(office: Office) -> SetClock:
    def move(to: datetime) -> None:
        office.app.dependency_overrides[request_time] = lambda: to

    return move


class Browser:
    """A user's browser: keeps cookies, follows redirects one at a time, clicks at the provider."""

    def __init__(self, app: FastAPI, provider: RunningOIDC, base_url: str = "http://127.0.0.1") -> None:
        self.provider = provider
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)

    async def begin(self, **query: str) -> str:
        """The provider's address that signing in leads to."""
        answer = await self.http.get("/admin/oauth/login", params=query)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    def consent(self, url: str, user: User = ALICE) -> dict[str, str]:
        """Click a person's button. Return the query that the provider sends back with the browser."""
        answer = self.provider.http.post(url, data={"sub": user.sub})
        assert answer.status_code == 303, answer.text
        return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    async def end(self, query: dict[str, str]) -> httpx.Response:
        return await self.http.get(CALLBACK, params=query)

    async def sign_in(self, user: User = ALICE, **query: str) -> httpx.Response:
        return await self.end(self.consent(await self.begin(**query), user))

    async def who(self) -> httpx.Response:
        return await self.http.get("/admin/oauth/user")

    def cookie(self, name: str) -> str:
        value = next(cookie.value for cookie in self.http.cookies.jar if cookie.name == name)
        assert value is not None
        return value

    def put_flow(self, value: str) -> None:
        self.http.cookies.delete(FLOW_COOKIE) if FLOW_COOKIE in self.http.cookies else None
        self.http.cookies.set(FLOW_COOKIE, value, domain="127.0.0.1", path=CALLBACK)


@pytest.fixture
async def browser(office: Office, provider: RunningOIDC) -> AsyncIterator[Browser]:
    browser = Browser(office.app, provider)
    yield browser
    await browser.http.aclose()


@pytest.fixture
async def browser_at_google(
    office: Office, provider: RunningOIDC, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Browser]:
    """A browser of an office whose provider counts as Google."""
    monkeypatch.setattr(sign_in, "GOOGLE_ISSUERS", (provider.issuer,))
    async with running_app(office.app.state.settings) as app:
        browser = Browser(app, provider)
        yield browser
        await browser.http.aclose()


@pytest.fixture
async def other_browser(office: Office, provider: RunningOIDC) -> AsyncIterator[Browser]:
    browser = Browser(office.app, provider)
    yield browser
    await browser.http.aclose()


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code
    assert SESSION_COOKIE not in answer.headers.get("Set-Cookie", "")


@contextlib.asynccontextmanager
async def no_new_session(office: Office) -> AsyncIterator[None]:
    """Nothing that happens inside opens a session, or says in the audit log that it did."""
    counts = "SELECT (SELECT count(*) FROM admin_sessions) s, (SELECT count(*) FROM admin_audit_log) a"
    before = await office.rows(counts)
    yield
    assert await office.rows(counts) == before


def set_cookies(answer: httpx.Response) -> SimpleCookie:
    cookies = SimpleCookie()
    for line in answer.headers.get_list("Set-Cookie"):
        cookies.load(line)
    return cookies
