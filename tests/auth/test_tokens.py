"""An end user's token is believed only when its issuer signed it, for us, and now; nothing else about it can hurt."""

import asyncio
import base64
import gzip
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from app.auth import tokens as tokens_module
from app.auth.jwks import JWKSCache, parse_jwks
from app.auth.tokens import InvalidToken, IssuerUnavailable, TokenClaims, TokenVerifier, token_id_of_jti
from app.config import Issuer
from tests.demo.oidc_server import ALICE, BOB, WEB, RunningOIDC, running_oidc

AUDIENCE = WEB.client_id
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
MISSING = object()
ATTACKER = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"}, auto_kid=True)
EC_P256, EC_P384 = ECKey.generate_key("P-256"), ECKey.generate_key("P-384")
# The examples share their fixtures on purpose: one verifier has to survive them all.
over_fixtures = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Verifiers = Callable[..., TokenVerifier]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture
def oidc(shared_server: RunningOIDC) -> Iterator[RunningOIDC]:
    """The provider with one RS256 key, no misbehaviour and its counts at zero."""
    shared_server.reset()
    if len(shared_server.published_keys()) > 1:
        shared_server.rotate_keys(keep_old=False)
    yield shared_server
    shared_server.reset()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
async def verifiers(oidc: RunningOIDC, http: httpx.AsyncClient) -> AsyncIterator[Verifiers]:
    """Makes verifiers that trust the provider, with changes to its configuration, or exactly the given ones."""
    made: list[TokenVerifier] = []

    def make(*configs: Issuer, **changes: Any) -> TokenVerifier:
        made.append(TokenVerifier(configs or [issuer_config(oidc, **changes)], http))
        return made[-1]

    yield make
    for verifier in made:
        await verifier.aclose()


@pytest.fixture
def verifier(verifiers: Verifiers) -> TokenVerifier:
    return verifiers()


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def signature_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were checked: the library's own function, watched."""
    checked: list[str] = []
    check = jws.deserialize_compact

    def watched(value: str, *args: Any, **kwargs: Any) -> Any:
        checked.append(value)
        return check(value, *args, **kwargs)

    monkeypatch.setattr(jws, "deserialize_compact", watched)
    return checked


def issuer_config(oidc: RunningOIDC, **changes: Any) -> Issuer:
    values = {
        "issuer": oidc.issuer,
        "jwks_url": oidc.jwks_url,
        "audiences": [AUDIENCE],
        "provider": "oauth:local",
        **changes,
    }
    return Issuer(**values)


def good_claims(oidc: RunningOIDC, now: datetime, **changes: Any) -> dict[str, Any]:
    issued_s = int(now.timestamp())
    claims = {"iss": oidc.issuer, "aud": AUDIENCE, "sub": "user-1", "iat": issued_s, "exp": issued_s + 3600, **changes}
    return {name: value for name, value in claims.items() if value is not MISSING}


def b64(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def forged(header: object, claims: object, signature: str = "AAAA") -> str:
    return f"{b64(json.dumps(header))}.{b64(json.dumps(claims))}.{signature}"


def header_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return header


async def refusal(verifier: TokenVerifier, token: str, now: datetime) -> str:
    with pytest.raises(InvalidToken) as refused:
        await verifier.verify(token, now)
    assert refused.value.status == 401
    assert "WWW-Authenticate" in refused.value.headers
    return refused.value.reason


async def eventual_refusal(verifier: TokenVerifier, token: str, now: datetime) -> str:
    """Why `token` is refused, within two seconds from here."""
    for _ in range(200):
        try:
            await verifier.verify(token, now)
        except InvalidToken as refused:
            return refused.reason
        await asyncio.sleep(0.01)
    pytest.fail("the token is still accepted")


@asynccontextmanager
async def raw_server(*answers: bytes, pause_s: float = 0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers each connection with `answers`, `pause_s` apart; its URL, and the requests it received."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            for answer in answers:
                writer.write(answer)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys", received


def http_200(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


# --- what a good token says


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


async def test_an_email_counts_only_when_verified(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    assert (await verifier.verify(oidc.mint(sub=BOB.sub), now)).email is None
    for claim in ("true", 1, None):
        token = oidc.mint(email="x@example.com", email_verified=claim)
        assert (await verifier.verify(token, now)).email is None


async def test_unusable_profile_claims_are_left_out(oidc: RunningOIDC, verifier: TokenVerifier, now: datetime) -> None:
    for value in ("", "x" * 256, "a\0b", 7, ["x"], "\ud800"):
        payload = json.dumps(good_claims(oidc, now, name=value, email=value, email_verified=True))
        claims = await verifier.verify(oidc.sign(payload), now)
        assert (claims.display_name, claims.email) == (None, None)


async def test_the_subject_claim_is_configurable(oidc: RunningOIDC, verifiers: Verifiers, now: datetime) -> None:
    by_email, by_oid = verifiers(subject_claim="email"), verifiers(subject_claim="oid")
    claims = await by_email.verify(oidc.mint(), now)
    assert (claims.external_id, claims.subject) == (ALICE.email, ALICE.sub)
    assert await refusal(by_email, oidc.mint(email_verified=False), now) == "no usable subject"
    assert await refusal(by_email, oidc.mint(email_verified="true"), now) == "no usable subject"
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


# --- forgeries


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
    assert oidc.requests("jwks") == 0


# --- claims


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


async def test_fractional_times_and_the_last_second_of_time_are_fine(
    oidc: RunningOIDC, verifier: TokenVerifier, now: datetime
) -> None:
    claims = good_claims(oidc, now, iat=now.timestamp(), exp=253_402_300_798.999_97)
    assert (await verifier.verify(oidc.sign(json.dumps(claims)), now)).expires_at.year == 9999
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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5c", "x5u", "x5t", "cty", "zip"])
CLAIM_NAMES = st.sampled_from(
    ["iss", "aud", "azp", "sub", "exp", "iat", "nbf", "jti", "email", "email_verified", "name"]
)
KEY_MEMBERS = st.sampled_from(["kty", "use", "n", "e", "crv", "x", "y", "kid", "alg"])
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


# --- the issuer's keys: rotation, outage, slowness


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
        await asyncio.sleep(0.1)  # what happens behind the request's back has happened by then
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
    assert unavailable.value.headers["Retry-After"] == "5"

    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(IssuerUnavailable):
            await verifier.verify(token, now + timedelta(seconds=4))
    assert time.monotonic() - started < 0.5, "an outage must not cost every request a time-out"
    assert oidc.requests("jwks") == 1
    oidc.switch(jwks="ok")
    assert (await verifier.verify(token, now + timedelta(seconds=5))).subject == ALICE.sub


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


# --- what is remembered


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
    monkeypatch.setattr(tokens_module, "MAX_CACHED_TOKENS", 2)
    first, second, third = (oidc.mint(nonce=str(number)) for number in range(3))
    for token in (first, second, first, third, first, second):
        await verifier.verify(token, now)
    assert signature_checks == [first, second, third, second]


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
        (jwk(ATTACKER, x5c=["not a certificate"], x5u="http://127.0.0.1:1/", key_ops="odd"), "RS256"),
        (jwk(EC_P256), "ES256"),
        (jwk(EC_P256, alg="ES256", d="AAAA"), "ES256"),
        (jwk(ATTACKER, use="enc"), None),
        (jwk(ATTACKER, use=MISSING), None),
        (jwk(ATTACKER, alg="RS512"), None),
        (jwk(ATTACKER, alg="HS256"), None),
        (jwk(ATTACKER, alg="ES256"), None),
        (jwk(ATTACKER, kid=""), None),
        (jwk(ATTACKER, kid=5), None),
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


def test_the_first_of_two_keys_with_one_kid_counts() -> None:
    other = RSAKey.generate_key(2048)
    keys = parse_jwks(json.dumps({"keys": [jwk(ATTACKER), jwk(other), jwk(EC_P256)]}).encode())
    assert [(key.alg, key.thumbprint) for key in keys] == [
        ("RS256", ATTACKER.thumbprint()),
        ("ES256", EC_P256.thumbprint()),
    ]


@settings(deadline=None)
@given(entries=st.lists(JSON | st.dictionaries(KEY_MEMBERS, JSON), max_size=20))
def test_one_good_key_survives_among_any_others(entries: list[Any]) -> None:
    with pytest.raises(ValueError):
        parse_jwks(json.dumps({"keys": entries}).encode())
    keys = parse_jwks(json.dumps({"keys": [*entries, jwk(ATTACKER)]}).encode())
    assert [key.thumbprint for key in keys] == [ATTACKER.thumbprint()]


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="not a JWKS"):
        parse_jwks(json.dumps({"keys": [jwk(EC_P256, kid=str(number)) for number in range(101)]}).encode())
