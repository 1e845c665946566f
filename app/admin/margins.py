"""`/admin/analytics/margin`: what paid credits brought against what the LLM calls cost. All sums are exact."""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from app.admin.analytics_range import AskedDays, asked
from app.admin.analytics_schemas import (
    InteractionMargin,
    InteractionMarginsReply,
    Margin,
    MarginDailyReply,
    MarginDay,
    MarginModel,
    MarginModelsReply,
    MarginOverviewReply,
    Price,
)
from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.analytics import llm_reports, money_reports
from app.analytics.llm_reports import Cursor
from app.billing.router import ERRORS
from app.billing.schemas import Key255

COST_CURRENCY = "USD"
"""Of what LLM proxies report. Nothing is ever converted into it, or added to it."""
Row = Mapping[str, Any]
router = APIRouter(
    prefix="/admin/analytics/margin", tags=["admin: analytics"], responses=ERRORS, route_class=ReportRoute
)


@router.get("/overview")
async def get_margin_overview(admin: Viewer, db: ReportDb, days: AskedDays) -> MarginOverviewReply:
    """Revenue of the paid credits spent, LLM cost and margin, beside those of as many days before."""
    async with db.consistent_read() as session:
        prices = _prices(await money_reports.list_prices(session, days))
        period = await llm_reports.list_margins(session, days)
        previous = await llm_reports.list_margins(session, days.previous)
    return MarginOverviewReply(
        **asked(days),
        prices=list(prices.values()),
        period=[_margin(row, prices) for row in period],
        previous=[_margin(row, prices) for row in previous],
    )


@router.get("/daily")
async def list_margin_days(admin: Viewer, db: ReportDb, days: AskedDays) -> MarginDailyReply:
    """One point for every day of the range. Every day counts with the price that credits have brought up to now."""
    async with db.consistent_read() as session:
        prices = _prices(await money_reports.list_prices(session, days))
        rows = await llm_reports.list_margin_days(session, days)
    by_day: dict[date, list[Margin]] = {}
    for row in rows:
        by_day.setdefault(row["day"], []).append(_margin(row, prices))
    points = [MarginDay(day=day, margins=by_day.get(day, [])) for day in days.each()]
    return MarginDailyReply(**asked(days), days=points)


@router.get("/models")
async def list_margin_models(admin: Viewer, db: ReportDb, days: AskedDays) -> MarginModelsReply:
    """What each model costs, in all and per interaction."""
    async with db.consistent_read() as session:
        rows = await llm_reports.list_models_by_currency(session, days)
    models = [
        MarginModel(**row, cost_per_interaction_cents=_rounded(row["cost_cents"] / row["interactions"])) for row in rows
    ]
    return MarginModelsReply(**asked(days), models=models)


@router.get("/interactions")
async def list_interaction_margins(
    admin: Viewer,
    db: ReportDb,
    days: AskedDays,
    order: Literal["newest", "cost"] = "newest",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Key255 | None = None,
) -> InteractionMarginsReply:
    """Interactions, the newest or the most expensive first. Each counts once, however it was reported."""
    after = None if cursor is None else Cursor.parse(order, cursor)
    async with db.consistent_read() as session:
        prices = _prices(await money_reports.list_prices(session, days))
        rows = await llm_reports.list_interactions(session, days, order=order, after=after, limit=limit + 1)
    told = [_interaction(row, prices) for row in rows[:limit]]
    next_cursor = str(Cursor.of(order, rows[limit - 1])) if len(rows) > limit else None
    return InteractionMarginsReply(**asked(days), interactions=told, next_cursor=next_cursor)


def _prices(rows: Sequence[Row]) -> dict[str, Price]:
    prices = {}
    for row in rows:
        net, sold, entered = row["net_minor"], row["credits_sold"], row["credits_entered"]
        prices[row["currency"]] = Price(
            **row,
            cents_per_sold_credit=_rounded(Decimal(net) / sold) if sold > 0 else None,
            cents_per_paid_credit=_rounded(Decimal(net) / entered) if entered > 0 else None,
        )
    return prices


def _revenue(paid_spent: int, currency: str, prices: Mapping[str, Price]) -> Decimal | None:
    """Of the ratio itself, so that no rounded price is multiplied."""
    price = prices.get(currency)
    if price is None or price.cents_per_paid_credit is None:
        return None
    return _rounded(Decimal(paid_spent) * price.net_minor / price.credits_entered)


def _margin(row: Row, prices: Mapping[str, Price]) -> Margin:
    currency, cost_cents = row["currency"], row["cost_cents"]
    revenue = _revenue(row["paid_spent"], currency, prices)
    return Margin(
        currency=currency,
        paid_spent=row["paid_spent"],
        revenue_cents=revenue,
        interactions=row["interactions"],
        cost_cents=cost_cents,
        margin_cents=_difference(revenue, cost_cents, currency),
    )


def _interaction(row: Row, prices: Mapping[str, Price]) -> InteractionMargin:
    paid_spent, currency = row["paid_spent"], row["currency"]
    revenue = None if paid_spent is None else _revenue(paid_spent, currency, prices)
    fields = {name: row[name] for name in InteractionMargin.model_fields if name in row}
    return InteractionMargin(
        **fields, revenue_cents=revenue, margin_cents=_difference(revenue, row["cost_cents"], currency)
    )


def _difference(revenue: Decimal | None, cost_cents: Decimal, currency: str) -> Decimal | None:
    return None if revenue is None or currency != COST_CURRENCY else revenue - cost_cents


def _rounded(cents: Decimal) -> Decimal:
    """To the ten decimal places that costs have: a ratio may have no end."""
    return round(cents, 10)
