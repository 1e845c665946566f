"""SecondLayer's limits of a day and a month, as limits of the account's money.

Both the user's limit and the operator's apply, so the lower one is shown. Users whom no limit was set for get the
operator's 10 dollars a day and 100 a month with their first request here, as SecondLayer's new users did.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.accounts.default_limits import Amounts
from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.errors import AppError, Busy
from app.ledger.limits import Limit, LimitExceeded, Window
from app.ledger.money import NANOS_PER_UNIT
from app.ledger.pools import CREDIT
from app.ledger.units import USE
from app.limits.service import LimitService
from app.neighbours.second_layer.errors import DailyLimitExceeded, MonthlyLimitExceeded, RequestLimitExceeded

DEFAULTS: Amounts = {"day": 10 * NANOS_PER_UNIT, "month": 100 * NANOS_PER_UNIT}
"""The amounts unless the issuer's `default_limits` have others."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The amount of a limit and what its window has counted: nanos, or requests."""

    amount: int
    counted: int


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """An account's limits, as SecondLayer shows them. None: none is set for the window."""

    day: Spent | None
    month: Spent | None
    requests_of_day: Spent | None


async def own_limits(
    limits: LimitService, accounts: AccountService, identity: Identity, state: Any, now: datetime
) -> OwnLimits:
    """Return the limits of an account by its columns. The first call gives it the default ones."""
    account_id: UUID = state["account_id"]
    amounts = accounts.default_limits.by_provider.get(identity.oauth_provider, DEFAULTS)
    found = await limits.list(account_id, now) if state["has_limits"] else []
    if not amounts.keys() <= _by_operator(found, state["currency"]):
        with suppress(Busy):  # not now: a later request gives them
            await limits.give_defaults(account_id, amounts, now)
            found = await limits.list(account_id, now)
    shown = {window: _lowest(found, window, state["currency"]) for window in ("day", "month")}
    return OwnLimits(**shown, requests_of_day=_lowest(found, "day", USE))


def _by_operator(limits: Sequence[Limit], unit: str) -> set[Window]:
    """Return the windows in which the operator limits all that the account spends of a unit. The user may set more."""
    about = ("account", unit, "refuse", "operator")
    return {limit.window for limit in limits if (limit.scope, limit.unit, limit.action, limit.owner) == about}


def _lowest(limits: Sequence[Limit], window: Window, unit: str) -> Spent | None:
    """Return the limit of all that the account spends of a unit in a window; of several the lowest."""
    amounts = [
        (limit.amount, limit.counted)
        for limit in limits
        if (limit.scope, limit.window, limit.unit, limit.action) == ("account", window, unit, "refuse")
    ]
    return Spent(*min(amounts)) if amounts else None


def refused(refusal: LimitExceeded, own: OwnLimits, usd: Callable[[int], float]) -> AppError:
    """Return SecondLayer's refusal by a limit."""
    limit = refusal.limit
    if limit.scope == "account" and limit.unit not in (CREDIT, USE) and limit.window in ("day", "month"):
        figures = {
            "daily_limit_usd": own.day and usd(own.day.amount),
            "daily_spent_usd": own.day and usd(own.day.counted),
            "monthly_limit_usd": own.month and usd(own.month.amount),
            "monthly_spent_usd": own.month and usd(own.month.counted),
        }
        numbers = {name: number or 0.0 for name, number in figures.items()}
        return DailyLimitExceeded(numbers) if limit.window == "day" else MonthlyLimitExceeded(numbers)
    today = own.requests_of_day
    return RequestLimitExceeded(
        refusal.detail,
        0 if today is None else today.counted,
        None if today is None else today.amount,
    )
