"""The issuer's keys: rotation, outage, slowness."""

import asyncio
import gzip
import json
import time
from datetime import datetime, timedelta

import httpx
import pytest

from app.auth.id_tokens.jwks import JWKSCache
from app.auth.id_tokens.verifier import IssuerUnavailable, TokenVerifier
from tests.auth.tokens.conftest import (
    Verifiers,
    eventual_refusal,
    http_200,
    issuer_config,
    raw_server,
    refusal,
)
from tests.demo.oidc_server import ALICE, RunningOIDC, running_oidc


async def test_a_new_key_is_fetched_at_most_once_a_minute(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    old = oidc.mint()
    await verifier.verify(old, now)
    oidc.rotate_keys(keep_old=True)
    assert (await verifier.verify(oidc.mint(), now)).subject == ALICE.sub
    assert oidc.requests("jwks") == 2

    oidc.rotate_keys(keep_old=True)
    newest = oidc.mint()
    for seconds in (0, 1, 30, 59.9):
        assert await refusal(verifier, newest, now + timedelta(seconds=seconds)) == "unknown key"
        assert (await verifier.verify(old, now + timedelta(seconds=seconds))).subject == ALICE.sub
    assert oidc.requests("jwks") == 2
    assert (await verifier.verify(newest, now + timedelta(seconds=60))).subject == ALICE.sub
    assert oidc.requests("jwks") == 3


async def test_a_flood_of_unknown_kids_causes_one_fetch(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    await verifier.verify(oidc.mint(), now)
    flood = [oidc.mint(faults=["unknown_kid"]) for _ in range(30)]
    refusals = await asyncio.gather(*(refusal(verifier, token, now) for token in flood))
    assert set(refusals) == {"unknown key"}
    assert oidc.requests("jwks") == 2


async def test_a_clock_that_was_set_back_does_not_stop_refreshes(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    ahead = now + timedelta(hours=3)
    await verifier.verify(oidc.mint(exp=now.timestamp() + 86_400), ahead)
    await refusal(verifier, oidc.mint(faults=["unknown_kid"], exp=now.timestamp() + 86_400), ahead)
    oidc.rotate_keys(keep_old=False)
    assert (await verifier.verify(oidc.mint(), now)).subject == ALICE.sub


async def test_concurrent_first_uses_share_one_fetch(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    oidc.switch(jwks="slow", slow_s=0.3)
    minted = [oidc.mint(nonce=str(number)) for number in range(20)]
    claims = await asyncio.gather(*(verifier.verify(token, now) for token in minted))
    assert {each.subject for each in claims} == {ALICE.sub}
    assert oidc.requests("jwks") == 1


async def test_a_caller_that_gives_up_does_not_take_the_fetch_away(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    oidc.switch(jwks="slow", slow_s=0.4)
    token = oidc.mint()
    impatient = asyncio.create_task(verifier.verify(token, now))
    patient = asyncio.create_task(verifier.verify(token, now))
    await asyncio.sleep(0.1)
    impatient.cancel()
    assert (await patient).subject == ALICE.sub
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert oidc.requests("jwks") == 1


@pytest.mark.parametrize("outage", ["error", "black_hole"])
async def test_an_outage_keeps_the_last_good_keys(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, outage: str
) -> None:
    expires = now.timestamp() + 40 * 86_400
    await verifier.verify(oidc.mint(), now)
    unknown = oidc.mint(faults=["unknown_kid"], exp=expires)
    oidc.switch(jwks=outage)
    for days in (0.02, 1, 7, 30):
        later = now + timedelta(days=days)
        fresh = oidc.mint(exp=expires, nonce=str(days))
        started = time.monotonic()
        assert (await verifier.verify(fresh, later)).subject == ALICE.sub
        assert time.monotonic() - started < 0.5, "a known kid must not wait for the refresh"
    assert await refusal(verifier, unknown, now + timedelta(days=31)) == "unknown key"
    assert oidc.requests("jwks") >= 2, "the outage must have been noticed"


async def test_a_server_that_is_gone_keeps_the_last_good_keys(http: httpx.AsyncClient, now: datetime) -> None:
    with running_oidc() as oidc:
        verifier = TokenVerifier([issuer_config(oidc)], http)
        first, second = (oidc.mint(exp=now.timestamp() + 86_400, nonce=nonce) for nonce in ("1", "2"))
        await verifier.verify(first, now)
    later = now + timedelta(hours=5)
    assert (await verifier.verify(first, later)).subject == ALICE.sub
    assert (await verifier.verify(second, later)).subject == ALICE.sub
    await verifier.aclose()


async def test_slow_keys_do_not_hold_up_known_kids(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    await verifier.verify(oidc.mint(), now)
    known = [oidc.mint(nonce=str(number)) for number in range(10)]
    unknown = oidc.mint(faults=["unknown_kid"])
    oidc.switch(jwks="slow", slow_s=1.0)
    waiting = asyncio.create_task(refusal(verifier, unknown, now))
    await asyncio.sleep(0.1)
    for token in known:
        assert (await verifier.verify(token, now)).subject == ALICE.sub
    assert not waiting.done(), "the unknown kid was to be waiting for the slow fetch all this time"
    assert await waiting == "unknown key"


async def test_a_stale_set_is_refreshed_behind_the_requests_back(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    removed = oidc.mint()
    await verifier.verify(removed, now)
    oidc.rotate_keys(keep_old=False)
    fresh_enough, stale = now + timedelta(seconds=899), now + timedelta(seconds=901)
    await verifier.verify(removed, fresh_enough)
    assert oidc.requests("jwks") == 1
    await verifier.verify(removed, stale)  # the request that finds the set stale is still served from it
    reason = await eventual_refusal(verifier, removed, stale)
    assert reason == "unknown key", "a remembered token must go with its key"
    assert (await verifier.verify(oidc.mint(), stale)).subject == ALICE.sub


async def test_a_stale_set_and_an_unknown_kid_share_one_fetch(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    await verifier.verify(oidc.mint(), now)
    stale = now + timedelta(seconds=901)
    assert await refusal(verifier, oidc.mint(faults=["unknown_kid"]), stale) == "unknown key"
    assert oidc.requests("jwks") == 2


async def test_a_failing_refresh_is_tried_again_once_a_minute(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    token = oidc.mint(exp=now.timestamp() + 7200)
    await verifier.verify(token, now)
    oidc.switch(jwks="error")
    for seconds, expected in ((901, 2), (902, 2), (960, 2), (961, 3), (1020, 3)):
        await verifier.verify(token, now + timedelta(seconds=seconds))
        await asyncio.sleep(0.1)  # the background refresh has finished by then
        assert oidc.requests("jwks") == expected


@pytest.mark.parametrize("outage", ["error", "black_hole"])
async def test_without_any_keys_the_issuer_is_unavailable(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, outage: str
) -> None:
    oidc.switch(jwks=outage)
    token = oidc.mint()
    started = time.monotonic()
    with pytest.raises(IssuerUnavailable) as unavailable:
        await verifier.verify(token, now)
    assert time.monotonic() - started < 3
    assert unavailable.value.status == 503
    assert unavailable.value.headers["Retry-After"] == "2"

    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(IssuerUnavailable):
            await verifier.verify(token, now + timedelta(seconds=1.5))
    assert time.monotonic() - started < 0.5, "an outage must not cost every request a time-out"
    assert oidc.requests("jwks") == 1
    oidc.switch(jwks="ok")
    assert (await verifier.verify(token, now + timedelta(seconds=2))).subject == ALICE.sub


async def test_an_unreachable_issuer_is_unavailable(oidc: RunningOIDC, verifiers: Verifiers, now: datetime) -> None:
    with pytest.raises(IssuerUnavailable):
        await verifiers(jwks_url="http://127.0.0.1:1/jwks").verify(oidc.mint(), now)


@pytest.mark.parametrize(
    "answer",
    [
        http_200(gzip.compress(b"{}"), "Content-Encoding: gzip"),
        http_200(b"not json"),
        http_200(b"[" * 50_000),
        http_200(b'{"keys": []}'),
        http_200(b""),
        b"HTTP/1.1 302 Found\r\nLocation: @GOOD@\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"nonsense\r\n\r\n",
    ],
    ids=["compressed", "no json", "deep", "empty set", "empty", "redirect", "cut off", "no http"],
)
async def test_a_wrong_document_is_an_outage(
    oidc: RunningOIDC, verifiers: Verifiers, now: datetime, answer: bytes
) -> None:
    async with raw_server(answer.replace(b"@GOOD@", oidc.jwks_url.encode())) as (url, received):
        with pytest.raises(IssuerUnavailable):
            await verifiers(jwks_url=url).verify(oidc.mint(), now)
        assert len(received) == 1
    assert oidc.requests("jwks") == 0, "a redirect must not be followed"


async def test_a_document_is_read_up_to_its_limit(oidc: RunningOIDC, verifiers: Verifiers, now: datetime) -> None:
    keys = json.dumps({"keys": oidc.published_keys()}).encode()
    token = oidc.mint()
    async with raw_server(http_200(keys + b" " * (262_144 - len(keys)))) as (url, _):
        assert (await verifiers(jwks_url=url).verify(token, now)).subject == ALICE.sub
    async with raw_server(http_200(keys + b" " * (262_145 - len(keys)))) as (url, _):
        with pytest.raises(IssuerUnavailable):
            await verifiers(jwks_url=url).verify(token, now)


async def test_a_dripping_document_ends_at_the_time_out(oidc: RunningOIDC, verifiers: Verifiers, now: datetime) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with raw_server(head, *[b" "] * 20, pause_s=0.25) as (url, _):
        started = time.monotonic()
        with pytest.raises(IssuerUnavailable):
            await verifiers(jwks_url=url).verify(oidc.mint(), now)
        assert 1.5 < time.monotonic() - started < 3


async def test_closing_ends_a_fetch_under_way(oidc: RunningOIDC, http: httpx.AsyncClient, now: datetime) -> None:
    oidc.switch(jwks="black_hole")
    cache = JWKSCache(oidc.jwks_url, http)
    finding = asyncio.create_task(cache.find("x", "RS256", now))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await cache.aclose()
    assert time.monotonic() - started < 0.5
    with pytest.raises(asyncio.CancelledError):
        await finding
