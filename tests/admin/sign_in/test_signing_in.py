"""Signing in, as it is meant to go."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from pydantic import SecretStr

from app.auth.admins.admins import add_admin
from tests.admin.conftest import DOMAIN, Office
from tests.admin.sign_in.conftest import (
    CALLBACK,
    FLOW_COOKIE,
    SESSION_COOKIE,
    SHOUTING,
    WITH_SECRET,
    Browser,
    refused,
    set_cookies,
)
from tests.conftest import running_app
from tests.demo.oidc_server import ALICE, BOB, RunningOIDC


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
    queries = [parse_qs(urlsplit(await browser.begin()).query) for _ in range(3)]
    for name in ("state", "nonce", "code_challenge"):
        values = {query[name][0] for query in queries}
        assert len(values) == 3
        assert all(len(value) >= 43 for value in values)
    for query in queries:
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
