"""`/admin/subscription-figures`: recurring revenue, churn and conversion of the last twelve months."""

from datetime import date, datetime, timedelta

from fastapi import APIRouter
from pydantic import Field

from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.admin.subscriptions import figures_queries
from app.admin.subscriptions.figures import MONTHS, Month, PriceSum, last_months, percent, recurring_revenue
from app.admin.subscriptions.router import Grace
from app.auth.caller import Environment
from app.db import Session
from app.http.schemas import ERRORS, Reply, Timestamp

router = APIRouter(prefix="/admin", tags=["admin: subscriptions"], responses=ERRORS, route_class=ReportRoute)


class RecurringRevenue(Reply):
    currency: str
    amount_minor: int = Field(description="Per month, after discounts: a yearly price counts a twelfth.")
    paying: int = Field(description="Subscriptions that cost more than 0.")


class MonthFigures(Reply):
    month: date = Field(description="Its first day, in UTC.")
    valued_at: Timestamp = Field(description="The time of the recurring revenue: the month's end, or now.")
    recurring: list[RecurringRevenue] = Field(description="By currency.")
    active_at_start: int = Field(description="Subscriptions that had begun and not ended.")
    began: int
    ended: int = Field(description="Of those active at the start.")
    churn_percent: str | None = Field(examples=["2.5"], description="null: none was active at the start.")
    new_accounts: int
    began_to_pay: int = Field(description="Accounts whose first payment, of any kind, was in the month.")
    conversion_percent: str | None = Field(examples=["4.0"], description="null: there were no new accounts.")


class SubscriptionFiguresReply(Reply):
    """Oldest first. Figures are what is known now: late payments and refunds change those of past months."""

    environment: Environment
    grace_days: int = Field(description="For how long a subscription that is past due counts.")
    months: list[MonthFigures]


@router.get("/subscription-figures")
async def get_subscription_figures(
    admin: Viewer, db: ReportDb, grace: Grace, environment: Environment = "live"
) -> SubscriptionFiguresReply:
    """Return recurring revenue, churn and conversion of the last twelve months, up to now.

    Recurring revenue counts subscriptions in force: those past due within the grace period, and those that are canceled
    at the end of their period until then. Churn: ended in the month, of those active at its start. Conversion: accounts
    that began to pay in the month, as a share of its new accounts.
    """
    months = last_months(admin.now, MONTHS)
    async with db.read() as session:
        figures = await _figures(session, environment, months, grace, admin.now)
    return SubscriptionFiguresReply(environment=environment, grace_days=grace.days, months=figures)


async def _figures(
    session: Session, environment: Environment, months: list[Month], grace: timedelta, now: datetime
) -> list[MonthFigures]:
    moments = [month.valued_at(now) for month in months]
    rows = await figures_queries.list_price_sums(session, environment, moments, grace)
    sums = [PriceSum(**row) for row in rows]
    churn = await figures_queries.list_churn(session, environment, months)
    conversion = await figures_queries.list_conversion(session, environment, months)
    return [
        MonthFigures(
            month=month.start.date(),
            valued_at=moment,
            recurring=[
                RecurringRevenue(currency=one.currency, amount_minor=one.amount_minor, paying=one.paying)
                for one in recurring_revenue(sums, moment)
            ],
            active_at_start=left["active_at_start"],
            began=left["began"],
            ended=left["ended"],
            churn_percent=percent(left["ended"], left["active_at_start"]),
            new_accounts=paid["new_accounts"],
            began_to_pay=paid["began_to_pay"],
            conversion_percent=percent(paid["began_to_pay"], paid["new_accounts"]),
        )
        for month, moment, left, paid in zip(months, moments, churn, conversion, strict=True)
    ]
