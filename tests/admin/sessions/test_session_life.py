"""Sessions live as long as they should, and a cookie's writes need the CSRF token."""

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest

from app.auth.admins.sessions import purge_expired_sessions
from app.settings import Mode
from tests.admin.conftest import SECRET, Office
from tests.admin.sessions.conftest import (
    ADMINS,
    COOKIE,
    LOGOUT,
    USER,
    WRITES,
    Person,
    SetClock,
    alive,
    another_session,
    audit_rows,
    browser,
    claims_of,
    csrf,
    dead,
    person,
    refused,
    script,
    stored,
)
from tests.admin.test_routes import call
from tests.conftest import running_app, settings_for


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
        assert (await call(client, *route)).status_code in (200, 201, 202, 204, 404, 409)
    async with script(office, await person(office, "admin")) as client:
        assert (await call(client, *route)).status_code in (200, 201, 202, 204, 404, 409)


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
