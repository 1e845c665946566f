"""Queries of the audit log, and other SQL of the back office: one statement per function."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, case, cast, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from app.admin.audit.models import AuditEntry
from app.analytics.sources import first_id_at
from app.db import Session

Row = Mapping[str, Any]
_AUDIT = list(AuditEntry.__table__.columns)


async def insert_audit_entry(tx: Session, row: Row) -> None:
    await tx.execute(insert(AuditEntry).values(**row))


async def find_audit_entry(db: Session, action: str, target_type: str, target_id: str) -> Row | None:
    """Return the first entry of this action on this target."""
    query = select(*_AUDIT).where(
        AuditEntry.target_type == target_type, AuditEntry.target_id == target_id, AuditEntry.action == action
    )
    row = (await db.execute(query.order_by(AuditEntry.audit_id).limit(1))).mappings().one_or_none()
    return None if row is None else dict(row)


async def find_last_reasons(
    db: Session, target_type: str, target_ids: Collection[UUID], actions: Collection[str]
) -> Mapping[str, str | None]:
    """Return the reason of the newest of these actions on each target, by the target's id."""
    query = (
        select(AuditEntry.target_id, AuditEntry.reason)
        .ext(distinct_on(AuditEntry.target_id))
        .where(
            AuditEntry.target_type == target_type,
            AuditEntry.target_id.in_([str(target_id) for target_id in target_ids]),
            AuditEntry.action.in_(actions),
        )
        .order_by(AuditEntry.target_id, AuditEntry.audit_id.desc())
    )
    return {row.target_id: row.reason for row in await db.execute(query)}


async def count_done(tx: Session, admin_id: UUID, since: datetime) -> tuple[int, int]:
    """Count an admin's actions since then: credits given and taken, both as positive numbers, and accounts suspended.

    Granted free credits count like paid ones.
    """
    pool = case((AuditEntry.action == "account.adjust", "paid"), else_="free")
    before, after = (cast(column[pool].astext, BigInteger) for column in (AuditEntry.before, AuditEntry.after))
    adjusted = func.sum(func.abs(after - before)).filter(
        AuditEntry.action.in_(("account.adjust", "account.grant_free"))
    )
    suspended = func.count(AuditEntry.target_id.distinct()).filter(AuditEntry.action == "account.suspend")
    query = select(func.coalesce(adjusted, 0), suspended).where(
        AuditEntry.admin_id == admin_id, AuditEntry.audit_id >= first_id_at(since)
    )
    credits, suspensions = (await tx.execute(query)).one()
    return int(credits), suspensions


async def list_audit_entries(
    db: Session,
    *,
    before: UUID | None,
    limit: int,
    admin_id: UUID | None = None,
    action: str | None = None,
    target_type: str | None = None,
    target_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Row]:
    """Return entries, newest first; `before` is the previous page's last id. Times are half-open: [since, until)."""
    query = select(*_AUDIT)
    if before is not None:
        query = query.where(AuditEntry.audit_id < before)
    for column, expected in (
        (AuditEntry.admin_id, admin_id),
        (AuditEntry.action, action),
        (AuditEntry.target_type, target_type),
        (AuditEntry.target_id, target_id),
    ):
        if expected is not None:
            query = query.where(column == expected)
    if since is not None:
        query = query.where(AuditEntry.created_at >= since)
    if until is not None:
        query = query.where(AuditEntry.created_at < until)
    query = query.order_by(AuditEntry.audit_id.desc()).limit(limit)
    return [dict(row) for row in (await db.execute(query)).mappings()]
