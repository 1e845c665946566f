"""Wire format of subscriptions, as Z-Billing's clients and the zOS web app read it. Cents are minor units."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from app.http.schemas import Key255, Reply, Text255, Timestamp
from app.plans.document import Interval
from app.subscriptions.changing import Change
from app.subscriptions.service import Standing

MAX_URL_CHARS = 2048
Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
PaymentMethodId = Annotated[str, StringConstraints(pattern=r"^(pm|card|src)_[A-Za-z0-9_]{1,250}$")]
CAMEL = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)
"""The zOS web app writes names in camel case."""


class PlanFields(BaseModel):
    plan: Key255 = Field(examples=["standard"], description="A plan that `GET /v1/plans` lists, or a hidden one.")
    interval: Interval = "month"


class SubscribeBody(PlanFields):
    success_url: Url | None = Field(
        default=None,
        description="Where Stripe's page returns to after the payment: an address of FRONTEND_URL or "
        "RETURN_URL_ORIGINS. Default: `/billing/success` of FRONTEND_URL.",
    )
    cancel_url: Url | None = Field(
        default=None, description="Where it returns to without a payment. Default: `/billing/cancel` of FRONTEND_URL."
    )


class PortalBody(BaseModel):
    return_url: Url | None = Field(
        default=None, description="Where the portal returns to. Default: `/billing` of FRONTEND_URL."
    )


class ChangeBody(PlanFields):
    preview: bool = Field(default=False, description="Only answer what the change would cost.")
    prorated_at: Annotated[int, Field(strict=True, ge=0, le=2**40)] | None = Field(
        default=None, description="Of a preview up to an hour ago: the price is the previewed one."
    )


class PageReply(Reply):
    url: str = Field(description="Send the browser there.")
    session_id: str | None = Field(default=None, examples=["cs_live_a1b2c3"])


class PortalReply(Reply):
    url: str = Field(description="Send the browser there. It is valid for a short time.")


class SubscriptionReply(Reply):
    """The plan of the account, and its subscription."""

    plan: str
    is_subscribed: bool = Field(description="Whether a subscription gives the plan: also within the grace period.")
    monthly_credits: int = Field(description="Cents that the plan grants each month.")
    current_period_end: Timestamp | None = None
    status: str | None = Field(default=None, description="Of the subscription, in Stripe's words.")
    interval: Interval | None = None
    cancel_at: Timestamp | None = Field(default=None, description="When the subscription ends, if it is canceled.")
    next_plan: str | None = Field(default=None, description="The plan from the next period on, if it is another.")
    grace_ends_at: Timestamp | None = Field(default=None, description="Until when an unpaid plan is kept.")

    @classmethod
    def of(cls, standing: Standing) -> Self:
        facts = standing.subscription
        return cls(
            plan=standing.plan_name,
            is_subscribed=standing.is_entitled,
            monthly_credits=standing.monthly_minor,
            current_period_end=None if facts is None else facts.period_end,
            status=None if facts is None else facts.status,
            interval=None if standing.terms is None else standing.terms.interval,
            cancel_at=None if facts is None else facts.cancel_at,
            next_plan=standing.next_plan,
            grace_ends_at=standing.grace_ends_at,
        )


class ChangedSubscriptionReply(SubscriptionReply):
    """The subscription after the change, or what a preview found."""

    effect: Literal["none", "now", "period_end"] | None = Field(
        default=None, description="Of a preview: when the change would take effect."
    )
    amount_due_minor: int | None = Field(
        default=None, description="Of a preview: the invoice of the change, or of the next period for `period_end`."
    )
    currency: str | None = None
    takes_effect_at: Timestamp | None = None
    prorated_at: int | None = Field(default=None, description="Send it with the change to pay the previewed price.")

    @classmethod
    def previewing(cls, standing: Standing, change: Change) -> Self:
        preview = change.preview
        return cls(
            **{name: getattr(SubscriptionReply.of(standing), name) for name in SubscriptionReply.model_fields},
            effect=change.effect,
            amount_due_minor=0 if preview is None else preview.amount_due_minor,
            currency=None if preview is None else preview.currency,
            takes_effect_at=change.takes_effect_at,
            prorated_at=int(change.prorated_at.timestamp()),
        )


# --- the zOS web app ---


class AddressFields(BaseModel):
    """Passed on to Stripe."""

    line1: Text255 | None = None
    line2: Text255 | None = None
    city: Text255 | None = None
    state: Text255 | None = None
    postal_code: Text255 | None = None
    country: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2}$")] | None = None


class BillingDetails(BaseModel):
    email: Annotated[str, StringConstraints(max_length=255, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")] | None = None
    name: Text255 | None = None
    address: AddressFields | None = None

    def given(self) -> dict[str, Any]:
        """Return the customer's fields that were sent."""
        found = self.model_dump(exclude_none=True)
        return {name: value for name, value in found.items() if value}


class ZeroProBody(BaseModel):
    model_config = CAMEL

    billing_details: BillingDetails = BillingDetails()
    payment_method_id: PaymentMethodId = Field(examples=["pm_1PqRsT"], description="As Stripe.js made it.")


class ZeroProReply(Reply):
    model_config = CAMEL

    subscription_id: str
    client_secret: str | None = Field(description="For Stripe.js, which pays the first invoice. null: nothing to pay.")
    status: str = Field(description="In Stripe's words. `incomplete` until the first invoice is paid.")


class ZeroSubscription(Reply):
    model_config = CAMEL

    status: Literal["active", "cancelled", "past_due"]
    type: Literal["ZERO"] = "ZERO"
    stripe_subscription_id: str
    current_period_end: Timestamp | None

    @classmethod
    def of(cls, standing: Standing) -> Self | None:
        facts = standing.subscription
        if facts is None:
            return None
        status: Literal["active", "cancelled", "past_due"] = "cancelled"
        if facts.status in ("active", "trialing"):
            status = "active"
        elif not facts.is_ended:
            status = "past_due"
        period_end: datetime | None = facts.period_end
        return cls(status=status, stripe_subscription_id=facts.subscription_id, current_period_end=period_end)


class ZeroStatusReply(Reply):
    subscription: ZeroSubscription | None


class CancelledReply(Reply):
    cancelled: bool = True
