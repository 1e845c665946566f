"""An issuer, good and forged tokens, and verifiers of them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from app.auth.id_tokens.verifier import InvalidToken, TokenVerifier
from app.issuers import Issuer
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc

AUDIENCE = WEB.client_id
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
MISSING = object()
ATTACKER = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256"}, auto_kid=True)
EC_P256, EC_P384 = ECKey.generate_key("P-256"), ECKey.generate_key("P-384")
# The examples share their fixtures on purpose: one verifier has to survive them all.
over_fixtures = settings(
    max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
KEY_MEMBERS = st.sampled_from(["kty", "use", "n", "e", "crv", "x", "y", "kid", "alg"])
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
