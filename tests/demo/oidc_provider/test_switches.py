"""The local OpenID provider breaks the protocol only when a switch is set."""

import base64
import hmac
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, RSAKey

from tests.demo.oidc_provider.protocol import (
    claims_of,
    header_of,
    keys_of,
    redeem,
    sign_in,
)
from tests.demo.oidc_server import ALICE, RunningOIDC, running_oidc


@pytest.mark.parametrize(
    ("fault", "claim", "expected"),
    [
        ("wrong_aud", "aud", "another-client"),
        ("wrong_iss", "iss", "https://issuer.invalid"),
        ("email_unverified", "email_verified", False),
        ("other_hd", "hd", "another-domain.example"),
        ("missing_hd", "hd", None),
    ],
)
def test_a_switch_makes_a_claim_wrong_in_the_whole_flow(
    oidc: RunningOIDC, fault: str, claim: str, expected: object
) -> None:
    oidc.switch(id_token=[fault])
    token = redeem(oidc, sign_in(oidc)["code"]).json()["id_token"]
    assert jwt.decode(token, keys_of(oidc), algorithms=["RS256"]).claims.get(claim) == expected


def test_a_switch_makes_nonce_and_times_wrong(oidc: RunningOIDC) -> None:
    oidc.switch(id_token=["wrong_nonce", "expired"])
    claims = claims_of(redeem(oidc, sign_in(oidc)["code"]).json()["id_token"])
    assert claims["nonce"] != "the-nonce"
    assert claims["exp"] < time.time()
    oidc.switch(id_token=["future_iat"])
    claims = claims_of(redeem(oidc, sign_in(oidc)["code"]).json()["id_token"])
    assert claims["nonce"] == "the-nonce"
    assert claims["iat"] > time.time() + 600


def test_a_switch_makes_the_signature_wrong(oidc: RunningOIDC) -> None:
    keys = keys_of(oidc)
    unsigned = oidc.mint(faults=["alg_none"])
    assert header_of(unsigned) == {"alg": "none"}
    assert unsigned.endswith(".")

    confused = oidc.mint(faults=["hs256_with_public_key"])
    key = keys.keys[0]
    assert isinstance(key, RSAKey)
    signing_input, _, signature = confused.rpartition(".")
    digest = hmac.digest(key.as_pem(private=False), signing_input.encode(), "sha256")
    assert header_of(confused)["alg"] == "HS256"
    assert signature == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    with pytest.raises(UnsupportedAlgorithmError):
        jwt.decode(confused, keys, algorithms=["RS256"])

    assert header_of(oidc.mint(faults=["unknown_kid"]))["kid"] not in {key.kid for key in keys.keys}
    with pytest.raises(BadSignatureError):
        jwt.decode(oidc.mint(faults=["bad_signature"]), keys, algorithms=["RS256"])
    assert jwt.decode(oidc.mint(), keys, algorithms=["RS256"]).claims["sub"] == ALICE.sub


def test_endpoints_fail_stall_and_recover(oidc: RunningOIDC) -> None:
    oidc.switch(jwks="error", token_endpoint="error")
    assert oidc.http.get("/jwks").status_code == 500
    code = sign_in(oidc)["code"]
    assert redeem(oidc, code).status_code == 500

    oidc.switch(jwks="slow", token_endpoint="slow", slow_s=0.3)
    started = time.monotonic()
    assert oidc.http.get("/jwks").status_code == 200
    assert redeem(oidc, code).status_code == 200
    assert time.monotonic() - started >= 0.6

    oidc.switch(jwks="black_hole")
    with pytest.raises(httpx.ReadTimeout):
        oidc.http.get("/jwks", timeout=0.3)
    oidc.switch(jwks="ok")
    assert oidc.http.get("/jwks").status_code == 200
    assert oidc.requests("jwks") == 4
    assert oidc.requests("token") == 2


def test_rotation_with_and_without_the_old_key(oidc: RunningOIDC) -> None:
    before = oidc.mint()
    assert len(oidc.rotate_keys(keep_old=True)) == len({*map(str, oidc.published_keys())}) >= 2
    assert jwt.decode(before, keys_of(oidc), algorithms=["RS256"]).claims["sub"] == ALICE.sub
    assert header_of(oidc.mint())["kid"] != header_of(before)["kid"]

    assert len(oidc.rotate_keys(keep_old=False)) == 1
    with pytest.raises((JoseError, ValueError)):
        jwt.decode(before, keys_of(oidc), algorithms=["RS256"])
    assert jwt.decode(oidc.mint(), keys_of(oidc), algorithms=["RS256"]).claims["sub"] == ALICE.sub


def test_the_jwks_holds_no_private_member(oidc: RunningOIDC) -> None:
    oidc.switch(signing_alg="ES256")
    oidc.mint()
    for key in oidc.http.get("/jwks").json()["keys"]:
        assert key.keys() <= {"kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"}
        assert key["use"] == "sig"
        assert not (ECKey if key["kty"] == "EC" else RSAKey).import_key(key).is_private


def test_a_token_is_minted_for_anybody(oidc: RunningOIDC) -> None:
    claims = claims_of(oidc.mint(sub="someone", email="someone@example.org", aud="app", nonce="x"))
    assert (claims["sub"], claims["email"], claims["aud"], claims["azp"]) == (
        "someone",
        "someone@example.org",
        "app",
        "app",
    )
    assert claims["email_verified"] is True
    assert "exp" not in claims_of(oidc.mint(exp=None))
    answer = oidc.http.post("/_control/id-token", json={}).json()
    assert claims_of(answer["id_token"])["sub"] == ALICE.sub
    assert answer["token_type"] == "Bearer"


@pytest.mark.parametrize("body", [{"jwks": "maybe"}, {"unknown": 1}, {"id_token": ["nonsense"]}, {"slow_s": -1}])
def test_an_unknown_switch_is_refused(oidc: RunningOIDC, body: dict[str, Any]) -> None:
    assert oidc.http.patch("/_control/switches", json=body).status_code == 422


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "var" / "oidc.json"
    with running_oidc(state_path=state) as first:
        token, port = first.mint(), first.port
        first.rotate_keys(keep_old=True)
        kids = [key["kid"] for key in first.published_keys()]
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with running_oidc(state_path=state, port=port) as second:
        assert [key["kid"] for key in second.published_keys()] == kids
        assert jwt.decode(token, keys_of(second), algorithms=["RS256"]).claims["iss"] == second.issuer
