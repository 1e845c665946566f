"""Only the browser that started a sign-in can complete it, and only once."""

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from pydantic import SecretStr

from app.auth.admins.sessions import Signer
from tests.admin.conftest import SECRET, Office
from tests.admin.sign_in.conftest import (
    CALLBACK,
    FLOW_COOKIE,
    Browser,
    SetClock,
    no_new_session,
    refused,
)
from tests.demo.oidc_server import RunningOIDC


async def test_the_answer_is_worth_nothing_in_another_browser(
    office: Office, browser: Browser, other_browser: Browser
) -> None:
    async with no_new_session(office):
        query = browser.consent(await browser.begin())
        refused(await other_browser.end(query), 400, "sign_in_failed")
        await other_browser.begin()  # a separate flow does not help
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
        params = dict(parse_qsl(url.query)) | {"nonce": "the attacker's"}
        refused(
            await browser.end(browser.consent(url._replace(query=urlencode(params)).geturl())), 400, "sign_in_failed"
        )
        del params["nonce"]
        refused(
            await browser.end(browser.consent(url._replace(query=urlencode(params)).geturl())), 400, "sign_in_failed"
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
