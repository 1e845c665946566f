"""A token whose claims are wrong, strange or garbage is refused, and nothing else happens."""

import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.id_tokens.verifier import MAX_TOKEN_LIFE, InvalidToken, TokenVerifier
from tests.auth.tokens.conftest import (
    AUDIENCE,
    JSON,
    MISSING,
    Verifiers,
    b64,
    forged,
    good_claims,
    over_fixtures,
    refusal,
)
from tests.demo.oidc_server import RunningOIDC


@pytest.mark.parametrize("claim", ["exp", "iat"])
@pytest.mark.parametrize(
    "value", ["missing", "null", '"1900000000"', "true", "[]", "{}", "1e999", "-1e999", "-5", "0", "1" * 4000, "3e11"]
)
async def test_malformed_times_are_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, claim: str, value: str
) -> None:
    payload = json.dumps(good_claims(oidc, now, **{claim: MISSING if value == "missing" else "@"}))
    assert await refusal(verifier, oidc.sign(payload.replace('"@"', value)), now) == f"malformed {claim}"


@pytest.mark.parametrize("value", ["soon", False, [], float(2**60)])
async def test_a_malformed_not_before_is_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, value: object
) -> None:
    assert await refusal(verifier, oidc.sign(json.dumps(good_claims(oidc, now, nbf=value))), now) == "malformed nbf"


async def test_fractional_times_and_the_last_second_of_time_are_fine_but_a_token_ends_after_thirty_days(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    claims = good_claims(oidc, now, iat=now.timestamp(), exp=253_402_300_798.999_97)
    token = oidc.sign(json.dumps(claims))
    assert (await verifier.verify(token, now)).expires_at - now == MAX_TOKEN_LIFE == timedelta(days=30)
    assert await refusal(verifier, token, now + MAX_TOKEN_LIFE + timedelta(seconds=30)) == "expired"
    beyond = good_claims(oidc, now, exp=253_402_300_799)
    assert await refusal(verifier, oidc.sign(json.dumps(beyond)), now) == "malformed exp"


async def test_times_have_thirty_seconds_of_leeway_and_no_more(
    oidc: RunningOIDC, verifiers: Verifiers, now: datetime
) -> None:
    issued = now.replace(microsecond=0)
    expires = issued + timedelta(hours=1)
    tick, leeway = timedelta(milliseconds=1), timedelta(seconds=30)
    token = oidc.mint(iat=issued.timestamp(), exp=expires.timestamp())
    early = oidc.mint(iat=issued.timestamp(), exp=expires.timestamp(), nbf=(issued + leeway).timestamp())
    remembering = verifiers()
    for _ in range(2):  # the second time from memory
        assert (await remembering.verify(token, expires + leeway - tick)).expires_at == expires
    assert await refusal(remembering, token, expires + leeway) == "expired"
    assert await refusal(verifiers(), token, expires + leeway) == "expired"
    assert (await verifiers().verify(token, issued - leeway)).issued_at == issued
    assert await refusal(verifiers(), token, issued - leeway - tick) == "not valid yet"
    assert (await verifiers().verify(early, issued)).issued_at == issued
    assert await refusal(verifiers(), early, issued - tick) == "not valid yet"
    backdated = oidc.mint(iat=(issued + 2 * leeway).timestamp(), nbf=issued.timestamp(), exp=expires.timestamp())
    assert await refusal(verifiers(), backdated, issued) == "not valid yet"


async def test_a_token_must_expire_after_it_was_issued(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    claims = good_claims(oidc, now, iat=int(now.timestamp()) + 20, exp=int(now.timestamp()) + 20)
    assert await refusal(verifier, oidc.sign(json.dumps(claims)), now) == "expires before it is issued"


@pytest.mark.parametrize(
    ("audience", "azp", "reason"),
    [
        (AUDIENCE, MISSING, None),
        (AUDIENCE, "an-android-client", None),
        ([AUDIENCE], MISSING, None),
        ([AUDIENCE, "other"], AUDIENCE, None),
        (["other", AUDIENCE], AUDIENCE, None),
        ([AUDIENCE, "other"], "other", "wrong authorized party"),
        ([AUDIENCE, "other"], MISSING, "wrong authorized party"),
        ([AUDIENCE, AUDIENCE], MISSING, "wrong authorized party"),
        (AUDIENCE, 7, "malformed authorized party"),
        ([AUDIENCE, "other"], [AUDIENCE], "malformed authorized party"),
        ("other", MISSING, "wrong audience"),
        (["other"], AUDIENCE, "wrong audience"),
        (AUDIENCE.upper(), MISSING, "wrong audience"),
        (f"{AUDIENCE} ", MISSING, "wrong audience"),
        (MISSING, MISSING, "malformed audience"),
        (None, MISSING, "malformed audience"),
        (5, MISSING, "malformed audience"),
        ([], MISSING, "malformed audience"),
        ([AUDIENCE, 5], AUDIENCE, "malformed audience"),
        ([[AUDIENCE]], MISSING, "malformed audience"),
        ({AUDIENCE: 1}, MISSING, "malformed audience"),
        ([AUDIENCE] * 100, AUDIENCE, None),
        ([AUDIENCE] * 101, AUDIENCE, "malformed audience"),
    ],
)
async def test_the_audience_must_be_ours(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, audience: object, azp: object, reason: str | None
) -> None:
    token = oidc.sign(json.dumps(good_claims(oidc, now, aud=audience, azp=azp)))
    if reason is None:
        assert (await verifier.verify(token, now)).subject == "user-1"
    else:
        assert await refusal(verifier, token, now) == reason


@pytest.mark.parametrize("issuer", [MISSING, None, 7, ["x"], {"x": 1}, "", "https://issuer.invalid", "\ud800"])
async def test_the_issuer_must_be_configured(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, issuer: object
) -> None:
    assert await refusal(verifier, oidc.sign(json.dumps(good_claims(oidc, now, iss=issuer))), now) == "unknown issuer"
    assert oidc.requests("jwks") == 0, "an unknown issuer must cause no fetch"


async def test_without_issuers_every_token_is_refused(
    oidc: RunningOIDC, http: httpx.AsyncClient, now: datetime
) -> None:
    assert await refusal(TokenVerifier([], http), oidc.mint(), now) == "unknown issuer"


async def test_payloads_that_two_readers_could_read_differently_are_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    good = json.dumps(good_claims(oidc, now))
    payloads = [
        good[:-1] + ', "sub": "somebody-else"}',
        good[:-1] + ', "x": {"a": 1, "a": 2}}',
        good[:-1] + ', "x": NaN}',
        good[:-1] + ', "x": -Infinity}',
        good[:-1] + ', "x": ' + "9" * 5000 + "}",
        good + "{}",
        "\ufeff" + good,
        f"[{good}]",
        '"text"',
        "null",
        "",
        "{",
        "{'sub': 1}",
        '{"a":' * 1200 + "1" + "}" * 1200,
        "[" * 5000,
    ]
    for payload in payloads:
        assert await refusal(verifier, oidc.sign(payload), now) == "malformed", payload[:80]
    header = b64(json.dumps({"alg": "RS256", "kid": "x"}))
    for encoding in ("utf-16", "utf-32", "latin-1"):
        encoded = json.dumps({"sub": "é"}, ensure_ascii=False).encode(encoding)
        assert await refusal(verifier, f"{header}.{b64(encoded)}.AAAA", now) == "malformed"
    assert await refusal(verifier, f"{b64('[' * 11_000)}.AAAA.AAAA", now) == "malformed"


HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5c", "x5u", "x5t", "cty", "zip"])
CLAIM_NAMES = st.sampled_from(
    ["iss", "aud", "azp", "sub", "exp", "iat", "nbf", "jti", "email", "email_verified", "name"]
)
SEGMENT = st.one_of(
    JSON.map(lambda value: b64(json.dumps(value))), st.binary(max_size=40).map(b64), st.text(max_size=20)
)


@over_fixtures
@given(token=st.text(max_size=100) | st.lists(SEGMENT, max_size=5).map(".".join))
async def test_garbage_is_refused_and_nothing_else(verifier: TokenVerifier, now: datetime, token: str) -> None:
    await refusal(verifier, token, now)


@over_fixtures
@given(header=st.dictionaries(HEADER_NAMES, JSON, max_size=4), signature=SEGMENT)
async def test_garbage_headers_and_signatures_are_refused_and_nothing_else(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, header: dict[str, Any], signature: str
) -> None:
    # Without a kid the only key is taken, so that the signature check itself sees the garbage.
    await refusal(verifier, forged({"alg": "RS256", **header}, good_claims(oidc, now), signature), now)


@over_fixtures
@given(changes=st.dictionaries(CLAIM_NAMES, JSON, max_size=5))
async def test_signed_garbage_claims_are_read_or_refused_and_nothing_else(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, changes: dict[str, Any]
) -> None:
    token = oidc.sign(json.dumps({**good_claims(oidc, now), **changes}))
    try:
        claims = await verifier.verify(token, now)
    except InvalidToken:
        return
    assert 0 < len(claims.external_id.encode()) <= 4 * 255
    assert claims.issuer == oidc.issuer
