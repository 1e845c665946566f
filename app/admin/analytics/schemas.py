"""The wire format of the reports. Days are UTC days, credits whole credits.

Amounts named `_minor` are minor units of a currency; `_cents` are exact decimals, sent as strings.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import Field, PlainSerializer

from app.admin.users.schemas import UserRow
from app.auth.caller import Environment
from app.http.schemas import Reply

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


class Sales(Reply):
    """Money of one currency. It counts on the day on which the purchase was begun; what is given back reduces that
    day, not the one on which it was given back. What was sold is earned when it is spent: see Revenue."""

    currency: str
    sales: int
    received_minor: int
    refunded_minor: int
    disputed_minor: int = Field(description="Withdrawn by disputes that are open or lost.")
    net_minor: int = Field(description="Received, less refunded and disputed.")


class Revenue(Reply):
    """What the paid credits spent in these days earned, in one currency: at what a paid credit brought on average."""

    currency: str
    revenue_cents: Cents | None = Field(description="Null: credits of this currency brought nothing yet.")
    interaction_revenue_cents: Cents | None
    tool_revenue_cents: Cents | None


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
    sales: list[Sales]
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
    sales: list[Sales]


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
    interactions: int = Field(description="Those that used the model; one of several models counts under each.")
    model: str | None = Field(
        description="An interaction of several models is split: what single calls report of each is that model's; the "
        "rest in proportion to its cost, else to its tokens, else equally. null: charges without reported LLM usage."
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
