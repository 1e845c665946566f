"""Wire types of `/admin/price-books` and `/admin/unknown-models`."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from app.admin.schemas import Moment, ReasonBody
from app.http.schemas import Key255, Reply, Text255, Timestamp
from app.ledger.money import decimal_text
from app.metering.usage_schemas import QuoteLine
from app.pricing.book import LlmRow, Status
from app.pricing.comparison import Change
from app.pricing.engine import Line, LineKind, Priced
from app.pricing.usage import ApiCalls, Compute, LlmTokens, Metered, Mode, TokenClass, ToolCalls, Usage

MAX_VERSION = 2**53
MAX_COUNT = 10**12
Version = Annotated[int, Field(ge=1, le=MAX_VERSION)]
State = Literal["proposed", "scheduled", "in_force", "replaced"]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Amount = Annotated[Decimal, Field(ge=0, max_digits=21, decimal_places=9)]


class PriceBookReply(Reply):
    """A version of a price book, without its rows."""

    version: int
    name: str
    currency: str
    based_on: int | None = Field(description="The version that it was made from.")
    reason: str
    proposed_by: str
    created_at: Timestamp
    state: State
    effective_at: Timestamp | None = Field(description="Of the last activation: events from then on have its prices.")
    activated_by: str | None


class PriceBooksReply(Reply):
    price_books: list[PriceBookReply]
    next_cursor: int | None


class PriceBookDetailReply(PriceBookReply):
    rows: dict[Status, int] = Field(description="Models by the status of their row. Disputed rows price nothing.")
    document: dict[str, Any] = Field(description="Rules, policies and prices, without the models' rows.")


class LlmRowsReply(Reply):
    rows: list[LlmRow]
    next_cursor: int | None
    total: int = Field(description="Rows that the filters leave.")


class ChangeReply(Reply):
    kind: Literal["added", "removed", "changed"]
    section: str = Field(description="`book` for its own fields, else the kind of rows.")
    row: str = Field(description="The row's id; empty for the book's own fields.")
    field: str
    before: str | None
    after: str | None


class DifferenceReply(Reply):
    before: int | None = Field(description="The version that is compared with; null: none is in force.")
    after: int
    changes: list[ChangeReply]
    next_cursor: int | None
    added: int
    removed: int
    changed: int

    @classmethod
    def of(cls, before: int | None, after: int, changes: list[Change], first: int, limit: int) -> "DifferenceReply":
        kinds = [change.kind for change in changes]
        names = ChangeReply.model_fields
        return cls(
            before=before,
            after=after,
            changes=[
                ChangeReply(**{name: getattr(change, name) for name in names})
                for change in changes[first : first + limit]
            ],
            next_cursor=first + limit if len(changes) > first + limit else None,
            added=kinds.count("added"),
            removed=kinds.count("removed"),
            changed=kinds.count("changed"),
        )


class ImportReply(Reply):
    version: int | None = Field(
        description="The proposal, or an equal one from before; null: the data changes nothing."
    )


class Choice(Reply):
    row: Key255 = Field(description="The id of a disputed row.")
    source: Key255 | None = Field(
        default=None, description="The source whose prices are right. Default: the row's own."
    )


class ConfirmBody(ReasonBody):
    choices: list[Choice] = Field(min_length=1, max_length=1000)


class ActivateBody(ReasonBody):
    effective_at: Moment | None = Field(default=None, description="Default: now. Stored events keep their price.")
    seen_in_force: Version | None = Field(
        default=None,
        description="The version in force that the admin saw: 409 if another one is by now. null: not stated.",
    )
    seen_none_in_force: bool = Field(
        default=False, description="The admin saw that no version was in force: 409 if one is by now."
    )

    def is_outdated(self, in_force: int) -> bool:
        """Return whether another version is in force than the admin saw."""
        return self.seen_none_in_force or self.seen_in_force not in (None, in_force)


class UnknownModelReply(Reply):
    provider: str
    model: str
    reason: str = Field(description="`no_row`, `not_yet_valid`, `disputed`, `no_price_for_mode`, `no_price_for_class`.")
    missing: str | None = Field(
        description="The mode or token class of the last event that has no price; null: no row prices the model."
    )
    outcome: Literal["refused", "stated_price"] = Field(description="Of the last event.")
    events: int
    first_seen_at: Timestamp
    last_seen_at: Timestamp
    priced_now: bool = Field(description="Whether the price book in force prices the model, mode or class by now.")


class UnknownModelsReply(Reply):
    models: list[UnknownModelReply]


class LlmTokensBody(Reply):
    meter: Literal["llm_tokens"] = "llm_tokens"
    provider: Text255
    model: Text255
    tokens: dict[TokenClass, Count] = Field(examples=[{"input_uncached": 2000, "output_text": 1000}])
    mode: Mode = "standard"

    def usage(self) -> Usage:
        return LlmTokens(self.provider, self.model, self.tokens, self.mode)


class ComputeBody(Reply):
    meter: Literal["compute"]
    cpu_hours: Amount = Decimal(0)
    memory_gb_hours: Amount = Decimal(0)

    def usage(self) -> Usage:
        return Compute(self.cpu_hours, self.memory_gb_hours)


class ApiCallsBody(Reply):
    meter: Literal["api_calls"]
    endpoint: Text255
    count: Count

    def usage(self) -> Usage:
        return ApiCalls(self.endpoint, self.count)


class ToolCallsBody(Reply):
    meter: Literal["tool_calls"]
    tool: Text255
    count: Count = 1

    def usage(self) -> Usage:
        return ToolCalls(self.tool, self.count)


class MeteredBody(Reply):
    meter: Literal["custom"]
    name: Text255 = Field(description="`storage`, or a meter of the price book.")
    quantity: Amount

    def usage(self) -> Usage:
        return Metered(self.name, self.quantity)


class CalculateBody(Reply):
    usage: Annotated[
        LlmTokensBody | ComputeBody | ApiCallsBody | ToolCallsBody | MeteredBody, Field(discriminator="meter")
    ]
    at: Moment | None = Field(default=None, description="Time of the event. Default: now.")
    plan: Text255 | None = None
    tool: Text255 | None = None
    month_quantity: Amount = Field(default=Decimal(0), description="The account's earlier quantity this month.")


class LineReply(QuoteLine):
    kind: LineKind
    amount_nanos: str = Field(description="`amount` in 10^-9 of the major unit.")

    @classmethod
    def of(cls, line: Line, **more: Any) -> Self:
        return super().of(line, amount_nanos=f"{line.nanos:f}", **more)


class CalculateReply(Reply):
    version: int
    currency: str
    priced: bool
    problem: str | None = Field(description="The reason why the usage has no price.")
    cost_nanos: int | None
    cost: str | None = Field(description="The same in the major unit, exact.")
    provider_cost_nanos: int | None = Field(description="At list prices, without markup and minimum.")
    provider_cost: str | None
    lines: list[LineReply]
    markup_rule: str | None
    unknown_model: bool = Field(description="Whether the stated prices for unknown models apply.")

    @classmethod
    def of(cls, version: int, currency: str, found: Priced | str) -> "CalculateReply":
        """Return the wire form of a price, or of the reason why there is none."""
        if isinstance(found, str):
            return cls(
                version=version,
                currency=currency,
                priced=False,
                problem=found,
                cost_nanos=None,
                cost=None,
                provider_cost_nanos=None,
                provider_cost=None,
                lines=[],
                markup_rule=None,
                unknown_model=False,
            )
        return cls(
            version=version,
            currency=currency,
            priced=True,
            problem=None,
            cost_nanos=found.cost_nanos,
            cost=decimal_text(found.cost_nanos),
            provider_cost_nanos=found.provider_cost_nanos,
            provider_cost=decimal_text(found.provider_cost_nanos),
            lines=[LineReply.of(line) for line in found.lines],
            markup_rule=found.markup_rule_id,
            unknown_model=found.fallback,
        )
