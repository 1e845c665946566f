"""A session is a row that a signed token names: nothing else opens anything, and what ended stays ended everywhere."""

import base64
import hmac
import json
import uuid
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import SecretStr

from app.auth.admins.admins import add_admin, remove_admin
from app.auth.admins.sessions import Signer
from tests.admin.conftest import SECRET, Office
from tests.admin.sessions.conftest import (
    ADMINS,
    COOKIE,
    LOGOUT,
    USER,
    Person,
    SetClock,
    alive,
    another_session,
    browser,
    claims_of,
    csrf,
    dead,
    person,
    refused,
    script,
    stored,
)
from tests.conftest import running_app


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
    """A later re-admission needs a new sign-in: a session stolen before the removal stays invalid."""
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
