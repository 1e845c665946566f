"""The plan document: the prices, grants and limits of each plan. Free of I/O.

The plans in force are runtime configuration (the section `plans` of app/configuration), in versions. A plan is
withdrawn, never removed (`removed`). Its subscribers keep the terms of the version that they subscribed to.

Amounts are exact: minor units for prices, as in packs, and decimal text for grants and limits. No amount is a float.
"""

from collections.abc import Hashable, Iterable, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.currencies import NANO_DIGITS, problem_of
from app.packs import Currency, KnownCurrency
from app.setting_values import Slug

MAX_PLANS = 100
MAX_UNITS = 2**63 - 1
"""The largest amount of credits, and of nanos of money."""
Interval = Literal["month", "year"]
Cadence = Literal["once", "day", "month"]
Visibility = Literal["public", "hidden"]
Environment = Literal["live", "test"]


def units_of(text: str, *, money: bool) -> int:
    """Return an amount as the ledger stores it: nanos of money, or whole credits."""
    return int(Decimal(text).scaleb(NANO_DIGITS)) if money else int(text)


def _fits(text: str) -> str:
    if units_of(text, money=True) > MAX_UNITS:
        raise ValueError("must fit 64 bits in nanos")
    return text


def _above_zero(text: str) -> str:
    if not text.strip("0."):
        raise ValueError("must be above 0")
    return text


def _between(least: int, most: int) -> AfterValidator:
    def check(text: str) -> str:
        if not least <= Decimal(text) <= most:
            raise ValueError(f"must be between {least} and {most}")
        return text

    return AfterValidator(check)


_PERCENT = StringConstraints(pattern=r"^-?[0-9]{1,6}(\.[0-9]{1,4})?$")
Amount = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$"),
    AfterValidator(_fits),
    Field(examples=["25.00"], description="An exact decimal number, as text."),
]
PositiveAmount = Annotated[Amount, AfterValidator(_above_zero)]
Discount = Annotated[str, _PERCENT, _between(0, 99), Field(examples=["10"])]
Markup = Annotated[str, _PERCENT, _between(-100, 100_000), Field(examples=["20"])]
Title = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
StripePriceId = Annotated[str, StringConstraints(pattern=r"^price_[A-Za-z0-9_]{1,200}$")]


def _require_whole(text: str, what: str) -> None:
    if not text.isdecimal():
        raise ValueError(f"{what} are whole numbers")


def _require_distinct(keys: Iterable[Hashable], what: str) -> None:
    seen: set[Hashable] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{what} {key} is there twice")
        seen.add(key)


class _Stored(BaseModel):
    """A part of a stored document. Ignores members that a later version added, so that both versions can run."""

    model_config = ConfigDict(frozen=True)


class PlanPrice(_Stored):
    """The price of a plan for one interval, in one currency."""

    interval: Interval
    currency: Currency
    amount_minor: int = Field(gt=0, le=99_999_999, description="Minor units of the currency.")
    stripe_price_live: StripePriceId | None = Field(
        default=None, description="Stripe's price of the live environment. Without one, the plan is not sold there."
    )
    stripe_price_test: StripePriceId | None = None

    def stripe_price(self, environment: Environment) -> str | None:
        """Return Stripe's id of the price. None: it is not sold in the environment."""
        return self.stripe_price_live if environment == "live" else self.stripe_price_test


class OfferedPrice(PlanPrice):
    """A price that Stripe accepts by its published rules."""

    model_config = ConfigDict(extra="forbid")

    currency: KnownCurrency

    @field_validator("amount_minor")
    @classmethod
    def _can_be_charged(cls, amount_minor: int, info: ValidationInfo) -> int:
        currency = info.data.get("currency")  # absent if it is invalid
        if currency is not None and (problem := problem_of(currency, amount_minor)) is not None:
            raise ValueError(problem)
        return amount_minor


class PlanGrant(_Stored):
    """An amount that a subscriber gets, and its expiry. Credits, or money of a currency."""

    unit: Literal["credit", "money"]
    currency: Currency | None = Field(default=None, description="Of money. Accounts in another currency get nothing.")
    amount: PositiveAmount
    cadence: Cadence = "month"
    expires: Literal["period_end", "after_days", "never"] = "period_end"
    expires_after_days: int | None = Field(default=None, ge=1, le=3650)
    rollover: Literal["none", "up_to", "all"] = Field(
        default="none", description="How much of the rest at the end of a period goes into the next one."
    )
    rollover_up_to: PositiveAmount | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.unit == "money") != (self.currency is not None):
            raise ValueError("currency: money has one, credits have none")
        if (self.expires == "after_days") != (self.expires_after_days is not None):
            raise ValueError("expires_after_days: belongs to expires after_days")
        if (self.rollover == "up_to") != (self.rollover_up_to is not None):
            raise ValueError("rollover_up_to: belongs to rollover up_to")
        if self.rollover != "none" and (self.cadence == "once" or self.expires != "period_end"):
            raise ValueError("rollover: only what recurs and expires at the end of its period can roll over")
        if self.unit == "credit":
            for text in (self.amount, self.rollover_up_to or "0"):
                _require_whole(text, "credits")
        return self

    @property
    def key(self) -> str:
        """Identifies the grant in its plan: a period has at most one grant of each key."""
        return f"{self.currency or self.unit}:{self.cadence}"

    @property
    def units(self) -> int:
        """The amount in credits, or in nanos of money."""
        return units_of(self.amount, money=self.unit == "money")

    @property
    def most_carried(self) -> int | None:
        """Return how much may roll over into the next period, in credits or nanos. None: all of it."""
        if self.rollover == "all":
            return None
        return 0 if self.rollover_up_to is None else units_of(self.rollover_up_to, money=self.unit == "money")


class OfferedGrant(PlanGrant):
    model_config = ConfigDict(extra="forbid")


class DefaultLimit(_Stored):
    """A limit of a subscriber's account that holds until the user or an admin sets another."""

    scope: Literal["account", "key", "agent", "model", "tool"] = "account"
    scope_value: Text | None = Field(default=None, description="The agent, the model, …: for every scope but account.")
    window: Literal["minute", "hour", "day", "month", "lifetime"]
    unit: Annotated[str, StringConstraints(pattern=r"^(credits|uses|[A-Z]{3})$")] = Field(
        description="`credits`, `uses`, or the currency of an amount of money."
    )
    amount: Amount
    action: Literal["refuse", "notify"] = "refuse"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.scope == "account") != (self.scope_value is None):
            raise ValueError("scope_value: the scope account has none, every other scope has one")
        if self.unit in ("credits", "uses"):
            _require_whole(self.amount, self.unit)
        return self

    @property
    def units(self) -> int:
        """The amount in credits, in uses, or in nanos of money."""
        return units_of(self.amount, money=self.unit not in ("credits", "uses"))


class OfferedLimit(DefaultLimit):
    model_config = ConfigDict(extra="forbid")


class Plan(_Stored):
    """One plan. `name` is the word in `plan_name` of an account, and never changes."""

    name: Slug
    title: Title
    prices: list[PlanPrice] = Field(default=[], max_length=40)
    by_agreement: bool = Field(default=False, description="Sold by agreement, without a list price.")
    grants: list[PlanGrant] = Field(default=[], max_length=20)
    purchase_discount_percent: Discount = Field(
        default="0", description="Lowers the price of a purchase, not the amount received."
    )
    markup_percent: Markup = Field(default="0", description="On the price of usage.")
    default_limits: list[DefaultLimit] = Field(default=[], max_length=50)
    features: list[Text] = Field(default=[], max_length=50, description="As the list of plans shows them.")
    order: int = Field(default=0, ge=0, le=10_000, description="The list of plans shows lower numbers first.")
    visibility: Visibility = Field(default="public", description="`hidden`: not in the list of plans.")
    withdrawn: bool = Field(default=False, description="No longer sold and not listed. Its subscribers keep it.")

    @model_validator(mode="after")
    def _parts_are_distinct(self) -> Self:
        _require_distinct((f"{price.interval} in {price.currency}" for price in self.prices), "prices: a price per")
        _require_distinct((grant.key for grant in self.grants), "grants:")
        return self

    @property
    def is_listed(self) -> bool:
        return self.visibility == "public" and not self.withdrawn

    def price(self, interval: Interval, currency: str) -> PlanPrice | None:
        """Return the price of an interval in a currency, if the plan has one."""
        return next((p for p in self.prices if (p.interval, p.currency) == (interval, currency)), None)


class OfferedPlan(Plan):
    model_config = ConfigDict(extra="forbid")

    prices: list[OfferedPrice] = Field(default=[], max_length=40)  # type: ignore[assignment]  # stricter
    grants: list[OfferedGrant] = Field(default=[], max_length=20)  # type: ignore[assignment]  # stricter
    default_limits: list[OfferedLimit] = Field(default=[], max_length=50)  # type: ignore[assignment]  # stricter


class Plans(_Stored):
    """All plans, the withdrawn ones too."""

    plans: list[Plan] = Field(max_length=MAX_PLANS)

    @model_validator(mode="after")
    def _plans_are_distinct(self) -> Self:
        _require_distinct((plan.name for plan in self.plans), "plan")
        prices = [price for plan in self.plans for price in plan.prices]
        for ids in ((price.stripe_price_live for price in prices), (price.stripe_price_test for price in prices)):
            _require_distinct((stripe_id for stripe_id in ids if stripe_id is not None), "Stripe's price")
        return self

    @cached_property
    def markups(self) -> Mapping[str, Decimal]:
        """The markups of the plans that have one, in percent."""
        found = {plan.name: Decimal(plan.markup_percent) for plan in self.plans}
        return {name: percent for name, percent in found.items() if percent}

    def find(self, name: str) -> Plan | None:
        """Return the plan of an account's `plan_name`. None: the word names no plan, so the account has no terms."""
        return next((plan for plan in self.plans if plan.name == name), None)

    def listed(self) -> list[Plan]:
        """Return the public plans that are for sale, in their order."""
        return sorted((plan for plan in self.plans if plan.is_listed), key=lambda plan: (plan.order, plan.name))


class OfferedPlans(Plans):
    plans: list[OfferedPlan] = Field(max_length=MAX_PLANS)  # type: ignore[assignment]  # stricter


def removed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of the plans that a new version of the document lacks. Each may have subscribers."""
    kept = {plan["name"] for plan in after["plans"]}
    return [plan["name"] for plan in before["plans"] if plan["name"] not in kept]
