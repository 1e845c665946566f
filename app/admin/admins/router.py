"""`/admin/admins`: admins and their sessions."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, status

from app.admin.admins.schemas import (
    AdminBody,
    AdminChange,
    AdminReply,
    AdminsReply,
    RevokedReply,
    SessionReply,
    SessionsReply,
)
from app.admin.dependencies import Administrator, Db, Sessions, Viewer
from app.auth.admins.admins import Admin as AdminRow
from app.auth.admins.admins import change_admin, find_admin, invite_admin, list_admins
from app.auth.errors import AdminForbidden
from app.auth.guarded_route import GuardedRoute
from app.http.schemas import ERRORS, ErrorReply
from app.settings import Settings

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
router = APIRouter(prefix="/admin/admins", tags=["admin: admins"], responses=ERRORS, route_class=GuardedRoute)


def _reply(admin: AdminRow) -> AdminReply:
    return AdminReply(**{name: getattr(admin, name) for name in AdminReply.model_fields})


@router.get("")
async def list_of_admins(admin: Viewer, db: Db) -> AdminsReply:
    """List all admins, including removed ones."""
    async with db.read() as session:
        return AdminsReply(admins=[_reply(row) for row in await list_admins(session)])


@router.post("", status_code=status.HTTP_201_CREATED, responses={409: {"model": ErrorReply}})
async def invite(body: AdminBody, request: Request, admin: Administrator, db: Db) -> AdminReply:
    """Give a person access. 409 if they have access already: change their role instead."""
    settings: Settings = request.app.state.settings
    async with db.transaction() as tx:
        invited = await invite_admin(tx, body.email, body.role, domain=settings.admin_email_domain, now=admin.now)
        after = {"email": invited.email, "role": invited.role}
        await admin.record(tx, "admin.invite", "admin", invited.admin_id, after=after)
    return _reply(invited)


@router.patch("/{admin_id}", responses={**NOT_FOUND, 409: {"model": ErrorReply}})
async def change(admin_id: UUID, body: AdminChange, admin: Administrator, db: Db) -> AdminReply:
    """Change an admin's role, disable them or enable them again. Disabling ends all sessions. The last admin stays."""
    async with db.transaction() as tx:
        before, after = await change_admin(tx, admin_id, role=body.role, disabled=body.disabled, now=admin.now)
        changes = {"role": after.role, "disabled": after.disabled_at is not None}
        was = {"role": before.role, "disabled": before.disabled_at is not None}
        if was != changes:
            await admin.record(tx, "admin.change", "admin", admin_id, before=was, after=changes)
    return _reply(after)


@router.get("/{admin_id}/sessions", responses=NOT_FOUND)
async def list_sessions(admin_id: UUID, admin: Viewer, db: Db, sessions: Sessions) -> SessionsReply:
    """List an admin's active sessions. Other admins' sessions are visible to the role `admin` only."""
    _own_or_admin(admin_id, admin)
    async with db.read() as session:
        await find_admin(session, admin_id)
        found = await sessions.list(session, admin_id, admin.now)
    current = admin.caller.session_id
    replies = [
        SessionReply(
            session_id=s.session_id,
            address=s.address,
            user_agent=s.user_agent,
            created_at=s.created_at,
            expires_at=s.expires_at,
            current=s.session_id == current,
        )
        for s in found
    ]
    return SessionsReply(sessions=replies)


@router.post("/{admin_id}/sessions/revoke", responses=NOT_FOUND)
async def revoke_sessions(
    admin_id: UUID, admin: Viewer, db: Db, sessions: Sessions, session_id: UUID | None = None
) -> RevokedReply:
    """End one of an admin's sessions, or all of them."""
    _own_or_admin(admin_id, admin)
    async with db.transaction() as tx:
        await find_admin(tx, admin_id)
        revoked = await sessions.revoke(tx, admin_id, admin.now, session_id)
        if revoked:
            after = {"sessions_revoked": revoked}
            await admin.record(tx, "admin.revoke_sessions", "admin", admin_id, after=after)
    return RevokedReply(revoked=revoked)


def _own_or_admin(admin_id: UUID, admin: Viewer) -> None:
    """Raise AdminForbidden unless the admin is the caller or the caller's role is `admin`."""
    if admin_id != admin.caller.admin_id and admin.caller.role != "admin":
        raise AdminForbidden("admin")
