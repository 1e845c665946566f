"""Queries of the audit log, and other SQL of the back office: one statement per function."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Numeric, case, cast, func, insert, or_, select
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


@dataclass(frozen=True, slots=True)
class Done:
    """An admin's actions: credits and money given and taken, both as positive numbers, and accounts suspended.

    `money` is in major units, by currency. Free credits and grants of credits count like paid credits.
    """

    credits: int
    suspensions: int
    money: Mapping[str, Decimal]


async def count_done(tx: Session, admin_id: UUID, since: datetime) -> Done:
    """Count an admin's actions since then."""
    pool = case((AuditEntry.action == "account.adjust", "paid"), (_OF_GRANTS, "credits"), else_="free")
    of_credits = or_(AuditEntry.action.in_(("account.adjust", "account.grant_free")), _OF_GRANTS)
    suspended = func.count(AuditEntry.target_id.distinct()).filter(AuditEntry.action == "account.suspend")
    by_admin = (AuditEntry.admin_id == admin_id, AuditEntry.audit_id >= first_id_at(since))
    query = select(func.coalesce(func.sum(_moved(pool)).filter(of_credits), 0), suspended).where(*by_admin)
    credits, suspensions = (await tx.execute(query)).one()
    currency = AuditEntry.after["currency"].astext
    sums = select(currency, func.sum(_moved("money"))).where(*by_admin, _OF_GRANTS, AuditEntry.after.has_key("money"))
    money = (await tx.execute(sums.group_by(currency))).all()
    return Done(int(credits), suspensions, {row[0]: row[1] for row in money})


_OF_GRANTS = AuditEntry.action.in_(("account.give_grant", "account.end_grant"))


def _moved(name: Any) -> ColumnElement[Decimal]:
    """Return SQL for the size of an entry's change of a number, exact."""
    before, after = (cast(column[name].astext, Numeric) for column in (AuditEntry.before, AuditEntry.after))
    return func.abs(after - func.coalesce(before, 0))


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
