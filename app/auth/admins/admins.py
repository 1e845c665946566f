"""Admins of the back office: access and roles. Sign-in itself is in sign_in.py."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from app.auth.admins import queries
from app.auth.errors import AdminExists, AdminNotFound, LastAdmin
from app.db import Session, new_id
from app.errors import InvalidRequest

Role = Literal["viewer", "support", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "support", "admin")
MAX_EMAIL_CHARS = 254
MAX_ADMINS = 1000
SYSTEM_ADMIN_ID = UUID(int=0)
"""Represents the service itself in the audit log, whose rows refer to an admin. No list shows it."""
_SYSTEM_EMAIL = "system@service.invalid"  # no one can sign in with an address under .invalid (RFC 2606)
_EMAIL = re.compile(r"[^\s@\0]+@[^\s@\0]+")


@dataclass(frozen=True, slots=True)
class Admin:
    admin_id: UUID
    email: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


def _admin(row: Any) -> Admin:
    return Admin(row.admin_id, row.email, row.role, row.created_at, row.disabled_at)


def _normal_email(email: str) -> str:
    normal = email.strip().lower()
    # ASCII only: lower-casing turns some letters into others, so sign-in rejects them (app.auth.admins.sign_in).
    if (
        len(normal) > MAX_EMAIL_CHARS
        or not email.isascii()
        or _EMAIL.fullmatch(normal) is None
        or normal == _SYSTEM_EMAIL
    ):
        raise InvalidRequest("email is not an e-mail address", field="email")
    return normal


async def add_admin(tx: Session, email: str, role: Role, *, now: datetime) -> Admin:
    """Give `email` the role; replaces another role, and restores a removed admin. Raise InvalidRequest."""
    if role not in ROLES:
        raise InvalidRequest(f"role must be one of {', '.join(ROLES)}", field="role")
    return _admin(await queries.upsert_admin(tx, new_id(), _normal_email(email), role, now))


async def invite_admin(tx: Session, email: str, role: Role, *, domain: str, now: datetime) -> Admin:
    """Give access to a person of `domain`; no other accounts can sign in.

    Raise AdminExists for a person who has access already, or InvalidRequest.
    """
    normal = _normal_email(email)
    if normal.rpartition("@")[2] != domain:
        raise InvalidRequest(f"Only accounts of {domain} can sign in here")
    row = await queries.invite_admin(tx, new_id(), normal, role, now)
    if row is None:
        raise AdminExists
    return _admin(row)


async def ensure_system_admin(tx: Session, now: datetime) -> None:
    """Create the row that the system's audit rows refer to, unless it exists. It stays disabled."""
    await queries.insert_disabled_admin(tx, SYSTEM_ADMIN_ID, _SYSTEM_EMAIL, now)


async def find_admin(db: Session, admin_id: UUID) -> Admin:
    """Return the admin. Raise AdminNotFound."""
    row = None if admin_id == SYSTEM_ADMIN_ID else await queries.find_admin_by_id(db, admin_id)
    if row is None:
        raise AdminNotFound
    return _admin(row)


async def lock_admin(tx: Session, admin_id: UUID) -> None:
    """Lock the admin. Limits per admin are counted under this lock."""
    await queries.lock_admin(tx, admin_id)


async def change_admin(
    tx: Session, admin_id: UUID, *, role: Role | None, disabled: bool | None, now: datetime
) -> tuple[Admin, Admin]:
    """Return the admin before and after the change; None leaves a value as it is. Disabling ends the admin's sessions.

    Lock the admin, and all with the role `admin`. Raise AdminNotFound or LastAdmin.
    """
    admins = await queries.lock_active_admins(tx, "admin")
    row = None if admin_id == SYSTEM_ADMIN_ID else await queries.lock_admin(tx, admin_id)
    if row is None:
        raise AdminNotFound
    before = _admin(row)
    new_role = role or before.role
    stays = not (before.disabled_at is not None if disabled is None else disabled)
    if list(admins) == [admin_id] and not (stays and new_role == "admin"):
        raise LastAdmin
    disabled_at = None if stays else before.disabled_at or now
    if disabled_at is not None:
        await queries.revoke_admin_sessions(tx, admin_id, now)
    return before, _admin(await queries.update_admin(tx, admin_id, new_role, disabled_at))


async def list_admins(db: Session) -> list[Admin]:
    """Return all admins by e-mail address, including removed ones."""
    rows = await queries.list_admins(db, MAX_ADMINS)
    return [_admin(row) for row in rows if row.admin_id != SYSTEM_ADMIN_ID]


async def remove_admin(tx: Session, email: str, *, now: datetime) -> Admin:
    """Disable the admin and end their sessions; the row stays, because others refer to it. Raise AdminNotFound."""
    row = await queries.disable_admin(tx, _normal_email(email), now)
    if row is None:
        raise AdminNotFound
    await queries.revoke_admin_sessions(tx, row.admin_id, now)
    return _admin(row)
