"""Refills: whether an account's balance is to be topped up with the saved card now. Pure. Amounts are nanos or credits.

    decide(rule, state, balance, limits, now)   # Refill(amount), or why not

The caller decides under the account's lock, and stores the refill as in flight in the same transaction. So of parallel
spenders that reach the threshold, one starts a refill.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

MAX_DECLINES = 3
"""Declines in a row after which refills are switched off."""
Reason = Literal[
    "off",
    "no_consent",
    "account_stopped",
    "above_trigger",
    "beyond_one_refill",
    "in_flight",
    "too_many_declines",
    "cooling_down",
    "backing_off",
    "monthly_cap",
]


@dataclass(frozen=True, slots=True)
class RefillRule:
    """Set by the user. The payment is always exactly `amount`."""

    enabled: bool
    trigger_below: int
    amount: int
    monthly_cap: int


@dataclass(frozen=True, slots=True)
class RefillBounds:
    """Set by the operator."""

    least_trigger: int
    least_amount: int
    most_amount: int
    most_monthly: int
    cooldown: timedelta
    backoff: timedelta
    """After the first decline. It doubles with each further one in a row."""


@dataclass(frozen=True, slots=True)
class RefillState:
    """The history of an account's refills. `paid_this_month` includes a payment in flight."""

    has_consent: bool
    is_active: bool = True
    """The account is not suspended, closed or in dispute."""
    in_flight: bool = False
    paid_this_month: int = 0
    last_started_at: datetime | None = None
    declines: int = 0
    """In a row."""
    last_declined_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refill:
    amount: int


@dataclass(frozen=True, slots=True)
class NoRefill:
    """The reason that nothing is paid now. `until`: when a time that was in the way has passed."""

    reason: Reason
    until: datetime | None = None


def problem_of(rule: RefillRule, bounds: RefillBounds) -> tuple[str, str] | None:
    """Return the field and the reason why the operator's bounds do not allow a rule. None: they do."""
    if rule.trigger_below < bounds.least_trigger:
        return "trigger_below", f"must be at least {bounds.least_trigger}"
    if not bounds.least_amount <= rule.amount <= bounds.most_amount:
        return "amount", f"must be between {bounds.least_amount} and {bounds.most_amount}"
    if not rule.amount <= rule.monthly_cap <= bounds.most_monthly:
        return "monthly_cap", f"must be between the amount, {rule.amount}, and {bounds.most_monthly}"
    return None


def decide(
    rule: RefillRule, state: RefillState, balance: int, bounds: RefillBounds, now: datetime
) -> Refill | NoRefill:
    """Return the refill to start for a balance after spending, or why there is none.

    `balance`: what can be spent, less the debt. A debt that one refill could not cover starts none. The sum of a
    month's refills never exceeds the cap, the operator's bound, or both.
    """
    if not rule.enabled:
        return NoRefill("off")
    if not state.has_consent:
        return NoRefill("no_consent")
    if not state.is_active:
        return NoRefill("account_stopped")
    if state.declines >= MAX_DECLINES:
        return NoRefill("too_many_declines")
    if balance >= rule.trigger_below:
        return NoRefill("above_trigger")
    if balance + rule.amount < 0:
        return NoRefill("beyond_one_refill")
    if state.in_flight:
        return NoRefill("in_flight")
    if state.paid_this_month + rule.amount > min(rule.monthly_cap, bounds.most_monthly):
        return NoRefill("monthly_cap")
    if (ready := retry_at(state, bounds)) is not None and now < ready:
        return NoRefill("backing_off", ready)
    if state.last_started_at is not None and now < (ready := state.last_started_at + bounds.cooldown):
        return NoRefill("cooling_down", ready)
    return Refill(rule.amount)


def retry_at(state: RefillState, bounds: RefillBounds) -> datetime | None:
    """Return the end of the back-off after declines. None: the last payment was not declined."""
    if state.declines == 0 or state.last_declined_at is None:
        return None
    return state.last_declined_at + bounds.backoff * (1 << (state.declines - 1))


def after_decline(state: RefillState) -> tuple[int, bool]:
    """Return the number of declines in a row with this one, and whether refills are to be switched off."""
    declines = state.declines + 1
    return declines, declines >= MAX_DECLINES
