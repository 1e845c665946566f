"""The wire format of the reports. Days are UTC days, credits whole credits.

Amounts named `_minor` are minor units of a currency; `_cents` are exact decimals, sent as strings.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field, PlainSerializer

from app.admin.schemas import UserRow
from app.auth.caller import Environment
from app.billing.schemas import Reply, Timestamp

Cents = Annotated[
    Decimal,
    PlainSerializer(lambda cents: f"{cents:f}", return_type=str, when_used="json"),
    Field(description="Hundredths of the currency's unit, with all fractions."),
]


class RangeReply(Reply):
    """What was asked for: the days from `from` to `to`, both included."""

    environment: Environment
    first_day: date = Field(serialization_alias="from")
    last_day: date = Field(serialization_alias="to")


class CreditsSpent(Reply):
    """Credits that left the main pools: by charges and by tool uses that a product's own credits did not pay."""

    daily_free: int
    free: int
    paid: int


class Usage(Reply):
    uses: int = Field(description="Charges and tool uses; one that is replayed counts once.")
    spent: CreditsSpent
    product_free: int = Field(description="Tool uses paid by a product's free credits.")
    product_paid: int = Field(description="Tool uses paid by a product's paid credits.")


class Revenue(Reply):
    """Money of one currency. It counts on the day on which the purchase was begun; what is given back reduces that
    day, not the one on which it was given back."""

    currency: str
    sales: int
    received_minor: int
    refunded_minor: int
    disputed_minor: int = Field(description="Withdrawn by disputes that are open or lost.")
    net_minor: int = Field(description="Received, less refunded and disputed.")


class Movements(Reply):
    """Credits that came into the paid pools or, for as much, reduced debts, on the day on which they were booked.

    Over all days, sold + granted - taken_back less the paid credits spent is what is outstanding, less the debt.
    """

    sold: int
    granted: int = Field(description="Grants, bonuses, goodwill refunds, adjustments and opening balances.")
    taken_back: int = Field(description="For refunds and disputes of purchases, less what was reinstated.")


class Period(Usage):
    first_day: date = Field(serialization_alias="from")
    last_day: date = Field(serialization_alias="to")
    new_accounts: int
    active_users: int = Field(description="Accounts with at least one use in these days.")
    buyers: int = Field(description="Accounts with a paid purchase that was begun in these days.")
    credits: Movements
    revenue: list[Revenue]


class Standing(Reply):
    """As things are now, whatever days were asked for."""

    accounts: int
    paying_users: int = Field(description="Accounts that ever paid.")
    conversion: float | None = Field(description="Paying users among all accounts: 0 to 1; null without accounts.")
    exhausted_users: int = Field(description="Active accounts whose main pools are empty today.")
    paid_outstanding: int = Field(description="Paid credits not spent yet.")
    product_paid_outstanding: int = Field(description="Paid uses of products not used yet.")
    debt: int = Field(description="Credits taken back after they were spent.")


class OverviewReply(RangeReply):
    now: Standing
    period: Period
    previous: Period = Field(description="The days before, as many.")


class Day(Usage):
    day: date
    new_accounts: int
    active_users: int
    credits: Movements
    revenue: list[Revenue]


class DailyReply(RangeReply):
    days: list[Day] = Field(description="Every day of the range, oldest first.")


class ProductUsage(Usage):
    product_type: str | None = Field(description="null: the charges of interactions.")


class ProductsReply(RangeReply):
    products: list[ProductUsage]


class AgentUsage(Usage):
    agent_id: str | None = Field(description="As charges' metadata names it; null: not named.")


class AgentsReply(RangeReply):
    agents: list[AgentUsage] = Field(description="By uses, at most 500.")


class KeyUsage(Usage):
    key_id: str | None = Field(description="null: charged by end users themselves, or by the system.")
    name: str | None


class KeysUsageReply(RangeReply):
    keys: list[KeyUsage] = Field(description="By uses, at most 500.")


class LlmCalls(Reply):
    llm_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_cents: Cents


class ModelUsage(LlmCalls):
    interactions: int
    model: str = Field(
        description="The models of an interaction, joined by ' + ': what each of several cost is not reported."
    )


class ModelsReply(RangeReply):
    models: list[ModelUsage] = Field(description="By cost, at most 500.")


class TopUser(UserRow):
    uses: int
    credits: int = Field(description="Spent in the range, from all main pools.")


class TopUsersReply(RangeReply):
    users: list[TopUser]


class CohortWeek(Reply):
    week: int = Field(description="Weeks since the cohort's; 0 is the week in which its accounts were made.")
    active: int
    credits: int


class Cohort(Reply):
    first_day: date = Field(description="The Monday of the week in which the accounts were made.")
    accounts: int
    ever_paid: int
    weeks: list[CohortWeek] = Field(description="Weeks without any use are left out.")


class CohortsReply(RangeReply):
    cohorts: list[Cohort] = Field(description="Of every week that has a day in the range, oldest first.")


# --- margins ---


class Price(Reply):
    """What a credit brought, over all sales up to now.

    Gifts are spent like bought credits, so a credit of the paid pool brought less than a sold one.
    """

    currency: str
    net_minor: int = Field(description="All money ever received, less what went back.")
    credits_sold: int = Field(description="Ever, less what was taken back.")
    credits_entered: int = Field(description="Everything that ever came into the paid pools, gifts too, and stayed.")
    cents_per_sold_credit: Cents | None
    cents_per_paid_credit: Cents | None = Field(description="Net money per credit entered: what margins count with.")


class Margin(Reply):
    """Of accounts in one currency. Costs are in US cents, so only dollars have a margin; others are never converted."""

    currency: str
    paid_spent: int = Field(description="Paid credits spent.")
    revenue_cents: Cents | None = Field(description="Paid credits spent, at `cents_per_paid_credit`.")
    interactions: int
    cost_cents: Cents = Field(description="LLM cost in US cents, of free uses too; an interaction counts once.")
    margin_cents: Cents | None = Field(description="Revenue less cost; null for other currencies than USD.")


class MarginOverviewReply(RangeReply):
    prices: list[Price]
    period: list[Margin]
    previous: list[Margin] = Field(description="Of as many days before.")


class MarginDay(Reply):
    day: date
    margins: list[Margin]


class MarginDailyReply(RangeReply):
    days: list[MarginDay] = Field(description="Every day of the range, oldest first.")


class MarginModel(ModelUsage):
    currency: str
    cost_per_interaction_cents: Cents


class MarginModelsReply(RangeReply):
    models: list[MarginModel] = Field(description="By cost, at most 500.")


class InteractionMargin(LlmCalls):
    account_id: UUID
    interaction_id: str
    model: str
    currency: str
    started_at: Timestamp = Field(description="Of its first report.")
    paid_spent: int | None = Field(
        description="Of the charge whose idempotency key is the interaction's id; null: there is none."
    )
    revenue_cents: Cents | None
    margin_cents: Cents | None


class InteractionMarginsReply(RangeReply):
    interactions: list[InteractionMargin]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
