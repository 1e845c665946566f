"""Revenue: its single definition.

Revenue is earned when paid credits of the main pools are spent, at the average price of a paid credit. Free credits,
and a tool's own credits, which are never sold, earn nothing. Net sales are different: the money received for the
purchases started in some days, less refunds and disputes (money_reports.py). Over all time they differ by the unspent
credits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from app.analytics import money_reports
from app.analytics.days import Days
from app.db import Session

COST_CURRENCY = "USD"
"""The currency of the costs that LLM proxies report. Nothing is ever converted into it, or added to it."""
Prices = Mapping[str, "Price"]


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a currency's credits, over all sales so far."""

    currency: str
    net_minor: int
    credits_sold: int
    credits_entered: int
    """All credits that ever entered the paid pools, grants too, less those taken back."""

    @property
    def cents_per_sold_credit(self) -> Decimal | None:
        return rounded(Decimal(self.net_minor) / self.credits_sold) if self.credits_sold > 0 else None

    @property
    def cents_per_paid_credit(self) -> Decimal | None:
        return rounded(Decimal(self.net_minor) / self.credits_entered) if self.credits_entered > 0 else None

    def revenue_cents(self, paid_spent: Decimal | int) -> Decimal | None:
        """Compute revenue by the ratio itself, so that no rounded price is multiplied."""
        if self.credits_entered <= 0:
            return None
        return rounded(Decimal(paid_spent) * self.net_minor / self.credits_entered)


async def find_prices(db: Session, days: Days) -> Prices:
    """Return prices by currency, in the environment of `days`. Takes a session of `Database.consistent_read`."""
    return {row["currency"]: Price(**row) for row in await money_reports.list_prices(db, days)}


def revenue_cents(paid_spent: Decimal | int, currency: str, prices: Prices) -> Decimal | None:
    """Return the revenue of spent paid credits of a currency. None: their price is unknown."""
    price = prices.get(currency)
    return None if price is None else price.revenue_cents(paid_spent)


def margin_cents(revenue: Decimal | None, cost_cents: Decimal, currency: str) -> Decimal | None:
    """Return revenue less its cost. None in currencies other than the costs'."""
    return None if revenue is None or currency != COST_CURRENCY else revenue - cost_cents


def rounded(cents: Decimal) -> Decimal:
    """Round to the ten decimal places of costs: a ratio may have infinitely many."""
    return round(cents, 10)
