"""Sessions end when they should, in every process; cookies need the CSRF token; every change is in the audit log."""

import asyncio
import base64
import contextlib
import csv
import hmac
import io
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import SecretStr

from app.auth.admin_sessions import Signer, purge_expired_sessions
from app.auth.admins import Role, add_admin, change_admin, remove_admin
from app.auth.caller import Permission
from app.clock import request_time
from app.config import Mode
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.admin.test_routes import LEAST, NOBODY, call
from tests.books import connected
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls

COOKIE = "ciris_billing_admin"
WRITES = [route for route in LEAST if route[0] != "GET"]
USER, LOGOUT, ADMINS = "/admin/oauth/user", "/admin/oauth/logout", "/admin/admins"
SetClock = Callable[[datetime], None]


@dataclass(frozen=True)
class Person:
    admin_id: UUID
    email: str
    token: str
    """Of a session that began when the person came."""
    session_id: UUID

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def claims_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return claims


async def person(office: Office, role: Role, *, now: datetime | None = None) -> Person:
    """Somebody new, with a session."""
    now = now or datetime.now(UTC)
    email = f"{uuid.uuid4().hex}@{DOMAIN}"
    async with office.db.transaction() as tx:
        admin = await add_admin(tx, email, role, now=now)
        token = await office.sessions.open_for_script(tx, email, now=now)
    return Person(admin.admin_id, email, token, UUID(claims_of(token)["jti"]))


async def another_session(office: Office, of: Person) -> Person:
    async with office.db.transaction() as tx:
        token = await office.sessions.open_for_script(tx, of.email, now=datetime.now(UTC))
    return Person(of.admin_id, of.email, token, UUID(claims_of(token)["jti"]))


def browser(office: Office, someone: Person) -> httpx.AsyncClient:
    """A client whose session is in the cookie."""
    client = office.client(None)
    client.cookies.set(COOKIE, someone.token, domain="127.0.0.1", path="/admin")
    return client


def script(office: Office, someone: Person) -> httpx.AsyncClient:
    client = office.client(None)
    client.headers.update(someone.bearer)
    return client


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code


async def csrf(client: httpx.AsyncClient) -> dict[str, str]:
    return {"X-CSRF-Token": (await client.get(USER)).json()["csrf_token"]}


async def audit_rows(office: Office) -> int:
    (row,) = await office.rows("SELECT count(*) AS n FROM admin_audit_log")
    count: int = row["n"]
    return count


async def stored(office: Office, session_id: UUID) -> dict[str, Any]:
    (row,) = await office.rows("SELECT * FROM admin_sessions WHERE session_id = $1", session_id)
    return row


@pytest.fixture(scope="module")
async def second(office: Office) -> AsyncIterator[Office]:
    """Another process's application on the same database."""
    async with running_app(office.app.state.settings) as app:
        yield Office(app, office.urls, office.tokens)


@pytest.fixture
async def at(office: Office, second: Office) -> AsyncIterator[SetClock]:
    """Move the clock of both; it is right again after the test."""

    def move(to: datetime) -> None:
        for app in (office.app, second.app):
            app.dependency_overrides[request_time] = lambda: to

    yield move
    for app in (office.app, second.app):
        app.dependency_overrides.pop(request_time, None)


@pytest.fixture
async def small(own_database: Urls) -> AsyncIterator[Office]:
    """An office that a test may spoil, and where nobody is yet."""
    settings = settings_for(own_database, admin_session_secret=SECRET, admin_email_domain=DOMAIN)
    async with running_app(settings) as app:
        yield Office(app, own_database)


async def dead(someone: Person, *offices: Office) -> None:
    """Neither as a bearer nor as a cookie is the token worth anything, in any process."""
    for office in offices:
        for make in (browser, script):
            async with make(office, someone) as client:
                refused(await client.get(USER), 401, "admin_unauthorized")


async def alive(someone: Person, *offices: Office) -> None:
    for office in offices:
        for make in (browser, script):
            async with make(office, someone) as client:
                assert (await client.get(USER)).status_code == 200


# --- tokens ---------------------------------------------------------------------------------------------------


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(
    claims: object, *, alg: str = "HS256", header: object = None, secret: str = SECRET, aud: str = "session"
) -> str:
    """Any claims under a signature as this service makes it."""
    key = hmac.digest(secret.encode(), f"ciris-billing/{aud}".encode(), "sha256")
    digest = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}[alg]
    signing_input = f"{encoded({'alg': alg} if header is None else header)}.{encoded(claims)}"
    signature = base64.urlsafe_b64encode(hmac.digest(key, signing_input.encode(), digest))
    return f"{signing_input}.{signature.rstrip(b'=').decode()}"


def forgeries(real: str) -> dict[str, str]:
    now = datetime.now(UTC)
    claims = claims_of(real)
    header, payload, signature = real.split(".")
    flow = Signer(SecretStr(SECRET), "sign-in").sign(
        {"jti": claims["jti"]}, now=now, expires_at=now + timedelta(hours=1)
    )
    without = [{name: value for name, value in claims.items() if name != left_out} for left_out in claims]
    return {
        "other secret": signed(claims, secret="another secret, of the same length..."),
        "underived secret": jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET)),
        "a sign-in's cookie": flow,
        "a sign-in's key": signed(claims, aud="sign-in"),
        "other issuer": signed({**claims, "iss": "https://accounts.google.com"}),
        "other audience": signed({**claims, "aud": "ciris-billing/sign-in"}),
        "many audiences": signed({**claims, "aud": [claims["aud"], "x"]}),
        "alg none": f"{encoded({'alg': 'none'})}.{payload}.",
        "alg None": f"{encoded({'alg': 'None'})}.{payload}.{signature}",
        "alg HS512": signed(claims, alg="HS512"),
        "alg HS384": signed(claims, alg="HS384"),
        "alg RS256": f"{encoded({'alg': 'RS256'})}.{payload}.{signature}",
        "alg is a list": signed(claims, header={"alg": ["HS256"]}),
        "no alg": signed(claims, header={}),
        "header null": f"{encoded(None)}.{payload}.{signature}",
        "header a number": signed(claims, header=7),
        "header a list": signed(claims, header=["alg"]),
        "header a text": signed(claims, header="alg"),
        "critical header": signed(claims, header={"alg": "HS256", "crit": ["x"], "x": 1}),
        "unencoded payload": signed(claims, header={"alg": "HS256", "crit": ["b64"], "b64": False}),
        "payload no object": signed([claims]),
        "payload null": signed(None),
        "expired": signed({**claims, "exp": int(now.timestamp()) - 1}),
        "from the future": signed({**claims, "iat": int(now.timestamp()) + 600}),
        "exp a text": signed({**claims, "exp": "9999999999"}),
        "exp null": signed({**claims, "exp": None}),
        "exp NaN": signed({**claims, "exp": float("nan")}),
        "jti nobody's": signed({**claims, "jti": str(uuid.uuid4())}),
        "jti no uuid": signed({**claims, "jti": "' OR true --"}),
        "jti a list": signed({**claims, "jti": [claims["jti"]]}),
        "jti null": signed({**claims, "jti": None}),
        "changed payload": f"{header}.{encoded({**claims, 'jti': str(uuid.uuid4())})}.{signature}",
        "no signature": f"{header}.{payload}.",
        "two parts": f"{header}.{payload}",
        "five parts": f"{real}.x.y",
        "too long": real + "A" * 5000,
        "long header": signed(claims, header={"alg": "HS256", "x": "y" * 2000}),
        "rubbish": "rubbish",
        "dots": "..",
        "deep": "W" * 4000 + "." + payload + "." + signature,
        **{f"without {set(claims) - set(some)}": signed(some) for some in without if "sub" in some},
    }


async def test_the_forger_of_these_tests_can_sign(office: Office) -> None:
    """Else the forgeries would be refused for another reason than theirs."""
    someone = await person(office, "viewer")
    again = Person(someone.admin_id, someone.email, signed(claims_of(someone.token)), someone.session_id)
    await alive(again, office)


async def test_no_forged_token_is_a_session(office: Office, second: Office) -> None:
    someone = await person(office, "admin")
    for name, token in forgeries(someone.token).items():
        for there in (office, second):
            async with there.client(None) as client:
                by_bearer = await client.get(USER, headers={"Authorization": f"Bearer {token}"})
                by_cookie = await client.get(USER, headers={"Cookie": f"{COOKIE}={token}"})
            for answer in (by_bearer, by_cookie):
                assert (answer.status_code, answer.json()["code"]) == (401, "admin_unauthorized"), name
    await alive(someone, office, second)


async def test_bytes_that_are_no_token_are_401(office: Office) -> None:
    async with office.client(None) as client:
        for text in (b"\xff\xfe", "é.é.é".encode(), b"a\xe9.b.c", b"%00", b'"', b"a b c"):
            refused(await client.get(USER, headers={b"Authorization": b"Bearer " + text}), 401, "admin_unauthorized")
            refused(
                await client.get(USER, headers={b"Cookie": f"{COOKIE}=".encode() + text}), 401, "admin_unauthorized"
            )


async def test_a_new_secret_signs_everybody_out(office: Office) -> None:
    someone = await person(office, "viewer")
    changed = SecretStr("a new secret, not known to anybody else")
    settings = office.app.state.settings.model_copy(update={"admin_session_secret": changed})
    async with running_app(settings) as app:
        await dead(someone, Office(app, office.urls))


async def test_a_session_whose_row_is_gone_is_dead(office: Office, second: Office) -> None:
    someone = await person(office, "viewer")
    await alive(someone, office, second)
    await office.rows("DELETE FROM admin_sessions WHERE session_id = $1", someone.session_id)
    await dead(someone, office, second)


async def test_a_session_whose_row_expired_is_dead_whatever_the_token_says(office: Office, second: Office) -> None:
    someone = await person(office, "viewer")
    await office.rows("UPDATE admin_sessions SET expires_at = now() WHERE session_id = $1", someone.session_id)
    await dead(someone, office, second)


async def test_logging_out_ends_this_session_everywhere_and_no_other(office: Office, second: Office) -> None:
    someone = await person(office, "viewer")
    other = await another_session(office, someone)
    await alive(someone, office, second)
    async with browser(office, someone) as client:
        answer = await client.post(LOGOUT, headers=await csrf(client))
        assert answer.status_code == 204
        assert COOKIE not in client.cookies
    await dead(someone, office, second)
    await alive(other, office, second)


async def test_logging_out_wins_over_a_renewal_that_is_due(office: Office, at: SetClock) -> None:
    someone = await person(office, "viewer")
    async with browser(office, someone) as client:
        token = await csrf(client)
        at(datetime.now(UTC) + timedelta(hours=1))
        answer = await client.post(LOGOUT, headers=token)
        assert answer.status_code == 204
        # Browsers take them in order; the client here would not.
        *renewed, last = (SimpleCookie(line)[COOKIE] for line in answer.headers.get_list("Set-Cookie"))
        assert (last.value, last["max-age"], last["path"]) == ("", "0", "/admin")
        for cookie in renewed:
            headers = {"Cookie": f"{COOKIE}={cookie.value}"}
            async with office.client(None) as thief:
                refused(await thief.get(USER, headers=headers), 401, "admin_unauthorized")


async def test_a_disabled_admin_is_out_at_once_everywhere_and_for_good(office: Office, second: Office) -> None:
    someone = await person(office, "admin")
    await alive(someone, office, second)
    async with office.client("admin") as admin:
        assert (await admin.patch(f"{ADMINS}/{someone.admin_id}", json={"disabled": True})).status_code == 200
        await dead(someone, office, second)
        assert (await admin.patch(f"{ADMINS}/{someone.admin_id}", json={"disabled": False})).status_code == 200
    await dead(someone, office, second)
    await alive(await another_session(office, someone), office, second)


async def test_an_admin_removed_on_the_command_line_is_out_for_good_too(office: Office, second: Office) -> None:
    """Who is let in again later begins anew: a session stolen before the removal stays dead."""
    someone = await person(office, "admin")
    async with office.db.transaction() as tx:
        await remove_admin(tx, someone.email, now=datetime.now(UTC))
    await dead(someone, office, second)
    async with office.db.transaction() as tx:
        await add_admin(tx, someone.email, "admin", now=datetime.now(UTC))
    await dead(someone, office, second)


async def test_an_admins_own_row_decides_even_if_no_session_was_revoked(office: Office, second: Office) -> None:
    someone = await person(office, "viewer")
    await office.rows("UPDATE admin_users SET disabled_at = now() WHERE admin_id = $1", someone.admin_id)
    await dead(someone, office, second)
    assert (await stored(office, someone.session_id))["revoked_at"] is None


async def test_a_demoted_admin_is_less_at_once_everywhere(office: Office, second: Office) -> None:
    someone = await person(office, "admin")
    body = {"email": "", "role": "viewer"}
    async with office.client("admin") as admin:
        assert (await admin.patch(f"{ADMINS}/{someone.admin_id}", json={"role": "viewer"})).status_code == 200
    for there in (office, second):
        async with script(there, someone) as client:
            refused(await client.post(ADMINS, json=body), 403, "admin_forbidden")
            assert (await client.get(USER)).json()["role"] == "viewer"


async def test_the_token_wins_over_the_cookie(office: Office) -> None:
    """A wrong one is not made good by the cookie, nor does it spare the cookie its CSRF token."""
    someone, viewer = await person(office, "admin"), await person(office, "viewer")
    async with browser(office, someone) as client:
        refused(await client.get(USER, headers={"Authorization": "Bearer wrong"}), 401, "admin_unauthorized")
        assert (await client.get(USER, headers=viewer.bearer)).json()["role"] == "viewer"
        for header in ("Bearer", "Bearer ", "Basic eDp5", "Bearerx y", ""):
            refused(await client.post(LOGOUT, headers={"Authorization": header}), 403, "csrf_failed")


# --- how long a session lives ---------------------------------------------------------------------------------


async def test_an_unused_session_ends_after_eight_hours(office: Office, second: Office, at: SetClock) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    someone = await person(office, "viewer", now=begun)
    at(begun + timedelta(hours=8))
    await dead(someone, office, second)


async def test_a_cookie_in_use_is_renewed_every_ten_minutes(office: Office, second: Office, at: SetClock) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    someone = await person(office, "viewer", now=begun)
    async with browser(office, someone) as client:
        at(begun + timedelta(minutes=9, seconds=59))
        assert "Set-Cookie" not in (await client.get(USER)).headers
        at(begun + timedelta(minutes=10))
        answer = await client.get(USER)
        cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/admin")
        assert cookie["secure"] == ""
        assert "Set-Cookie" not in (await client.get(USER)).headers
        until = begun + timedelta(hours=8, minutes=10)
        assert (await stored(office, someone.session_id))["expires_at"] == until
        assert claims_of(cookie.value)["exp"] == until.timestamp()
        at(until - timedelta(seconds=1))
        renewed = Person(someone.admin_id, someone.email, cookie.value, someone.session_id)
        await dead(someone, office, second)  # the first token says itself when it ends
        await alive(renewed, office, second)


async def test_the_answer_that_renews_says_the_new_end(office: Office, at: SetClock) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    someone = await person(office, "viewer", now=begun)
    at(begun + timedelta(hours=1))
    async with browser(office, someone) as client:
        said = (await client.get(USER)).json()["expires_at"]
    assert datetime.fromisoformat(said) == begun + timedelta(hours=9)


async def test_a_session_in_use_ends_after_seven_days(office: Office, second: Office, at: SetClock) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    someone = await person(office, "viewer", now=begun)
    end = begun + timedelta(days=7)
    async with browser(office, someone) as here, browser(second, someone) as there:
        moment = begun
        while (moment := moment + timedelta(hours=7)) < end:
            at(moment)
            assert (await here.get(USER)).status_code == 200
            there.cookies = here.cookies
        at(end - timedelta(seconds=1))
        assert (await here.get(USER)).status_code == 200
        assert (await there.get(USER)).status_code == 200
        at(end)
        refused(await here.get(USER), 401, "admin_unauthorized")
        refused(await there.get(USER), 401, "admin_unauthorized")
    assert (await stored(office, someone.session_id))["expires_at"] == end


async def test_a_scripts_token_is_never_renewed(office: Office, at: SetClock) -> None:
    begun = datetime.now(UTC).replace(microsecond=0)
    someone = await person(office, "viewer", now=begun)
    at(begun + timedelta(hours=7))
    async with script(office, someone) as client:
        assert "Set-Cookie" not in (await client.get(USER)).headers
    assert (await stored(office, someone.session_id))["expires_at"] == begun + timedelta(hours=8)


async def test_a_renewal_does_not_revive_what_was_revoked_meanwhile(office: Office) -> None:
    someone = await person(office, "viewer")
    caller = await office.sessions.caller_of(someone.token, datetime.now(UTC))
    async with office.db.transaction() as tx:
        assert await office.sessions.revoke(tx, someone.admin_id, datetime.now(UTC)) == 1
    before = await stored(office, someone.session_id)
    assert await office.sessions.renewed(caller, datetime.now(UTC) + timedelta(hours=1)) is not None
    assert await stored(office, someone.session_id) == before
    await dead(someone, office)


async def test_in_production_the_cookie_is_secure(office: Office) -> None:
    settings = settings_for(
        office.urls,
        mode=Mode.PRODUCTION,
        metrics_token="m" * 40,
        admin_session_secret=SECRET,
        admin_oauth_client_id="x",
        public_url="https://office.example.com",
    )
    someone = await person(office, "viewer", now=datetime.now(UTC) - timedelta(hours=1))
    async with running_app(settings) as app, Office(app, office.urls).client(None) as client:
        answer = await client.get(USER, headers={"Cookie": f"{COOKIE}={someone.token}"})
        assert SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]["secure"] is True


async def test_sessions_that_ended_long_ago_are_deleted(small: Office) -> None:
    now = datetime.now(UTC)
    old = await person(small, "viewer", now=now - timedelta(days=30, hours=8, seconds=1))
    recent = await person(small, "viewer", now=now - timedelta(days=30, hours=7))
    async with small.db.transaction() as tx:
        assert await purge_expired_sessions(tx, now=now) == 1
    left = {row["session_id"] for row in await small.rows("SELECT session_id FROM admin_sessions")}
    assert left == {recent.session_id}
    assert old.session_id not in left


# --- CSRF -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_every_write_by_cookie_needs_the_sessions_own_token(office: Office, method: str, path: str) -> None:
    someone = await person(office, "admin")
    same_person, somebody_else = await another_session(office, someone), await person(office, "admin")
    wrong = [office.sessions.csrf_token(each.session_id) for each in (same_person, somebody_else)]
    right = office.sessions.csrf_token(someone.session_id)
    before = await audit_rows(office)
    async with browser(office, someone) as client:
        refused(await call(client, method, path), 403, "csrf_failed")
        for given in (*wrong, "", right[:-1], right.upper() + " x", someone.token):
            client.headers["X-CSRF-Token"] = given
            refused(await call(client, method, path), 403, "csrf_failed")
        client.headers.pop("X-CSRF-Token")
        assert (await client.get(USER)).status_code == 200
    assert await audit_rows(office) == before


@pytest.mark.parametrize("route", [route for route in WRITES if route[1] != ADMINS])
async def test_with_it_the_write_goes_through_and_a_script_needs_none(office: Office, route: tuple[str, str]) -> None:
    someone = await person(office, "admin")
    async with browser(office, someone) as client:
        client.headers.update(await csrf(client))
        assert (await call(client, *route)).status_code in (200, 201, 204, 404)
    async with script(office, await person(office, "admin")) as client:
        assert (await call(client, *route)).status_code in (200, 201, 204, 404)


async def test_a_token_of_other_letters_is_wrong(office: Office) -> None:
    someone = await person(office, "viewer")
    async with browser(office, someone) as client:
        for given in ("é".encode(), b"\xff\xfe", "\u212a".encode()):
            refused(await client.post(LOGOUT, headers=[(b"X-CSRF-Token", given)]), 403, "csrf_failed")
    await alive(someone, office)


async def test_a_form_of_another_site_changes_nothing(office: Office) -> None:
    someone = await person(office, "admin")
    async with browser(office, someone) as client:
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
            answer = await client.post(
                LOGOUT, content=b'{"a":1}', headers={"Content-Type": kind, "Origin": "https://x"}
            )
            refused(answer, 403, "csrf_failed")
    await alive(someone, office)


# --- sessions: list and revoke --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "support", "admin"])
async def test_everybody_lists_and_ends_their_own_sessions(office: Office, second: Office, role: Role) -> None:
    someone = await person(office, role)
    other, third = await another_session(office, someone), await another_session(office, someone)
    async with script(office, someone) as client:
        found = (await client.get(f"{ADMINS}/{someone.admin_id}/sessions")).json()["sessions"]
        assert {(UUID(each["session_id"]), each["current"]) for each in found} == {
            *((someone.session_id, True), (other.session_id, False), (third.session_id, False)),
        }
        assert "token" not in str(found)
        url = f"{ADMINS}/{someone.admin_id}/sessions/revoke"
        for revoked in (1, 0):
            answer = await client.post(url, params={"session_id": str(other.session_id)})
            assert answer.json() == {"revoked": revoked}
        await dead(other, office, second)
        await alive(third, office, second)
        assert (await client.post(url)).json() == {"revoked": 2}
    await dead(someone, office, second)
    await dead(third, office, second)
    rows = [row for row in await office.audit("admin.revoke_sessions") if row["admin_id"] == someone.admin_id]
    assert [row["after"] for row in map(_parsed, rows)] == [{"sessions_revoked": 1}, {"sessions_revoked": 2}]


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    """An audit row with its JSON read."""
    return {**row, **{name: json.loads(row[name]) if row[name] else None for name in ("before", "after")}}


async def test_the_sessions_of_others_are_for_admins(office: Office, second: Office) -> None:
    victim = await person(office, "admin")
    before = await audit_rows(office)
    for role in ("viewer", "support"):
        async with script(office, await person(office, role)) as client:
            refused(await client.get(f"{ADMINS}/{victim.admin_id}/sessions"), 403, "admin_forbidden")
            refused(await client.post(f"{ADMINS}/{victim.admin_id}/sessions/revoke"), 403, "admin_forbidden")
            # nor under the own name
            own = (await client.get(USER)).json()["admin_id"]
            params = {"session_id": str(victim.session_id)}
            assert (await client.post(f"{ADMINS}/{own}/sessions/revoke", params=params)).json() == {"revoked": 0}
    await alive(victim, office, second)
    assert await audit_rows(office) == before
    async with office.client("admin") as admin:
        (found,) = (await admin.get(f"{ADMINS}/{victim.admin_id}/sessions")).json()["sessions"]
        assert (found["session_id"], found["current"]) == (str(victim.session_id), False)
        assert (await admin.post(f"{ADMINS}/{victim.admin_id}/sessions/revoke")).json() == {"revoked": 1}
        assert (await admin.get(f"{ADMINS}/{victim.admin_id}/sessions")).json() == {"sessions": []}
        for method, path in (("GET", "sessions"), ("POST", "sessions/revoke")):
            refused(await admin.request(method, f"{ADMINS}/{NOBODY}/{path}"), 404, "admin_not_found")
    await dead(victim, office, second)


async def test_ended_sessions_are_not_listed(office: Office, at: SetClock) -> None:
    now = datetime.now(UTC)
    someone = await person(office, "viewer", now=now - timedelta(hours=8))
    current = await another_session(office, someone)
    async with script(office, current) as client:
        found = (await client.get(f"{ADMINS}/{someone.admin_id}/sessions")).json()["sessions"]
    assert [each["session_id"] for each in found] == [str(current.session_id)]


# --- who may sign in ------------------------------------------------------------------------------------------


async def active_admins(office: Office) -> set[UUID]:
    rows = await office.rows("SELECT admin_id FROM admin_users WHERE role = 'admin' AND disabled_at IS NULL")
    return {row["admin_id"] for row in rows}


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "viewer"}, {"role": "support", "disabled": True}])
async def test_the_last_admin_stays(small: Office, change: dict[str, Any]) -> None:
    last = await person(small, "admin")
    await person(small, "support")
    gone = await person(small, "admin")
    async with script(small, last) as client:
        assert (await client.patch(f"{ADMINS}/{gone.admin_id}", json=change)).status_code == 200
        before = await audit_rows(small)
        refused(await client.patch(f"{ADMINS}/{last.admin_id}", json=change), 409, "last_admin")
        assert await audit_rows(small) == before
        assert (
            await client.patch(f"{ADMINS}/{gone.admin_id}", json={"role": "admin", "disabled": False})
        ).status_code == 200
        assert (await client.patch(f"{ADMINS}/{last.admin_id}", json=change)).status_code == 200
    assert await active_admins(small) == {gone.admin_id}


async def waiting_for_locks(office: Office, number: int) -> None:
    """Until so many of the database's connections wait for a lock."""
    sql = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    for _ in range(200):
        if (await office.rows(sql))[0]["n"] >= number:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the requests do not meet")


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "viewer"}])
async def test_of_two_admins_who_lock_each_other_out_one_stays(small: Office, change: dict[str, Any]) -> None:
    a, b = await person(small, "admin"), await person(small, "admin")
    async with script(small, a) as by_a, script(small, b) as by_b:
        async with connected(small.urls) as connection, connection.transaction():
            await connection.execute("SELECT FROM admin_users FOR UPDATE")
            both = [
                asyncio.create_task(by_a.patch(f"{ADMINS}/{b.admin_id}", json=change)),
                asyncio.create_task(by_b.patch(f"{ADMINS}/{a.admin_id}", json=change)),
            ]
            await waiting_for_locks(small, 2)
        answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(await active_admins(small)) == 1
    assert await audit_rows(small) == 1


async def test_many_admins_who_lock_each_other_out_at_once_leave_one(small: Office) -> None:
    people = [await person(small, "admin") for _ in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(script(small, each)) for each in people]
        answers = await asyncio.gather(
            *(
                client.patch(f"{ADMINS}/{victim.admin_id}", json={"disabled": True})
                for client, me in zip(clients, people, strict=True)
                for victim in people
                if victim is not me
            )
        )
    left = await active_admins(small)
    assert len(left) >= 1
    assert {answer.status_code for answer in answers} <= {200, 401, 409, 503}
    assert await audit_rows(small) == len(people) - len(left)


async def test_who_is_being_changed_can_still_log_out(small: Office) -> None:
    """The rows' lock keeps other changes of admins away, not the audit rows that refer to them."""
    someone, other = await person(small, "admin"), await person(small, "admin")
    async with small.db.transaction() as tx:
        await change_admin(tx, other.admin_id, role="viewer", disabled=None, now=datetime.now(UTC))
        async with script(small, someone) as client:
            assert (await client.post(LOGOUT)).status_code == 204
        async with script(small, other) as client:
            assert (await client.post(LOGOUT)).status_code == 204


async def test_inviting_twice_is_409(office: Office, admin: httpx.AsyncClient) -> None:
    email = f"{uuid.uuid4().hex}@{DOMAIN}"
    first = await admin.post(ADMINS, json={"email": f" {email.upper()} ", "role": "viewer"})
    assert (first.status_code, first.json()["email"]) == (201, email)
    before = await audit_rows(office)
    for again in (email, email.upper(), f"\t{email}\n"):
        refused(await admin.post(ADMINS, json={"email": again, "role": "admin"}), 409, "admin_exists")
    assert await audit_rows(office) == before
    admin_id = first.json()["admin_id"]
    assert (await admin.patch(f"{ADMINS}/{admin_id}", json={"disabled": True})).status_code == 200
    back = await admin.post(ADMINS, json={"email": email, "role": "support"})
    assert (back.status_code, back.json()["admin_id"], back.json()["role"]) == (201, admin_id, "support")


async def test_of_simultaneous_invitations_one_is_the_first(small: Office) -> None:
    """The other must not change the role that it gave."""
    someone = await person(small, "admin")
    async with script(small, someone) as client:
        async with connected(small.urls) as connection:
            meanwhile = connection.transaction()
            await meanwhile.start()
            await connection.execute(
                "INSERT INTO admin_users (admin_id, email, role, created_at)"
                " VALUES (gen_random_uuid(), $1, 'viewer', now())",
                f"new@{DOMAIN}",
            )
            both = [
                asyncio.create_task(client.post(ADMINS, json={"email": f"new@{DOMAIN}", "role": role}))
                for role in ("viewer", "admin")
            ]
            await waiting_for_locks(small, 2)
            await meanwhile.rollback()
        answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert await audit_rows(small) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(
            {"email": email, "role": "viewer"}
            for email in ("", "x", "@", "a@", "@b", "a b@c", "a@b@c", "a\0@b", "x" * 255)
        ),
        *({"email": "\ud800@b", "role": "viewer"}, {"email": f"{'x' * 250}@b.cd", "role": "viewer"}),
        *({"email": "a@b", "role": role} for role in ("owner", "", None, 1, "ADMIN")),
        *({}, [], None, {"email": "a@b"}, {"email": ["a@b"], "role": "viewer"}),
    ],
    ids=str,
)
async def test_an_invitation_that_makes_no_sense_is_422(office: Office, admin: httpx.AsyncClient, body: object) -> None:
    before = await audit_rows(office)
    answer = await admin.post(ADMINS, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert await audit_rows(office) == before


# --- the audit log --------------------------------------------------------------------------------------------


async def an_account(office: Office) -> UUID:
    key = await make_key(office.db, "live", Permission.READ, Permission.WRITE)
    body = {"oauth_provider": "oauth:google", "external_id": str(uuid.uuid4()), "amount_minor": 100}
    async with office.client(None) as agent:
        answer = await agent.post(
            "/v1/billing/charges",
            json={**body, "idempotency_key": "one", "description": "one"},
            headers={"X-API-Key": key},
        )
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["account_id"])


class Auditor:
    """Does one thing at a time, and looks at the one row that it leaves."""

    def __init__(self, office: Office, who: Person) -> None:
        self.office, self.who = office, who
        self.client = script(office, who)

    async def sees(self, method: str, path: str, action: str, target: object, body: object = None) -> dict[str, Any]:
        before = await audit_rows(self.office)
        request_id = uuid.uuid4().hex
        answer = await self.client.request(method, path, json=body, headers={"X-Request-ID": request_id})
        assert answer.status_code in (200, 201, 204), answer.text
        assert await audit_rows(self.office) == before + 1
        (row,) = await self.office.rows("SELECT * FROM admin_audit_log WHERE request_id = $1", request_id)
        assert (row["admin_id"], row["admin_email"]) == (self.who.admin_id, self.who.email)
        assert (row["session_id"], row["address"]) == (self.who.session_id, "127.0.0.1")
        assert abs(row["created_at"] - datetime.now(UTC)) < timedelta(seconds=30)
        assert row["action"] == action
        if target is not None:
            assert row["target_id"] == str(target)
        return _parsed(row)

    async def sees_nothing(self, method: str, path: str, status: int, body: object = None) -> None:
        before = await audit_rows(self.office)
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert await audit_rows(self.office) == before


@pytest.fixture
async def auditor(office: Office) -> AsyncIterator[Auditor]:
    auditor = Auditor(office, await person(office, "admin"))
    yield auditor
    await auditor.client.aclose()


async def test_what_is_done_to_admins_is_written_down(auditor: Auditor) -> None:
    email = f"{uuid.uuid4().hex}@{DOMAIN}"
    row = await auditor.sees("POST", ADMINS, "admin.invite", None, {"email": email, "role": "viewer"})
    assert (row["before"], row["after"]) == (None, {"email": email, "role": "viewer"})
    url = f"{ADMINS}/{row['target_id']}"
    target = row["target_id"]
    viewer, support = {"role": "viewer", "disabled": False}, {"role": "support", "disabled": False}
    row = await auditor.sees("PATCH", url, "admin.change", target, {"role": "support"})
    assert (row["before"], row["after"]) == (viewer, support)
    await auditor.sees_nothing("PATCH", url, 200, {"role": "support"})
    await auditor.sees_nothing("PATCH", url, 200, {})
    row = await auditor.sees("PATCH", url, "admin.change", target, {"disabled": True})
    assert (row["before"], row["after"]) == (support, {"role": "support", "disabled": True})
    row = await auditor.sees("PATCH", url, "admin.change", target, {"disabled": False, "role": "viewer"})
    assert (row["before"], row["after"]) == ({"role": "support", "disabled": True}, viewer)
    victim = await person(auditor.office, "viewer")
    revoke = f"{ADMINS}/{victim.admin_id}/sessions/revoke"
    row = await auditor.sees("POST", revoke, "admin.revoke_sessions", victim.admin_id)
    assert (row["target_type"], row["after"]) == ("admin", {"sessions_revoked": 1})
    await auditor.sees_nothing("POST", revoke, 200)
    row = await auditor.sees("POST", LOGOUT, "session.close", auditor.who.session_id)
    assert row["target_type"] == "session"
    await auditor.sees_nothing("POST", LOGOUT, 401)


async def test_what_is_done_to_an_account_is_written_down(auditor: Auditor) -> None:
    account_id = await an_account(auditor.office)
    url = f"/admin/users/{account_id}"
    gift = {"credits": 5, "reason": "a gift", "idempotency_key": "gift"}
    row = await auditor.sees("POST", f"{url}/credits", "account.adjust", account_id, gift)
    assert (row["environment"], row["target_type"], row["reason"]) == ("live", "account", "a gift")
    assert (row["before"], row["after"]["paid"]) == ({"paid": 0}, 5)
    await auditor.sees_nothing("POST", f"{url}/credits", 201, gift)
    await auditor.sees_nothing("POST", f"{url}/credits", 402, {**gift, "credits": -6, "idempotency_key": "take"})
    reason = {"reason": "because of this"}
    for path, action, before, after in (
        ("suspend", "account.suspend", "active", "suspended"),
        ("reopen", "account.reopen", "suspended", "active"),
        ("close", "account.close", "active", "closed"),
    ):
        row = await auditor.sees("POST", f"{url}/{path}", action, account_id, reason)
        assert (row["before"]["status"], row["after"]["status"]) == (before, after)
        assert row["reason"] == "because of this"
        await auditor.sees_nothing("POST", f"{url}/{path}", 200, reason)
        await auditor.sees_nothing("POST", f"{url}/{path}", 422, {"reason": " x "})
    await auditor.sees("POST", f"{url}/revoke-tokens", "account.revoke_tokens", account_id, reason)


async def test_what_is_done_to_a_key_is_written_down_without_its_secret(auditor: Auditor) -> None:
    body = {"environment": "test", "name": "a key", "permissions": ["billing:read"]}
    row = await auditor.sees("POST", "/admin/api-keys", "api_key.create", None, body)
    key_id = row["target_id"]
    url = f"/admin/api-keys/{key_id}"
    assert (row["environment"], row["after"]["name"], row["after"]["permissions"]) == (
        "test",
        "a key",
        ["billing:read"],
    )
    row = await auditor.sees("PATCH", url, "api_key.change", key_id, {"name": "other"})
    assert (row["before"], row["after"]) == ({"name": "a key"}, {"name": "other"})
    row = await auditor.sees("POST", f"{url}/rotate", "api_key.rotate", key_id)
    successor = row["after"]["rotated_to"]
    await auditor.sees_nothing("POST", f"{url}/rotate", 409)
    await auditor.sees("POST", f"/admin/api-keys/{successor}/revoke", "api_key.revoke", successor)
    await auditor.sees_nothing("POST", f"/admin/api-keys/{successor}/revoke", 200)
    for entry in await auditor.office.rows("SELECT * FROM admin_audit_log WHERE target_type = 'api_key'"):
        assert "argon2" not in str(entry)
        assert "secret" not in str(entry)


async def test_a_refused_write_leaves_no_row(office: Office, auditor: Auditor) -> None:
    viewer = Auditor(office, await person(office, "viewer"))
    await viewer.sees_nothing("POST", ADMINS, 403, {"email": "a@b", "role": "admin"})
    await viewer.sees_nothing("PATCH", f"{ADMINS}/{viewer.who.admin_id}", 403, {"role": "admin"})
    await viewer.client.aclose()
    await auditor.sees_nothing("PATCH", f"{ADMINS}/{NOBODY}", 404, {"role": "admin"})
    await auditor.sees_nothing("POST", f"/admin/users/{NOBODY}/suspend", 404, {"reason": "because"})
    await auditor.sees_nothing("POST", "/admin/api-keys", 422, {"name": "x"})


async def test_a_change_that_cannot_be_written_down_does_not_happen(small: Office) -> None:
    someone, victim = await person(small, "admin"), await person(small, "admin")
    await small.rows("ALTER TABLE admin_audit_log ADD CHECK (action <> 'admin.change' AND action <> 'admin.invite')")
    async with script(small, someone) as client:
        invitation = {"email": f"new@{DOMAIN}", "role": "viewer"}
        assert (await client.post(ADMINS, json=invitation)).status_code == 500
        assert (await client.patch(f"{ADMINS}/{victim.admin_id}", json={"disabled": True})).status_code == 500
    assert await active_admins(small) == {someone.admin_id, victim.admin_id}
    assert await small.rows("SELECT FROM admin_users WHERE role = 'viewer'") == []
    await alive(victim, small)


@pytest.mark.parametrize("role", ["service", "owner"])
@pytest.mark.parametrize(
    "sql",
    [
        *("UPDATE admin_audit_log SET reason = 'another'", "DELETE FROM admin_audit_log", "TRUNCATE admin_audit_log"),
        *("UPDATE admin_audit_log SET admin_id = admin_id WHERE false", "TRUNCATE admin_users CASCADE"),
    ],
)
async def test_nobody_rewrites_the_audit_log(office: Office, auditor: Auditor, role: str, sql: str) -> None:
    await auditor.sees("POST", LOGOUT, "session.close", auditor.who.session_id)
    before = await office.rows("SELECT * FROM admin_audit_log ORDER BY audit_id")
    connection = await asyncpg.connect(getattr(office.urls, role))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql)
    finally:
        await connection.close()
    assert await office.rows("SELECT * FROM admin_audit_log ORDER BY audit_id") == before


async def test_the_audit_log_outlives_whom_it_names(office: Office, auditor: Auditor) -> None:
    await auditor.sees("POST", LOGOUT, "session.close", auditor.who.session_id)
    connection = await asyncpg.connect(office.urls.owner)
    try:
        await connection.execute("DELETE FROM admin_sessions WHERE admin_id = $1", auditor.who.admin_id)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute("DELETE FROM admin_users WHERE admin_id = $1", auditor.who.admin_id)
    finally:
        await connection.close()


async def test_the_log_is_read_page_by_page_and_by_filters(office: Office, auditor: Auditor) -> None:
    account_id = await an_account(office)
    for number in range(5):
        await auditor.sees(
            *("POST", f"/admin/users/{account_id}/credits", "account.adjust", account_id),
            {"credits": 1, "reason": f"number {number}", "idempotency_key": str(number)},
        )
    query: dict[str, Any] = {"target_id": str(account_id), "admin_id": str(auditor.who.admin_id), "limit": 2}
    reasons: list[str] = []
    async with office.client("viewer") as viewer:
        for _ in range(3):
            page = (await viewer.get("/admin/audit-logs", params=query)).json()
            reasons += [entry["reason"] for entry in page["entries"]]
            query["cursor"] = page["next_cursor"]
        assert reasons == [f"number {number}" for number in (4, 3, 2, 1, 0)]
        assert query["cursor"] is None
        del query["cursor"]
        moments = [
            entry["created_at"] for entry in (await viewer.get("/admin/audit-logs", params=query)).json()["entries"]
        ]
        half = {**query, "limit": 50, "since": moments[1], "until": moments[0]}
        (only,) = (await viewer.get("/admin/audit-logs", params=half)).json()["entries"]
        assert only["reason"] == "number 3"
        for nothing in ({"action": "account.close"}, {"target_type": "admin"}, {"admin_id": NOBODY}):
            assert (await viewer.get("/admin/audit-logs", params={**query, **nothing})).json()["entries"] == []
        for wrong in ({"limit": 0}, {"limit": 501}, {"since": "2026-01-01T00:00:00"}, {"cursor": "x"}):
            assert (await viewer.get("/admin/audit-logs", params={**query, **wrong})).status_code == 422


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    '=HYPERLINK("http://evil.example","x")',
    '="a\nb,c"',
    "-2+cmd|' /C calc'!A0",
]


async def test_no_cell_of_the_export_is_a_formula(office: Office) -> None:
    """Whoever chose the text: an admin's address, a request's id, a reason."""
    now = datetime.now(UTC)
    email = f"=cmd|{uuid.uuid4().hex}@{DOMAIN}"
    async with office.db.transaction() as tx:
        await add_admin(tx, email, "admin", now=now)
        token = await office.sessions.open_for_script(tx, email, now=now)
    account_id = await an_account(office)
    async with office.client(None) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for number, formula in enumerate(FORMULAS):
            body = {"credits": 1, "reason": formula + "  ", "idempotency_key": str(number)}
            headers = {"X-Request-ID": ("=+-@")[number % 4] + str(number)}
            answer = await client.post(f"/admin/users/{account_id}/credits", json=body, headers=headers)
            assert answer.status_code == (201 if len(formula) > 2 else 422), answer.text
    async with office.client("viewer") as viewer:
        export = await viewer.get("/admin/audit-logs.csv", params={"target_id": str(account_id)})
        shown = (await viewer.get("/admin/audit-logs", params={"target_id": str(account_id)})).json()["entries"]
    assert export.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert export.headers["Content-Disposition"] == 'attachment; filename="audit-log.csv"'
    rows = list(csv.DictReader(io.StringIO(export.text, newline="")))
    reasons = [formula for formula in FORMULAS if len(formula) > 2][::-1]
    assert [entry["reason"] for entry in shown] == reasons, "the JSON is as it was written"
    assert [row["reason"] for row in rows] == [f"'{reason}" for reason in reasons]
    assert {row["admin_email"] for row in rows} == {f"'{email}"}
    for row in rows:
        assert row["request_id"][:2] in ("'=", "'+", "'-", "'@")
        assert json.loads(row["after"])["paid"] >= 1
        assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in row.values())


async def test_without_a_secret_there_are_no_sessions(office: Office) -> None:
    settings = office.app.state.settings.model_copy(update={"admin_session_secret": None})
    async with running_app(settings) as app:
        await dead(await person(office, "admin"), Office(app, office.urls))
