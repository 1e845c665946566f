"""A token that its issuer did not sign, for us, is refused."""

import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from joserfc import jws, jwt

from app.auth.id_tokens.verifier import TokenVerifier
from tests.auth.tokens.conftest import (
    ATTACKER,
    EC_P256,
    MISSING,
    Verifiers,
    b64,
    forged,
    good_claims,
    header_of,
    http_200,
    raw_server,
    refusal,
)
from tests.demo.oidc_server import ALICE, BOB, RunningOIDC


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("alg_none", "malformed"),
        ("hs256_with_public_key", "algorithm not allowed"),
        ("unknown_kid", "unknown key"),
        ("bad_signature", "bad signature"),
        ("wrong_aud", "wrong audience"),
        ("wrong_iss", "unknown issuer"),
        ("expired", "expired"),
        ("future_iat", "not valid yet"),
    ],
)
@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_a_forged_or_misdirected_token_is_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, alg: str, fault: str, reason: str
) -> None:
    oidc.switch(signing_alg=alg)
    assert await refusal(verifier, oidc.mint(faults=[fault]), now) == reason


@pytest.mark.parametrize(
    "alg",
    [
        "none",
        "None",
        "HS256",
        "rs256",
        "RS256 ",
        "RS384",
        "PS256",
        "ES384",
        "EdDSA",
        "",
        None,
        1,
        ["RS256"],
        {},
        MISSING,
    ],
)
async def test_only_rs256_and_es256_are_allowed(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, alg: object
) -> None:
    header = {"kid": header_of(oidc.mint())["kid"]} | ({} if alg is MISSING else {"alg": alg})
    assert await refusal(verifier, forged(header, good_claims(oidc, now)), now) == "algorithm not allowed"


async def test_a_key_verifies_only_its_own_algorithm(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    rsa_kid = header_of(oidc.mint())["kid"]
    confused = jwt.encode({"alg": "ES256", "kid": rsa_kid}, good_claims(oidc, now), EC_P256, algorithms=["ES256"])
    assert await refusal(verifier, confused, now) == "unknown key"


async def test_keys_named_inside_a_token_are_never_used(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    public = ATTACKER.as_dict(private=False)
    kid = header_of(oidc.mint())["kid"]
    registry = jws.JWSRegistry(algorithms=["RS256"], strict_check_header=False)
    registry.max_header_length = 10_000
    payload = json.dumps(good_claims(oidc, now))
    async with raw_server(http_200(json.dumps({"keys": [public]}).encode())) as (url, received):
        for reason, header in {
            "bad signature": {"kid": kid, "jku": url, "jwk": public, "x5u": url, "x5c": [b64(b"certificate")]},
            "unknown key": {"kid": str(public["kid"]), "jku": url, "jwk": public, "x5u": url},
        }.items():
            token = jws.serialize_compact({"alg": "RS256", **header}, payload, ATTACKER, registry=registry)
            assert await refusal(verifier, token, now) == reason
        signed = oidc.sign(payload, jku=url, jwk=public)
        assert (await verifier.verify(signed, now)).subject == "user-1", "a header that is ignored does no harm"
        assert received == []


@pytest.mark.parametrize(
    "kid",
    [
        "../../x",
        "/dev/null",
        "' OR 1=1 --",
        "http://127.0.0.1:1/jwks",
        "x" * 255,
        "\n\r",
        "é",
        "${jndi:ldap://x}",
        "\0",
    ],
)
async def test_a_kid_is_only_compared(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, kid: str) -> None:
    assert await refusal(verifier, oidc.sign(json.dumps(good_claims(oidc, now)), kid=kid), now) == "unknown key"
    assert oidc.requests("jwks") == 1


@pytest.mark.parametrize("kid", ["", "x" * 256, 7, True, ["a"], {"a": "b"}])
async def test_a_malformed_kid_is_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, kid: object
) -> None:
    token = oidc.sign(json.dumps(good_claims(oidc, now)), kid=kid)
    assert await refusal(verifier, token, now) == "malformed key id"


async def test_without_a_kid_the_issuer_must_have_one_key(
    oidc: RunningOIDC, verifiers: Verifiers, now: datetime
) -> None:
    token = oidc.sign(json.dumps(good_claims(oidc, now)), kid=None)
    assert "kid" not in header_of(token)
    assert (await verifiers().verify(token, now)).subject == "user-1"
    oidc.rotate_keys(keep_old=True)
    assert await refusal(verifiers(), token, now) == "unknown key"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"crit": ["exp"], "exp": 1}, "critical header not understood"),
        ({"crit": []}, "critical header not understood"),
        ({"crit": ["b64"], "b64": False}, "critical header not understood"),
        ({"b64": False}, "bad signature"),
        ({"typ": "at+jwt"}, "not an ID token"),
        ({"typ": "logout+jwt"}, "not an ID token"),
        ({"typ": 5}, "not an ID token"),
    ],
)
async def test_tokens_of_another_kind_are_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, header: dict[str, Any], reason: str
) -> None:
    token = oidc.sign(json.dumps(good_claims(oidc, now)), **header)
    assert await refusal(verifier, token, now) == reason


async def test_unknown_headers_are_ignored(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    payload = json.dumps(good_claims(oidc, now))
    token = oidc.sign(payload, typ="jwt", x5t="abc", vendor={"any": ["thing"]}, padding="x" * 2000)
    assert (await verifier.verify(token, now)).subject == "user-1"
    assert (await verifier.verify(oidc.sign(payload, typ=None), now)).subject == "user-1"


async def test_any_alteration_of_a_token_is_refused(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    token = oidc.mint()
    header, payload, signature = token.split(".")
    other = oidc.mint(sub=BOB.sub).split(".")
    assert (await verifier.verify(token, now)).subject == ALICE.sub
    altered = {
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}..{signature}",
        f".{payload}.{signature}",
        f"{token}.",
        f"{token}.{signature}",
        f"{token}=",
        f"{token}\n",
        f" {token}",
        f"Bearer {token}",
        f"{header}.{other[1]}.{signature}",
        f"{header}.{payload}.{other[2]}",
        f"{header}.{payload}.{b64(bytes(256))}",
        f"{header}.{payload}.{signature}{signature}",
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}é.{signature}",
        token.replace(".", "\uff0e"),
        "",
        ".",
        "..",
        "...",
        *(token[:length] for length in range(0, len(token), 7)),
        *(token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :] for i in range(0, len(token), 11)),
    }
    for text in altered - {token}:
        await refusal(verifier, text, now)


async def test_an_overlong_token_is_refused_unread(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    assert await refusal(verifier, oidc.mint(padding="x" * 20_000), now) == "too long"
    assert await refusal(verifier, "x" * 10_000_000, now) == "too long"
    assert await refusal(verifier, "x" * 16_385, now) == "too long"
    assert await refusal(verifier, "x" * 16_384, now) == "malformed"
    assert oidc.requests("jwks") == 0


async def test_a_payload_that_the_library_reads_differently_is_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jws, "deserialize_compact", lambda *_, **__: SimpleNamespace(payload=b"{}"))
    assert await refusal(verifier, oidc.mint(), now) == "bad signature"
