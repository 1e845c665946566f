"""JWKS cache: an issuer's public keys, refreshed in the background and kept through an outage."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import httpx
import structlog
from joserfc.jwk import ECKey, RSAKey

from app.circuit_breaker import CircuitBreaker
from app.ending import end
from app.errors import AppError
from app.http.external_waits import waiting_for

FETCH_TIMEOUT_S = 2.0
MAX_AGE_S = 900.0
RETRY_INTERVAL_S = 60.0  # between refreshes of a stale set, and between those for an unknown kid
FIRST_FETCH_RETRY_S = 2.0
MAX_DOCUMENT_BYTES = 262_144
MAX_KEYS = 100
MAX_KID_CHARS = 255
RSA_KEY_BITS = range(2048, 8192 + 1)
RSA_MODULUS_CHARS = range(342, 1366 + 1)  # the same bound in base64url, checked before any computation
MAX_MEMBER_CHARS = 1366
ALG_OF_KEY_TYPE: Mapping[str, Literal["RS256", "ES256"]] = {"RSA": "RS256", "EC": "ES256"}

log = structlog.get_logger()


class IssuerUnavailable(AppError):
    """The issuer's keys were never fetched, and cannot be now: the token can be neither accepted nor rejected."""

    status, code = 503, "issuer_unavailable"

    def __init__(self) -> None:
        headers = {"Retry-After": str(int(FIRST_FETCH_RETRY_S))}
        super().__init__("The identity provider does not answer, retry shortly", headers=headers)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key bound to the one algorithm that it may verify."""

    kid: str | None
    alg: Literal["RS256", "ES256"]
    thumbprint: str
    key: RSAKey | ECKey


def parse_jwks(document: bytes) -> list[VerificationKey]:
    """Return the signing keys of a JWKS document: RSA of 2048 bits or more for RS256, P-256 for ES256.

    `use` and `key_ops` are optional (RFC 7517): if present, they must be `sig` and contain `verify`.

    Other keys are skipped, and so is a second key with the kid and algorithm of an earlier one. Certificate and URL
    members (`x5c`, `x5u`) are ignored. Raise ValueError if the document is not a JWKS or has no such key: an issuer
    that publishes no usable key made a mistake, and the caller keeps its previous set.
    """
    content = json.loads(document.decode("utf-8"))
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError("not a JWKS document")
    found: dict[tuple[str | None, str], VerificationKey] = {}
    for entry in entries:
        key = _parse_key(entry) if isinstance(entry, dict) else None
        if key is not None:
            found.setdefault((key.kid, key.alg), key)
    if not found:
        raise ValueError("no usable signing key")
    return list(found.values())


def _parse_key(entry: dict[str, Any]) -> VerificationKey | None:
    kty, kid = entry.get("kty"), entry.get("kid")
    alg = ALG_OF_KEY_TYPE.get(kty) if isinstance(kty, str) else None
    if alg is None or entry.get("use", "sig") != "sig" or entry.get("alg", alg) != alg:
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARS):
        return None
    members = {name: entry.get(name) for name in (("n", "e") if alg == "RS256" else ("crv", "x", "y"))}
    # Only the public members are passed on, so no other member of an entry can have an effect.
    public = {name: value for name, value in members.items() if isinstance(value, str)}
    if len(public) != len(members) or any(len(value) > MAX_MEMBER_CHARS for value in public.values()):
        return None
    if alg == "RS256" and len(public["n"]) not in RSA_MODULUS_CHARS:
        return None
    key: RSAKey | ECKey
    try:
        if alg == "RS256":
            key = RSAKey.import_key({"kty": "RSA", **public})
            usable = key.raw_value.key_size in RSA_KEY_BITS
        else:
            key = ECKey.import_key({"kty": "EC", **public})
            usable = key.curve_name == "P-256"
    except Exception:  # one malformed key must not invalidate the issuer's other keys
        return None
    return VerificationKey(kid, alg, key.thumbprint(), key) if usable else None


def _within(moment: datetime | None, now: datetime, seconds: float) -> bool:
    # A moment in the future means that the clock was set back: it delays nothing.
    return moment is not None and 0 <= (now - moment).total_seconds() < seconds


def _breaker(pause_s: float) -> CircuitBreaker:
    return CircuitBreaker(failures=1, pause_s=pause_s, probe_s=FETCH_TIMEOUT_S)


class JWKSCache:
    """The keys published at one configured URL. No token or key can name another URL.

    One fetch at a time, shared by all callers that wait for it. A set older than MAX_AGE_S is refreshed in the
    background while it continues to serve. A failed fetch changes nothing, however long the outage lasts. A circuit
    breaker spaces the next fetches: FIRST_FETCH_RETRY_S until the first set, then RETRY_INTERVAL_S.
    """

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self._keys: list[VerificationKey] = []
        self._thumbprints: frozenset[str] = frozenset()
        self._fetched_at: datetime | None = None
        self._first_fetch = _breaker(FIRST_FETCH_RETRY_S)
        self._refreshes = _breaker(RETRY_INTERVAL_S)
        self._unknown_kid_at: datetime | None = None
        self._refresh: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, alg: str, now: datetime) -> VerificationKey | None:
        """Return the key for `kid` and `alg`; without a kid, the issuer's only key. None if there is no such key.

        A known kid never waits for the network. An unknown one waits for a fetch, which it may start at most once per
        RETRY_INTERVAL_S. Raise IssuerUnavailable while no set has ever been fetched.
        """
        first = not self._keys
        if first:
            await self._fetch_first(now)
        self._refresh_when_stale(now)
        key = self._lookup(kid, alg)
        if key is not None or kid is None or first:
            return key
        if not _within(self._unknown_kid_at, now, RETRY_INTERVAL_S):
            self._unknown_kid_at = now
            self._start_refresh(now)
        await self._refreshed()
        return self._lookup(kid, alg)

    def trusts(self, thumbprint: str, now: datetime) -> bool:
        """Return whether the key is in the last good set. Never waits; refreshes a stale set in the background."""
        self._refresh_when_stale(now)
        return thumbprint in self._thumbprints

    async def aclose(self) -> None:
        """Cancel a refresh under way."""
        if self._refresh is not None:
            await end(self._refresh)

    def _lookup(self, kid: str | None, alg: str) -> VerificationKey | None:
        if kid is None:
            only = self._keys[0] if len(self._keys) == 1 else None
            return only if only is not None and only.alg == alg else None
        return next((key for key in self._keys if key.kid == kid and key.alg == alg), None)

    async def _fetch_first(self, now: datetime) -> None:
        if self._first_fetch.admits(now.timestamp()):
            self._start_refresh(now)
        await self._refreshed()
        if not self._keys:
            raise IssuerUnavailable

    def _refresh_when_stale(self, now: datetime) -> None:
        if not _within(self._fetched_at, now, MAX_AGE_S) and self._refreshes.admits(now.timestamp()):
            self._start_refresh(now)

    def _start_refresh(self, now: datetime) -> None:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._fetch(now))

    async def _refreshed(self) -> None:
        # Shielded: a cancelled caller must not cancel the fetch for the others.
        if self._refresh is not None and not self._refresh.done():
            with waiting_for(IssuerUnavailable()):
                await asyncio.shield(self._refresh)

    async def _fetch(self, now: datetime) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):  # httpx's own time-outs are per read
                keys = parse_jwks(await self._download())
        except Exception as error:  # after any error the last good set stays
            log.warning("jwks_refresh_failed", url=self.url, error=type(error).__name__, detail=str(error)[:200])
            for breaker in (self._first_fetch, self._refreshes):
                breaker.unanswered(now.timestamp())  # as of the start of the fetch
            return
        for breaker in (self._first_fetch, self._refreshes):
            breaker.answered()
        self._keys = keys
        self._thumbprints = frozenset(key.thumbprint for key in keys)
        self._fetched_at = now

    async def _download(self) -> bytes:
        # Unencoded, so that compression cannot evade the bound on the size.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        document = bytearray()
        async with self._http.stream(
            "GET", self.url, headers=headers, timeout=FETCH_TIMEOUT_S, follow_redirects=False
        ) as response:
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            async for chunk in response.aiter_raw(65_536):
                document += chunk
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise ValueError("document too large")
        return bytes(document)
