"""Authenticates requests, and manages the keys that they are made with."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final
from uuid import UUID

import httpx
import structlog
from fastapi import Request

from app.auth import queries
from app.auth.addresses import client_address, origin
from app.auth.caller import Actor, Caller, Environment, Permission, UserIdentity
from app.auth.certificates import is_subject, verified_subject
from app.auth.errors import (
    AddressNotAllowed,
    ClientCertificateRequired,
    InvalidApiKey,
    KeyNotActive,
    KeyNotFound,
    RateLimited,
    TooManyAttempts,
)
from app.auth.hashing import ARGON2, Argon2
from app.auth.keys import MAX_NAME_CHARS, MAX_SUBJECT_CHARS, Address, KeyFacts, Network, NewKey, generate_key, parse_key
from app.auth.last_used import LastUsed
from app.auth.rate_limit import TokenBuckets
from app.auth.revocations import TokenRevocations
from app.auth.spelling import FoldedProviders
from app.auth.tokens import InvalidToken, TokenVerifier
from app.auth.verification import KeyVerifier
from app.db import Database, Session
from app.db.listener import NotificationListener
from app.errors import InvalidRequest
from app.settings import Settings
from app.timestamps import EARLIEST, LATEST, bounded

API_KEYS_CHANNEL = "api_keys"
REVOCATIONS_CHANNEL = "token_revocations"
MAX_LISTED_KEYS = 1000
MAX_RATE_LIMIT_PER_MINUTE = 2**31 - 1
MAX_ALLOWED_NETWORKS = 100
UNCHANGED: Final[Any] = object()
"""Stands for "leave as it is" where None means "none"."""

log = structlog.get_logger()


def _token_buckets(settings: Settings) -> TokenBuckets:
    if settings.redis_url is None:
        return TokenBuckets()
    from app.auth.shared_limits import SharedTokenBuckets  # its driver takes half as long to load as everything else

    return SharedTokenBuckets(settings.redis_url)


class Authenticator:
    """Who a request comes from. One per process, started before the first request and stopped after the last.

    A key seen before costs a digest and two token buckets: no database, no Argon2.
    """

    def __init__(
        self, db: Database, settings: Settings, listener: NotificationListener, *, argon2: Argon2 = ARGON2
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._buckets = _token_buckets(settings)
        self._keys = KeyVerifier(db, listener, argon2, self._buckets)
        self._revocations = TokenRevocations(db, FoldedProviders(settings.folded_providers))
        listener.subscribe(API_KEYS_CHANNEL, self._keys.forget, self._keys.forget_all)
        listener.subscribe(REVOCATIONS_CHANNEL, self._revocations.forget, self._revocations.forget_all)
        self._last_used = LastUsed(db)
        self._http = httpx.AsyncClient()
        self._tokens = TokenVerifier(settings.all_issuers, self._http)

    def start(self) -> None:
        """Begin to note when keys were used last, and to share limits if that is configured."""
        self._buckets.start()
        self._last_used.start()

    async def stop(self) -> None:
        """End every task and connection, and write the last uses that are not yet written."""
        await self._buckets.stop()
        await self._last_used.stop()
        await self._keys.stop()
        await self._tokens.aclose()
        await self._http.aclose()

    def is_current(self) -> bool:
        """Whether changes by other processes reach this one; while they do not, each request reads its key's row."""
        return self._listener.is_current(asyncio.get_running_loop().time())

    def admit(self, request: Request) -> Address | None:
        """The client's address, once its token bucket gave a token. Raises RateLimited."""
        peer = request.client.host if request.client is not None else None
        forwarded_for = request.headers.getlist("x-forwarded-for") if self._settings.trusted_proxies else []
        address = client_address(peer, forwarded_for, self._settings.trusted_proxies)
        self._take("address", origin(address), self._settings.rate_limit_per_address)
        return address

    def admit_account(self, account_id: UUID) -> None:
        """Take a token from the bucket of the account that a request names. Raises RateLimited."""
        self._take("account", str(account_id), self._settings.rate_limit_per_account)

    async def caller_of_key(self, request: Request, text: str, address: Address | None, now: datetime) -> Caller:
        """The caller whose API key `text` is.

        Raises InvalidApiKey, TooManyAttempts, AddressNotAllowed, ClientCertificateRequired, RateLimited, or Busy.
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
        self._take("API key", facts.key_id, facts.rate_limit_per_minute or self._settings.rate_limit_per_key)
        self._last_used.note(facts.key_id, now)
        return key.caller

    async def caller_of_token(self, token: str, now: datetime) -> Caller:
        """The end user whom the ID token names. Raises InvalidToken or IssuerUnavailable."""
        claims = await self._tokens.verify(token, now)
        if await self._revocations.is_revoked(claims, cache_counts=self.is_current()):
            raise InvalidToken("revoked")
        user = UserIdentity(claims.oauth_provider, claims.external_id, claims.email, claims.display_name)
        # The ledger keeps actors for ever and must not name a person there, so it gets the token's digest.
        return Caller(claims.environment, Actor("user", claims.token_id), frozenset(), user)

    def _take(self, subject: str, name: str, limit_per_minute: int) -> None:
        now_s = asyncio.get_running_loop().time()
        wait_s = self._buckets.take(f"{subject} {name}", limit_per_minute, now_s)
        if wait_s:
            raise RateLimited(subject, retry_after_s=wait_s)


# --- managing keys --------------------------------------------------------------------------------------------


def _checked(
    *,
    name: str,
    permissions: Collection[Permission],
    ip_allow_list: Sequence[str | Network],
    subject: str | None,
    limit: int | None,
    expires_at: datetime | None,
) -> dict[str, Any]:
    """Column values of what a person chose for a key. Raises InvalidRequest, which names the field."""
    if not 0 < len(name) <= MAX_NAME_CHARS or "\0" in name:
        raise InvalidRequest(f"name must have 1 to {MAX_NAME_CHARS} characters", field="name")
    if not permissions:
        raise InvalidRequest("permissions must name at least one", field="permissions")
    try:
        allowed = sorted({str(ip_network(network)) for network in ip_allow_list})
    except ValueError as error:
        raise InvalidRequest(f"ip_allow_list: {error}", field="ip_allow_list") from None
    if len(allowed) > MAX_ALLOWED_NETWORKS:
        raise InvalidRequest(f"ip_allow_list holds at most {MAX_ALLOWED_NETWORKS} networks", field="ip_allow_list")
    if subject is not None and not (0 < len(subject) <= MAX_SUBJECT_CHARS and subject.isprintable()):
        raise InvalidRequest(
            f"client_subject must have 1 to {MAX_SUBJECT_CHARS} printable characters", field="client_subject"
        )
    if subject is not None and not is_subject(subject):
        raise InvalidRequest(
            "client_subject must be a certificate's subject, such as CN=agent-7,O=Example", field="client_subject"
        )
    if limit is not None and not 0 < limit <= MAX_RATE_LIMIT_PER_MINUTE:
        raise InvalidRequest("rate_limit_per_minute must be 1 or more", field="rate_limit_per_minute")
    try:
        expires_at = None if expires_at is None else bounded(expires_at)
    except ValueError as error:
        raise InvalidRequest(f"expires_at {error}", field="expires_at") from None
    return {
        "name": name,
        "permissions": sorted(permission.value for permission in permissions),
        "ip_allow_list": allowed,
        "client_subject": subject,
        "rate_limit_per_minute": limit,
        "expires_at": expires_at,
    }


def _storable(expires_at: datetime | None) -> datetime | None:
    """A stored expiry as one that may be stored again: an earlier version took any year."""
    return None if expires_at is None else min(max(expires_at, EARLIEST), LATEST)


async def create_key(
    tx: Session,
    *,
    environment: Environment,
    name: str,
    permissions: Collection[Permission],
    now: datetime,
    expires_at: datetime | None = None,
    ip_allow_list: Sequence[str | Network] = (),
    client_subject: str | None = None,
    rate_limit_per_minute: int | None = None,
) -> NewKey:
    """Make a key, usable once `tx` has committed. Its text is in the answer and nowhere else. Raises InvalidRequest."""
    chosen = _checked(
        name=name,
        permissions=permissions,
        ip_allow_list=ip_allow_list,
        subject=client_subject,
        limit=rate_limit_per_minute,
        expires_at=expires_at,
    )
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("expires_at must lie in the future", field="expires_at")
    key = generate_key(environment)
    await queries.insert_key(
        tx,
        {
            "key_id": key.key_id,
            "environment": environment,
            "secret_hash": await ARGON2.hash(key.secret_text),
            "created_at": now,
            **chosen,
        },
    )
    return key


async def list_keys(
    db: Session,
    *,
    environment: Environment | None = None,
    after: KeyFacts | None = None,
    limit: int = MAX_LISTED_KEYS,
) -> list[KeyFacts]:
    """Newest first, at most `limit`, from behind `after`. Ended keys included."""
    behind = None if after is None else (after.created_at, after.key_id)
    return await queries.list_keys(db, environment, behind, min(limit, MAX_LISTED_KEYS))


async def find_key(db: Session, key_id: str) -> KeyFacts:
    """Raises KeyNotFound."""
    key = await queries.find_key_facts(db, key_id)
    if key is None:
        raise KeyNotFound
    return key


async def lock_key(tx: Session, key_id: str) -> KeyFacts:
    """Locks the key until commit. Raises KeyNotFound."""
    key = await queries.lock_key(tx, key_id)
    if key is None:
        raise KeyNotFound
    return key


async def _lock_active_key(tx: Session, key_id: str, now: datetime) -> KeyFacts:
    """Locks the key until commit. Raises KeyNotFound, KeyNotActive."""
    key = await lock_key(tx, key_id)
    if key.status(now) != "active":
        raise KeyNotActive(key.status(now))
    return key


async def update_key(
    tx: Session,
    key_id: str,
    *,
    now: datetime,
    name: str = UNCHANGED,
    permissions: Collection[Permission] = UNCHANGED,
    expires_at: datetime | None = UNCHANGED,
    ip_allow_list: Sequence[str | Network] = UNCHANGED,
    client_subject: str | None = UNCHANGED,
    rate_limit_per_minute: int | None = UNCHANGED,
) -> KeyFacts:
    """Change an active key, everywhere within 1 s of the commit. Locks it until then.

    An expiry that is not in the future ends the key. Raises KeyNotFound, KeyNotActive, InvalidRequest.
    """
    key = await _lock_active_key(tx, key_id, now)
    values = _checked(
        name=key.name if name is UNCHANGED else name,
        permissions=key.permissions if permissions is UNCHANGED else permissions,
        ip_allow_list=key.ip_allow_list if ip_allow_list is UNCHANGED else ip_allow_list,
        subject=key.client_subject if client_subject is UNCHANGED else client_subject,
        limit=key.rate_limit_per_minute if rate_limit_per_minute is UNCHANGED else rate_limit_per_minute,
        expires_at=_storable(key.expires_at) if expires_at is UNCHANGED else expires_at,
    )
    return await queries.update_key(tx, key_id, values)


async def rotate_key(tx: Session, key_id: str, *, grace_s: int, now: datetime) -> NewKey:
    """Make a successor with the same rights and expiry; the old key works for another `grace_s` seconds.

    Locks the old key until commit. Raises KeyNotFound, KeyNotActive.
    """
    old = await _lock_active_key(tx, key_id, now)
    new = await create_key(
        tx,
        environment=old.environment,
        name=old.name,
        permissions=old.permissions,
        now=now,
        expires_at=_storable(old.expires_at),
        ip_allow_list=old.ip_allow_list,
        client_subject=old.client_subject,
        rate_limit_per_minute=old.rate_limit_per_minute,
    )
    ends_at = now + timedelta(seconds=grace_s)
    await queries.update_key(tx, key_id, {"rotated_to": new.key_id, "grace_ends_at": ends_at})
    return new


async def revoke_key(tx: Session, key_id: str, *, now: datetime) -> KeyFacts:
    """End a key, everywhere within 1 s of the commit. Locks it until then. Again: no effect. Raises KeyNotFound."""
    key = await lock_key(tx, key_id)
    if key.revoked_at is not None:
        return key
    return await queries.update_key(tx, key_id, {"revoked_at": now})
