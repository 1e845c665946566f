"""Signing in: only who began it in this browser, only whom the provider vouches for, only once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit
from uuid import UUID

import httpx
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import SecretStr

from app.auth.admin_sessions import Signer
from app.auth.admins import add_admin, remove_admin
from app.clock import request_time
from app.demo.oidc import Client, Fault, User, create_app
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.conftest import running_app, settings_for
from tests.databases import Urls
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
GONE = User("gone", f"gone@{DOMAIN}", "Let in once, not any more", hd=DOMAIN)
PEOPLE = [
    *(ALICE, BOB, STRANGER, OUTSIDER, SUBDOMAIN, SUFFIX, TWO_ATS),
    *(PRIVATE, SHOUTING, KELVIN, NUL, GONE),
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
    """Somebody's browser: keeps cookies, follows redirects one at a time, clicks at the provider."""

    def __init__(self, app: FastAPI, provider: RunningOIDC, base_url: str = "http://127.0.0.1") -> None:
        self.provider = provider
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)

    async def begin(self, **query: str) -> str:
        """The provider's address that signing in leads to."""
        answer = await self.http.get("/admin/oauth/login", params=query)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["Location"])

    def consent(self, url: str, user: User = ALICE) -> dict[str, str]:
        """Click a person's button: what the provider sends back with the browser."""
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


# --- the way that works ---------------------------------------------------------------------------------------


async def test_a_whole_sign_in_from_the_first_click_to_the_last(
    office: Office, browser: Browser, alice: UUID, provider: RunningOIDC
) -> None:
    async with office.db.transaction() as tx:
        await add_admin(tx, ALICE.email, "admin", now=datetime.now(UTC))
    login = await browser.http.get("/admin/oauth/login", params={"return_to": "/admin-ui/users?page=2"})
    assert (login.status_code, login.headers["Cache-Control"]) == (302, "no-store")
    flow = set_cookies(login)[FLOW_COOKIE]
    assert (flow["httponly"], flow["samesite"], flow["path"], flow["max-age"]) == (True, "lax", CALLBACK, "600")
    page = provider.http.get(login.headers["Location"])
    assert ALICE.email in page.text
    assert BOB.email not in page.text, "the page offers accounts of the domain only"

    back = await browser.end(browser.consent(login.headers["Location"]))

    assert (back.status_code, back.headers["Location"]) == (302, "/admin-ui/users?page=2")
    assert back.headers["Cache-Control"] == "no-store"
    cookies = set_cookies(back)
    session = cookies[SESSION_COOKIE]
    assert (session["httponly"], session["samesite"], session["path"]) == (True, "lax", "/admin")
    assert session["domain"] == ""
    assert cookies[FLOW_COOKIE].value == ""
    who = (await browser.who()).json()
    assert (who["admin_id"], who["email"], who["role"]) == (str(alice), ALICE.email, "admin")
    body = {"email": f"by-alice@{DOMAIN}", "role": "viewer"}
    written = await browser.http.post("/admin/admins", json=body, headers={"X-CSRF-Token": who["csrf_token"]})
    assert written.status_code == 201, written.text

    bearer = {"Authorization": f"Bearer {session.value}"}
    async with running_app(office.app.state.settings) as second:
        elsewhere = Browser(second, provider)
        assert (await elsewhere.http.get("/admin/oauth/user", headers=bearer)).status_code == 200
        out = await browser.http.post("/admin/oauth/logout", headers={"X-CSRF-Token": who["csrf_token"]})
        assert out.status_code == 204
        assert SESSION_COOKIE not in browser.http.cookies
        refused(await browser.who(), 401, "admin_unauthorized")
        for there in (browser, elsewhere):
            refused(await there.http.get("/admin/oauth/user", headers=bearer), 401, "admin_unauthorized")
            there.http.cookies.set(SESSION_COOKIE, session.value, domain="127.0.0.1", path="/admin")
            refused(await there.who(), 401, "admin_unauthorized")
        await elsewhere.http.aclose()


async def test_signing_in_leaves_a_session_and_its_audit_row(office: Office, browser: Browser, alice: UUID) -> None:
    query = browser.consent(await browser.begin())
    headers = {"User-Agent": "a browser " + "x" * 300, "X-Request-ID": "the-callback"}
    answer = await browser.http.get(CALLBACK, params=query, headers=headers)
    assert answer.headers["Location"] == "/admin-ui/"
    (session,) = await office.rows(
        "SELECT * FROM admin_sessions WHERE admin_id = $1 ORDER BY session_id DESC LIMIT 1", alice
    )
    assert session["address"] == "127.0.0.1"
    assert session["user_agent"] == headers["User-Agent"][:255]
    assert session["expires_at"] - session["created_at"] == timedelta(hours=8)
    row = (await office.audit("session.open"))[-1]
    assert (row["admin_id"], row["admin_email"], row["session_id"]) == (alice, ALICE.email, session["session_id"])
    assert (row["target_type"], row["target_id"]) == ("session", str(session["session_id"]))
    assert (row["address"], row["request_id"]) == ("127.0.0.1", "the-callback")


async def test_one_process_begins_and_another_ends(office: Office, browser: Browser, provider: RunningOIDC) -> None:
    query = browser.consent(await browser.begin())
    async with running_app(office.app.state.settings) as second:
        elsewhere = Browser(second, provider)
        elsewhere.put_flow(browser.cookie(FLOW_COOKIE))
        assert (await elsewhere.end(query)).status_code == 302
        assert (await elsewhere.who()).json()["email"] == ALICE.email
        await elsewhere.http.aclose()


async def test_an_address_in_capitals_is_the_same_person(browser: Browser, alice: UUID) -> None:
    assert (await browser.sign_in(SHOUTING)).status_code == 302
    assert (await browser.who()).json()["admin_id"] == str(alice)


async def test_elliptic_curve_signatures_are_fine(browser: Browser, provider: RunningOIDC, office: Office) -> None:
    provider.switch(signing_alg="ES256")
    async with running_app(office.app.state.settings) as fresh:  # the other one may ask for new keys once a minute
        visitor = Browser(fresh, provider)
        assert (await visitor.sign_in()).status_code == 302
        await visitor.http.aclose()


async def test_each_sign_in_asks_with_fresh_values_and_pkce(browser: Browser) -> None:
    asked = [parse_qs(urlsplit(await browser.begin()).query) for _ in range(3)]
    for name in ("state", "nonce", "code_challenge"):
        values = {query[name][0] for query in asked}
        assert len(values) == 3
        assert all(len(value) >= 43 for value in values)
    for query in asked:
        assert query["code_challenge_method"] == ["S256"]
        assert query["response_type"] == ["code"]
        assert query["redirect_uri"] == [f"http://127.0.0.1{CALLBACK}"]
        assert query["hd"] == [DOMAIN]
        assert set(query["scope"][0].split()) == {"openid", "email", "profile"}


async def test_over_https_every_cookie_is_secure(office: Office, provider: RunningOIDC) -> None:
    settings = office.app.state.settings.model_copy(update={"public_url": "https://office.example.com"})
    async with running_app(settings) as app:
        browser = Browser(app, provider, "https://office.example.com")
        login = await browser.http.get("/admin/oauth/login")
        back = await browser.end(browser.consent(login.headers["Location"]))
        assert set_cookies(login)[FLOW_COOKIE]["secure"] is True
        assert set_cookies(back)[SESSION_COOKIE]["secure"] is True
        assert (await browser.who()).status_code == 200
        await browser.http.aclose()


async def test_a_client_with_a_secret_proves_it(office: Office, provider: RunningOIDC) -> None:
    assert WITH_SECRET.client_secret is not None
    for secret, status in ((WITH_SECRET.client_secret, 302), ("another secret", 400)):
        changes = {
            "admin_oauth_client_id": WITH_SECRET.client_id,
            "admin_oauth_client_secret": SecretStr(secret),
        }
        async with running_app(office.app.state.settings.model_copy(update=changes)) as app:
            browser = Browser(app, provider)
            assert (await browser.sign_in()).status_code == status
            await browser.http.aclose()


# --- the browser that began ends it, once ---------------------------------------------------------------------


async def test_the_answer_is_worth_nothing_in_another_browser(
    office: Office, browser: Browser, other_browser: Browser
) -> None:
    async with no_new_session(office):
        query = browser.consent(await browser.begin())
        refused(await other_browser.end(query), 400, "sign_in_failed")
        await other_browser.begin()  # a flow of its own does not help
        refused(await other_browser.end(query), 400, "sign_in_failed")
    assert (await browser.end(query)).status_code == 302, "and costs the right browser nothing"


async def test_a_code_of_another_flow_is_refused_for_its_pkce(
    office: Office, browser: Browser, other_browser: Browser
) -> None:
    """An attacker's code under the victim's own state: without PKCE the victim would work in the attacker's name."""
    async with no_new_session(office):
        victims = browser.consent(await browser.begin())
        attackers = other_browser.consent(await other_browser.begin())
        refused(await browser.end({**victims, "code": attackers["code"]}), 400, "sign_in_failed")


async def test_a_code_asked_for_with_the_same_challenge_is_refused_for_its_nonce(
    office: Office, browser: Browser
) -> None:
    async with no_new_session(office):
        url = urlsplit(await browser.begin())
        asked = dict(parse_qsl(url.query)) | {"nonce": "the attacker's"}
        refused(
            await browser.end(browser.consent(url._replace(query=urlencode(asked)).geturl())), 400, "sign_in_failed"
        )
        del asked["nonce"]
        refused(
            await browser.end(browser.consent(url._replace(query=urlencode(asked)).geturl())), 400, "sign_in_failed"
        )


async def test_the_verifier_is_what_the_provider_checks(browser: Browser) -> None:
    """The challenge sent is of a verifier that only the signed cookie holds; the address bar never shows it."""
    url = await browser.begin()
    claims = Signer(SecretStr(SECRET), "sign-in").read(browser.cookie(FLOW_COOKIE), datetime.now(UTC))
    assert claims is not None
    query = parse_qs(urlsplit(url).query)
    assert query["code_challenge"] == [create_s256_code_challenge(claims["verifier"])]
    assert claims["verifier"] not in url


@pytest.mark.parametrize("state", [None, "", "wrong", "é\ud800"[:1], "\0", "x" * 5000])
async def test_a_wrong_state_is_refused_and_the_code_not_spent(
    office: Office, browser: Browser, provider: RunningOIDC, state: str | None
) -> None:
    async with no_new_session(office):
        query = browser.consent(await browser.begin())
        wrong = {name: value for name, value in {**query, "state": state}.items() if value is not None}
        refused(await browser.end(wrong), 400, "sign_in_failed")
        assert provider.requests("token") == 0
    assert (await browser.end(query)).status_code == 302


@pytest.mark.parametrize(
    "changes",
    [{"error": "access_denied", "code": ""}, {"error": "x" * 9000}, {"code": ""}, {"code": "unknown"}, {"code": "\0é"}],
)
async def test_what_the_provider_did_not_grant_is_refused(
    office: Office, browser: Browser, changes: dict[str, str]
) -> None:
    async with no_new_session(office):
        query = browser.consent(await browser.begin())
        refused(await browser.end({**query, **changes}), 400, "sign_in_failed")
        refused(await browser.end({"state": query["state"]}), 400, "sign_in_failed")


async def test_ten_minutes_are_the_limit(office: Office, browser: Browser, at: SetClock) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    at(begun)
    query = browser.consent(await browser.begin())
    async with no_new_session(office):
        at(begun + timedelta(minutes=10))
        refused(await browser.end(query), 400, "sign_in_failed")
        at(begun - timedelta(minutes=5))  # nor is one from the future
        refused(await browser.end(query), 400, "sign_in_failed")
    at(begun + timedelta(minutes=9, seconds=59))
    assert (await browser.end(query)).status_code == 302


async def test_a_callback_works_once(office: Office, browser: Browser) -> None:
    """Also with a second code for the same state, nonce and challenge, which the provider gladly gives."""
    url = await browser.begin()
    query, flow = browser.consent(url), browser.cookie(FLOW_COOKIE)
    assert (await browser.end(query)).status_code == 302
    async with no_new_session(office):
        refused(await browser.end(query), 400, "sign_in_failed")
        browser.put_flow(flow)
        refused(await browser.end(query), 400, "sign_in_failed")
        refused(await browser.end(browser.consent(url)), 400, "sign_in_failed")
        refused(await browser.end(browser.consent(url)), 400, "sign_in_failed")


async def test_a_callback_works_once_after_logging_out_too(office: Office, browser: Browser) -> None:
    url = await browser.begin()
    flow = browser.cookie(FLOW_COOKIE)
    await browser.end(browser.consent(url))
    csrf = (await browser.who()).json()["csrf_token"]
    assert (await browser.http.post("/admin/oauth/logout", headers={"X-CSRF-Token": csrf})).status_code == 204
    async with no_new_session(office):
        browser.put_flow(flow)
        refused(await browser.end(browser.consent(url)), 400, "sign_in_failed")


async def test_of_simultaneous_callbacks_one_opens_a_session(office: Office, browser: Browser) -> None:
    url = await browser.begin()
    headers = {"Cookie": f"{FLOW_COOKIE}={browser.cookie(FLOW_COOKIE)}"}
    queries = [browser.consent(url) for _ in range(6)]
    before = len(await office.audit("session.open"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(office.app), base_url="http://127.0.0.1") as http:
        answers = await asyncio.gather(*(http.get(CALLBACK, params=query, headers=headers) for query in queries))
    assert sorted(answer.status_code for answer in answers) == [302, *[400] * 5]
    assert len(await office.audit("session.open")) == before + 1


async def test_only_our_own_flow_cookie_counts(office: Office, browser: Browser) -> None:
    """Not one signed with another secret or unsigned, not a session's token, not a spoilt one."""
    query = browser.consent(await browser.begin())
    own = browser.cookie(FLOW_COOKIE)
    now = datetime.now(UTC)
    claims = Signer(SecretStr(SECRET), "sign-in").read(own, now)
    assert claims is not None
    header, payload, signature = own.split(".")
    until = now + timedelta(minutes=10)
    forged = {
        "other secret": Signer(SecretStr("another secret, as long as that"), "sign-in").sign(
            claims, now=now, expires_at=until
        ),
        "other audience": Signer(SecretStr(SECRET), "session").sign(claims, now=now, expires_at=until),
        "a session": office.tokens["admin"],
        "alg none": f"eyJhbGciOiJub25lIn0.{payload}.",
        "no signature": f"{header}.{payload}.",
        "changed": f"{header}.{payload[:-4]}AAAA.{signature}",
        "header is no object": f"W10.{payload}.{signature}",
        "header is null": f"bnVsbA.{payload}.{signature}",
        "header is a number": f"MQ.{payload}.{signature}",
        "rubbish": "a.b.c",
        "nothing": "",
    }
    async with no_new_session(office):
        for name, cookie in forged.items():
            browser.put_flow(cookie)
            answer = await browser.end(query)
            assert (answer.status_code, answer.json()["code"]) == (400, "sign_in_failed"), name
    browser.put_flow(own)
    assert (await browser.end(query)).status_code == 302


# --- only whom the provider vouches for -----------------------------------------------------------------------

FORGED = [
    *(Fault.WRONG_NONCE, Fault.WRONG_AUD, Fault.WRONG_ISS, Fault.EXPIRED, Fault.FUTURE_IAT, Fault.ALG_NONE),
    *(Fault.HS256_WITH_PUBLIC_KEY, Fault.UNKNOWN_KID, Fault.BAD_SIGNATURE),
]
NOT_OURS = [Fault.EMAIL_UNVERIFIED, Fault.OTHER_HD, Fault.MISSING_HD]


def test_every_fault_is_tried() -> None:
    assert {*FORGED, *NOT_OURS} == set(Fault)


@pytest.mark.parametrize("fault", FORGED)
async def test_a_wrong_id_token_is_refused(
    office: Office, browser: Browser, provider: RunningOIDC, fault: Fault
) -> None:
    async with no_new_session(office):
        provider.switch(id_token=[fault])
        refused(await browser.sign_in(), 400, "sign_in_failed")
        refused(await browser.who(), 401, "admin_unauthorized")
    provider.reset()
    assert (await browser.sign_in()).status_code == 302


@pytest.mark.parametrize("fault", NOT_OURS)
async def test_an_account_that_is_not_the_domains_own_is_refused(
    office: Office, browser: Browser, provider: RunningOIDC, fault: Fault
) -> None:
    async with no_new_session(office):
        provider.switch(id_token=[fault])
        refused(await browser.sign_in(), 403, "not_an_admin")


@pytest.mark.parametrize(
    "user",
    [BOB, STRANGER, OUTSIDER, SUBDOMAIN, SUFFIX, TWO_ATS, PRIVATE, GONE, KELVIN, NUL],
    ids=lambda user: user.sub,
)
async def test_somebody_who_is_no_admin_is_refused(office: Office, browser: Browser, user: User) -> None:
    async with no_new_session(office):
        refused(await browser.sign_in(user), 403, "not_an_admin")
        refused(await browser.who(), 401, "admin_unauthorized")


async def test_half_a_character_is_nobodys_address(office: Office) -> None:
    """At a provider of its own, whose page could not show it."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    clients = [Client(SPA.client_id, None, (f"http://127.0.0.1{CALLBACK}",))]
    settings = office.app.state.settings.model_copy(update={"admin_oauth_issuer": issuer})
    app = create_app(issuer=issuer, clients=clients, users=[SURROGATE])
    with serving(app, port), httpx.Client(base_url=issuer, timeout=10, trust_env=False) as http:
        async with running_app(settings) as app, no_new_session(office):
            browser = Browser(app, RunningOIDC(issuer, port, http))
            refused(await browser.sign_in(SURROGATE), 403, "not_an_admin")
            await browser.http.aclose()


async def test_an_admin_disabled_meanwhile_is_refused(office: Office, browser: Browser) -> None:
    query = browser.consent(await browser.begin())
    async with office.db.transaction() as tx:
        await remove_admin(tx, ALICE.email, now=datetime.now(UTC))
    async with no_new_session(office):
        refused(await browser.end(query), 403, "not_an_admin")


# --- back to a path of ours -----------------------------------------------------------------------------------

ELSEWHERE = [
    *("//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\\/evil.example"),
    *("https://evil.example", "http:/evil.example", "https:evil.example", "javascript:alert(1)", "data:text/html,x"),
    *("evil.example", "@evil.example", ".evil.example", ":80", "?x", "#x", " //evil.example", " /x", "/x y"),
    *("/\t/evil.example", "/\n/evil.example", "/\r\nSet-Cookie: a=b", "\t//evil.example", "/x\0", "/x\n", "/x\x7f"),
    *("/\u2028/evil.example", "/\uff0fevil.example", "\uff0f\uff0fevil.example", "/é", "/<script>", '/"', "/x\\y"),
]


@pytest.mark.parametrize("return_to", ELSEWHERE)
async def test_no_sign_in_ends_elsewhere(browser: Browser, return_to: str) -> None:
    answer = await browser.http.get("/admin/oauth/login", params={"return_to": return_to})
    refused(answer, 422, "invalid_request")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "raw", ["%2F%2Fevil.example", "%2F%5Cevil.example", "/%09/evil.example", "%68ttps://evil.example"]
)
async def test_encoding_it_once_hides_nothing(browser: Browser, raw: str) -> None:
    refused(await browser.http.get(f"/admin/oauth/login?return_to={raw}"), 422, "invalid_request")


async def test_a_long_way_back_is_refused(browser: Browser) -> None:
    assert (await browser.http.get("/admin/oauth/login", params={"return_to": "/" + "x" * 500})).status_code == 422


@pytest.mark.parametrize(
    "return_to",
    [
        *("/", "/admin-ui/", "/admin-ui/users?search=a%40b&status=active#top", "/a/b/../c", "/@x", "/x:y", "/x//y"),
        *("/%2F%2Fevil.example", "/%5Cevil.example", "/.//evil.example", "/..//evil.example", "/%0d%0aSet-Cookie:a=b"),
        *("/?next=https://evil.example", "/" + "x" * 499),
    ],
)
async def test_a_path_of_ours_is_kept_and_stays_ours(browser: Browser, return_to: str) -> None:
    """Encoded twice it is a strange name, yet a name here: no browser decodes a Location before it reads it."""
    answer = await browser.sign_in(return_to=return_to)
    assert (answer.status_code, answer.headers["Location"]) == (302, return_to)
    assert urlsplit(urljoin("http://127.0.0.1/admin/oauth/callback", return_to)).netloc == "127.0.0.1"


async def test_the_way_back_is_not_the_callbacks_to_choose(browser: Browser) -> None:
    query = browser.consent(await browser.begin())
    answer = await browser.end({**query, "return_to": "https://evil.example", "to": "//evil.example"})
    assert answer.headers["Location"] == "/admin-ui/"


# --- a provider that is away, or answers nonsense -------------------------------------------------------------


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


class Nonsense:
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
async def nonsense(office: Office) -> AsyncIterator[tuple[Nonsense, Office]]:
    """The provider, and an office that trusts it."""
    port = free_port()
    provider = Nonsense(f"http://127.0.0.1:{port}")
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
    nonsense: tuple[Nonsense, Office], status: int, body: str
) -> None:
    provider, office = nonsense
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
    provider = Nonsense(f"http://127.0.0.1:{port}")
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
    provider = Nonsense(f"http://127.0.0.1:{port}")
    provider.discovery = answer
    await _discovery_fails(office, provider, port)


async def _discovery_fails(office: Office, provider: Nonsense, port: int) -> None:
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
