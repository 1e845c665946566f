"""The cache of verified tokens, and the choice among an issuer's keys."""

import json
import pickle
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from app.auth.id_tokens import verifier as verifier_module
from app.auth.id_tokens.jwks import parse_jwks
from app.auth.id_tokens.verifier import TokenVerifier
from tests.auth.tokens.conftest import ATTACKER, EC_P256, EC_P384, JSON, KEY_MEMBERS, MISSING, b64, refusal
from tests.demo.oidc_server import RunningOIDC


async def test_a_repeated_token_costs_no_signature_check(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, signature_checks: list[str]
) -> None:
    token, bad = oidc.mint(), oidc.mint(faults=["bad_signature"])
    claims = [await verifier.verify(token, now + timedelta(minutes=minute)) for minute in range(10)]
    assert signature_checks == [token]
    assert all(each is claims[0] for each in claims)
    for _ in range(2):
        assert await refusal(verifier, bad, now) == "bad signature"
    assert signature_checks == [token, bad, bad], "only success is remembered"


async def test_the_memory_is_bounded_and_keeps_the_recently_used(
    oidc: RunningOIDC,
    verifier: TokenVerifier,
    now: datetime,
    signature_checks: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifier_module, "MAX_CACHED_TOKENS", 2)
    first, second, third = (oidc.mint(nonce=str(number)) for number in range(3))
    for token in (first, second, first, third, first, second):
        await verifier.verify(token, now)
    assert signature_checks == [first, second, third, second]


async def test_nothing_is_remembered_of_claims_that_are_not_used(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    """Some issuers write hundreds of groups into a token. Remembering 10,000 such tokens would take 230 MB."""
    token = oidc.mint(groups=[f"/company/department-{number}/team-{number}" for number in range(250)])
    assert len((await verifier.verify_all(token, now))["groups"]) == 250
    assert not verifier._verified
    await verifier.verify(token, now)
    [remembered] = verifier._verified.values()
    assert len(pickle.dumps(remembered.claims)) < 1_000


# --- which keys count


def jwk(key: RSAKey | ECKey, **changes: Any) -> dict[str, Any]:
    entry = {**key.as_dict(private=False), "use": "sig", "kid": "k", **changes}
    return {name: value for name, value in entry.items() if value is not MISSING}


@pytest.mark.parametrize(
    ("entry", "alg"),
    [
        (jwk(ATTACKER), "RS256"),
        (jwk(ATTACKER, alg=MISSING), "RS256"),
        (jwk(ATTACKER, kid=MISSING), "RS256"),
        (jwk(ATTACKER, x5c=["not a certificate"], x5u="http://127.0.0.1:1/"), "RS256"),
        (jwk(ATTACKER, use=MISSING), "RS256"),
        (jwk(EC_P256, use=MISSING), "ES256"),
        (jwk(ATTACKER, use=MISSING, key_ops=["verify"]), "RS256"),
        (jwk(ATTACKER, key_ops=["sign", "verify"]), "RS256"),
        (jwk(ATTACKER, use=None), None),
        (jwk(ATTACKER, use="SIG"), None),
        (jwk(ATTACKER, use=["sig"]), None),
        (jwk(ATTACKER, use="enc", key_ops=["verify"]), None),
        (jwk(ATTACKER, key_ops=["encrypt"]), None),
        (jwk(ATTACKER, key_ops=[]), None),
        (jwk(ATTACKER, key_ops="verify"), None),
        (jwk(ATTACKER, key_ops=None), None),
        (jwk(ATTACKER, use=MISSING, key_ops=["wrapKey"]), None),
        (jwk(EC_P256), "ES256"),
        (jwk(EC_P256, alg="ES256", d="AAAA"), "ES256"),
        (jwk(ATTACKER, use="enc"), None),
        (jwk(ATTACKER, alg="RS512"), None),
        (jwk(ATTACKER, alg="HS256"), None),
        (jwk(ATTACKER, alg="ES256"), None),
        (jwk(ATTACKER, kid=""), None),
        (jwk(ATTACKER, kid=5), None),
        (jwk(ATTACKER, kid="k" * 255), "RS256"),
        (jwk(ATTACKER, kid="k" * 256), None),
        (jwk(ATTACKER, n=b64(b"\xff" * 1024)), "RS256"),
        (jwk(ATTACKER, n=b64(b"\x7f" + b"\xff" * 255)), None),
        (jwk(ATTACKER, n=b64(b"\xff" * 128)), None),
        (jwk(ATTACKER, n=b64(bytes(128) + b"\xff" * 128)), None),
        (jwk(ATTACKER, n=b64(b"\xff" * 4096)), None),
        (jwk(ATTACKER, e="AA"), None),
        (jwk(ATTACKER, n=MISSING), None),
        (jwk(ATTACKER, n="!!"), None),
        (jwk(EC_P384), None),
        (jwk(EC_P256, x="AAAA"), None),
        ({"kty": "oct", "k": "c2VjcmV0", "use": "sig", "kid": "k"}, None),
        ({"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(32)), "use": "sig", "kid": "k"}, None),
        ({"kty": ["RSA"], "use": "sig"}, None),
        ("text", None),
    ],
)
def test_only_strong_signing_keys_count(entry: object, alg: str | None) -> None:
    keys = parse_jwks(json.dumps({"keys": [entry, jwk(ATTACKER, kid="another")]}).encode())
    assert [key.alg for key in keys if key.kid != "another"] == ([alg] if alg else [])
    assert not any(key.key.is_private for key in keys)


@pytest.mark.parametrize("entry", [jwk(ATTACKER, e=b64(b"\xff" * 1025)), jwk(EC_P256, x=b64(b"\xff" * 1025))])
def test_an_oversized_member_is_refused_before_any_computation(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[object] = []
    for kind in (RSAKey, ECKey):
        monkeypatch.setattr(kind, "import_key", imported.append)
    with pytest.raises(ValueError, match="no usable signing key"):
        parse_jwks(json.dumps({"keys": [entry]}).encode())
    assert imported == []


def test_the_first_of_two_keys_with_one_kid_counts() -> None:
    other = RSAKey.generate_key(2048)
    keys = parse_jwks(json.dumps({"keys": [jwk(ATTACKER), jwk(other), jwk(EC_P256)]}).encode())
    assert [(key.alg, key.thumbprint) for key in keys] == [
        ("RS256", ATTACKER.thumbprint()),
        ("ES256", EC_P256.thumbprint()),
    ]


@given(entries=st.lists(JSON | st.dictionaries(KEY_MEMBERS, JSON), max_size=20))
def test_one_good_key_survives_among_any_others(entries: list[Any]) -> None:
    with pytest.raises(ValueError):
        parse_jwks(json.dumps({"keys": entries}).encode())
    keys = parse_jwks(json.dumps({"keys": [*entries, jwk(ATTACKER)]}).encode())
    assert [key.thumbprint for key in keys] == [ATTACKER.thumbprint()]


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="not a JWKS"):
        parse_jwks(json.dumps({"keys": [jwk(EC_P256, kid=str(number)) for number in range(101)]}).encode())
    most = [jwk(EC_P256, kid=str(number)) for number in range(100)]
    assert len(parse_jwks(json.dumps({"keys": most}).encode())) == 100
