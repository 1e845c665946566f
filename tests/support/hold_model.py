"""Holds as plain arithmetic: their part of the oracle of test_machine.py. Credits, or nanos of money."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from tests.support.account_model import Model
from tests.support.run_model import Asked, ModelUnit, Spent
from tests.support.wallet_model import ModelLot

Place = Literal["daily_free", "free", "paid", "money"]


@dataclass
class ModelHold:
    money: bool
    amount: int
    parts: list[tuple[Place | ModelLot, int]]
    created_at: datetime
    expires_at: datetime
    on_expiry: str
    run: str | None = None
    spent: Spent = field(init=False)
    reported: int = 0

    @property
    def unit(self) -> ModelUnit:
        return "USD" if self.money else "credit"


def open_hold(model: Model, amount: int, *, money: bool, on_expiry: str, lifetime: timedelta) -> ModelHold | None:
    """Take the amount from the balances, in burn order. None: they do not suffice."""
    wallet = model.wallet
    if amount > (wallet.spendable_money if money else model.spendable):
        return None
    lots: list[Place | ModelLot] = [*wallet.live(money=money)]
    places: list[Place | ModelLot] = [*lots, "money"] if money else ["daily_free", *lots, "free", "paid"]
    parts = []
    left = amount
    for place in places:
        taken = min(left, _balance(model, place))
        _move(model, place, -taken)
        left -= taken
        if taken:
            parts.append((place, taken))
    return ModelHold(money, amount, parts, wallet.now, wallet.now + lifetime, on_expiry)


def settle(model: Model, hold: ModelHold, amount: int) -> tuple[int, int]:
    """Spend an amount: of the hold, and beyond it what an active account can pay. Return both; the rest goes back."""
    captured = left = min(amount, hold.amount)
    for place, part in hold.parts:
        used = min(left, part)
        left -= used
        _give_back(model, hold, place, part - used)
    beyond = 0
    if amount > hold.amount and not model.suspended:
        beyond = min(amount - hold.amount, model.wallet.spendable_money if hold.money else model.spendable)
        beyond = model.limits.room(Asked(hold.unit, beyond, hold.run, uses=0), model.wallet.now)
        if beyond:
            model.limits.spend(Asked(hold.unit, beyond, hold.run, uses=0), model.wallet.now)
            again = open_hold(model, beyond, money=hold.money, on_expiry="release", lifetime=timedelta())
            assert again is not None
    hold.spent.amount, hold.spent.uses, hold.spent.is_open = captured, int(amount > 0), False
    if hold.money:
        model.wallet.used += captured + beyond
    else:
        model.uses += captured + beyond
    return captured, beyond


def _give_back(model: Model, hold: ModelHold, place: Place | ModelLot, amount: int) -> None:
    now = model.wallet.now
    if isinstance(place, ModelLot):
        lost = place.ended or (place.expires_at is not None and place.expires_at <= now)
    else:
        lost = place == "daily_free" and hold.created_at.date() != now.date()
    if lost:
        return
    _move(model, place, amount)
    if place == "paid":
        repaid = min(amount, model.debt)
        model.paid, model.debt = model.paid - repaid, model.debt - repaid
    if place == "money":
        repaid = min(amount, model.wallet.debt)
        model.wallet.money, model.wallet.debt = model.wallet.money - repaid, model.wallet.debt - repaid


def _balance(model: Model, place: Place | ModelLot) -> int:
    if isinstance(place, ModelLot):
        return place.remaining
    balance: int = model.wallet.money if place == "money" else getattr(model, place)
    return balance


def _move(model: Model, place: Place | ModelLot, amount: int) -> None:
    if isinstance(place, ModelLot):
        place.remaining += amount
    elif place == "money":
        model.wallet.money += amount
    else:
        setattr(model, place, getattr(model, place) + amount)
