"""`/admin/analytics`: how much is used, by whom, and what is sold. Exact at all times: roll-ups and what came since."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.admin.analytics.margins import margins_of
from app.admin.analytics.range import AskedDays, asked
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
    ModelsReply,
    ModelUsage,
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
from app.analytics import margin_reports, money_reports, usage_reports
from app.analytics.days import Days
from app.analytics.revenue import Prices, find_prices
from app.billing.dependencies import Billing
from app.db import Session
from app.http.schemas import ERRORS

router = APIRouter(prefix="/admin/analytics", tags=["admin: analytics"], responses=ERRORS, route_class=ReportRoute)
Row = Mapping[str, Any]


@router.get("/overview")
async def get_analytics_overview(admin: Viewer, db: ReportDb, billing: Billing, days: AskedDays) -> OverviewReply:
    """The figures of a range of days beside those of as many days before, and how things stand now."""
    defaults = (await billing.configuration.current()).defaults
    async with db.consistent_read() as session:
        standing = await money_reports.find_standing(
            session, days.environment, today=admin.now.date(), daily_free=defaults.daily_free_uses
        )
        prices = await find_prices(session, days)
        period, previous = await _period(session, days, prices), await _period(session, days.previous, prices)
    accounts, paying = standing["accounts"], standing["paying_users"]
    now = Standing(**standing, conversion=round(paying / accounts, 6) if accounts else None)
    return OverviewReply(**asked(days), now=now, period=period, previous=previous)


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
    )


@router.get("/daily")
async def list_analytics_days(admin: Viewer, db: ReportDb, days: AskedDays) -> DailyReply:
    """One point for every day of the range, also for those on which nothing happened."""
    async with db.consistent_read() as session:
        usage = {row["day"]: row for row in await usage_reports.list_days(session, days)}
        active = await usage_reports.count_active_by_day(session, days)
        new = await money_reports.count_new_accounts(session, days)
        movements = {row["day"]: row for row in await money_reports.list_movements(session, days)}
        sales: dict[date, list[Sales]] = {}
        for row in await money_reports.list_sales_days(session, days):
            sales.setdefault(row["day"], []).append(Sales(**row))
    points = [
        Day(
            **_usage(usage.get(day, {})),
            day=day,
            new_accounts=new.get(day, 0),
            active_users=active.get(day, 0),
            credits=_movements(movements.get(day, {})),
            sales=sales.get(day, []),
        )
        for day in days.each()
    ]
    return DailyReply(**asked(days), days=points)


@router.get("/products")
async def list_analytics_products(admin: Viewer, db: ReportDb, days: AskedDays) -> ProductsReply:
    """Interactions' charges, and each tool's uses by what paid for them."""
    async with db.consistent_read() as session:
        rows = await usage_reports.list_by(session, days, "product_type")
    return ProductsReply(
        **asked(days), products=[ProductUsage(**_usage(r), product_type=r["product_type"] or None) for r in rows]
    )


@router.get("/agents")
async def list_analytics_agents(admin: Viewer, db: ReportDb, days: AskedDays) -> AgentsReply:
    """Use by agent, as the charges' metadata names it."""
    async with db.consistent_read() as session:
        rows = await usage_reports.list_by(session, days, "agent_id")
    return AgentsReply(**asked(days), agents=[AgentUsage(**_usage(r), agent_id=r["agent_id"] or None) for r in rows])


@router.get("/keys")
async def list_analytics_keys(admin: Viewer, db: ReportDb, days: AskedDays) -> KeysUsageReply:
    """Use by the API key that charged it."""
    async with db.consistent_read() as session:
        rows = await usage_reports.list_by(session, days, "key_id")
        names = await usage_reports.find_key_names(session, [row["key_id"] for row in rows])
    keys = [KeyUsage(**_usage(row), key_id=row["key_id"] or None, name=names.get(row["key_id"])) for row in rows]
    return KeysUsageReply(**asked(days), keys=keys)


@router.get("/models")
async def list_analytics_models(admin: Viewer, db: ReportDb, days: AskedDays) -> ModelsReply:
    """LLM calls by model, on the day of the interaction's first report. One of several models is split among them."""
    async with db.consistent_read() as session:
        rows = await margin_reports.list_models(session, days)
    return ModelsReply(**asked(days), models=[ModelUsage(**row) for row in rows])


@router.get("/users")
async def list_top_users(
    admin: Viewer, db: ReportDb, days: AskedDays, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> TopUsersReply:
    """Who spent the most credits in the range, the first by credits, then by uses."""
    async with db.consistent_read() as session:
        top = await usage_reports.list_top_accounts(session, days, limit)
        users = {row["account_id"]: row for row in await list_users_by_id(session, [r["account_id"] for r in top])}
    return TopUsersReply(**asked(days), users=[TopUser(**users[row["account_id"]], **_top(row)) for row in top])


@router.get("/cohorts")
async def list_cohorts(admin: Viewer, db: ReportDb, days: AskedDays) -> CohortsReply:
    """Accounts by the week in which they were made: who came back in which later week, and who ever paid."""
    async with db.consistent_read() as session:
        weeks: dict[date, list[CohortWeek]] = {}
        for row in await usage_reports.list_cohort_weeks(session, days):
            week = CohortWeek(week=row["week"], active=row["active"], credits=row["credits"])
            weeks.setdefault(row["cohort_week"], []).append(week)
        sizes = await money_reports.list_cohorts(session, days)
    return CohortsReply(**asked(days), cohorts=[Cohort(**row, weeks=weeks.get(row["first_day"], [])) for row in sizes])


def _usage(row: Row) -> dict[str, Any]:
    """The fields of Usage; zeros for a row that is not there."""
    spent = CreditsSpent(**{name: row.get(name, 0) for name in ("daily_free", "free", "paid")})
    return {"spent": spent, **{name: row.get(name, 0) for name in ("uses", "product_free", "product_paid")}}


def _movements(row: Row) -> Movements:
    return Movements(**{name: row.get(name, 0) for name in ("sold", "granted", "taken_back")})


def _top(row: Row) -> dict[str, int]:
    return {"uses": row["uses"], "credits": row["credits"]}
