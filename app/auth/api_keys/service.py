"""API key life cycle: create, change, rotate, revoke."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final

from app.auth.api_keys import queries
from app.auth.api_keys.hashing import ARGON2
from app.auth.api_keys.keys import (
    MAX_NAME_CHARS,
    MAX_SUBJECT_CHARS,
    NO_TERMS,
    KeyFacts,
    Network,
    NewKey,
    UsageTerms,
    generate_key,
)
from app.auth.api_keys.usage_terms import checked_terms
from app.auth.caller import DoubleCharges, Environment, Permission
from app.auth.client_certificate import is_subject
from app.auth.errors import (
    KeyNotActive,
    KeyNotFound,
)
from app.db import Session
from app.errors import InvalidRequest
from app.timestamps import EARLIEST, LATEST, bounded

MAX_LISTED_KEYS = 1000
MAX_RATE_LIMIT_PER_MINUTE = 2**31 - 1
MAX_ALLOWED_NETWORKS = 100
UNCHANGED: Final[Any] = object()
"""Means "leave as it is" where None means "none"."""


def _checked(
    *,
    name: str,
    permissions: Collection[Permission],
    ip_allow_list: Sequence[str | Network],
    subject: str | None,
    limit: int | None,
    expires_at: datetime | None,
    usage: UsageTerms,
    double_charges: DoubleCharges,
) -> dict[str, Any]:
    """Return the column values of an admin's choices for a key. Raise InvalidRequest, which names the field."""
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
        "double_charges": double_charges,
        **checked_terms(usage, permissions),
    }


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
    usage: UsageTerms = NO_TERMS,
    double_charges: DoubleCharges = "ignore",
) -> NewKey:
    """Create a key, usable once `tx` has committed. Only the result contains its text. Raise InvalidRequest."""
    chosen = _checked(
        name=name,
        permissions=permissions,
        ip_allow_list=ip_allow_list,
        subject=client_subject,
        limit=rate_limit_per_minute,
        expires_at=expires_at,
        usage=usage,
        double_charges=double_charges,
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
    """Return at most `limit` keys, newest first, after `after`. Includes ended keys."""
    position = None if after is None else (after.created_at, after.key_id)
    return await queries.list_keys(db, environment, position, min(limit, MAX_LISTED_KEYS))


async def find_key(db: Session, key_id: str) -> KeyFacts:
    """Return the key. Raise KeyNotFound."""
    key = await queries.find_key_facts(db, key_id)
    if key is None:
        raise KeyNotFound
    return key


async def find_key_name(db: Session, key_id: str) -> str | None:
    """Return the key's name; None if there is no such key."""
    key = await queries.find_key_facts(db, key_id)
    return None if key is None else key.name


async def lock_key(tx: Session, key_id: str) -> KeyFacts:
    """Lock the key until commit. Raise KeyNotFound."""
    key = await queries.lock_key(tx, key_id)
    if key is None:
        raise KeyNotFound
    return key


async def _lock_active_key(tx: Session, key_id: str, now: datetime) -> KeyFacts:
    """Lock the key until commit. Raise KeyNotFound or KeyNotActive."""
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
    usage: UsageTerms = UNCHANGED,
    double_charges: DoubleCharges = UNCHANGED,
) -> KeyFacts:
    """Change an active key; effective everywhere within 1 s of the commit. Lock it until then.

    An expiry that is not in the future ends the key. `usage` does not change the event source. Raise
    KeyNotFound, KeyNotActive or InvalidRequest.
    """
    key = await _lock_active_key(tx, key_id, now)
    values = _checked(
        name=key.name if name is UNCHANGED else name,
        permissions=key.permissions if permissions is UNCHANGED else permissions,
        ip_allow_list=key.ip_allow_list if ip_allow_list is UNCHANGED else ip_allow_list,
        subject=key.client_subject if client_subject is UNCHANGED else client_subject,
        limit=key.rate_limit_per_minute if rate_limit_per_minute is UNCHANGED else rate_limit_per_minute,
        expires_at=_storable(key.expires_at) if expires_at is UNCHANGED else expires_at,
        usage=key.usage if usage is UNCHANGED else replace(usage, event_source=key.usage.event_source),
        double_charges=key.double_charges if double_charges is UNCHANGED else double_charges,
    )
    if permissions is UNCHANGED:
        del values["permissions"]  # a later version may have granted one that this version does not know
    return await queries.update_key(tx, key_id, values)


async def rotate_key(tx: Session, key_id: str, *, grace_s: int, now: datetime) -> NewKey:
    """Create a successor with the same rights and expiry; the old key works for another `grace_s` seconds.

    A trigger gives the successor the event source, also where the version before rotates a key: a usage event that is
    sent once with each of the two keys is the same event.

    Lock the old key until commit. Raise KeyNotFound or KeyNotActive.
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
        usage=old.usage,
        double_charges=old.double_charges,
    )
    ends_at = now + timedelta(seconds=grace_s)
    await queries.update_key(tx, key_id, {"rotated_to": new.key_id, "grace_ends_at": ends_at})
    return new


async def revoke_key(tx: Session, key_id: str, *, now: datetime) -> KeyFacts:
    """End a key everywhere within 1 s of the commit. Lock it until then. Idempotent. Raise KeyNotFound."""
    key = await lock_key(tx, key_id)
    if key.revoked_at is not None:
        return key
    return await queries.update_key(tx, key_id, {"revoked_at": now})


def _storable(expires_at: datetime | None) -> datetime | None:
    """Return a stored expiry within the bounds for storing: an earlier version accepted any year."""
    return None if expires_at is None else min(max(expires_at, EARLIEST), LATEST)
