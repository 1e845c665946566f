"""Wire types of revenue, cost and margin."""

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
    Field(description="Paid credits, with fractions for interactions that were split."),
]
REVENUE = "Paid credits spent, at `cents_per_paid_credit`; null: no credits have been sold in this currency yet."
MARGIN = "Revenue less cost; null for currencies other than USD, in which costs are reported."


class PriceReply(Reply):
    """The price of a credit, over all sales so far.

    Granted credits are spent like bought ones, so the price of a paid credit is lower than that of a sold one.
    """

    currency: str
    net_minor: int = Field(description="All money ever received, less refunds and disputes.")
    credits_sold: int = Field(description="All credits ever sold, less those taken back.")
    credits_entered: int = Field(
        description="All credits ever added to the paid pools, including grants, less those taken back.",
    )
    cents_per_sold_credit: Cents | None
    cents_per_paid_credit: Cents | None = Field(
        description="Net money per credit entered; revenue is computed with it.",
    )

    @classmethod
    def of(cls, price: Price) -> "PriceReply":
        return cls(**{name: getattr(price, name) for name in cls.model_fields})


class Margin(Revenue):
    """Margin of accounts in one currency. Costs are in US cents, so only USD has a margin; nothing is converted."""

    paid_spent: int = Field(description="Paid credits spent, including tools.")
    tool_paid_spent: int = Field(description="Paid credits spent on tools.")
    interactions: int
    cost_cents: Cents = Field(description="LLM cost in US cents, free uses included; an interaction counts once.")
    margin_cents: Cents | None = Field(
        description="Interactions' revenue less LLM cost; null for currencies other than USD."
    )


class MarginOverviewReply(RangeReply):
    prices: list[PriceReply]
    period: list[Margin]
    previous: list[Margin] = Field(description="The same figures for as many days before.")
    sales: list[Sales] = Field(description="Money received in the same days, which is not revenue.")


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
    agent_id: str | None = Field(description="From the charge's metadata; null: no agent named, or no charge.")
    uses: int = Field(description="Charges for interactions.")


class MarginAgentsReply(RangeReply):
    agents: list[MarginAgent] = Field(description="By paid credits, at most 500.")


class MarginTool(Reply):
    product_type: str
    currency: str
    uses: int
    product_free: int = Field(description="Uses paid by the tool's own free credits.")
    product_paid: int = Field(description="Uses paid by the tool's own paid credits, which are granted, not sold.")
    paid_spent: int = Field(description="Paid credits from the main pools.")
    revenue_cents: Cents | None = Field(description=REVENUE)


class MarginToolsReply(RangeReply):
    tools: list[MarginTool] = Field(description="By paid credits, at most 500.")


class InteractionMargin(LlmCalls):
    account_id: UUID
    interaction_id: str
    model: str = Field(description="All models of the interaction, joined by ' + '.")
    currency: str
    started_at: Timestamp = Field(description="Time of the first report.")
    paid_spent: int | None = Field(
        description="Paid credits of the charges with the idempotency key `<id>` or `charge:<id>`; null: no such "
        "charge.",
    )
    revenue_cents: Cents | None
    margin_cents: Cents | None


class InteractionMarginsReply(RangeReply):
    interactions: list[InteractionMargin]
    next_cursor: str | None = Field(description="Value of `cursor` for the next page; null on the last page.")
