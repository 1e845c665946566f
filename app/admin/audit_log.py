"""`/admin/audit-logs`: who changed what, when, why and from where."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from app.admin import queries
from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.admin.schemas import AuditEntryReply, AuditLogReply, Moment
from app.billing.router import ERRORS
from app.billing.schemas import Key255
from app.replica import Source

EXPORTED_AT_ONCE = 1000
COLUMNS = tuple(AuditEntryReply.model_fields)
router = APIRouter(prefix="/admin/audit-logs", tags=["admin: audit log"], responses=ERRORS, route_class=ReportRoute)


async def filters(
    admin_id: UUID | None = None,
    action: Key255 | None = None,
    target_type: Key255 | None = None,
    target_id: Key255 | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> dict[str, Any]:
    return {
        "admin_id": admin_id,
        "action": action,
        "target_type": target_type,
        "target_id": target_id,
        "since": since,
        "until": until,
    }


Filters = Annotated[dict[str, Any], Depends(filters)]


@router.get("")
async def list_audit_log(
    admin: Viewer,
    db: ReportDb,
    wanted: Filters,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: UUID | None = None,
) -> AuditLogReply:
    """Newest first. Times are half-open: `since` is in, `until` is not."""
    async with db.read() as session:
        rows = await queries.list_audit_entries(session, before=cursor, limit=limit + 1, **wanted)
    entries = [_entry(row) for row in rows[:limit]]
    return AuditLogReply(entries=entries, next_cursor=entries[-1].audit_id if len(rows) > limit else None)


@router.get(".csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_audit_log(admin: Viewer, db: ReportDb, wanted: Filters) -> Response:
    """All entries that match, newest first, as a file for a spreadsheet."""
    first = await _page(db, wanted, before=None)  # so that what cannot be read is told by the status
    headers = {"Content-Disposition": 'attachment; filename="audit-log.csv"'}
    return StreamingResponse(_lines(db, wanted, first), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(db: Source, wanted: dict[str, Any], page: Sequence[queries.Row]) -> AsyncIterator[str]:
    """A page in memory at a time, whatever the log's length; between two of them no connection is held."""
    yield _csv([COLUMNS])
    while page:
        yield _csv([_cell(row[name]) for name in COLUMNS] for row in page)
        if len(page) < EXPORTED_AT_ONCE:
            return
        page = await _page(db, wanted, before=page[-1]["audit_id"])


async def _page(db: Source, wanted: dict[str, Any], before: UUID | None) -> Sequence[queries.Row]:
    async with db.read() as session:
        return await queries.list_audit_entries(session, before=before, limit=EXPORTED_AT_ONCE, **wanted)


def _csv(rows: Iterable[Iterable[str]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


def _entry(row: queries.Row) -> AuditEntryReply:
    return AuditEntryReply(**{name: row[name] for name in COLUMNS})


def _cell(value: object) -> str:
    """Text that a spreadsheet takes for text: a leading sign would make it a formula."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
