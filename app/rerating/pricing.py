"""Pricing stored usage again. Pure: the same code and the same stored facts as the charge, with the books of today."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.errors import AppError
from app.ledger.money import MAX_NANOS
from app.metering.costs import cost_of, stored_markup, volume_of
from app.metering.events import RECORD_METER, Books, Status, plain, usage_of
from app.pricing.compiled import PriceBook

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OneBook:
    """A version that prices all usage of its currency, instead of the versions in force."""

    book: PriceBook

    def at(self, currency: str, moment: datetime) -> PriceBook | None:
        return self.book if currency == self.book.currency else None


@dataclass(frozen=True, slots=True)
class NewPrice:
    """The price of an event or of a cost record's item by the books of today. `price` is JSON."""

    cost_nanos: int
    provider_cost_nanos: int | None
    price_version: int | None
    price: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """An event that has another price now. `cause_id` is the cause of the ledger entries of its charge."""

    usage_id: UUID
    cause_id: UUID
    status: Status
    old_nanos: int
    new: NewPrice

    @property
    def difference(self) -> int:
        """The amount that the account has to pay, or gets back if it is negative."""
        return 0 if self.status == "recorded" else self.new.cost_nanos - self.old_nanos


def volumes_before(rows: Iterable[Row], books: Books, currency: str) -> dict[UUID, Decimal]:
    """Return for each row with a tiered price the account's earlier quantity of the month, in the order of recording.

    The quantities count as they did when the usage was recorded: only while the row of the book had tiers.
    """
    before: dict[UUID, Decimal] = {}
    sums: dict[tuple[date, str], Decimal] = {}
    for row in sorted(rows, key=lambda row: UUID(str(row["id"]))):
        usage = usage_of(row["meter"], None, None, row["quantities"])
        volume = volume_of(books.at(currency, row["at"]), usage, row["at"])
        if volume is not None:
            key = volume.month, volume.row_id
            before[row["id"]] = sums.get(key, Decimal(0))
            sums[key] = before[row["id"]] + volume.quantity
    return before


@dataclass(frozen=True, slots=True)
class Repricer:
    """Prices the usage of one account again."""

    books: Books
    currency: str
    volumes: Mapping[UUID, Decimal]

    def event(self, row: Row) -> NewPrice | None:
        """Return the price of an event. None: today's books have no price for it, so it keeps its own."""
        return self._priced(row, row["usage_id"], row["occurred_at"], row["plan_name"], row["tool"])

    def record(self, row: Row, items: Sequence[Row]) -> NewPrice | None:
        """Return the price of a cost record's event: the sum of its items. None if one of them has no price now."""
        cost, provider_cost = 0, 0 if items else row["provider_cost_nanos"]
        for item in items:
            if item["stated_nanos"] is not None:
                priced: NewPrice | None = NewPrice(item["cost_nanos"], item["provider_cost_nanos"], None, None)
            else:
                priced = self._priced(item, item["addition_id"], item["created_at"], row["plan_name"], row["tool"])
            if priced is None:
                return None
            cost += priced.cost_nanos
            if priced.provider_cost_nanos is None:
                provider_cost = None
            elif provider_cost is not None:
                provider_cost += priced.provider_cost_nanos
        if cost > MAX_NANOS:
            return None
        is_known = provider_cost is not None and provider_cost <= MAX_NANOS
        return NewPrice(cost, provider_cost if is_known else None, None, None)

    def _priced(self, row: Row, row_id: UUID, at: datetime, plan: str, tool: str | None) -> NewPrice | None:
        book = self.books.at(self.currency, at)
        before = self.volumes.get(row_id, Decimal(0))
        if book is None:
            return None
        if row["price_version"] == book.version and _month_quantity(row) == plain(before):
            return NewPrice(row["cost_nanos"], row["provider_cost_nanos"], book.version, _text(row["price"]))
        try:
            cost = cost_of(
                usage_of(row["meter"], row["provider"], row["model"], row["quantities"]),
                book=book,
                currency=self.currency,
                at=at,
                plan=plan,
                plan_markup=stored_markup(row["price"]),
                tool=tool,
                month_quantity=before,
            )
        except AppError:  # no price, or one that does not fit 64 bits
            return None
        return NewPrice(cost.nanos, cost.provider_nanos, book.version, _text(cost.explanation()))


def change_of(row: Row, new: NewPrice, record_id: UUID | None) -> Change | None:
    """Return the change of an event's price; None if neither its cost nor its cost at list prices changes."""
    if (new.cost_nanos, new.provider_cost_nanos) == (row["cost_nanos"], row["provider_cost_nanos"]):
        return None
    return Change(row["usage_id"], record_id or row["usage_id"], row["status"], row["cost_nanos"], new)


def is_record(row: Row) -> bool:
    return bool(row["meter"] == RECORD_METER)


def _month_quantity(row: Row) -> str:
    return str((row["price"] or {}).get("month_quantity", "0"))


def _text(price: Mapping[str, Any] | None) -> str | None:
    return None if price is None else json.dumps(price)
