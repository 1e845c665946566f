"""Proration: the part of an amount that belongs to the rest of a period; and when a change of plan takes effect. Pure.

Amounts are integers: nanos of money, credits, or minor units.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Literal

from app.plans.calendar import Period
from app.plans.document import Interval

_TICK = timedelta(microseconds=1)
"""The resolution of times."""
MONTHS: dict[Interval, int] = {"month": 1, "year": 12}
Effect = Literal["none", "now", "period_end"]


def remaining_part(period: Period, at: datetime) -> Fraction:
    """Return the part of the period that is left at a moment: 1 before it, 0 from its end on."""
    if at >= period.end:
        return Fraction(0)
    if at <= period.start:
        return Fraction(1)
    return Fraction((period.end - at) // _TICK, period.length // _TICK)


def prorated(amount: int, period: Period, at: datetime) -> int:
    """Return the part of an amount for the rest of the period, rounded down: never more than the rest is worth.

    Raises ValueError for a negative amount.
    """
    if amount < 0:
        raise ValueError("an amount is not negative")
    return int(amount * remaining_part(period, at))


def upgrade_difference(before: int, after: int, period: Period, at: datetime) -> int:
    """Return the grant of an upgrade: the difference for the rest of the period. 0 if the new plan grants no more.

    It is at least 0 and at most the difference.
    """
    return prorated(max(0, after - before), period, at)


@dataclass(frozen=True, slots=True)
class Terms:
    """A subscribed plan with its price of one interval, in minor units. 0: it is free."""

    plan: str
    interval: Interval
    amount_minor: int

    @property
    def per_month(self) -> Fraction:
        return Fraction(self.amount_minor, MONTHS[self.interval])


def effect_of_change(before: Terms, after: Terms) -> Effect:
    """Return when a change of plan takes effect.

    Another plan that costs more per month is an upgrade, and takes effect now. One that costs as much, or less, takes
    effect at the end of the period, because the present one is paid. So does a change from a year to a month. From a
    month to a year, the change takes effect now: the year begins.
    """
    if before == after:
        return "none"
    if before.plan == after.plan:
        return "now" if MONTHS[after.interval] > MONTHS[before.interval] else "period_end"
    return "now" if after.per_month > before.per_month else "period_end"
