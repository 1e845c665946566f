"""`/admin/usage`: the usage events of all users, sums of them, and the breakdown of each price."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from app.admin.audit.log import record_export
from app.admin.csv_export import csv_file
from app.admin.dependencies import Db, ReportDb, ReportRoute, Support, Viewer
from app.admin.people import find_people
from app.admin.schemas import Person
from app.admin.usage.schemas import (
    EventsPage,
    SumsPage,
    UsageEventDetail,
    UsageEventRow,
    UsageEventsReply,
    UsageFilters,
    UsageSum,
    UsageSumsReply,
)
from app.db import Session
from app.errors import InvalidRequest
from app.http.schemas import ERRORS, ErrorReply
from app.ledger.money import decimal_text
from app.metering import report_queries as queries
from app.metering.errors import EventNotFound
from app.metering.report_queries import Grouping, Scope
from app.metering.report_schemas import cursor_of, cursor_values, event_cursor, event_position, group_keys
from app.metering.reports_router import corrected_price, price_lines

Row = Mapping[str, Any]
router = APIRouter(prefix="/admin/usage", tags=["admin: usage"], responses=ERRORS, route_class=ReportRoute)
COLUMNS = (
    *("occurred_at", "created_at", "account_id", "event_id", "source", "status", "refusal", "meter", "provider"),
    *("model", "quantities", "currency", "cost", "provider_cost", "debt", "stated", "price_version", "plan_name"),
    *("agent_id", "tool", "run_id", "key_id"),
)
MAX_COST_DIGITS = 40


@router.get("/events")
async def list_usage_events(admin: Viewer, db: ReportDb, page: Annotated[EventsPage, Query()]) -> UsageEventsReply:
    """List usage events, newest first by their own time."""
    before = None if page.cursor is None else event_position(page.cursor)
    async with db.read() as session:
        rows = await queries.list_events(session, page.scope(admin.now), before, page.limit + 1)
        shown = rows[: page.limit]
        people = await _people(session, [row["account_id"] for row in shown])
    events = [
        UsageEventRow.of(row, account_id=row["account_id"], person=people.get(row["account_id"])) for row in shown
    ]
    return UsageEventsReply(events=events, next_cursor=event_cursor(shown[-1]) if len(rows) > page.limit else None)


@router.get("/events.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_usage_events(
    admin: Support, db: ReportDb, primary: Db, filters: Annotated[UsageFilters, Query()]
) -> Response:
    """Export all matching usage events, newest first, as CSV. The export is recorded in the audit log."""
    scope = filters.scope(admin.now)

    async def next_page(last: Row | None, limit: int) -> Sequence[Row]:
        before = None if last is None else (last["occurred_at"], last["usage_id"])
        async with db.read() as session:
            return [_exported(row) for row in await queries.list_events(session, scope, before, limit)]

    used = filters.model_dump(mode="json", by_alias=True)
    return await csv_file("usage", COLUMNS, next_page, partial(record_export, primary, admin, "usage", used))


@router.get("/events/{account_id}/{usage_id}", responses={404: {"model": ErrorReply}})
async def get_account_usage_event(
    account_id: UUID, usage_id: UUID, admin: Viewer, request: Request, db: Db
) -> UsageEventDetail:
    """Return an event with the breakdown of its cost, computed again from the stored quantities and price version."""
    row = await queries.find_event_by_usage_id(db, account_id, usage_id)
    if row is None:
        raise EventNotFound
    prices = request.app.state.price_books
    lines, corrected = await price_lines(prices, row), await corrected_price(prices, row)
    async with db.read() as session:
        people = await _people(session, [account_id])
    return UsageEventDetail.detail(row, lines=lines, corrected=corrected, person=people.get(account_id))


@router.get("/sums")
async def sum_usage_events(admin: Viewer, db: ReportDb, page: Annotated[SumsPage, Query()]) -> UsageSumsReply:
    """Sum usage events by attributes and by hour, day or month, always by currency too."""
    dimensions = list(dict.fromkeys(page.group_by))
    if page.order == "cost" and page.interval is not None:
        raise InvalidRequest("order: cost needs sums without an interval", field="order")
    async with db.read() as session:
        rows = await _sums(session, page.scope(admin.now), dimensions, page)
        shown = rows[: page.limit]
        users = _users(shown, dimensions, page)
        people = await _people(session, [user for user in users if user is not None])
    sums = [
        UsageSum.sums(row, dimensions, page.interval, None if user is None else people.get(user))
        for row, user in zip(shown, users, strict=True)
    ]
    return UsageSumsReply(sums=sums, next_cursor=_cursor(shown[-1], page) if len(rows) > page.limit else None)


async def _sums(session: Session, scope: Scope, dimensions: Sequence[Grouping], page: SumsPage) -> Sequence[Row]:
    keys = len(dimensions) + 1 + (page.interval is not None)
    if page.order == "group":
        after = None if page.cursor is None else cursor_values(page.cursor, keys)
        return await queries.sum_events(session, scope, dimensions, page.interval, after, page.limit + 1)
    after = None if page.cursor is None else cursor_values(page.cursor, keys + 1)
    if after is not None and not (after[0].isascii() and after[0].isdigit() and len(after[0]) <= MAX_COST_DIGITS):
        raise InvalidRequest("cursor is not one of this report", field="cursor")
    return await queries.largest_sums(session, scope, dimensions, after, page.limit + 1)


def _cursor(row: Row, page: SumsPage) -> str:
    return cursor_of(group_keys(row) if page.order == "group" else [str(int(row["cost_nanos"])), *group_keys(row)])


def _users(rows: Sequence[Row], dimensions: Sequence[Grouping], page: SumsPage) -> list[UUID | None]:
    """Return the user of each group; None without such groups."""
    if "user" not in dimensions:
        return [None] * len(rows)
    place = dimensions.index("user") + (page.interval is not None)
    return [UUID(row[f"key_{place}"]) for row in rows]


async def _people(session: Session, account_ids: Sequence[UUID]) -> Mapping[UUID, Person]:
    return {account_id: Person.of(row) for account_id, row in (await find_people(session, account_ids)).items()}


def _exported(row: Row) -> Row:
    provider_cost = row["provider_cost_nanos"]
    return {
        **row,
        "cost": decimal_text(row["cost_nanos"]),
        "provider_cost": None if provider_cost is None else decimal_text(provider_cost),
        "debt": decimal_text(row["debt_nanos"]),
        "stated": "yes" if row["stated_nanos"] is not None else "no",
    }
