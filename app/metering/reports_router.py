"""`GET /v1/usage`: events and sums, for API keys with `usage:read`, and for users about themselves."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request

from app.accounts.dependencies import Accounts, QueryUser
from app.accounts.schemas import identity_of
from app.auth.api_keys.service import find_key_name
from app.auth.caller import Environment
from app.auth.dependencies import EndUser, UsageReader
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.db import Database
from app.http.schemas import CODED_ERRORS, CodedErrorReply, Key255
from app.ledger.evaluated_limits import find_evaluated
from app.ledger.limit_schemas import EvaluatedLimitReply
from app.ledger.money import decimal_text
from app.ledger.move_schemas import MoveReply, replies_of
from app.ledger.moves import moves_at
from app.metering import report_queries as queries
from app.metering.costs import stored_markup
from app.metering.errors import EventNotFound
from app.metering.events import HOLD_METER, RECORD_METER, usage_of
from app.metering.origins import FindOrigin, Origin
from app.metering.report_queries import Scope
from app.metering.report_schemas import (
    DEFAULT_DAYS,
    CorrectedReply,
    EventExplanationReply,
    EventReply,
    GroupReply,
    OwnUsageQuery,
    UsageQuery,
    UsageReportReply,
    cursor_of,
    cursor_values,
    event_cursor,
    event_position,
    group_keys,
)
from app.metering.usage_schemas import QuoteLine
from app.pricing.engine import Priced
from app.pricing.service import PriceBooks
from app.timestamps import LATEST

router = APIRouter(prefix="/v1/usage", tags=["usage"], responses=CODED_ERRORS, route_class=GuardedRoute)
SETTLED_BY = {HOLD_METER: "holds", RECORD_METER: "cost_records"}
"""The services of the application (`FindOrigin`) that record our own events, by meter."""
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}


@router.get("", responses=NOT_FOUND)
async def list_usage(
    request: Request, caller: UsageReader, accounts: Accounts, query: Annotated[UsageQuery, Query()], now: Now
) -> UsageReportReply:
    """List events, newest first by their own time, or sums of them: of one user, or of the whole environment."""
    identity = query.identity(caller)
    account_id = None if identity is None else await accounts.find_account_id(identity)
    return await _report(request.app.state.db, caller.environment, account_id, query, now)


@router.get("/me", responses=NOT_FOUND)
async def list_own_usage(
    request: Request, caller: EndUser, accounts: Accounts, query: Annotated[OwnUsageQuery, Query()], now: Now
) -> UsageReportReply:
    """List the events of the user who calls, or sums of them."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return await _report(request.app.state.db, caller.environment, account_id, query, now)


@router.get("/events/{event_id:path}", responses=NOT_FOUND)
async def get_usage_event(
    event_id: Annotated[Key255, Path()],
    request: Request,
    caller: UsageReader,
    accounts: Accounts,
    user: QueryUser,
    source: Annotated[Key255 | None, Query(description="Default: this API key's, else any.")] = None,
) -> EventExplanationReply:
    """Return one event with the breakdown of its cost, and the balances that paid it.

    One that was only refused has the status `refused`.
    """
    db: Database = request.app.state.db
    account_id = await accounts.find_account_id(user.identity(caller))
    row = await queries.find_event(db, account_id, event_id, source or caller.source)
    if row is None or (source is not None and row["source"] != source):
        raise EventNotFound
    prices = request.app.state.price_books
    lines, corrected = await price_lines(prices, row), await corrected_price(prices, row)
    find: FindOrigin | None = getattr(request.app.state, SETTLED_BY.get(row["meter"], ""), None)
    origin = None if find is None else await find.origin_of(row)
    evaluated = await find_evaluated(db, account_id, row["usage_id"] if origin is None else origin.cause_id)
    moves, key_name = await _moves(db, row, origin), await _key_name(db, row["key_id"])
    return EventExplanationReply.of(
        row,
        raw=row["raw"],
        attempts=row["attempts"],
        lines=lines,
        corrected=corrected,
        moves=moves,
        limits=[EvaluatedLimitReply.of(limit) for limit in evaluated],
        key_name=key_name,
        hold_id=origin.wire_id if origin is not None and row["meter"] == HOLD_METER else None,
        record_id=origin.wire_id if origin is not None and row["meter"] == RECORD_METER else None,
    )


async def _moves(db: Database, row: Mapping[str, Any], origin: Origin | None) -> list[MoveReply]:
    """Return the entries of an event. A cost record's name the record."""
    if row["status"] not in ("charged", "debt"):
        return []
    cause_id = row["usage_id"] if origin is None or row["meter"] != RECORD_METER else origin.cause_id
    return replies_of(await moves_at(db, row["account_id"], [cause_id], row["created_at"]))


async def _key_name(db: Database, key_id: str | None) -> str | None:
    if key_id is None:
        return None
    async with db.read() as session:
        return await find_key_name(session, key_id)


async def _report(
    db: Database, environment: Environment, account_id: UUID | None, query: OwnUsageQuery, now: datetime
) -> UsageReportReply:
    until = query.until or LATEST
    since = query.since or min(until, now) - timedelta(days=DEFAULT_DAYS)
    scope = Scope(environment, since, until, account_id, query.filters())
    if query.group_by or query.interval is not None:
        return await _sums(db, scope, query)
    before = None if query.cursor is None else event_position(query.cursor)
    async with db.read() as session:
        rows = await queries.list_events(session, scope, before, query.limit + 1)
    page = rows[: query.limit]
    return UsageReportReply(
        events=[EventReply.of(row) for row in page],
        groups=None,
        next_cursor=event_cursor(page[-1]) if len(rows) > query.limit else None,
    )


async def _sums(db: Database, scope: Scope, query: OwnUsageQuery) -> UsageReportReply:
    dimensions = list(dict.fromkeys(query.group_by))
    number = len(dimensions) + 1 + (query.interval is not None)
    after = None if query.cursor is None else cursor_values(query.cursor, number)
    async with db.read() as session:
        rows = await queries.sum_events(session, scope, dimensions, query.interval, after, query.limit + 1)
    page = rows[: query.limit]
    return UsageReportReply(
        events=None,
        groups=[GroupReply.of(row, dimensions, query.interval) for row in page],
        next_cursor=cursor_of(group_keys(page[-1])) if len(rows) > query.limit else None,
    )


async def price_lines(prices: PriceBooks, row: Mapping[str, Any]) -> list[QuoteLine]:
    """Return the breakdown of a stored event's price; none for a stated cost."""
    if row["price_version"] is None or row["stated_nanos"] is not None:
        return []
    priced = await prices.explain(
        row["price_version"],
        usage_of(row["meter"], row["provider"], row["model"], row["quantities"]),
        at=row["occurred_at"],
        plan=row["plan_name"],
        plan_markup=stored_markup(row["price"]),
        tool=row["tool"],
        month_quantity=Decimal(row["price"].get("month_quantity", 0)),
    )
    return [QuoteLine.of(line) for line in priced.lines] if isinstance(priced, Priced) else []


async def corrected_price(prices: PriceBooks, row: Mapping[str, Any]) -> CorrectedReply | None:
    """Return the cost that is in force of an event that was priced again, with its breakdown."""
    last = row["correction"]
    if last is None:
        return None
    provider_cost = last["provider_cost_after_nanos"]
    return CorrectedReply(
        cost=decimal_text(last["cost_after_nanos"]),
        provider_cost=None if provider_cost is None else decimal_text(provider_cost),
        price_version=last["price_version"],
        lines=await price_lines(prices, {**row, "price_version": last["price_version"], "price": last["price"]}),
    )
