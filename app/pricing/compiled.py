"""PriceBook: a document in the form that finds a row, a rate and a markup rule without a search."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal, TypeAlias

from app.currencies import info_of
from app.pricing.book import (
    ANY_PROVIDER,
    PRICING_STATUSES,
    ApiCallsRow,
    BookDocument,
    LlmRow,
    MarkupRule,
    MeterRow,
    Rates,
    ToolCallsRow,
    VolumeRow,
    fold,
    price_of,
)
from app.pricing.usage import PROMPT_CLASSES, TOKEN_CLASSES, ApiCalls, LlmTokens, Metered, Mode, TokenClass, ToolCalls

Reason = Literal["no_row", "not_yet_valid", "disputed", "no_price_for_mode", "no_price_for_class"]
Table: TypeAlias = Mapping[TokenClass, Decimal]
PLAN_MARKUP = "plan_markup"
"""Instead of the id of a rule: the markup that the account's plan has, or the terms that its subscriber keeps."""
ONLY_PLAN = (False, False, False, True, False)
"""`MarkupRule.names` of a rule for all usage of a plan."""
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """The book has no price for these tokens. `missing` is the mode or the class without a price."""

    provider: str
    model: str
    reason: Reason
    missing: str | None = None


class RateTable:
    """Rates with every class resolved, one table per step. Resolved when first used: most rows never are."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._above = [step.above for step in rates.steps]
        self._tables: dict[int, Table] = {}

    def of(self, tokens: Mapping[TokenClass, int]) -> Table:
        """Return the prices per million tokens that a call with these tokens has."""
        place = 0
        if self._above:
            context = sum(count for token_class, count in tokens.items() if token_class in PROMPT_CLASSES)
            place = sum(context > above for above in self._above)
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = self._resolve(place)
        return table

    def _resolve(self, place: int) -> Table:
        prices = self._rates.prices
        for step in self._rates.steps[:place]:
            prices = prices | step.prices
        found = ((token_class, price_of(prices, token_class)) for token_class in TOKEN_CLASSES)
        return {token_class: price for token_class, price in found if price is not None}


class ModelRow:
    """A row of a model, compiled."""

    def __init__(self, row: LlmRow) -> None:
        self.row = row
        self.valid_from = row.valid_from or BEGINNING
        self._modes: dict[Mode, RateTable] = {"standard": RateTable(row)}
        self._modes |= {mode: RateTable(rates) for mode, rates in row.modes.items()}
        self._hours = [(hours, RateTable(hours)) for hours in row.hours]

    def rates(self, mode: Mode, at: datetime) -> RateTable | None:
        """Return the rates of a mode at a time. A batch without prices has the standard ones, which are not lower.

        None: the mode has no price. A priority call costs more than a standard one, so it never gets the same price.
        """
        if mode == "batch" and mode not in self._modes and all(hours.mode != mode for hours, _ in self._hours):
            mode = "standard"
        for hours, table in self._hours:
            if hours.mode == mode and hours.includes(at):
                return table
        return self._modes.get(mode)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """A version of a price book. Immutable; built once per version and process."""

    version: int
    document: BookDocument
    nanos_per_step: int
    """The cost of an event is a multiple of it."""
    unknown_models: RateTable | None
    _provider_aliases: Mapping[str, str] = field(repr=False)
    _models: Mapping[tuple[str, str], list[ModelRow]] = field(repr=False)
    _volumes: Mapping[tuple[str, str | None], VolumeRow] = field(repr=False)
    _markups: Mapping[tuple[str | None, ...], MarkupRule] = field(repr=False)
    _specificity: list[tuple[bool, ...]] = field(repr=False)
    _by_list_price: dict[str, list[LlmRow]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, document: BookDocument, version: int = 0) -> "PriceBook":
        return cls(
            version=version,
            nanos_per_step=1 if document.rounding == "exact" else info_of(document.currency).nanos_per_minor,
            document=document,
            unknown_models=None if document.unknown_models is None else RateTable(document.unknown_models),
            _provider_aliases={fold(alias): fold(name) for alias, name in document.provider_aliases.items()},
            _models=_models_of(document.llm),
            _volumes={_volume_key(row): row for row in (*document.api_calls, *document.tool_calls, *document.meters)},
            _markups={rule.attributes: rule for rule in document.markups},
            _specificity=_specificity_of(document.markups),
        )

    @property
    def currency(self) -> str:
        return self.document.currency

    def canonical_provider(self, provider: str) -> str:
        folded = fold(provider)
        return self._provider_aliases.get(folded, folded)

    def model(self, usage: LlmTokens, at: datetime) -> ModelRow | UnknownModel:
        """Return the row that is valid at a time, by the exact name of the model or one of its aliases."""
        name, provider = fold(usage.model), self.canonical_provider(usage.provider)
        rows = self._models.get((provider, name)) or self._models.get((ANY_PROVIDER, name))
        if rows is None:
            return UnknownModel(usage.provider, usage.model, "no_row")
        valid = next((row for row in rows if row.valid_from <= at), None)
        if valid is None:
            return UnknownModel(usage.provider, usage.model, "not_yet_valid")
        if valid.row.status not in PRICING_STATUSES:
            return UnknownModel(usage.provider, usage.model, "disputed")
        return valid

    def by_list_price(self, provider: str) -> Sequence[LlmRow]:
        """Return the rows of a canonical provider, the cheapest first. Sorted when first used: most books never are."""
        if not self._by_list_price:
            for row in sorted(self.document.llm, key=list_price):
                self._by_list_price.setdefault(fold(row.provider), []).append(row)
        return self._by_list_price.get(provider, ())

    def volume_row(self, usage: ApiCalls | ToolCalls | Metered) -> VolumeRow | None:
        """Return the row of the usage's own name, else of every name.

        If it has tiers, the price depends on the account's quantity of the row in the calendar month.
        """
        match usage:
            case ApiCalls(endpoint=name) | ToolCalls(tool=name):
                key: tuple[str, str | None] = (usage.meter, name)
            case Metered(meter=name):
                return self._volumes.get(("meter", name))
        return self._volumes.get(key) or self._volumes.get((usage.meter, None))

    def markup(
        self,
        meter: str,
        *,
        plan: str | None = None,
        plan_markup: Decimal | None = None,
        tool: str | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> MarkupRule | None:
        """Return the most specific of the rules whose named attributes all equal these.

        A rule that names more attributes is more specific; among equals, the one that names the model, then the tool,
        the provider, the plan, the meter. The plan's own markup (`plan_markup`, in percent) is a rule that names the
        plan. A rule of the book that names nothing else replaces it.
        """
        own = plan_rule(plan_markup) if plan_markup and plan is not None else None
        if not self._specificity:
            return own
        attributes = [None if value is None else fold(value) for value in (model, tool, provider, plan, meter)]
        for is_named in self._specificity:
            if own is not None and _rank(is_named) < _rank(ONLY_PLAN):
                return own
            key = tuple(value if named else None for value, named in zip(attributes, is_named, strict=True))
            if (rule := self._markups.get(key)) is not None and rule.names == is_named:
                return rule
        return own


@lru_cache(maxsize=256)
def plan_rule(percent: Decimal) -> MarkupRule:
    """Return the rule of a plan's own markup."""
    return MarkupRule(id=PLAN_MARKUP, percent=percent)


def _rank(names: tuple[bool, ...]) -> tuple[int, tuple[bool, ...]]:
    return sum(names), names


def list_price(row: LlmRow) -> Decimal:
    """Return the price of two million tokens in and one out: the order of models by price."""
    prices, nothing = row.prices, Decimal(0)
    return 2 * (price_of(prices, "input_uncached") or nothing) + (price_of(prices, "output_text") or nothing)


def _models_of(rows: Iterable[LlmRow]) -> dict[tuple[str, str], list[ModelRow]]:
    """Return the rows by folded provider and name, the latest first."""
    found: dict[tuple[str, str], list[ModelRow]] = {}
    for row in rows:
        compiled = ModelRow(row)
        for name in {fold(row.model), *map(fold, row.aliases)}:
            found.setdefault((fold(row.provider), name), []).append(compiled)
    for versions in found.values():
        versions.sort(key=lambda row: row.valid_from, reverse=True)
    return found


def _volume_key(row: VolumeRow) -> tuple[str, str | None]:
    match row:
        case ApiCallsRow(endpoint=endpoint):
            return "api_calls", endpoint
        case ToolCallsRow(tool=tool):
            return "tool_calls", tool
        case MeterRow(meter=meter):
            return "meter", meter
    raise TypeError(f"{type(row).__name__} is no row of a volume")


def _specificity_of(rules: Iterable[MarkupRule]) -> list[tuple[bool, ...]]:
    """Return the sets of attributes that some rule names, the most specific first."""
    return sorted({rule.names for rule in rules}, key=_rank, reverse=True)
