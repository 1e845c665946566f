"""Revenue: the one definition of what was earned.

Revenue is earned when paid credits are spent: the paid credits of the main pools, at what a paid credit brought on
average. Free credits, and a tool's own credits, which are never sold, earn nothing. Net sales are another figure: the
money received for the purchases begun in some days, less what went back (money_reports.py). Over all time they differ
by the credits that are not spent yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from app.analytics import money_reports
from app.analytics.days import Days
from app.db import Session

COST_CURRENCY = "USD"
"""Of what LLM proxies report. Nothing is ever converted into it, or added to it."""
Prices = Mapping[str, "Price"]


@dataclass(frozen=True, slots=True)
class Price:
    """What the credits of one currency brought, over all sales up to now."""

    currency: str
    net_minor: int
    credits_sold: int
    credits_entered: int
    """All that ever came into the paid pools and stayed, gifts too."""

    @property
    def cents_per_sold_credit(self) -> Decimal | None:
        return rounded(Decimal(self.net_minor) / self.credits_sold) if self.credits_sold > 0 else None

    @property
    def cents_per_paid_credit(self) -> Decimal | None:
        return rounded(Decimal(self.net_minor) / self.credits_entered) if self.credits_entered > 0 else None

    def revenue_cents(self, paid_spent: Decimal | int) -> Decimal | None:
        """By the ratio itself, so that no rounded price is multiplied."""
        if self.credits_entered <= 0:
            return None
        return rounded(Decimal(paid_spent) * self.net_minor / self.credits_entered)


async def find_prices(db: Session, days: Days) -> Prices:
    """By currency, in the environment of `days`. Takes a session of `Database.consistent_read`."""
    return {row["currency"]: Price(**row) for row in await money_reports.list_prices(db, days)}


def revenue_cents(paid_spent: Decimal | int, currency: str, prices: Prices) -> Decimal | None:
    """What paid credits of a currency earned when they were spent. None: nothing is known of their price."""
    price = prices.get(currency)
    return None if price is None else price.revenue_cents(paid_spent)


def margin_cents(revenue: Decimal | None, cost_cents: Decimal, currency: str) -> Decimal | None:
    """Revenue less the cost that belongs to it. None in currencies other than the costs'."""
    return None if revenue is None or currency != COST_CURRENCY else revenue - cost_cents


def rounded(cents: Decimal) -> Decimal:
    """To the ten decimal places that costs have: a ratio may have no end."""
    return round(cents, 10)
