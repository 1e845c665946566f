"""Queries of refused requests: one statement per function."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select

from app.db import Session
from app.db.statements import insert_rows
from app.refusals.models import RefusedRequest


async def insert_refusals(tx: Session, rows: Sequence[dict[str, Any]]) -> None:
    await insert_rows(tx, RefusedRequest, rows)


async def list_refusals(
    db: Session,
    *,
    request_id: str | None,
    account_id: UUID | None,
    code: str | None = None,
    before: UUID | None,
    limit: int,
) -> Sequence[Any]:
    """Return refused requests, newest first."""
    query = select(*RefusedRequest.__table__.columns)
    if request_id is not None:
        query = query.where(RefusedRequest.request_id == request_id)
    if account_id is not None:
        query = query.where(RefusedRequest.account_id == account_id)
    if code is not None:
        query = query.where(RefusedRequest.code == code)
    if before is not None:
        query = query.where(RefusedRequest.refusal_id < before)
    query = query.order_by(RefusedRequest.refusal_id.desc()).limit(limit)
    return (await db.execute(query)).mappings().all()


async def delete_refusals(tx: Session, before: UUID, limit: int) -> int:
    """Delete the oldest refused requests with an id below `before`. Return their number."""
    old = select(RefusedRequest.refusal_id).where(RefusedRequest.refusal_id < before)
    page = old.order_by(RefusedRequest.refusal_id).limit(limit)
    result = await tx.execute(delete(RefusedRequest).where(RefusedRequest.refusal_id.in_(page)))
    return int(result.rowcount)
