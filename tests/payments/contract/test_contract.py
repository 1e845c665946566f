"""Each provider keeps the contract: each payment is given once, and taken back with its money."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from tests.payments.contract.conftest import Sell, sold
from tests.payments.contract.goods import Sale
from tests.payments.contract.provider import Event

ORDERS = 6
Outcome = Literal["won", "lost"]


async def paid(sale: Sale) -> list[Event]:
    """Open and pay. Return the events."""
    await sale.pay(await sale.open())
    return await sale.shop.provider.new_events()


async def paid_refunded_and_disputed(sale: Sale, outcome: Outcome) -> list[Event]:
    """Pay; refund a quarter in two parts; dispute the rest. Return the events."""
    events = await paid(sale)
    provider, eighth = sale.shop.provider, sale.minor // 8
    for minor in (eighth, sale.minor // 4 - eighth):
        await provider.refund(sale.payment, minor)
    dispute = await provider.dispute(sale.payment, sale.minor * 3 // 4)
    await provider.decide(dispute, outcome)
    return [*events, *await provider.new_events()]


async def deliver(sale: Sale, events: Sequence[Event]) -> None:
    for event in events:
        await sale.shop.deliver(event)
    await sale.work()


# --- loss, delay ---


@sold()
async def test_payment_whose_events_are_lost_is_found_and_late_events_change_nothing(sell: Sell) -> None:
    sale = await sell()
    events = await paid(sale)
    await sale.look()
    assert await sale.kept() == 1
    await deliver(sale, events)
    assert await sale.kept() == 1


@sold()
async def test_money_back_whose_events_are_lost_is_found(sell: Sell) -> None:
    sale = await sell()
    await paid_refunded_and_disputed(sale, "lost")
    await sale.look()
    assert await sale.kept() == 0


@sold("credits", "money")
async def test_money_that_arrives_days_later_counts_when_it_arrives(sell: Sell) -> None:
    sale = await sell()
    await sale.pay(await sale.open(), later=True)
    await deliver(sale, await sale.shop.provider.new_events())
    assert await sale.kept() == 0
    await sale.shop.provider.arrive(sale.payment)
    await deliver(sale, await sale.shop.provider.new_events())
    assert await sale.kept() == 1


# --- permutation, duplicates ---


@sold()
@pytest.mark.parametrize(("outcome", "kept"), [("won", 0.75), ("lost", 0)])
async def test_every_order_of_events_with_repetitions_ends_the_same(sell: Sell, outcome: Outcome, kept: float) -> None:
    for number in range(ORDERS):
        sale, dice = await sell(), random.Random(f"{outcome} {number}")
        events = await paid_refunded_and_disputed(sale, outcome)
        order = events[::-1] if number == 0 else dice.sample(events, len(events))
        repeated = [one for event in order for one in (event, dice.choice(events))]
        await deliver(sale, repeated)
        assert await sale.kept() == kept, [event["type"] for event in repeated]


@sold()
async def test_event_that_is_delivered_many_times_at_once_counts_once(sell: Sell) -> None:
    sale = await sell()
    events = await paid(sale)
    await asyncio.gather(*(sale.shop.deliver(event) for event in events * 4))
    await sale.work()
    assert await sale.kept() == 1


# --- another amount, another currency ---


@sold("credits", "money")
@pytest.mark.parametrize("other", [{"minor": 1}, {"minor": -1}, {"currency": "eur"}], ids=str)
async def test_other_sum_than_agreed_buys_nothing(sell: Sell, other: dict[str, Any]) -> None:
    sale = await sell()
    await sale.pay(await sale.open(), later=True)
    more = {"minor": sale.minor + other["minor"]} if "minor" in other else other
    await sale.shop.provider.arrive(sale.payment, **more)
    await deliver(sale, await sale.shop.provider.new_events())
    assert await sale.kept() == 0


# --- refunds and reversals ---


@sold()
@pytest.mark.parametrize(("parts", "kept"), [((4,), 0.75), ((4, 4), 0.5), ((1,), 0)])
async def test_refund_takes_its_part_back(sell: Sell, parts: Sequence[int], kept: float) -> None:
    sale = await sell()
    await deliver(sale, await paid(sale))
    for part in parts:
        await sale.shop.provider.refund(sale.payment, sale.minor // part)
        await deliver(sale, await sale.shop.provider.new_events())
    assert await sale.kept() == kept


@sold()
@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_reversal_takes_all_back_and_a_won_one_returns_it(sell: Sell, outcome: Outcome) -> None:
    sale = await sell()
    await deliver(sale, await paid(sale))
    dispute = await sale.shop.provider.dispute(sale.payment, sale.minor)
    await deliver(sale, await sale.shop.provider.new_events())
    assert await sale.kept() == 0
    await sale.shop.provider.decide(dispute, outcome)
    await deliver(sale, await sale.shop.provider.new_events())
    assert await sale.kept() == (1 if outcome == "won" else 0)


# --- crashes ---


class Died(Exception):
    """The process dies here."""


class Deaths:
    """Counts the steps of the service: its transactions and its calls to the provider. It dies at one of them."""

    def __init__(self, at: int, *, is_after: bool) -> None:
        self._left, self._is_after, self._task = at, is_after, asyncio.current_task()

    def _dies(self) -> bool:
        if asyncio.current_task() is self._task:
            self._left -= 1
            return self._left == 0
        return False

    @property
    def has_died(self) -> bool:
        return self._left <= 0

    def of_transactions(self, real: Callable[[], Any]) -> Callable[[], Any]:
        @asynccontextmanager
        async def transaction() -> AsyncIterator[Any]:
            dies = self._dies()
            async with real() as tx:
                yield tx
                if dies and not self._is_after:
                    raise Died  # nothing is committed
            if dies:
                raise Died

        return transaction

    def of_calls(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **options: Any) -> Any:
            dies = self._dies()
            if dies and not self._is_after:
                raise Died
            answer = await real(*args, **options)
            if dies:
                raise Died
            return answer

        return call


async def buy_with_deaths(sale: Sale) -> None:
    """Buy, and repeat each part that dies."""
    opened = await _again(sale.open)
    await _again(lambda: sale.pay(opened))
    assert len(await sale.shop.provider.payments()) == 1
    events = await sale.shop.provider.new_events()
    await _again(lambda: deliver(sale, events))


async def _again(part: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await part()
    except Died:
        return await part()


@sold()
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_crash_at_any_step_gives_what_is_paid_once(
    sell: Sell, is_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction of the service, and each of its calls to the provider, before and after it takes effect."""
    step = 0
    while True:
        step += 1
        sale = await sell()
        deaths, shop = Deaths(step, is_after=is_after), sale.shop
        owner, name = shop.provider.calls
        with monkeypatch.context() as patch:
            patch.setattr(shop.services.db, "transaction", deaths.of_transactions(shop.services.db.transaction))
            patch.setattr(owner, name, deaths.of_calls(getattr(owner, name)))
            await buy_with_deaths(sale)
        assert await sale.kept() == 1, f"step {step}"
        if not deaths.has_died:
            break
    assert step > 3
