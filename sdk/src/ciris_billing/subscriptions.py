"""Plans for sale, and the subscription of a user. Prices are in minor units of the currency."""

from datetime import datetime

from ciris_billing.models import Reply
from ciris_billing.usage import Amount


class PlanPrice(Reply):
    interval: str
    """`month` or `year`."""
    currency: str
    amount_minor: int
    currency_digits: int
    """Decimals of the amount: 2000 with 2 digits is 20.00."""


class PlanGrant(Reply):
    """An amount that a subscriber gets: credits in hundredths (`amount_minor`), or exact money (`amount`)."""

    unit: str
    """`credit`, or the currency of money."""
    amount_minor: int | None
    amount: Amount | None
    cadence: str
    """`once`, `day` or `month`."""
    expires: str
    """`period_end`, `after_days` or `never`."""
    expires_after_days: int | None
    rollover: str


class Plan(Reply):
    plan: str
    """The name: pass it to `subscribe`."""
    title: str
    prices: list[PlanPrice]
    """Empty: it costs nothing, or it is sold by agreement."""
    by_agreement: bool
    grants: list[PlanGrant]
    purchase_discount_percent: str
    features: list[str]


class Plans(Reply):
    plans: list[Plan]


class SubscriptionPage(Reply):
    """The provider's page on which the user pays the first invoice. Send the browser to `url`."""

    url: str
    session_id: str | None


class PortalPage(Reply):
    """The provider's page with invoices and cards. Send the browser to `url`, which is valid for a short time."""

    url: str


class Subscription(Reply):
    """The plan of the account, and the subscription that it is from."""

    plan: str
    is_subscribed: bool
    """Also within the grace period of an unpaid invoice."""
    monthly_credits: int
    """Cents that the plan grants each month."""
    current_period_end: datetime | None
    status: str | None
    """In Stripe's words; None without a subscription."""
    interval: str | None
    cancel_at: datetime | None
    """When the subscription ends, if it is canceled."""
    next_plan: str | None
    """The plan from the next period on, if it is another."""
    grace_ends_at: datetime | None
    """Until when an unpaid plan is kept."""


class SubscriptionChange(Subscription):
    """The subscription after a change. Of a preview: as it is now, and what the change would do."""

    effect: str | None
    """Of a preview: `none`, `now` or `period_end`."""
    amount_due_minor: int | None
    """Of a preview: the invoice of the change, or of the next period."""
    currency: str | None
    takes_effect_at: datetime | None
    prorated_at: int | None
    """Pass it to the change within an hour, to pay the previewed price."""
