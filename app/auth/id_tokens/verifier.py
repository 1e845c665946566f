"""ID token verification: the end user whom a token names. No database: the caller checks revocation."""

import base64
import binascii
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import httpx
from joserfc import jws
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from joserfc.jwt import JWTClaimsRegistry

from app.auth.caller import Environment
from app.auth.id_tokens.jwks import IssuerUnavailable, JWKSCache, VerificationKey
from app.errors import AppError
from app.issuers import Issuer

__all__ = ["InvalidToken", "IssuerUnavailable", "TokenClaims", "TokenVerifier", "token_id_of_jti"]

MAX_TOKEN_CHARS = 16_384
MAX_CLAIM_CHARS = 255
MAX_AUDIENCES = 100
MAX_CACHED_TOKENS = 10_000
LEEWAY_S = 30
MAX_TOKEN_LIFE = timedelta(days=30)
"""A token ends at most this long after it was issued, so its revocation need not be kept for longer."""
END_OF_TIME_S = 253_402_300_799  # the last second of 9999, where datetime ends
ALGORITHMS = ("RS256", "ES256")
COMPACT_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class InvalidToken(AppError):
    """The bearer token does not identify anyone. `reason` says why, and quotes nothing of the token."""

    status, code = 401, "invalid_token"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid token: {reason}", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """The claims of a verified token. (environment, oauth_provider, external_id) is the end user's identity."""

    environment: Environment
    oauth_provider: str
    external_id: str
    issuer: str
    subject: str
    token_id: str
    issued_at: datetime
    expires_at: datetime
    email: str | None
    display_name: str | None
    is_interactive: bool = False
    """Its client is one that only persons use (`Issuer.interactive_audiences`)."""
    authenticated_at: datetime | None = None
    """When the user signed in, by the claim `auth_time`. None: the issuer does not say."""
    knows_persons: bool = False
    """The issuer has interactive audiences."""


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: TokenClaims
    keys: JWKSCache
    thumbprint: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a token, untrusted until the signature has been checked."""

    header: dict[str, Any]
    payload: bytes
    claims: dict[str, Any]
    signing_input: str


def token_id_of_jti(issuer: str, jti: str) -> str:
    """Return the `token_id` for a `jti`, to revoke a token without having it: 64 hexadecimal digits."""
    return hashlib.sha256(f"jti\0{issuer}\0{jti}".encode()).hexdigest()


class TokenVerifier:
    """Checks ID tokens against the configured issuers. Each call passes the time; the caller owns the HTTP client.

    Several configurations may share an `issuer` if their audiences differ (a live and a test client id): the token's
    audience selects one. Raise ValueError if two of them have the same audience.
    """

    def __init__(self, issuers: Iterable[Issuer], http: httpx.AsyncClient) -> None:
        self._issuers: dict[str, dict[str, Issuer]] = {}
        self._keys: dict[str, JWKSCache] = {}
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        for config in issuers:
            by_audience = self._issuers.setdefault(config.issuer, {})
            for audience in config.audiences:
                if audience in by_audience:
                    raise ValueError(f"issuer {config.issuer} has the audience {audience} twice")
                by_audience[audience] = config
            self._keys.setdefault(config.jwks_url, JWKSCache(config.jwks_url, http))

    async def verify(self, token: str, now: datetime) -> TokenClaims:
        """Return the claims of `token`. A known token costs a digest, as long as its issuer still publishes its key.

        Raise InvalidToken, or IssuerUnavailable if the issuer's keys were never fetched and cannot be now.
        """
        digest = hashlib.sha256(_bytes_of(token)).digest()
        known = self._recall(digest, now)
        if known is not None:
            return known
        verified, _ = await self._check(token, now)
        self._remember(digest, verified)
        return verified.claims

    async def verify_all(self, token: str, now: datetime) -> Mapping[str, Any]:
        """Return all claims of a valid token. Raises as `verify` does.

        `verify` keeps none of them: 10,000 tokens that name their users' groups would take hundreds of megabytes.
        """
        _bytes_of(token)
        _, claims = await self._check(token, now)
        return claims

    async def _check(self, token: str, now: datetime) -> tuple[_Verified, Mapping[str, Any]]:
        parts = _take_apart(token)
        config = self._choose_issuer(parts.claims)
        keys = self._keys[config.jwks_url]
        alg, kid = _read_header(parts.header)
        key = await keys.find(kid, alg, now)
        if key is None:
            raise InvalidToken("unknown key")
        _check_signature(token, parts.payload, key)
        return _Verified(_read_claims(parts, config, now), keys, key.thumbprint), parts.claims

    async def aclose(self) -> None:
        """Cancel the fetches under way."""
        for keys in self._keys.values():
            await keys.aclose()

    def _recall(self, digest: bytes, now: datetime) -> TokenClaims | None:
        entry = self._verified.get(digest)
        if entry is None:
            return None
        if _expired(entry.claims.expires_at.timestamp(), now) or not entry.keys.trusts(entry.thumbprint, now):
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return entry.claims

    def _remember(self, digest: bytes, entry: _Verified) -> None:
        self._verified[digest] = entry
        while len(self._verified) > MAX_CACHED_TOKENS:
            self._verified.popitem(last=False)

    def _choose_issuer(self, claims: dict[str, Any]) -> Issuer:
        """Return the configuration for the unverified `iss` and `aud`. They decide only whose keys are used.

        joserfc's claims registry compares these claims with expected values. Here they choose among configurations,
        before a key is known; and the registry has no rule for `azp`.
        """
        issuer = claims.get("iss")
        by_audience = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if by_audience is None:
            raise InvalidToken("unknown issuer")
        audiences = claims.get("aud")
        if isinstance(audiences, str):
            audiences = [audiences]
        if not isinstance(audiences, list) or not 0 < len(audiences) <= MAX_AUDIENCES:
            raise InvalidToken("malformed audience")
        if not all(isinstance(audience, str) for audience in audiences):
            raise InvalidToken("malformed audience")
        ours = [by_audience[audience] for audience in audiences if audience in by_audience]
        if not ours:
            raise InvalidToken("wrong audience")
        if any(config is not ours[0] for config in ours):
            raise InvalidToken("ambiguous audience")
        authorized_party = claims.get("azp")
        if authorized_party is not None and not isinstance(authorized_party, str):
            raise InvalidToken("malformed authorized party")
        # With one audience, Google's azp may be another client of the project (an Android app), so it is not checked.
        if len(audiences) > 1 and authorized_party not in ours[0].audiences:
            raise InvalidToken("wrong authorized party")
        return ours[0]


def _bytes_of(token: str) -> bytes:
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidToken("too long")
    try:
        return token.encode("ascii")
    except UnicodeEncodeError:
        raise InvalidToken("malformed") from None


def _take_apart(token: str) -> _Parts:
    match = COMPACT_JWS.fullmatch(token)
    if match is None:
        raise InvalidToken("malformed")
    header, payload = _decode_segment(match[1]), _decode_segment(match[2])
    return _Parts(_parse_object(header), payload, _parse_object(payload), f"{match[1]}.{match[2]}")


def _decode_segment(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise InvalidToken("malformed") from None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")  # two readers of one token could otherwise see two users
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _parse_object(document: bytes) -> dict[str, Any]:
    try:
        # Decoded here, because json.loads would also detect UTF-16 and UTF-32.
        parsed = json.loads(
            document.decode("utf-8"), object_pairs_hook=_unique_members, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise InvalidToken("malformed") from None
    if not isinstance(parsed, dict):
        raise InvalidToken("malformed")
    return parsed


def _read_header(header: dict[str, Any]) -> tuple[str, str | None]:
    """Return the algorithm and the key's id. `jku`, `jwk`, `x5u` and `x5c` are never read."""
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise InvalidToken("algorithm not allowed")
    if "crit" in header:
        raise InvalidToken("critical header not understood")
    if not isinstance(typ, str) or typ.upper() != "JWT":
        raise InvalidToken("not an ID token")  # an access token (at+jwt) or a logout token from the same issuer
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_CLAIM_CHARS):
        raise InvalidToken("malformed key id")
    return alg, kid


def _check_signature(token: str, payload: bytes, key: VerificationKey) -> None:
    registry = jws.JWSRegistry(algorithms=[key.alg], strict_check_header=False)
    registry.max_header_length = MAX_TOKEN_CHARS
    try:
        signed = jws.deserialize_compact(token, key.key, registry=registry)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise InvalidToken("bad signature") from None
    if signed.payload != payload:
        raise InvalidToken("bad signature")  # the library decoded other bytes than this module


def _read_claims(parts: _Parts, config: Issuer, now: datetime) -> TokenClaims:
    claims = parts.claims
    issued_s, expires_s = _check_times(claims, now)
    email = _text(claims, "email") if is_email_verified(claims) else None
    external_id = email if config.subject_claim == "email" else _text(claims, config.subject_claim)
    subject = _text(claims, "sub")
    if external_id is None or subject is None:
        raise InvalidToken("no usable subject")
    # Without the signature: an ECDSA signature can be changed into another valid one, which would evade a revocation.
    token_id = hashlib.sha256(parts.signing_input.encode()).hexdigest()
    if claims.get("jti") is not None:
        jti = _text(claims, "jti")
        if jti is None:
            raise InvalidToken("malformed token id")
        token_id = token_id_of_jti(config.issuer, jti)
    return TokenClaims(
        environment=config.environment,
        oauth_provider=config.provider,
        external_id=external_id,
        issuer=config.issuer,
        subject=subject,
        token_id=token_id,
        issued_at=datetime.fromtimestamp(issued_s, UTC),
        expires_at=datetime.fromtimestamp(expires_s, UTC),
        email=email,
        display_name=_text(claims, "name"),
        is_interactive=_client_of(claims) in config.interactive_audiences,
        authenticated_at=_authenticated_at(claims),
        knows_persons=bool(config.interactive_audiences),
    )


def _client_of(claims: Mapping[str, Any]) -> str:
    """Return the client that the token was issued to: the authorized party, if it is for several audiences."""
    audiences = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
    return str(audiences[0] if len(audiences) == 1 else claims["azp"])


def _authenticated_at(claims: dict[str, Any]) -> datetime | None:
    """Return the time of the claim `auth_time`, which may be absent. A malformed one is long ago."""
    if claims.get("auth_time") is None:
        return None
    try:
        return datetime.fromtimestamp(_numeric_date(claims, "auth_time"), UTC)
    except InvalidToken:
        return datetime.fromtimestamp(0, UTC)


def _check_times(claims: dict[str, Any], now: datetime) -> tuple[float, float]:
    """Return the times at which the token was issued and ends, at most MAX_TOKEN_LIFE later. Raise InvalidToken.

    joserfc's claims registry compares `exp`, `nbf` and `iat` with the clock. The rest is what it lacks: dates that
    datetime can hold, null as an absent `nbf`, a longest life, and an end after the beginning.
    """
    issued_s = _numeric_date(claims, "iat")
    expires_s = min(_numeric_date(claims, "exp"), issued_s + MAX_TOKEN_LIFE.total_seconds())
    not_before_s = issued_s if claims.get("nbf") is None else _numeric_date(claims, "nbf")
    try:
        registry = JWTClaimsRegistry(now.timestamp(), LEEWAY_S)  # type: ignore[arg-type]  # it compares fractions, too
        registry.validate({"exp": expires_s, "nbf": not_before_s, "iat": issued_s})
    except ExpiredTokenError:
        raise InvalidToken("expired") from None
    except InvalidClaimError:
        raise InvalidToken("not valid yet") from None
    if expires_s <= issued_s:
        raise InvalidToken("expires before it is issued")
    return issued_s, expires_s


def is_email_verified(claims: Mapping[str, Any]) -> bool:
    """Return whether the issuer has verified the address: true, or "true" as Apple and Amazon Cognito write it."""
    verified = claims.get("email_verified")
    return verified is True or verified == "true"


def _expired(expires_s: float, now: datetime) -> bool:
    return now.timestamp() >= expires_s + LEEWAY_S


def _numeric_date(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    # A bool is an int to isinstance; the comparison also refuses an infinity, written as 1e999.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < END_OF_TIME_S:
        raise InvalidToken(f"malformed {name}")
    return float(value)


def _text(claims: dict[str, Any], name: str) -> str | None:
    """Return a claim that the database can store: 1 to 255 characters, no NUL, no lone surrogate. Else None."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CLAIM_CHARS or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value
