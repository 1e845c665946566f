"""`GET /v1/plans`: the public plans."""

from typing import Literal, Self

from fastapi import APIRouter, Request
from pydantic import Field

from app.auth.authenticator import Authenticator
from app.configuration.sections import PLANS
from app.configuration.service import Configuration
from app.currencies import info_of
from app.http.schemas import ErrorReply, Reply
from app.ledger.money import decimal_text
from app.ledger.pools import MINOR_PER_CREDIT
from app.plans.document import Cadence, Interval, Plan, PlanGrant, PlanPrice

router = APIRouter(
    prefix="/v1/plans", tags=["subscriptions"], responses={429: {"model": ErrorReply}, 503: {"model": ErrorReply}}
)


class PriceOfPlan(Reply):
    interval: Interval
    currency: str
    amount_minor: int = Field(description="Minor units of the currency (2000 = $20.00).")
    currency_digits: int = Field(description="Decimals of the amount: 2000 with 2 digits is 20.00.")

    @classmethod
    def of(cls, price: PlanPrice) -> Self:
        return cls(
            interval=price.interval,
            currency=price.currency,
            amount_minor=price.amount_minor,
            currency_digits=info_of(price.currency).digits,
        )


class GrantOfPlan(Reply):
    unit: str = Field(description="`credit`, or the currency of money.")
    amount_minor: int | None = Field(description="Credits, in hundredths. null for money.")
    amount: str | None = Field(description="Money, exact. null for credits.")
    cadence: Cadence
    expires: Literal["period_end", "after_days", "never"]
    expires_after_days: int | None
    rollover: Literal["none", "up_to", "all"]

    @classmethod
    def of(cls, grant: PlanGrant) -> Self:
        is_money = grant.currency is not None
        return cls(
            unit=grant.currency or grant.unit,
            amount_minor=None if is_money else grant.units * MINOR_PER_CREDIT,
            amount=decimal_text(grant.units) if is_money else None,
            cadence=grant.cadence,
            expires=grant.expires,
            expires_after_days=grant.expires_after_days,
            rollover=grant.rollover,
        )


class ListedPlan(Reply):
    plan: str = Field(description="Its name: `plan_name` of an account.", examples=["standard"])
    title: str
    prices: list[PriceOfPlan] = Field(description="Empty: it costs nothing, or it is sold by agreement.")
    by_agreement: bool
    grants: list[GrantOfPlan]
    purchase_discount_percent: str = Field(description="Lowers the price of a purchase, not the amount received.")
    features: list[str]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        return cls(
            plan=plan.name,
            title=plan.title,
            prices=[PriceOfPlan.of(price) for price in plan.prices],
            by_agreement=plan.by_agreement,
            grants=[GrantOfPlan.of(grant) for grant in plan.grants],
            purchase_discount_percent=plan.purchase_discount_percent,
            features=plan.features,
        )


class ListedPlansReply(Reply):
    plans: list[ListedPlan]


@router.get("")
async def list_plans(request: Request) -> ListedPlansReply:
    """List the public plans in their order. Needs no credential: pages of prices show them to visitors."""
    auth: Authenticator = request.app.state.auth
    auth.admit(request)
    configuration: Configuration = request.app.state.configuration
    plans = (await configuration.current()).document(PLANS)
    return ListedPlansReply(plans=[ListedPlan.of(plan) for plan in plans.listed()])
