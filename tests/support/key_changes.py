"""Changes of an API key after which it may no longer read or write."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from app.auth.api_keys.service import revoke_key, rotate_key, update_key
from app.auth.caller import Permission
from app.db import Session

Change = Callable[[Session, str, datetime], Awaitable[object]]


async def revoke(tx: Session, key_id: str, now: datetime) -> object:
    return await revoke_key(tx, key_id, now=now)


async def expire(tx: Session, key_id: str, now: datetime) -> object:
    return await update_key(tx, key_id, expires_at=now, now=now)


async def permit_only_credits(tx: Session, key_id: str, now: datetime) -> object:
    return await update_key(tx, key_id, permissions={Permission.CREDIT}, now=now)


async def allow_only_elsewhere(tx: Session, key_id: str, now: datetime) -> object:
    return await update_key(tx, key_id, ip_allow_list=["192.0.2.0/24"], now=now)


async def bind_to_a_certificate(tx: Session, key_id: str, now: datetime) -> object:
    return await update_key(tx, key_id, client_subject="CN=agent-7", now=now)


async def rotate_without_grace(tx: Session, key_id: str, now: datetime) -> object:
    return await rotate_key(tx, key_id, grace_s=0, now=now)


CHANGES: tuple[Change, ...] = (
    revoke,
    expire,
    permit_only_credits,
    allow_only_elsewhere,
    bind_to_a_certificate,
    rotate_without_grace,
)
