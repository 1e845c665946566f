"""`/admin/audit-logs`: changes, with their author, time, reason and address."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from app.admin.audit import queries
from app.admin.audit.log import record_export
from app.admin.audit.schemas import AuditEntryReply, AuditLogReply, AuditRow
from app.admin.csv_export import csv_file
from app.admin.dependencies import Db, ReportDb, ReportRoute, Viewer
from app.admin.people import find_buyers, find_people
from app.admin.schemas import PAGE, Moment, Pasted, Person
from app.db import Session
from app.http.schemas import ERRORS

COLUMNS = tuple(AuditEntryReply.model_fields)
router = APIRouter(prefix="/admin/audit-logs", tags=["admin: audit log"], responses=ERRORS, route_class=ReportRoute)


class Filters(BaseModel):
    admin_id: UUID | None = None
    action: Pasted | None = None
    target_type: Pasted | None = None
    target_id: Pasted | None = None
    since: Moment | None = None
    until: Moment | None = None


class Page(Filters):
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: UUID | None = None


@router.get("")
async def list_audit_log(admin: Viewer, db: ReportDb, page: Annotated[Page, Query()]) -> AuditLogReply:
    """List entries, newest first. Times are half-open: `since` is included, `until` is not."""
    filters, limit = page.model_dump(exclude=PAGE), page.limit
    async with db.read() as session:
        rows = await queries.list_audit_entries(session, before=page.cursor, limit=limit + 1, **filters)
        people = await _find_people(session, rows[:limit])
    entries = [_entry(row, people) for row in rows[:limit]]
    return AuditLogReply(entries=entries, next_cursor=entries[-1].audit_id if len(rows) > limit else None)


@router.get(".csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_audit_log(admin: Viewer, db: ReportDb, primary: Db, filters: Annotated[Filters, Query()]) -> Response:
    """Export all matching entries, newest first, as CSV. The export itself is recorded.

    Viewers may export, because entries identify customers by account id only.
    """

    async def next_page(last: queries.Row | None, limit: int) -> Sequence[queries.Row]:
        before = None if last is None else last["audit_id"]
        async with db.read() as session:
            return await queries.list_audit_entries(session, before=before, limit=limit, **filters.model_dump())

    record = partial(record_export, primary, admin, "audit_log", filters.model_dump())
    return await csv_file("audit-log", COLUMNS, next_page, record)


async def _find_people(session: Session, rows: Sequence[queries.Row]) -> Mapping[tuple[str, str], Person]:
    """Return the persons of the accounts and purchases among the targets."""
    targets = {(row["target_type"], row["target_id"]) for row in rows}
    accounts = {target_id: UUID(target_id) for kind, target_id in targets if kind == "account"}
    purchases = {target_id: UUID(target_id) for kind, target_id in targets if kind == "purchase"}
    buyers = await find_buyers(session, purchases.values())
    people = await find_people(session, {*accounts.values(), *buyers.values()})
    owners = {("account", target_id): account_id for target_id, account_id in accounts.items()}
    owners |= {("purchase", target_id): buyers[id_] for target_id, id_ in purchases.items() if id_ in buyers}
    return {target: Person.of(people[account_id]) for target, account_id in owners.items() if account_id in people}


def _entry(row: queries.Row, people: Mapping[tuple[str, str], Person]) -> AuditRow:
    person = people.get((row["target_type"], row["target_id"]))
    return AuditRow(**{name: row[name] for name in COLUMNS}, person=person)
