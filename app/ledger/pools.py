"""Payment decision: which buckets pay for a charge. Pure: no database, no framework and no clock.

A bucket is a balance that can pay: one of the account's pools, or a lot with an expiry. The caller lists an account's
buckets in burn order. A charge of credits burns down

    daily free uses   ->  grants of credits  ->  one-time free uses  ->  paid credits

and usage of money burns down grants of money, then the plain balance. A charge may span buckets. It is paid whole or
not at all. Daily free uses are an allowance of one UTC day: the rest of an earlier day's allowance has expired, even
before a ledger entry records it.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Literal, NamedTuple, NewType
from uuid import UUID

Credits = NewType("Credits", int)
BucketKind = Literal["daily_free", "grant", "free", "paid", "money"]

CREDIT = "credit"
"""The unit of every pool that holds credits. Pools of money hold nanos of their currency, as `USD` (ADR 24)."""
MINOR_PER_CREDIT = 100
MAX_CREDITS = (2**63 - 1) // MINOR_PER_CREDIT
"""The largest balance: its hundredths still fit the 64 bits of `balance_minor`."""


def cost_of(amount_minor: int) -> Credits:
    """Return the credits that a charge of `amount_minor` hundredths costs, rounded up: 1 and 100 both cost one.

    For charges and holds of credits. A rule such as a minimum charge belongs here: it must never raise a grant, nor the
    price of a product. A rule by the hour takes the request's time, which each caller has.
    """
    return Credits(-(-amount_minor // MINOR_PER_CREDIT))


def credits_of_grant(amount_minor: int) -> Credits:
    """Return the credits that a grant of `amount_minor` hundredths gives. Exact: no rounding can add a credit.

    Raises ValueError for a negative amount and for parts of a credit, which the wire types reject first.
    """
    credits, part = divmod(amount_minor, MINOR_PER_CREDIT)
    if credits < 0 or part:
        raise ValueError(f"a grant of {amount_minor} hundredths is not a number of whole credits")
    return Credits(credits)


class Bucket(NamedTuple):
    """A balance that can pay. `id` is its pool in the ledger; within one decision each bucket is listed once."""

    id: str
    kind: BucketKind
    unit: str
    available: int
    """In whole `unit`s: credits, or nanos of a currency."""
    expires_at: datetime | None = None
    """The first moment at which it can no longer pay. None: never."""
    grant_id: UUID | None = None
    """The lot, if the pool is `grant`."""


class Debit(NamedTuple):
    """The part of a charge that one bucket pays, in the bucket's unit. Always positive."""

    bucket: Bucket
    amount: int


class Shortfall(NamedTuple):
    """The buckets that may pay hold less than the charge costs. Both figures are in the charge's unit."""

    available: int
    required: int


def pay(buckets: Iterable[Bucket], cost: int, *, unit: str, now: datetime) -> list[Debit] | Shortfall:
    """Return the debits that together pay `cost`, in the order of `buckets`, or the Shortfall.

    Skips buckets that are empty, expired at `now`, or of another unit: they neither pay nor count as available. So a
    caller may list all buckets of an account, and money can never pay for uses. Raises ValueError for a negative cost.
    """
    if cost < 0:
        raise ValueError(f"cost {cost} is negative")
    debits: list[Debit] = []
    left = cost
    for bucket in buckets:
        if left == 0:
            break
        _, _, its_unit, available, expires_at, _ = bucket
        if available <= 0 or its_unit != unit or (expires_at is not None and expires_at <= now):
            continue
        amount = available if available < left else left
        debits.append(Debit(bucket, amount))
        left -= amount
    return debits if left == 0 else Shortfall(cost - left, cost)


def daily_free_on(today: date, *, left: int, day: date | None, allowance: int) -> int:
    """Return the daily free uses of an account on `today`, given that `left` was written on `day`.

    A clock that steps back over midnight (`day` in the future) grants no second allowance.
    """
    return allowance if day is None or day < today else left
