"""Monthly figures of subscriptions: recurring revenue, churn and conversion. Pure.

- **MRR** (monthly recurring revenue) at a time, per currency: the monthly cost of the subscriptions in force then,
  after their discounts. A yearly price counts a twelfth. A trial counts 0. A subscription that is past due counts
  within the grace period, and one that is canceled at the end of its period counts until that end.
- **Churn** of a month: of the subscriptions that were active at its start, the share that ended in it.
- **Conversion** of a month: accounts that began to pay in it, as a share of the accounts that were created in it.

Months are UTC. All figures are what is known today: a late payment or a refund changes those of past months.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from app.plans.document import Interval

MONTHS = 12
MONTHS_OF: dict[Interval, int] = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC, from `start` up to `end`."""

    start: datetime
    end: datetime

    def valued_at(self, now: datetime) -> datetime:
        """Return the time at which the recurring revenue of the month counts: its last moment, or now."""
        return min(self.end - timedelta(microseconds=1), now)


@dataclass(frozen=True, slots=True)
class PriceSum:
    """The sum of the prices of one interval and currency that were in force at a time."""

    at: datetime
    currency: str
    interval: Interval
    amount_minor: int
    paying: int
    """Subscriptions that cost more than 0."""


@dataclass(frozen=True, slots=True)
class Recurring:
    currency: str
    amount_minor: int
    """Per month, rounded half up."""
    paying: int


def last_months(now: datetime, count: int = MONTHS) -> list[Month]:
    """Return the months up to the one of `now`, oldest first."""
    end = _next(datetime(now.year, now.month, 1, tzinfo=UTC))
    months: list[Month] = []
    for _ in range(count):
        last_day = end - timedelta(days=1)
        start = datetime(last_day.year, last_day.month, 1, tzinfo=UTC)
        months.append(Month(start, end))
        end = start
    return months[::-1]


def _next(start: datetime) -> datetime:
    return datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)


def recurring_revenue(sums: Iterable[PriceSum], at: datetime) -> list[Recurring]:
    """Return the monthly recurring revenue at a time, by currency. It is rounded once, after the sum."""
    exact: dict[str, Fraction] = {}
    paying: dict[str, int] = {}
    for one in sums:
        if one.at == at:
            exact[one.currency] = exact.get(one.currency, Fraction(0)) + Fraction(
                one.amount_minor, MONTHS_OF[one.interval]
            )
            paying[one.currency] = paying.get(one.currency, 0) + one.paying
    return [Recurring(currency, int(exact[currency] + Fraction(1, 2)), paying[currency]) for currency in sorted(exact)]


def percent(part: int, whole: int) -> str | None:
    """Return a share as exact text with one decimal place, rounded half up. None: there is no whole."""
    if whole == 0:
        return None
    tenths = int(Fraction(part * 1000, whole) + Fraction(1, 2))
    return f"{tenths // 10}.{tenths % 10}"
