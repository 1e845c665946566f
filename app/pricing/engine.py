"""The engine: the price of an event's usage in a price book. Pure: no database, no framework and no clock.

A quote and a charge both call `price`, so they agree. All arithmetic is exact; the cost of an event is rounded once, up
to whole nanos (ADR 27).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal, Inexact, InvalidOperation, localcontext
from typing import Literal, NamedTuple, TypeAlias

from app.currencies import NANO_DIGITS
from app.pricing.book import UNKNOWN_MODELS, ComputeRow, MarkupRule, VolumeRow
from app.pricing.compiled import ModelRow, PriceBook, Table, UnknownModel
from app.pricing.usage import TOKEN_CLASSES, ApiCalls, Compute, LlmTokens, Metered, ToolCalls, Usage

PER_MILLION, PER_THOUSAND = 1_000_000, 1_000
MAX_COST_NANOS = 2**63 - 1
EXACT = Context(prec=120, traps=[Inexact, InvalidOperation])
"""Products of the largest prices and quantities have fewer digits, so every result is exact, or an error."""
LineKind = Literal["usage", "markup", "minimum", "rounding"]


class Line(NamedTuple):
    """A part of an event's cost, exact and not rounded. All lines of an event sum to its cost.

    `unit_price` is of `per` units, in the currency's major unit.
    """

    kind: LineKind
    row_id: str
    item: str
    quantity: Decimal
    unit_price: Decimal
    per: int
    nanos: Decimal


class Priced(NamedTuple):
    """The cost of an event. `provider_cost_nanos` is the cost at list prices, without markup and minimum."""

    version: int
    currency: str
    cost_nanos: int
    provider_cost_nanos: int
    lines: tuple[Line, ...]
    markup_rule_id: str | None = None
    unknown: UnknownModel | None = None
    """The model without a price, if the book's stated prices for unknown models applied."""

    @property
    def row_ids(self) -> tuple[str, ...]:
        """The rows of the book that the cost comes from, each once."""
        return tuple(dict.fromkeys(line.row_id for line in self.lines if line.kind == "usage"))

    @property
    def fallback(self) -> bool:
        return self.unknown is not None


@dataclass(frozen=True, slots=True)
class UnknownMeter:
    """The book has no row for this kind of usage. `name` is the endpoint or tool, if the meter has such."""

    meter: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class CostTooLarge:
    """The cost does not fit the 64 bits of an amount."""


Price: TypeAlias = Priced | UnknownModel | UnknownMeter | CostTooLarge


def price(
    book: PriceBook,
    usage: Usage,
    *,
    at: datetime,
    plan: str | None = None,
    plan_markup: Decimal | None = None,
    tool: str | None = None,
    month_quantity: Decimal | int = 0,
) -> Price:
    """Return the cost of the usage, or what the book has no price for.

    `at` is the event's time. `plan_markup` is the plan's own markup, in percent. `tool` is the tool that the usage is
    attributed to; tool calls name their own.
    `month_quantity` is the account's earlier quantity in the calendar month of the row that `book.volume_row` returns;
    it matters for rows with tiers only.
    """
    with localcontext(EXACT):
        if isinstance(usage, LlmTokens):
            return _price_tokens(book, usage, at, plan, plan_markup, tool)
        if isinstance(usage, Compute):
            if book.document.compute is None:
                return UnknownMeter(usage.meter)
            lines = _compute_lines(book.document.compute, usage)
        else:
            row = book.volume_row(usage)
            if row is None:
                return UnknownMeter(usage.meter, _name_of(usage))
            lines = list(_volume_lines(row, usage, Decimal(month_quantity)))
            tool = usage.tool if isinstance(usage, ToolCalls) else tool
        return _total(book, lines, book.markup(usage.meter, plan=plan, plan_markup=plan_markup, tool=tool))


def _price_tokens(
    book: PriceBook, usage: LlmTokens, at: datetime, plan: str | None, plan_markup: Decimal | None, tool: str | None
) -> Price:
    row, unknown = book.model(usage, at), None
    lines = _model_lines(row, usage, at) if isinstance(row, ModelRow) else row
    if isinstance(lines, UnknownModel):
        if book.unknown_models is None:
            return lines
        unknown, table = lines, book.unknown_models.of(usage.tokens)
        lines = _token_lines(UNKNOWN_MODELS, table, usage)
        if isinstance(lines, UnknownModel):
            return lines
    model = row.row.model if isinstance(row, ModelRow) else usage.model
    provider = book.canonical_provider(usage.provider)
    rule = book.markup(usage.meter, plan=plan, plan_markup=plan_markup, tool=tool, provider=provider, model=model)
    return _total(book, lines, rule, unknown)


def _model_lines(row: ModelRow, usage: LlmTokens, at: datetime) -> list[Line] | UnknownModel:
    rates = row.rates(usage.mode, at)
    if rates is None:
        return UnknownModel(usage.provider, usage.model, "no_price_for_mode", usage.mode)
    return _token_lines(row.row.id, rates.of(usage.tokens), usage)


def _token_lines(row_id: str, table: Table, usage: LlmTokens) -> list[Line] | UnknownModel:
    lines = []
    for token_class in TOKEN_CLASSES:
        if count := usage.tokens.get(token_class, 0):
            if token_class not in table:
                return UnknownModel(usage.provider, usage.model, "no_price_for_class", token_class)
            lines.append(_line(row_id, token_class, Decimal(count), table[token_class], PER_MILLION))
    return lines


def _compute_lines(row: ComputeRow, usage: Compute) -> list[Line]:
    return [
        _line(row.id, "cpu_hours", usage.cpu_hours, row.cpu_hour, 1),
        _line(row.id, "memory_gb_hours", usage.memory_gb_hours, row.memory_gb_hour, 1),
    ]


def _volume_lines(row: VolumeRow, usage: ApiCalls | ToolCalls | Metered, before: Decimal) -> Iterator[Line]:
    """Yield a line for each tier that the quantity reaches, so that splitting the quantity does not change its cost."""
    quantity = usage.quantity if isinstance(usage, Metered) else Decimal(usage.count)
    per = PER_THOUSAND if isinstance(usage, ApiCalls) else 1
    lower, unit_price, end = Decimal(0), row.price, before + quantity
    for tier in (*row.tiers, None):
        upper = end if tier is None else min(tier.above, end)
        if (part := upper - max(lower, before)) > 0:
            yield _line(row.id, _name_of(usage), part, unit_price, per)
        if tier is not None:
            lower, unit_price = tier.above, tier.price


def _name_of(usage: ApiCalls | ToolCalls | Metered) -> str:
    match usage:
        case ApiCalls(endpoint=name) | ToolCalls(tool=name) | Metered(meter=name):
            return name


def _line(row_id: str, item: str, quantity: Decimal, unit_price: Decimal, per: int) -> Line:
    nanos = (quantity * unit_price).scaleb(NANO_DIGITS) / per
    return Line("usage", row_id, item, quantity, unit_price, per, nanos)


def _total(book: PriceBook, lines: list[Line], rule: MarkupRule | None, unknown: UnknownModel | None = None) -> Price:
    list_price = sum((line.nanos for line in lines), Decimal(0))
    amount = list_price
    if rule is not None:
        amount += _add(lines, "markup", rule.id, _markup(list_price, rule))
    minimum = book.document.minimum_charge.scaleb(NANO_DIGITS)
    if 0 < amount < minimum:
        amount += _add(lines, "minimum", "minimum_charge", minimum - amount)
    cost = _rounded_up(amount, book.nanos_per_step)
    if cost != amount:
        _add(lines, "rounding", book.document.rounding, cost - amount)
    if cost > MAX_COST_NANOS:
        return CostTooLarge()
    return Priced(
        version=book.version,
        currency=book.currency,
        cost_nanos=cost,
        provider_cost_nanos=_rounded_up(list_price, 1),
        lines=tuple(lines),
        markup_rule_id=None if rule is None else rule.id,
        unknown=unknown,
    )


def _markup(list_price: Decimal, rule: MarkupRule) -> Decimal:
    if rule.percent is not None:
        return list_price * rule.percent.scaleb(-2)
    assert rule.fixed is not None
    return rule.fixed.scaleb(NANO_DIGITS)


def _add(lines: list[Line], kind: LineKind, source: str, nanos: Decimal) -> Decimal:
    lines.append(Line(kind, source, kind, Decimal(1), nanos.scaleb(-NANO_DIGITS), 1, nanos))
    return nanos


def _rounded_up(amount: Decimal, step: int) -> int:
    """Return the smallest multiple of `step` nanos that is not below the amount."""
    whole = int(amount.to_integral_value(ROUND_CEILING))
    return -(-whole // step) * step
