"""Request authentication: by API key or ID token, with rate limits."""

from datetime import datetime
from uuid import UUID

import httpx
import structlog
from fastapi import Request

from app.auth.api_keys.hashing import ARGON2, Argon2
from app.auth.api_keys.keys import Address, parse_key
from app.auth.api_keys.last_used import LastUsed
from app.auth.api_keys.verifier import KeyVerifier
from app.auth.caller import Actor, Caller, Permission, UserIdentity
from app.auth.client_address import client_address, origin
from app.auth.client_certificate import verified_subject
from app.auth.continuing import ContinuingChecks, KeyUse
from app.auth.errors import (
    AddressNotAllowed,
    ClientCertificateRequired,
    InvalidApiKey,
    RateLimited,
    TooManyAttempts,
)
from app.auth.id_tokens.revocations import TokenRevocations
from app.auth.id_tokens.verifier import InvalidToken, TokenClaims, TokenVerifier
from app.auth.rate_limits.token_buckets import TokenBuckets
from app.auth.spelling import FoldedProviders
from app.clock import steady_s
from app.db import Database
from app.db.listener import NotificationListener
from app.settings import Settings

API_KEYS_CHANNEL = "api_keys"
REVOCATIONS_CHANNEL = "token_revocations"
log = structlog.get_logger()
_COUNTED = "ciris_billing.counted"
"""Member of a request's scope: the limits that it has been counted against."""


def _token_buckets(settings: Settings) -> TokenBuckets:
    if settings.redis_url is None:
        return TokenBuckets()
    # A late import: its driver takes half as long to load as everything else.
    from app.auth.rate_limits.redis_buckets import SharedTokenBuckets

    return SharedTokenBuckets(settings.redis_url)


class Authenticator:
    """Determines the caller of a request. One per process, started before the first request, stopped after the last.

    A known key costs a digest and two token buckets: no database, no Argon2.
    """

    def __init__(
        self, db: Database, settings: Settings, listener: NotificationListener, *, argon2: Argon2 = ARGON2
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._buckets = _token_buckets(settings)
        self._keys = KeyVerifier(db, listener, argon2, self._buckets)
        self._revocations = TokenRevocations(db, FoldedProviders.of(settings))
        listener.subscribe(API_KEYS_CHANNEL, self._keys.forget, self._keys.forget_all)
        listener.subscribe(REVOCATIONS_CHANNEL, self._revocations.forget, self._revocations.forget_all)
        self._last_used = LastUsed(db)
        self._http = httpx.AsyncClient()
        self._tokens = TokenVerifier(settings.all_issuers, self._http)
        self.continuing = ContinuingChecks(self._keys, self._revocations, self.is_current)

    def start(self) -> None:
        """Start writing key usage, and sharing rate limits if that is configured."""
        self._buckets.start()
        self._last_used.start()

    async def stop(self) -> None:
        """End every task and connection, and write the remaining key usage."""
        await self._buckets.stop()
        await self._last_used.stop()
        await self._keys.stop()
        await self._tokens.aclose()
        await self._http.aclose()

    def is_current(self) -> bool:
        """Return whether other processes' changes arrive here. Otherwise each request reads its key's row."""
        return self._listener.is_current(steady_s())

    def admit(self, request: Request) -> Address | None:
        """Return the client's address after taking a token from its bucket. Raise RateLimited."""
        peer = request.client.host if request.client is not None else None
        forwarded_for = request.headers.getlist("x-forwarded-for") if self._settings.trusted_proxies else []
        address = client_address(peer, forwarded_for, self._settings.trusted_proxies)
        self._count(request, "address", origin(address), self._settings.rate_limit_per_address)
        return address

    def admit_account(self, account_id: UUID) -> None:
        """Take a token from the bucket of the account that a request names. Raise RateLimited."""
        self._take("account", str(account_id), self._settings.rate_limit_per_account)

    async def caller_of_key(self, request: Request, text: str, address: Address | None, now: datetime) -> Caller:
        """Return the caller with the API key `text`.

        Raise InvalidApiKey, TooManyAttempts, AddressNotAllowed, ClientCertificateRequired, RateLimited or Busy.
        """
        try:
            key = await self._keys.verify(text, origin(address), now)
        except (InvalidApiKey, TooManyAttempts) as error:
            parsed = parse_key(text)
            log.info(
                "api_key_refused",
                key_id=parsed[1] if parsed is not None else None,
                reason=error.reason if isinstance(error, InvalidApiKey) else error.code,
            )
            raise
        facts = key.facts
        structlog.contextvars.bind_contextvars(key_id=facts.key_id)
        if not facts.allows(address):
            raise AddressNotAllowed
        bound_to = facts.client_subject
        if bound_to is not None and bound_to != verified_subject(request, self._settings.trusted_proxies):
            raise ClientCertificateRequired
        limit = facts.rate_limit_per_minute or self._settings.rate_limit_per_key
        if self._count(request, "API key", facts.key_id, limit):
            self._last_used.note(facts.key_id, now)
        return key.caller

    def use_of_key(self, request: Request, caller: Caller, permission: Permission) -> KeyUse:
        """Return what keeps an answer to an admitted request allowed, for `continuing`."""
        return KeyUse(
            caller.actor.id, permission, self.admit(request), verified_subject(request, self._settings.trusted_proxies)
        )

    async def caller_of_token(self, token: str, now: datetime) -> Caller:
        """Return the end user whom the ID token names. Raise InvalidToken or IssuerUnavailable."""
        return self.caller_of(await self.claims_of_token(token, now))

    async def claims_of_token(self, token: str, now: datetime) -> TokenClaims:
        """Return the claims of an ID token that is valid and not revoked. Raise as `caller_of_token` does."""
        claims = await self._tokens.verify(token, now)
        if await self._revocations.is_revoked(claims, cache_counts=self.is_current()):
            raise InvalidToken("revoked")
        return claims

    def caller_of(self, claims: TokenClaims) -> Caller:
        user = UserIdentity(
            claims.oauth_provider,
            claims.external_id,
            claims.email,
            claims.display_name,
            claims.is_interactive,
            claims.authenticated_at,
            claims.knows_persons,
        )
        # The ledger keeps actors permanently and must not name a person, so it gets the token's digest.
        return Caller(claims.environment, Actor("user", claims.token_id), frozenset(), user)

    def _count(self, request: Request, subject: str, name: str, limit_per_minute: int) -> bool:
        """Take a token for the request, once: the check of a request with a slow body is repeated (`once`).

        Return False if it was counted before. Raise RateLimited.
        """
        counted: set[str] = request.scope.setdefault(_COUNTED, set())
        if subject in counted:
            return False
        self._take(subject, name, limit_per_minute)
        counted.add(subject)
        return True

    def _take(self, subject: str, name: str, limit_per_minute: int) -> None:
        wait_s = self._buckets.take(f"{subject} {name}", limit_per_minute, steady_s())
        if wait_s:
            raise RateLimited(subject, retry_after_s=wait_s)
