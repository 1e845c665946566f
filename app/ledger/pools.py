"""Who pays for a charge: the pure decision. Knows no database, no framework and no clock.

A charge burns down, in this order:

    daily free uses   ->  one-time free uses  ->  paid credits

It may span pools and is all or nothing. Daily free uses are an allowance of one UTC day: what is left of an earlier
day has expired, whether or not anybody has written that down yet.
"""

from dataclasses import dataclass
from datetime import date
from typing import NewType

Credits = NewType("Credits", int)

MINOR_PER_CREDIT = 100
MAX_CREDITS = (2**63 - 1) // MINOR_PER_CREDIT
"""The largest balance: its hundredths still fit the 64 bits of `balance_minor`."""


def cost_of(amount_minor: int) -> Credits:
    """The credits that a charge of `amount_minor` hundredths costs, rounded up: 1 and 100 both cost one."""
    return Credits(-(-amount_minor // MINOR_PER_CREDIT))


@dataclass(frozen=True, slots=True)
class Pools:
    """What an account can spend, in credits."""

    daily_free: int
    free: int
    paid: int

    @property
    def total(self) -> int:
        return self.daily_free + self.free + self.paid


@dataclass(frozen=True, slots=True)
class Paid:
    """How much of a charge each pool pays, in credits."""

    daily_free: int
    free: int
    paid: int


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The pools together hold less than the charge costs, in credits."""

    available: int
    required: int


def pay(pools: Pools, cost: Credits) -> Paid | Shortfall:
    if pools.total < cost:
        return Shortfall(available=pools.total, required=cost)
    daily_free = min(pools.daily_free, cost)
    free = min(pools.free, cost - daily_free)
    return Paid(daily_free, free, cost - daily_free - free)


def daily_free_on(today: date, *, left: int, day: date | None, allowance: int) -> int:
    """Daily free uses that an account has today, given what was `left` when `day` was last written.

    A clock that steps back over midnight (`day` in the future) grants no second allowance.
    """
    return allowance if day is None or day < today else left
