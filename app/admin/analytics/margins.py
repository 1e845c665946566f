"""`/admin/analytics/margin`: revenue, LLM cost and margin. All sums are exact.

app/analytics/revenue.py defines revenue. LLM calls serve interactions, so their cost is subtracted from interactions'
revenue. The cost of tools is not reported, so tools have revenue but no margin.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from app.admin.analytics.margin_schemas import (
    InteractionMargin,
    InteractionMarginsReply,
    Margin,
    MarginAgent,
    MarginAgentsReply,
    MarginDailyReply,
    MarginDay,
    MarginModel,
    MarginModelsReply,
    MarginOverviewReply,
    MarginTool,
    MarginToolsReply,
    PriceReply,
)
from app.admin.analytics.range import DayRange, range_fields
from app.admin.analytics.schemas import Sales
from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.analytics import llm_reports, margin_reports, money_reports
from app.analytics.llm_reports import Cursor
from app.analytics.revenue import Prices, find_prices, margin_cents, revenue_cents, rounded
from app.analytics.sources import COUNTS
from app.http.schemas import ERRORS, Key255

Row = Mapping[str, Any]
router = APIRouter(
    prefix="/admin/analytics/margin", tags=["admin: analytics"], responses=ERRORS, route_class=ReportRoute
)


@router.get("/overview")
async def get_margin_overview(admin: Viewer, db: ReportDb, days: DayRange) -> MarginOverviewReply:
    """Return revenue, LLM cost and margin beside those of as many days before, and net sales of the same days."""
    async with db.consistent_read() as session:
        prices = await find_prices(session, days)
        period = await margin_reports.list_margins(session, days)
        previous = await margin_reports.list_margins(session, days.previous)
        sales = await money_reports.list_sales(session, days)
    return MarginOverviewReply(
        **range_fields(days),
        prices=[PriceReply.of(price) for price in prices.values()],
        period=margins_of(period, prices),
        previous=margins_of(previous, prices),
        sales=[Sales(**row) for row in sales],
    )


@router.get("/daily")
async def list_margin_days(admin: Viewer, db: ReportDb, days: DayRange) -> MarginDailyReply:
    """Return one point per day of the range. Every day is valued at the price over all sales so far."""
    async with db.consistent_read() as session:
        prices = await find_prices(session, days)
        rows = await margin_reports.list_margin_days(session, days)
    by_day: dict[date, list[Row]] = {}
    for row in rows:
        by_day.setdefault(row["day"], []).append(row)
    points = [MarginDay(day=day, margins=margins_of(by_day.get(day, []), prices)) for day in days.each()]
    return MarginDailyReply(**range_fields(days), days=points)


@router.get("/models")
async def list_margin_models(admin: Viewer, db: ReportDb, days: DayRange) -> MarginModelsReply:
    """Return cost and revenue per model. An interaction of several models is split among them.

    All rows together, including charges without reported LLM usage (`model` null), have the interactions' revenue.
    """
    async with db.consistent_read() as session:
        prices = await find_prices(session, days)
        rows = await margin_reports.list_models_by_currency(session, days)
        unattributed = await margin_reports.list_unattributed(session, days)
    none = {"model": None, "interactions": 0, **dict.fromkeys(COUNTS, 0)}
    models = [_model(row, prices) for row in [*rows, *({**none, **row} for row in unattributed)]]
    return MarginModelsReply(**range_fields(days), models=models)


@router.get("/agents")
async def list_margin_agents(admin: Viewer, db: ReportDb, days: DayRange) -> MarginAgentsReply:
    """Return revenue and LLM cost of each agent's interactions, ordered by revenue."""
    async with db.consistent_read() as session:
        prices = await find_prices(session, days)
        rows = await margin_reports.list_agents(session, days)
    agents = [
        MarginAgent(
            agent_id=row["agent_id"] or None,
            uses=row["uses"],
            **_earned(row, prices, row["cost_cents"]),
        )
        for row in rows
    ]
    return MarginAgentsReply(**range_fields(days), agents=agents)


@router.get("/tools")
async def list_margin_tools(admin: Viewer, db: ReportDb, days: DayRange) -> MarginToolsReply:
    """Return revenue per tool. The cost of tools is not reported, so they have no margin."""
    async with db.consistent_read() as session:
        prices = await find_prices(session, days)
        rows = await margin_reports.list_tools(session, days)
    tools = [MarginTool(**row, revenue_cents=revenue_cents(row["paid_spent"], row["currency"], prices)) for row in rows]
    return MarginToolsReply(**range_fields(days), tools=tools)


@router.get("/interactions")
async def list_interaction_margins(
    admin: Viewer,
    db: ReportDb,
    days: DayRange,
    order: Literal["newest", "cost"] = "newest",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Key255 | None = None,
) -> InteractionMarginsReply:
    """List interactions, newest or most expensive first. Each counts once, however often it was reported."""
    after = None if cursor is None else Cursor.parse(order, cursor)
    async with db.consistent_read() as session:
        prices = await find_prices(session, days)
        rows = await llm_reports.list_interactions(session, days, order=order, after=after, limit=limit + 1)
    replies = [_interaction(row, prices) for row in rows[:limit]]
    next_cursor = str(Cursor.of(order, rows[limit - 1])) if len(rows) > limit else None
    return InteractionMarginsReply(**range_fields(days), interactions=replies, next_cursor=next_cursor)


def margins_of(rows: Sequence[Row], prices: Prices) -> list[Margin]:
    """Return the margins of interactions and tools together, by currency."""
    return [_margin(row, prices) for row in rows]


def _margin(row: Row, prices: Prices) -> Margin:
    currency, on_tools = row["currency"], row["tool_paid_spent"]
    of_interactions = revenue_cents(row["paid_spent"] - on_tools, currency, prices)
    return Margin(
        currency=currency,
        paid_spent=row["paid_spent"],
        tool_paid_spent=on_tools,
        revenue_cents=revenue_cents(row["paid_spent"], currency, prices),
        interaction_revenue_cents=of_interactions,
        tool_revenue_cents=revenue_cents(on_tools, currency, prices),
        interactions=row["interactions"],
        cost_cents=row["cost_cents"],
        margin_cents=margin_cents(of_interactions, row["cost_cents"], currency),
    )


def _earned(row: Row, prices: Prices, cost_cents: Any) -> dict[str, Any]:
    revenue = revenue_cents(row["paid_spent"], row["currency"], prices)
    return {
        "currency": row["currency"],
        "paid_spent": row["paid_spent"],
        "revenue_cents": revenue,
        "cost_cents": cost_cents,
        "margin_cents": margin_cents(revenue, cost_cents, row["currency"]),
    }


def _model(row: Row, prices: Prices) -> MarginModel:
    interactions, cost_cents = row["interactions"], row["cost_cents"]
    return MarginModel(
        model=row["model"],
        interactions=interactions,
        **{name: row[name] for name in COUNTS if name != "cost_cents"},
        **_earned(row, prices, cost_cents),
        cost_per_interaction_cents=rounded(cost_cents / interactions) if interactions else None,
    )


def _interaction(row: Row, prices: Prices) -> InteractionMargin:
    paid_spent, currency = row["paid_spent"], row["currency"]
    revenue = None if paid_spent is None else revenue_cents(paid_spent, currency, prices)
    fields = {name: row[name] for name in InteractionMargin.model_fields if name in row}
    return InteractionMargin(
        **fields, revenue_cents=revenue, margin_cents=margin_cents(revenue, row["cost_cents"], currency)
    )
