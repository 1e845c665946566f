"""The wire format of revenue, cost and margin."""

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field, PlainSerializer

from app.admin.analytics.schemas import Cents, LlmCalls, ModelUsage, RangeReply, Revenue, Sales
from app.analytics.revenue import Price
from app.http.schemas import Reply, Timestamp

PaidCredits = Annotated[
    Decimal,
    PlainSerializer(lambda credits: f"{credits:f}", return_type=str, when_used="json"),
    Field(description="Paid credits, with the fractions of interactions that were split."),
]
REVENUE = "Paid credits spent, at `cents_per_paid_credit`; null: credits of this currency brought nothing yet."
MARGIN = "Revenue less cost; null for other currencies than USD, in which costs are reported."


class PriceReply(Reply):
    """What a credit brought, over all sales up to now.

    Gifts are spent like bought credits, so a credit of the paid pool brought less than a sold one.
    """

    currency: str
    net_minor: int = Field(description="All money ever received, less what went back.")
    credits_sold: int = Field(description="Ever, less what was taken back.")
    credits_entered: int = Field(description="Everything that ever came into the paid pools, gifts too, and stayed.")
    cents_per_sold_credit: Cents | None
    cents_per_paid_credit: Cents | None = Field(description="Net money per credit entered: the price of revenue.")

    @classmethod
    def of(cls, price: Price) -> "PriceReply":
        return cls(**{name: getattr(price, name) for name in cls.model_fields})


class Margin(Revenue):
    """Of accounts in one currency. Costs are in US cents, so only dollars have a margin; others are never converted."""

    paid_spent: int = Field(description="Paid credits spent, on tools too.")
    tool_paid_spent: int = Field(description="How many of them were spent on tools.")
    interactions: int
    cost_cents: Cents = Field(description="LLM cost in US cents, of free uses too; an interaction counts once.")
    margin_cents: Cents | None = Field(
        description="Interactions' revenue less LLM cost; null for other currencies than USD."
    )


class MarginOverviewReply(RangeReply):
    prices: list[PriceReply]
    period: list[Margin]
    previous: list[Margin] = Field(description="Of as many days before.")
    sales: list[Sales] = Field(description="Money received in the same days: another figure than revenue.")


class MarginDay(Reply):
    day: date
    margins: list[Margin]


class MarginDailyReply(RangeReply):
    days: list[MarginDay] = Field(description="Every day of the range, oldest first.")


class Earned(Reply):
    currency: str
    paid_spent: PaidCredits
    revenue_cents: Cents | None = Field(description=REVENUE)
    cost_cents: Cents = Field(description="LLM cost in US cents.")
    margin_cents: Cents | None = Field(description=MARGIN)


class MarginModel(ModelUsage, Earned):
    cost_per_interaction_cents: Cents | None


class MarginModelsReply(RangeReply):
    models: list[MarginModel] = Field(description="By cost, at most 500; then charges without reported LLM usage.")


class MarginAgent(Earned):
    agent_id: str | None = Field(description="As the charge's metadata names it; null: not named, or not charged.")
    uses: int = Field(description="Charges of interactions.")


class MarginAgentsReply(RangeReply):
    agents: list[MarginAgent] = Field(description="By paid credits, at most 500.")


class MarginTool(Reply):
    product_type: str
    currency: str
    uses: int
    product_free: int = Field(description="Uses paid by the tool's own free credits.")
    product_paid: int = Field(description="Uses paid by the tool's own paid credits, which are given, not sold.")
    paid_spent: int = Field(description="Paid credits of the main pools.")
    revenue_cents: Cents | None = Field(description=REVENUE)


class MarginToolsReply(RangeReply):
    tools: list[MarginTool] = Field(description="By paid credits, at most 500.")


class InteractionMargin(LlmCalls):
    account_id: UUID
    interaction_id: str
    model: str = Field(description="All its models, joined by ' + '.")
    currency: str
    started_at: Timestamp = Field(description="Of its first report.")
    paid_spent: int | None = Field(
        description="Of the charges whose idempotency key is the interaction's id, or `charge:` and the id; null: none."
    )
    revenue_cents: Cents | None
    margin_cents: Cents | None


class InteractionMarginsReply(RangeReply):
    interactions: list[InteractionMargin]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
