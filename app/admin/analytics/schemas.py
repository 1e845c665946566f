"""Wire types of the reports. Days are UTC days, credits whole credits.

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
    Field(description="Hundredths of the currency's main unit, with all fractions."),
]


class RangeReply(Reply):
    """The requested range: the days from `from` to `to`, both included."""

    environment: Environment
    first_day: date = Field(serialization_alias="from")
    last_day: date = Field(serialization_alias="to")


class CreditsSpent(Reply):
    """Credits that left the main pools, by charges and by tool uses that a product's own credits did not pay."""

    daily_free: int
    grants: int = Field(description="Paid by grants of credits.")
    free: int
    paid: int


class Usage(Reply):
    uses: int = Field(description="Charges and tool uses; replays do not count.")
    spent: CreditsSpent
    product_free: int = Field(description="Tool uses paid by a product's free credits.")
    product_paid: int = Field(description="Tool uses paid by a product's paid credits.")


class Sales(Reply):
    """Money of one currency, on the day on which the purchase was started. Refunds and disputes reduce that day, not
    the day on which they happened. Sales become revenue when the credits are spent: see Revenue."""

    currency: str
    sales: int
    received_minor: int
    refunded_minor: int
    disputed_minor: int = Field(description="Withdrawn by open and lost disputes.")
    net_minor: int = Field(description="Received less refunded and disputed.")


class Revenue(Reply):
    """Revenue of the paid credits spent in these days, in one currency, at the average price of a paid credit."""

    currency: str
    revenue_cents: Cents | None = Field(description="null: no credits have been sold in this currency yet.")
    interaction_revenue_cents: Cents | None
    tool_revenue_cents: Cents | None


class Movements(Reply):
    """Credits that were added to the paid pools, or reduced debts, and grants, on the day on which they were booked.

    Over all days: sold + granted - taken_back - paid credits spent = outstanding - debt, and
    grants_given - grants_ended - credits paid by grants = grants_outstanding.
    """

    sold: int
    granted: int = Field(description="Grants, bonuses, goodwill refunds, adjustments and opening balances.")
    taken_back: int = Field(description="By refunds and disputes of purchases, less reinstated credits.")
    grants_given: int = Field(description="Grants of credits: with an expiry or a priority.")
    grants_ended: int = Field(description="Rest of grants of credits that expired or were ended.")


class MeteredSums(Reply):
    """Usage events of one currency, on the day of the events' own time. Amounts are exact decimal text."""

    currency: str
    events: int = Field(description="Recorded events, without refused ones.")
    refused: int
    cost: str = Field(description="Charged, or owed.")
    recorded: str = Field(description="Cost of events of accounts that are not billed.")
    provider_cost: str = Field(description="Cost at list prices, as far as known.")
    margin: str = Field(
        description="Charged less the cost at list prices, of the events whose cost at list prices is known."
    )
    without_provider_cost: int = Field(description="Events that the margin leaves out.")


class Money(MeteredSums):
    """Money of one currency. Usage counts on the day of the events' own time, other money when it was booked.

    Over all days: purchased + granted - taken_back - ended - cost - other_usage = balance + grants - debt of now.
    """

    purchased: str
    granted: str = Field(description="Grants, bonuses, goodwill refunds, adjustments and opening balances.")
    taken_back: str = Field(description="By refunds and disputes of purchases, less reinstated money.")
    ended: str = Field(description="Rest of grants that expired or were ended.")
    other_usage: str = Field(
        description="Usage that was moved in from another system, and corrections of usage: negative if given back."
    )
    debt: str = Field(description="Became debt: usage that money did not cover, and purchases taken back once spent.")
    debt_paid: str = Field(description="Debt that purchases paid.")


class MoneyBalance(Reply):
    """Money that accounts of one currency hold now."""

    currency: str
    balance: str
    grants: str
    debt: str


class Period(Usage):
    first_day: date = Field(serialization_alias="from")
    last_day: date = Field(serialization_alias="to")
    new_accounts: int
    active_users: int = Field(description="Accounts with at least one use or usage event in these days.")
    buyers: int = Field(description="Accounts with a paid purchase that was started in these days.")
    credits: Movements
    sales: list[Sales]
    revenue: list[Revenue]
    money: list[Money] = Field(description="By currency.")


class Standing(Reply):
    """The current state; does not depend on the range."""

    accounts: int
    paying_users: int = Field(description="Accounts that have ever paid.")
    conversion: float | None = Field(description="Paying users among all accounts: 0 to 1; null without accounts.")
    exhausted_users: int = Field(description="Active accounts whose main pools are empty today.")
    paid_outstanding: int = Field(description="Unspent paid credits.")
    product_paid_outstanding: int = Field(description="Unused paid uses of products.")
    debt: int = Field(description="Credits that were taken back after they had been spent.")
    grants_outstanding: int = Field(description="Rest of open grants of credits.")
    money: list[MoneyBalance] = Field(description="By currency; omits currencies without any.")


class OverviewReply(RangeReply):
    now: Standing
    period: Period
    previous: Period = Field(description="The same figures for as many days before.")


class Day(Usage):
    day: date
    new_accounts: int
    active_users: int
    credits: Movements
    sales: list[Sales]
    money: list[Money] = Field(description="By currency.")


class DailyReply(RangeReply):
    days: list[Day] = Field(description="Every day of the range, oldest first.")


class ProductUsage(Usage):
    product_type: str | None = Field(description="null: the charges of interactions.")


class ProductsReply(RangeReply):
    products: list[ProductUsage]


class AgentUsage(Usage):
    agent_id: str | None = Field(description="From the charges' metadata; null: no agent named.")


class AgentsReply(RangeReply):
    agents: list[AgentUsage] = Field(description="By uses, at most 500.")


class KeyUsage(Usage):
    key_id: str | None = Field(description="null: charged by end users' tokens, or by the system.")
    name: str | None


class KeysUsageReply(RangeReply):
    keys: list[KeyUsage] = Field(description="By uses, at most 500.")


class MeteredSum(MeteredSums):
    group: str | None = Field(description="Meter, model, agent or id of the API key; null: not named.")
    provider: str | None = Field(description="Only with models.")
    name: str | None = Field(description="Name of the API key.")


class MeteredReply(RangeReply):
    sums: list[MeteredSum] = Field(description="By cost, at most 500.")


class LlmCalls(Reply):
    llm_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_cents: Cents


class ModelUsage(LlmCalls):
    interactions: int = Field(description="Interactions that used the model; one with several models counts for each.")
    model: str | None = Field(
        description="An interaction with several models is split: usage that single calls report for a model is that "
        "model's; the rest is split by cost, else by tokens, else equally. null: charges without reported LLM usage."
    )


class ModelsReply(RangeReply):
    models: list[ModelUsage] = Field(description="By cost, at most 500.")


class TopUser(UserRow):
    uses: int
    credits: int = Field(description="Credits spent in the range, from all main pools.")


class TopUsersReply(RangeReply):
    users: list[TopUser]


class CohortWeek(Reply):
    week: int = Field(
        description="Weeks since the cohort's creation; 0 is the week in which its accounts were created.",
    )
    active: int
    credits: int


class Cohort(Reply):
    first_day: date = Field(description="The Monday of the week in which the accounts were created.")
    accounts: int
    ever_paid: int
    weeks: list[CohortWeek] = Field(description="Weeks without any use are omitted.")


class CohortsReply(RangeReply):
    cohorts: list[Cohort] = Field(description="One cohort per week that has a day in the range, oldest first.")
