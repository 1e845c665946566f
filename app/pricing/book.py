"""The document of a price book: the prices, rules and policies that an admin puts in force as a whole.

Amounts are decimals of the currency's major unit, written as text in JSON, so no float is ever a price.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from app.currencies import CURRENCIES
from app.pricing.usage import PRICED_AS, Mode, TokenClass
from app.setting_values import Slug
from app.timestamps import bounded

ANY_PROVIDER = "*"
"""The provider of a row that prices its model for every provider without a row of that model."""
MAX_LLM_ROWS = 10_000
MAX_ROWS = 1_000
UNKNOWN_MODELS = "unknown_models"
"""The row id of the stated prices of models without a row. No row may have it."""
BUILT_IN_METERS = frozenset(("llm_tokens", "compute", "api_calls", "tool_calls"))
"""Meters with separate kinds of rows, so no custom meter has such a name. `storage` has a row of the custom kind."""


def _no_float(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("must be text such as '0.15' or a whole number: a float is not exact")
    return value


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("is not a currency that Stripe charges")
    return code


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("needs a time zone")
    return bounded(moment)


def fold(name: str) -> str:
    """Return the form in which providers, models and aliases are compared: without regard to case, else exact."""
    return name.casefold()


Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
Name = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]
"""May be empty: callers send empty providers and models, which a row or a rule can name."""
Note = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Price = Annotated[Decimal, BeforeValidator(_no_float), Field(ge=0, max_digits=21, decimal_places=12)]
Percent = Annotated[Decimal, BeforeValidator(_no_float), Field(ge=-100, le=100_000, decimal_places=4)]
Quantity = Annotated[Decimal, BeforeValidator(_no_float), Field(gt=0, max_digits=24, decimal_places=9)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
TimeOfDay = Annotated[time, WithJsonSchema({"type": "string", "pattern": r"^\d\d:\d\d(:\d\d(\.\d{1,6})?)?$"})]
"""Without a zone, which JSON Schema's format `time` demands."""
Prices = dict[TokenClass, Price]
Status = Literal["agreed", "disputed", "single_source", "confirmed"]
PRICING_STATUSES: frozenset[Status] = frozenset(("agreed", "single_source", "confirmed"))
"""A disputed row prices nothing until an admin confirms it."""


class Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(Document):
    """Prices of a call whose context is longer than `above` tokens. They apply to all tokens of the call."""

    above: int = Field(gt=0, le=10**12)
    prices: Prices = Field(min_length=1)


def price_of(prices: Prices, token_class: TokenClass) -> Decimal | None:
    """Return the price of a class, or that of the class it is priced as. None: the class has no price."""
    priced_as: TokenClass | None = token_class
    while priced_as is not None:
        if priced_as in prices:
            return prices[priced_as]
        priced_as = PRICED_AS.get(priced_as)
    return None


class Rates(Document):
    """Prices per million tokens by class, with steps by the length of the context. A step states what changes."""

    prices: Prices = Field(min_length=1)
    steps: list[Step] = Field(default=[], max_length=20)

    @model_validator(mode="after")
    def _longer_contexts_are_not_cheaper(self) -> Self:
        """A class that got cheaper with a longer context would make a call cheaper by sending more tokens."""
        lower, above = self.prices, 0
        for step in self.steps:
            if step.above <= above:
                raise ValueError(f"the step above {step.above} tokens is not longer than the one before")
            higher, above = lower | step.prices, step.above
            for token_class in {*higher, *PRICED_AS}:
                before, after = price_of(lower, token_class), price_of(higher, token_class)
                if after is not None and (before is None or after < before):
                    raise ValueError(f"{token_class} costs less above {step.above} tokens than below")
            lower = higher
        return self


class Hours(Rates):
    """The prices of a mode between two times of day, UTC. If `end` is not after `start`, the span crosses midnight."""

    mode: Mode = "standard"
    start: TimeOfDay
    end: TimeOfDay
    weekdays: list[Annotated[int, Field(ge=0, le=6)]] | None = Field(default=None, description="0 is Monday.")
    except_dates: list[date] = Field(default=[], max_length=1000)

    @model_validator(mode="after")
    def _times_have_no_zone(self) -> Self:
        if self.start.tzinfo is not None or self.end.tzinfo is not None:
            raise ValueError("start and end are UTC: write them without a zone")
        return self

    def includes(self, at: datetime) -> bool:
        at = at.astimezone(UTC)
        if self.weekdays is not None and at.weekday() not in self.weekdays:
            return False
        if at.date() in self.except_dates:
            return False
        moment = at.time()
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


class Tariff(Rates):
    """All prices of a model at one time: of the standard mode, other modes and times of day, each stated in full."""

    modes: dict[Literal["batch", "priority"], Rates] = {}
    hours: list[Hours] = Field(default=[], max_length=50, description="The first rule that applies counts.")

    @property
    def tariff(self) -> "Tariff":
        return Tariff(prices=self.prices, steps=self.steps, modes=self.modes, hours=self.hours)


class OtherSource(Document):
    """Another source of the row's prices. Without a tariff it has none for the model, or agrees with the row."""

    source: Text
    source_version: Text
    tariff: Tariff | None = None
    note: Note = ""


class LlmRow(Tariff):
    """A model's prices from a moment on, until the model's next row."""

    id: Text
    provider: Name
    model: Name
    aliases: list[Text] = Field(default=[], max_length=100)
    valid_from: Moment | None = Field(default=None, description="None: always.")
    source: Text = "manual"
    source_version: Text = "1"
    status: Status = "confirmed"
    others: list[OtherSource] = Field(default=[], max_length=10)
    note: Note = ""


class Tier(Document):
    """The price of each unit beyond `above` units of the account's calendar month (UTC)."""

    above: Quantity
    price: Price


class VolumeRow(Document):
    """A price per unit that can change with the account's quantity this month. Each unit has the price of its tier."""

    id: Text
    price: Price
    tiers: list[Tier] = Field(default=[], max_length=20)
    source: Text = "manual"
    note: Note = ""

    @model_validator(mode="after")
    def _tiers_ascend(self) -> Self:
        bounds = [tier.above for tier in self.tiers]
        if any(later <= earlier for earlier, later in pairwise(bounds)):
            raise ValueError("the tiers do not ascend")
        return self


class ApiCallsRow(VolumeRow):
    """The price of 1,000 API calls. Without an endpoint: of every endpoint that has no row."""

    endpoint: Text | None = None


class ToolCallsRow(VolumeRow):
    """The price of one call of a tool. Without a tool: of every tool that has no row."""

    tool: Text | None = None


class MeterRow(VolumeRow):
    """The price of one unit of `storage` or of a meter that an admin defines."""

    meter: Slug
    unit: Text

    @model_validator(mode="after")
    def _is_not_built_in(self) -> Self:
        if self.meter in BUILT_IN_METERS:
            raise ValueError(f"meter {self.meter} has a separate kind of row")
        return self


class ComputeRow(Document):
    """The prices of compute."""

    id: Text
    cpu_hour: Price
    memory_gb_hour: Price
    source: Text = "manual"
    note: Note = ""


class MarkupRule(Document):
    """A change of the list price for the events that have all of the named attributes: by percent, or per event."""

    id: Text
    meter: Slug | None = None
    plan: Name | None = None
    provider: Name | None = None
    model: Name | None = None
    tool: Name | None = None
    percent: Percent | None = None
    fixed: Price | None = Field(default=None, description="Added to each event, in the major unit.")

    @model_validator(mode="after")
    def _is_percent_or_fixed(self) -> Self:
        if (self.percent is None) == (self.fixed is None):
            raise ValueError("needs either percent or fixed")
        return self

    @property
    def attributes(self) -> tuple[str | None, ...]:
        """The attributes that the rule names, the most specific first."""
        named = (self.model, self.tool, self.provider, self.plan, self.meter)
        return tuple(None if name is None else fold(name) for name in named)

    @property
    def names(self) -> tuple[bool, ...]:
        """Whether the rule names each of `attributes`."""
        return tuple(attribute is not None for attribute in self.attributes)


class BookDocument(Document):
    """A price book."""

    name: Text
    currency: Annotated[str, AfterValidator(_known_currency)]
    rounding: Literal["exact", "up_to_minor"] = "exact"
    minimum_charge: Price = Field(default=Decimal(0), description="Of an event that costs something, major unit.")
    unknown_models: Rates | None = Field(
        default=None, description="The stated prices of models without a row. None: refuse them."
    )
    provider_aliases: dict[Name, Name] = Field(default={}, max_length=MAX_ROWS)
    llm: list[LlmRow] = Field(default=[], max_length=MAX_LLM_ROWS)
    compute: ComputeRow | None = None
    api_calls: list[ApiCallsRow] = Field(default=[], max_length=MAX_ROWS)
    tool_calls: list[ToolCallsRow] = Field(default=[], max_length=MAX_ROWS)
    meters: list[MeterRow] = Field(default=[], max_length=MAX_ROWS)
    markups: list[MarkupRule] = Field(default=[], max_length=MAX_ROWS)
    notices: list[Annotated[str, StringConstraints(max_length=5000)]] = Field(default=[], max_length=10)
    """Licences of the sources, which the copies of their data must contain."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        rows: Sequence[VolumeRow] = (*self.api_calls, *self.tool_calls, *self.meters)
        ids = [row.id for row in rows] + [row.id for row in self.llm] + [rule.id for rule in self.markups]
        _require_distinct("id", [UNKNOWN_MODELS, *ids, *([self.compute.id] if self.compute else [])])
        _require_distinct("endpoint", (row.endpoint for row in self.api_calls))
        _require_distinct("tool", (row.tool for row in self.tool_calls))
        _require_distinct("meter", (row.meter for row in self.meters))
        _require_distinct("markup rule for", (rule.attributes for rule in self.markups))
        _require_distinct("provider alias", (fold(alias) for alias in self.provider_aliases))
        _require_distinct(
            "model at one time",
            (
                (fold(row.provider), name, row.valid_from)
                for row in self.llm
                for name in {fold(row.model), *map(fold, row.aliases)}
            ),
        )
        return self


def _require_distinct(kind: str, names: Iterable[object]) -> None:
    seen: set[object] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{kind} {name} is there twice")
        seen.add(name)
