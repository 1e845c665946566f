"""The cost of an event: the caller's stated one, else the price book's. Pure: charges and quotes share it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from app.errors import InvalidRequest
from app.ledger.money import MAX_NANOS, decimal_text
from app.metering.errors import CostOutOfBounds, NoPriceBook, UnpricedMeter, UnpricedModel
from app.metering.events import StatedCost, plain
from app.pricing.compiled import PriceBook, UnknownModel
from app.pricing.engine import CostTooLarge, Priced, UnknownMeter, price
from app.pricing.usage import ApiCalls, LlmTokens, Metered, ToolCalls, Usage


@dataclass(frozen=True, slots=True)
class Volume:
    """A row whose price falls with the account's quantity of it in a calendar month (UTC)."""

    month: date
    row_id: str
    quantity: Decimal
    """Of this event."""


class Cost(NamedTuple):
    """The cost of an event, in nanos. `priced` is None if a stated cost has no price beside it."""

    nanos: int
    stated_nanos: int | None
    priced: Priced | None
    month_quantity: Decimal = Decimal(0)
    plan_markup: Decimal | None = None

    @property
    def provider_nanos(self) -> int | None:
        return None if self.priced is None else self.priced.provider_cost_nanos

    @property
    def unknown(self) -> UnknownModel | None:
        """The model that the book has no row for, where its prices for unknown models applied."""
        return None if self.priced is None or self.stated_nanos is not None else self.priced.unknown

    def explanation(self) -> dict[str, Any] | None:
        """Return the facts that explain the price: rows, markups and the month's quantity. None: the cost has no price.

        The event stores the version, the quantities, the time, the plan and the tool itself.
        """
        if self.priced is None:
            return None
        facts: dict[str, Any] = {"rows": self.priced.row_ids}
        if self.priced.markup_rule_id is not None:
            facts["markup"] = self.priced.markup_rule_id
        if self.priced.fallback:
            facts["fallback"] = True
        if self.plan_markup:
            facts["plan_markup"] = plain(self.plan_markup)
        if self.month_quantity:
            facts["month_quantity"] = plain(self.month_quantity)
        return facts


def volume_of(book: PriceBook | None, usage: Usage | None, at: datetime) -> Volume | None:
    """Return the monthly volume that the price depends on; None for a row without tiers, and without a row."""
    if book is None or not isinstance(usage, ApiCalls | ToolCalls | Metered):
        return None
    row = book.volume_row(usage)
    if row is None or not row.tiers:
        return None
    quantity = usage.quantity if isinstance(usage, Metered) else Decimal(usage.count)
    return Volume(at.date().replace(day=1), row.id, quantity)


def cost_of(
    usage: Usage | None,
    *,
    book: PriceBook | None,
    currency: str,
    at: datetime,
    plan: str | None,
    tool: str | None,
    plan_markup: Decimal | None = None,
    stated: StatedCost | None = None,
    max_stated_nanos: int = 0,
    month_quantity: Decimal = Decimal(0),
) -> Cost:
    """Return the cost. A stated cost decides, 0 included; usage without a price is then no error.

    Without `usage` a cost must be stated. Raises the AppError that the caller gets.
    """
    priced = None
    if book is not None and usage is not None:
        priced = price(book, usage, at=at, plan=plan, plan_markup=plan_markup, tool=tool, month_quantity=month_quantity)
    found = priced if isinstance(priced, Priced) else None
    if stated is not None:
        nanos = _checked(stated, currency, max_stated_nanos)
        return Cost(nanos, nanos, found, month_quantity, plan_markup)
    match priced:
        case Priced():
            return Cost(priced.cost_nanos, None, priced, month_quantity, plan_markup)
        case UnknownModel():
            raise UnpricedModel(priced)
        case UnknownMeter():
            raise UnpricedMeter(priced)
        case CostTooLarge():
            raise CostOutOfBounds
    raise NoPriceBook(currency)


def _checked(stated: StatedCost, currency: str, max_nanos: int) -> int:
    """Return a stated cost in nanos. Raises InvalidRequest above the key's bound or 64 bits."""
    nanos = stated.nanos(currency)
    if nanos > min(max_nanos, MAX_NANOS):
        field = "cost_cents" if stated.unit == "minor" else "cost"
        raise InvalidRequest(
            f"{field} is above {decimal_text(max_nanos)} {currency}, the most that this API key may state for an event",
            field=field,
        )
    return nanos


def markup_of(kept: Decimal | None, plan: str | None, on_sale: Mapping[str, Decimal]) -> Decimal | None:
    """Return the markup of an account in percent: of the terms that a subscriber keeps, else of the plan on sale."""
    return kept if kept is not None else on_sale.get(plan or "")


def stored_markup(price: Mapping[str, Any] | None) -> Decimal | None:
    """Return the plan's markup with which a stored event was priced, from its `explanation`."""
    found = None if price is None else price.get("plan_markup")
    return None if found is None else Decimal(found)


RESERVE_INPUT, RESERVE_OUTPUT = 2_000, 1_000
"""Tokens of a call that a check prices before it is made."""


def reserve_of(provider: str, model: str) -> LlmTokens:
    """Return the usage that a check assumes for a call of a model."""
    return LlmTokens(provider, model, {"input_uncached": RESERVE_INPUT, "output_text": RESERVE_OUTPUT})
