"""The audit log: every change in the back office, and of a limit, writes a row in its own transaction."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from app.admin.audit import queries
from app.auth.admins.admins import SYSTEM_ADMIN_ID, ensure_system_admin
from app.auth.admins.sessions import AdminCaller
from app.auth.caller import Actor, Environment
from app.db import Database, Session, new_id

CHOICES = frozenset({"environment", "status", "balance", "view", "action", "target_type"})
"""Filters with values that the service defines, so they name no customer."""


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin of this request, with address and time."""

    caller: AdminCaller
    address: str
    now: datetime

    async def record(
        self,
        tx: Session,
        action: str,
        target_type: str,
        target_id: object,
        *,
        environment: Environment | None = None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        """Record a change, in the transaction that makes it. No argument may contain personal data of a customer."""
        await queries.insert_audit_entry(
            tx,
            {
                "audit_id": new_id(),
                "created_at": self.now,
                "admin_id": self.caller.admin_id,
                "admin_email": self.caller.email,
                "session_id": self.caller.session_id,
                "address": self.address,
                "request_id": _request_id(),
                "action": action,
                "environment": environment,
                "target_type": target_type,
                "target_id": str(target_id),
                "before": _plain(before),
                "after": _plain(after),
                "reason": reason,
            },
        )


async def record_outcome(
    tx: Session, request: queries.Row, action: str, *, after: Mapping[str, Any], now: datetime
) -> None:
    """Record the outcome of an admin's `request` (its audit entry), as that admin's, under the same request id."""
    entry = {**request, "audit_id": new_id(), "created_at": now, "action": action, "after": _plain(after)}
    await queries.insert_audit_entry(tx, entry)


async def record_export(db: Database, admin: Admin, what: str, filters: Mapping[str, Any]) -> None:
    """Record that an admin exports a list, with its filters, but without free text, which may name a customer."""
    used = {
        name: "given" if isinstance(value, str) and name not in CHOICES else value
        for name, value in filters.items()
        if value is not None
    }
    async with db.transaction() as tx:
        await admin.record(tx, "list.export", "list", what, environment=filters.get("environment"), after=used)


async def record_by_system(
    tx: Session,
    action: str,
    target_type: str,
    target_id: object,
    *,
    environment: Environment,
    after: Mapping[str, Any],
    reason: str,
    now: datetime,
    address: str = "worker",
) -> None:
    """Record a change by a rule, an earlier decision or a command, in the transaction that makes it."""
    entry = {"action": action, "target_type": target_type, "target_id": str(target_id), "environment": environment}
    more = {"before": None, "after": after, "reason": reason, "address": address, "request_id": ""}
    await _record_without_admin(tx, entry | more, "system", now)


async def record_by_caller(
    tx: Session,
    actor: Actor,
    action: str,
    target_type: str,
    target_id: object,
    *,
    environment: Environment,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    now: datetime,
) -> None:
    """Record a change by an API key or a user, in the transaction that makes it.

    The entry names the key, but not the user, whose account it is. It has no address: a user's is personal data.
    """
    name = "user" if actor.key_id is None else f"API key {actor.key_id}"
    entry = {"action": action, "target_type": target_type, "target_id": str(target_id), "environment": environment}
    more = {"before": before, "after": after, "reason": None, "address": "API", "request_id": _request_id()}
    await _record_without_admin(tx, entry | more, name, now)


async def _record_without_admin(tx: Session, entry: Mapping[str, Any], author: str, now: datetime) -> None:
    """Insert an entry of an author who is no admin. The system's row takes the place of an admin's."""
    await ensure_system_admin(tx, now)
    values = {**entry, "before": _plain(entry["before"]), "after": _plain(entry["after"])}
    ids = {"audit_id": new_id(), "admin_id": SYSTEM_ADMIN_ID, "session_id": SYSTEM_ADMIN_ID}
    await queries.insert_audit_entry(tx, {**values, **ids, "created_at": now, "admin_email": author})


def _request_id() -> str:
    found: str = structlog.contextvars.get_contextvars().get("request_id", "")
    return found


def _plain(values: Mapping[str, Any] | None) -> Any:
    """Return the values as JSON stores them: times, ids and sets as text."""
    return None if values is None else json.loads(json.dumps(values, default=_text))


def _text(value: object) -> Any:
    return sorted(str(item) for item in value) if isinstance(value, frozenset | set) else str(value)
