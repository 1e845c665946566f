"""The claims that a valid ID token gives about its user."""

import base64
import hashlib
import json
from datetime import datetime, timedelta

import pytest

from app.auth.id_tokens.verifier import TokenClaims, TokenVerifier, token_id_of_jti
from tests.auth.tokens.conftest import AUDIENCE, P256_ORDER, Verifiers, b64, good_claims, issuer_config, refusal
from tests.demo.oidc_server import ALICE, BOB, RunningOIDC


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_a_good_token_names_its_user(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, alg: str) -> None:
    oidc.switch(signing_alg=alg)
    issued = now.replace(microsecond=0)
    token = oidc.mint(iat=issued.timestamp(), exp=issued.timestamp() + 600)
    assert await verifier.verify(token, now) == TokenClaims(
        environment="live",
        oauth_provider="oauth:local",
        external_id=ALICE.sub,
        issuer=oidc.issuer,
        subject=ALICE.sub,
        token_id=hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest(),
        issued_at=issued,
        expires_at=issued + timedelta(seconds=600),
        email=ALICE.email,
        display_name=ALICE.name,
    )


UNVERIFIED = (False, None, 1, 1.0, "True", "TRUE", " true", "yes", "1", "false", "", [True], ["true"], {"true": True})


async def test_an_email_counts_only_when_verified(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    assert (await verifier.verify(oidc.mint(sub=BOB.sub), now)).email is None
    for claim in (True, "true"):  # Apple and Amazon Cognito send a text
        token = oidc.mint(email="x@example.com", email_verified=claim)
        assert (await verifier.verify(token, now)).email == "x@example.com"
    for other in UNVERIFIED:
        token = oidc.mint(email="x@example.com", email_verified=other)
        assert (await verifier.verify(token, now)).email is None


async def test_unusable_profile_claims_are_left_out(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    for value in ("", "x" * 256, "a\0b", 7, ["x"], "\ud800"):
        payload = json.dumps(good_claims(oidc, now, name=value, email=value, email_verified=True))
        claims = await verifier.verify(oidc.sign(payload), now)
        assert (claims.display_name, claims.email) == (None, None)


async def test_claims_at_their_bounds_count(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    for value in ("x", "x" * 255):
        payload = json.dumps(good_claims(oidc, now, sub=value, name=value, email=value, email_verified=True, jti=value))
        claims = await verifier.verify(oidc.sign(payload), now)
        assert (claims.external_id, claims.display_name, claims.email) == (value, value, value)


async def test_the_subject_claim_is_configurable(oidc: RunningOIDC, verifiers: Verifiers, now: datetime) -> None:
    by_email, by_oid = verifiers(subject_claim="email"), verifiers(subject_claim="oid")
    claims = await by_email.verify(oidc.mint(), now)
    assert (claims.external_id, claims.subject) == (ALICE.email, ALICE.sub)
    assert await refusal(by_email, oidc.mint(email_verified=False), now) == "no usable subject"
    assert (await by_email.verify(oidc.mint(email_verified="true"), now)).external_id == ALICE.email
    assert await refusal(by_email, oidc.mint(email_verified="True"), now) == "no usable subject"
    assert (await by_oid.verify(oidc.mint(oid="object-1"), now)).external_id == "object-1"
    assert await refusal(by_oid, oidc.mint(), now) == "no usable subject"


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\0b", "\ud800", 7, True, None, ["a"], {"a": 1}])
async def test_an_unusable_subject_is_refused(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime, subject: object
) -> None:
    payload = json.dumps(good_claims(oidc, now, sub=subject))
    assert await refusal(verifier, oidc.sign(payload), now) == "no usable subject"


async def test_both_spellings_of_an_issuer_share_one_fetch(
    oidc: RunningOIDC, verifiers: Verifiers, now: datetime
) -> None:
    spellings = ("https://accounts.google.com", "accounts.google.com")
    verifier = verifiers(*[issuer_config(oidc, issuer=name, provider="oauth:google") for name in spellings])
    for name in spellings:
        claims = await verifier.verify(oidc.mint(iss=name), now)
        assert (claims.issuer, claims.oauth_provider) == (name, "oauth:google")
    assert oidc.requests("jwks") == 1


async def test_the_audience_chooses_the_environment(oidc: RunningOIDC, verifiers: Verifiers, now: datetime) -> None:
    live = issuer_config(oidc)
    test = issuer_config(oidc, audiences=["test-app"], environment="test", provider="oauth:test")
    verifier = verifiers(live, test)
    assert (await verifier.verify(oidc.mint(), now)).environment == "live"
    assert (await verifier.verify(oidc.mint(aud="test-app"), now)).environment == "test"
    both = oidc.mint(aud=["test-app", AUDIENCE], azp="test-app")
    assert await refusal(verifier, both, now) == "ambiguous audience"
    with pytest.raises(ValueError, match="twice"):
        verifiers(live, issuer_config(oidc, environment="test"))


async def test_a_token_id_survives_a_rewritten_signature(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    oidc.switch(signing_alg="ES256")
    token = oidc.mint()
    signing_input, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    mirrored = P256_ORDER - int.from_bytes(raw[32:], "big")
    twin = f"{signing_input}.{b64(raw[:32] + mirrored.to_bytes(32, 'big'))}"
    assert twin != token
    assert (await verifier.verify(twin, now)).token_id == (await verifier.verify(token, now)).token_id


async def test_a_jti_gives_the_token_id(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    claims = await verifier.verify(oidc.mint(jti="token-7"), now)
    assert claims.token_id == token_id_of_jti(oidc.issuer, "token-7")
    assert claims.token_id != token_id_of_jti("https://other.example", "token-7")
    for odd in (7, "", "x" * 256, ["a"]):
        assert await refusal(verifier, oidc.mint(jti=odd), now) == "malformed token id"
