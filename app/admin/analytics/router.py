"""`/admin/analytics`: usage and sales. Always exact: sums by day, plus entries since the last roll-up."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from app.admin.analytics.margins import margins_of
from app.admin.analytics.money import balances_of, group_of, money_of
from app.admin.analytics.range import DayRange, range_fields
from app.admin.analytics.schemas import (
    AgentsReply,
    AgentUsage,
    Cohort,
    CohortsReply,
    CohortWeek,
    CreditsSpent,
    DailyReply,
    Day,
    KeysUsageReply,
    KeyUsage,
    MeteredReply,
    ModelsReply,
    ModelUsage,
    Money,
    Movements,
    OverviewReply,
    Period,
    ProductsReply,
    ProductUsage,
    Revenue,
    Sales,
    Standing,
    TopUser,
    TopUsersReply,
)
from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.admin.users.queries import list_users_by_id
from app.analytics import margin_reports, metered_reports, money_reports, usage_reports
from app.analytics.days import Days
from app.analytics.revenue import Prices, find_prices
from app.billing.dependencies import Billing
from app.db import Session
from app.http.schemas import ERRORS

router = APIRouter(prefix="/admin/analytics", tags=["admin: analytics"], responses=ERRORS, route_class=ReportRoute)
Row = Mapping[str, Any]
COLUMN_OF: Mapping[str, metered_reports.MeteredBy] = {
    "meter": "meter",
    "model": "model",
    "agent": "agent_id",
    "key": "key_id",
}


@router.get("/overview")
async def get_analytics_overview(admin: Viewer, db: ReportDb, billing: Billing, days: DayRange) -> OverviewReply:
    """Return the figures of a range beside those of as many days before, and the current state."""
    defaults = (await billing.configuration.current()).defaults
    async with db.consistent_read() as session:
        standing = await money_reports.find_standing(
            session, days.environment, today=admin.now.date(), daily_free=defaults.daily_free_uses
        )
        money = balances_of(await metered_reports.list_balances(session, days.environment))
        prices = await find_prices(session, days)
        period, previous = await _period(session, days, prices), await _period(session, days.previous, prices)
    accounts, paying = standing["accounts"], standing["paying_users"]
    now = Standing(**standing, conversion=round(paying / accounts, 6) if accounts else None, money=money)
    return OverviewReply(**range_fields(days), now=now, period=period, previous=previous)


async def _period(session: Session, days: Days, prices: Prices) -> Period:
    margins = margins_of(await margin_reports.list_margins(session, days), prices)
    return Period(
        **_usage(await usage_reports.find_usage(session, days)),
        first_day=days.first,
        last_day=days.last,
        new_accounts=sum((await money_reports.count_new_accounts(session, days)).values()),
        active_users=await usage_reports.count_active(session, days),
        buyers=await money_reports.count_buyers(session, days),
        credits=_movements(await money_reports.sum_movements(session, days)),
        sales=[Sales(**row) for row in await money_reports.list_sales(session, days)],
        revenue=[Revenue(**{name: getattr(margin, name) for name in Revenue.model_fields}) for margin in margins],
        money=[money_of(row) for row in await metered_reports.list_money(session, days)],
    )


@router.get("/daily")
async def list_analytics_days(admin: Viewer, db: ReportDb, days: DayRange) -> DailyReply:
    """Return one point per day of the range, including days without activity."""
    async with db.consistent_read() as session:
        usage = {row["day"]: row for row in await usage_reports.list_days(session, days)}
        active = await usage_reports.count_active_by_day(session, days)
        new = await money_reports.count_new_accounts(session, days)
        movements = {row["day"]: row for row in await money_reports.list_movements(session, days)}
        sales: dict[date, list[Sales]] = {}
        for row in await money_reports.list_sales_days(session, days):
            sales.setdefault(row["day"], []).append(Sales(**row))
        money: dict[date, list[Money]] = {}
        for row in await metered_reports.list_money_days(session, days):
            money.setdefault(row["day"], []).append(money_of(row))
    points = [
        Day(
            **_usage(usage.get(day, {})),
            day=day,
            new_accounts=new.get(day, 0),
            active_users=active.get(day, 0),
            credits=_movements(movements.get(day, {})),
            sales=sales.get(day, []),
            money=money.get(day, []),
        )
        for day in days.each()
    ]
    return DailyReply(**range_fields(days), days=points)


@router.get("/products")
async def list_analytics_products(admin: Viewer, db: ReportDb, days: DayRange) -> ProductsReply:
    """Return the charges of interactions, and each tool's uses by source of payment."""
    async with db.consistent_read() as session:
        rows = await usage_reports.list_by(session, days, "product_type")
    return ProductsReply(
        **range_fields(days), products=[ProductUsage(**_usage(r), product_type=r["product_type"] or None) for r in rows]
    )


@router.get("/agents")
async def list_analytics_agents(admin: Viewer, db: ReportDb, days: DayRange) -> AgentsReply:
    """Return usage by agent, from the charges' metadata."""
    async with db.consistent_read() as session:
        rows = await usage_reports.list_by(session, days, "agent_id")
    return AgentsReply(
        **range_fields(days), agents=[AgentUsage(**_usage(r), agent_id=r["agent_id"] or None) for r in rows]
    )


@router.get("/keys")
async def list_analytics_keys(admin: Viewer, db: ReportDb, days: DayRange) -> KeysUsageReply:
    """Return usage by API key."""
    async with db.consistent_read() as session:
        rows = await usage_reports.list_by(session, days, "key_id")
        names = await usage_reports.find_key_names(session, [row["key_id"] for row in rows])
    keys = [KeyUsage(**_usage(row), key_id=row["key_id"] or None, name=names.get(row["key_id"])) for row in rows]
    return KeysUsageReply(**range_fields(days), keys=keys)


@router.get("/models")
async def list_analytics_models(admin: Viewer, db: ReportDb, days: DayRange) -> ModelsReply:
    """Return LLM calls by model, on the day of an interaction's first report. Split among an interaction's models."""
    async with db.consistent_read() as session:
        rows = await margin_reports.list_models(session, days)
    return ModelsReply(**range_fields(days), models=[ModelUsage(**row) for row in rows])


@router.get("/metered")
async def list_metered_usage(
    admin: Viewer, db: ReportDb, days: DayRange, by: Literal["meter", "model", "agent", "key"] = "meter"
) -> MeteredReply:
    """Return usage events by meter, model, agent or API key, on the day of the events' own time. Highest cost first."""
    async with db.consistent_read() as session:
        rows = await metered_reports.list_metered_by(session, days, COLUMN_OF[by])
        names = await usage_reports.find_key_names(session, [row["key_id"] for row in rows] if by == "key" else [])
    return MeteredReply(**range_fields(days), sums=[group_of(row, COLUMN_OF[by], names) for row in rows])


@router.get("/users")
async def list_top_users(
    admin: Viewer, db: ReportDb, days: DayRange, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> TopUsersReply:
    """List the users with the most credits spent in the range, by credits, then by uses."""
    async with db.consistent_read() as session:
        top = await usage_reports.list_top_accounts(session, days, limit)
        users = {row["account_id"]: row for row in await list_users_by_id(session, [r["account_id"] for r in top])}
    return TopUsersReply(**range_fields(days), users=[TopUser(**users[row["account_id"]], **_top(row)) for row in top])


@router.get("/cohorts")
async def list_cohorts(admin: Viewer, db: ReportDb, days: DayRange) -> CohortsReply:
    """Return accounts by week of creation: how many were active in each later week, and how many ever paid."""
    async with db.consistent_read() as session:
        weeks: dict[date, list[CohortWeek]] = {}
        for row in await usage_reports.list_cohort_weeks(session, days):
            week = CohortWeek(week=row["week"], active=row["active"], credits=row["credits"])
            weeks.setdefault(row["cohort_week"], []).append(week)
        sizes = await money_reports.list_cohorts(session, days)
    return CohortsReply(
        **range_fields(days), cohorts=[Cohort(**row, weeks=weeks.get(row["first_day"], [])) for row in sizes]
    )


def _usage(row: Row) -> dict[str, Any]:
    """Return the fields of Usage; zeros for a missing row."""
    spent = CreditsSpent(**{name: row.get(name, 0) for name in ("daily_free", "grants", "free", "paid")})
    return {"spent": spent, **{name: row.get(name, 0) for name in ("uses", "product_free", "product_paid")}}


def _movements(row: Row) -> Movements:
    return Movements(**{name: row.get(name, 0) for name in Movements.model_fields})


def _top(row: Row) -> dict[str, int]:
    return {"uses": row["uses"], "credits": row["credits"]}
