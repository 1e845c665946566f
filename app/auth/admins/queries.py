"""Queries of administrators and their sessions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Row, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.auth.admins.models import AdminSession, AdminUser
from app.db import Database, Session

_ADMIN = list(AdminUser.__table__.columns)


async def upsert_admin(tx: Session, admin_id: UUID, email: str, role: str, now: datetime) -> Row[Any]:
    statement = upsert(AdminUser).values(admin_id=admin_id, email=email, role=role, created_at=now)
    changed = {"role": role, "disabled_at": None}
    return (
        await tx.execute(statement.on_conflict_do_update(index_elements=["email"], set_=changed).returning(*_ADMIN))
    ).one()


async def list_admins(db: Session, limit: int) -> Sequence[Row[Any]]:
    return (await db.execute(select(*_ADMIN).order_by(AdminUser.email).limit(limit))).all()


async def invite_admin(tx: Session, admin_id: UUID, email: str, role: str, now: datetime) -> Row[Any] | None:
    """Return None if the person has access already. Waits for a simultaneous invitation of the same person."""
    statement = upsert(AdminUser).values(admin_id=admin_id, email=email, role=role, created_at=now)
    statement = statement.on_conflict_do_update(
        index_elements=["email"], set_={"role": role, "disabled_at": None}, where=AdminUser.disabled_at.is_not(None)
    )
    return (await tx.execute(statement.returning(*_ADMIN))).one_or_none()


async def find_admin(db: Session, email: str) -> Row[Any] | None:
    return (await db.execute(select(*_ADMIN).where(AdminUser.email == email))).one_or_none()


async def find_admin_by_id(db: Session, admin_id: UUID) -> Row[Any] | None:
    return (await db.execute(select(*_ADMIN).where(AdminUser.admin_id == admin_id))).one_or_none()


async def lock_active_admins(tx: Session, role: str) -> Sequence[UUID]:
    """Return the active admins of a role, and lock their rows, so that no two changes remove the last one.

    The lock does not block rows that refer to them (sessions, audit rows).
    """
    query = select(AdminUser.admin_id).where(AdminUser.role == role, AdminUser.disabled_at.is_(None))
    return (await tx.execute(query.order_by(AdminUser.admin_id).with_for_update(key_share=True))).scalars().all()


async def lock_admin(tx: Session, admin_id: UUID) -> Row[Any] | None:
    query = select(*_ADMIN).where(AdminUser.admin_id == admin_id).with_for_update(key_share=True)
    return (await tx.execute(query)).one_or_none()


async def update_admin(tx: Session, admin_id: UUID, role: str, disabled_at: datetime | None) -> Row[Any]:
    statement = update(AdminUser).where(AdminUser.admin_id == admin_id).values(role=role, disabled_at=disabled_at)
    return (await tx.execute(statement.returning(*_ADMIN))).one()


async def disable_admin(tx: Session, email: str, now: datetime) -> Row[Any] | None:
    """Return None if there is no such admin. The time of an earlier removal stays."""
    statement = (
        update(AdminUser)
        .where(AdminUser.email == email)
        .values(disabled_at=func.coalesce(AdminUser.disabled_at, bindparam("now", now, type_=DateTime(timezone=True))))
        .returning(*_ADMIN)
    )
    return (await tx.execute(statement)).one_or_none()


_SESSION = list(AdminSession.__table__.columns)

_FIND_SESSION = """
    SELECT s.session_id, s.admin_id, s.created_at, s.expires_at, s.revoked_at, u.email, u.role, u.disabled_at
      FROM admin_sessions s JOIN admin_users u ON u.admin_id = s.admin_id
     WHERE s.session_id = $1
"""


async def find_admin_session(db: Database, session_id: UUID) -> Mapping[str, Any] | None:
    """Return the session with its admin."""
    return await db.fetch_row(_FIND_SESSION, session_id)


async def insert_admin_session(tx: Session, row: Mapping[str, Any]) -> bool:
    """Return False if the session id exists already."""
    statement = upsert(AdminSession).values(**row).on_conflict_do_nothing().returning(AdminSession.session_id)
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def extend_admin_session(tx: Session, session_id: UUID, expires_at: datetime) -> None:
    await tx.execute(
        update(AdminSession)
        .where(AdminSession.session_id == session_id, AdminSession.revoked_at.is_(None))
        .values(expires_at=func.greatest(AdminSession.expires_at, bindparam("until", expires_at, DateTime(True))))
    )


async def list_admin_sessions(db: Session, admin_id: UUID, now: datetime, limit: int) -> Sequence[Row[Any]]:
    """Return the admin's active sessions, newest first."""
    query = select(*_SESSION).where(
        AdminSession.admin_id == admin_id, AdminSession.revoked_at.is_(None), AdminSession.expires_at > now
    )
    return (await db.execute(query.order_by(AdminSession.created_at.desc()).limit(limit))).all()


async def revoke_admin_sessions(
    tx: Session, admin_id: UUID, now: datetime, session_id: UUID | None = None
) -> Sequence[UUID]:
    """End an admin's active session, or all of them, and return their ids."""
    statement = update(AdminSession).where(
        AdminSession.admin_id == admin_id, AdminSession.revoked_at.is_(None), AdminSession.expires_at > now
    )
    if session_id is not None:
        statement = statement.where(AdminSession.session_id == session_id)
    return (await tx.execute(statement.values(revoked_at=now).returning(AdminSession.session_id))).scalars().all()


async def delete_admin_sessions_expired_before(tx: Session, moment: datetime) -> int:
    return (await tx.execute(delete(AdminSession).where(AdminSession.expires_at < moment))).rowcount


async def insert_disabled_admin(tx: Session, admin_id: UUID, email: str, now: datetime) -> None:
    """Insert the admin unless they exist."""
    row = {"admin_id": admin_id, "email": email, "role": "viewer", "created_at": now, "disabled_at": now}
    await tx.execute(upsert(AdminUser).values(**row).on_conflict_do_nothing())
