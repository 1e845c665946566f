"""`/admin/api-keys`: the API keys of agents and proxies."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, status

from app.admin.api_keys.schemas import KeyBody, KeyChange, KeyReply, KeysReply, NewKeyReply, UsageFields, key_facts
from app.admin.audit.queries import Row
from app.admin.csv_export import csv_file
from app.admin.dependencies import Administrator, Db, Viewer
from app.analytics.usage_reports import sum_credits_by_key
from app.auth.api_keys.keys import UsageTerms
from app.auth.api_keys.service import create_key, find_key, list_keys, lock_key, revoke_key, rotate_key, update_key
from app.auth.api_keys.usage_terms import require_readable
from app.auth.caller import Environment
from app.auth.errors import KeyNotFound
from app.auth.guarded_route import GuardedRoute
from app.db import Database
from app.http.schemas import ERRORS, ErrorReply
from app.settings import Settings

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
NOT_ACTIVE: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": ErrorReply}}
KEY_ID = re.compile(r"[0-9a-z]{16}")
REQUIRED = ("name", "permissions", "ip_allow_list", "double_charges")
"""Fields of which null means "as it is"."""
CHANGEABLE = (*REQUIRED, "expires_at", "client_subject", "rate_limit_per_minute")
router = APIRouter(prefix="/admin/api-keys", tags=["admin: API keys"], responses=ERRORS, route_class=GuardedRoute)


async def path_key_id(key_id: str) -> str:
    """Return the key id. Raise KeyNotFound if it is malformed."""
    if KEY_ID.fullmatch(key_id) is None:
        raise KeyNotFound
    return key_id


KeyId = Annotated[str, Depends(path_key_id)]


@router.get("")
async def list_api_keys(request: Request, admin: Viewer, db: Db, environment: Environment | None = None) -> KeysReply:
    """List API keys, newest first, including ended ones. Of a key only the public id is shown."""
    async with db.consistent_read() as session:
        keys = await list_keys(session, environment=environment)
        credits = await sum_credits_by_key(session, [key.key_id for key in keys])
    settings: Settings = request.app.state.settings
    return KeysReply(
        api_keys=[KeyReply.of(key, credits.get(key.key_id, 0), admin.now) for key in keys],
        rotation_grace_s=settings.key_rotation_grace_s,
    )


@router.get(".csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_api_keys(admin: Viewer, db: Db, environment: Environment | None = None) -> Response:
    """Export all API keys, newest first, as CSV. Of a key only the public id is included."""

    async def next_page(last: Row | None, limit: int) -> Sequence[Row]:
        after = None if last is None else last["key"]
        async with db.consistent_read() as session:
            keys = await list_keys(session, environment=environment, after=after, limit=limit)
            credits = await sum_credits_by_key(session, [key.key_id for key in keys])
        replies = (KeyReply.of(key, credits.get(key.key_id, 0), admin.now) for key in keys)
        return [{**reply.model_dump(), "key": key} for reply, key in zip(replies, keys, strict=True)]

    return await csv_file("api-keys", tuple(KeyReply.model_fields), next_page)


@router.get("/{key_id}", responses=NOT_FOUND)
async def get_api_key(key_id: KeyId, admin: Viewer, db: Db) -> KeyReply:
    return await _reply(db, key_id, admin.now)


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_api_key(body: KeyBody, admin: Administrator, db: Db) -> NewKeyReply:
    """Create an API key. Only this answer contains its text; it is never shown again."""
    await require_readable(db, body.permissions, body.terms(body.event_source), body.double_charges)
    async with db.transaction() as tx:
        key = await create_key(
            tx,
            environment=body.environment,
            name=body.name,
            permissions=body.permissions,
            now=admin.now,
            expires_at=body.expires_at,
            ip_allow_list=[str(network) for network in body.ip_allow_list],
            client_subject=body.client_subject,
            rate_limit_per_minute=body.rate_limit_per_minute,
            usage=body.terms(body.event_source),
            double_charges=body.double_charges,
        )
        after = body.model_dump(mode="json")
        await admin.record(tx, "api_key.create", "api_key", key.key_id, environment=body.environment, after=after)
    return NewKeyReply(key_id=key.key_id, api_key=key.secret_text)


@router.patch("/{key_id}", responses=NOT_ACTIVE)
async def change_api_key(key_id: KeyId, body: KeyChange, admin: Administrator, db: Db) -> KeyReply:
    """Change an active key; effective everywhere within a second. An expiry in the past ends the key."""
    given = {name for name in body.model_fields_set if name not in REQUIRED or getattr(body, name) is not None}
    changes = {name: getattr(body, name) for name in CHANGEABLE if name in given}
    if "ip_allow_list" in changes:
        changes["ip_allow_list"] = [str(network) for network in changes["ip_allow_list"]]
    terms = {name: getattr(body, name) for name in UsageFields.model_fields if name in given}
    await require_readable(db, changes.get("permissions", ()), UsageTerms(**terms), body.double_charges or "ignore")
    async with db.transaction() as tx:
        before = await lock_key(tx, key_id)
        if terms:
            changes["usage"] = replace(before.usage, **terms)
        after = await update_key(tx, key_id, now=admin.now, **changes)
        named = given & {*CHANGEABLE, *terms}
        was, became = ({name: key_facts(key)[name] for name in sorted(named)} for key in (before, after))
        if was != became:
            await admin.record(
                tx, "api_key.change", "api_key", key_id, environment=after.environment, before=was, after=became
            )
    return await _reply(db, key_id, admin.now)


@router.post("/{key_id}/rotate", status_code=status.HTTP_201_CREATED, responses=NOT_ACTIVE)
async def rotate_api_key(key_id: KeyId, request: Request, admin: Administrator, db: Db) -> NewKeyReply:
    """Rotate a key: create a successor. The old key works until the grace period ends."""
    settings: Settings = request.app.state.settings
    async with db.transaction() as tx:
        new = await rotate_key(tx, key_id, grace_s=settings.key_rotation_grace_s, now=admin.now)
        old = await find_key(tx, key_id)
        after = {"rotated_to": new.key_id, "grace_ends_at": old.grace_ends_at}
        await admin.record(tx, "api_key.rotate", "api_key", key_id, environment=old.environment, after=after)
    return NewKeyReply(key_id=new.key_id, api_key=new.secret_text)


@router.post("/{key_id}/revoke", responses=NOT_FOUND)
async def revoke_api_key(key_id: KeyId, admin: Administrator, db: Db) -> KeyReply:
    """Revoke a key; effective everywhere within a second. Idempotent."""
    async with db.transaction() as tx:
        before = await lock_key(tx, key_id)
        key = await revoke_key(tx, key_id, now=admin.now)
        if before.revoked_at is None:
            was = {"status": before.status(admin.now)}
            after = {"status": "revoked"}
            await admin.record(
                tx, "api_key.revoke", "api_key", key_id, environment=key.environment, before=was, after=after
            )
    return await _reply(db, key_id, admin.now)


async def _reply(db: Database, key_id: str, now: datetime) -> KeyReply:
    async with db.consistent_read() as session:
        key = await find_key(session, key_id)
        credits = await sum_credits_by_key(session, [key_id])
    return KeyReply.of(key, credits.get(key_id, 0), now)
