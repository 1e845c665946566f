"""Who pays: the pure decision, for every input."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.ledger.pools import MAX_CREDITS, Credits, Paid, Pools, Shortfall, cost_of, daily_free_on, pay

CREDITS = st.integers(0, MAX_CREDITS)
POOLS = st.builds(Pools, CREDITS, CREDITS, CREDITS)


@given(POOLS, st.integers(1, 3 * MAX_CREDITS))
def test_all_or_nothing_and_never_more_than_there_is(pools: Pools, cost: int) -> None:
    match pay(pools, Credits(cost)):
        case Paid(daily_free, free, paid):
            assert daily_free + free + paid == cost
            assert 0 <= daily_free <= pools.daily_free
            assert 0 <= free <= pools.free
            assert 0 <= paid <= pools.paid
        case Shortfall(available, required):
            assert (available, required) == (pools.total, cost)
            assert available < required


@given(POOLS, st.integers(1, MAX_CREDITS))
def test_a_later_pool_pays_only_when_the_earlier_are_empty(pools: Pools, cost: int) -> None:
    parts = pay(pools, Credits(cost))
    if isinstance(parts, Paid):
        assert parts.free == 0 or parts.daily_free == pools.daily_free
        assert parts.paid == 0 or (parts.daily_free, parts.free) == (pools.daily_free, pools.free)


@given(st.integers(1, 2**63 - 1))
def test_cost_is_rounded_up_to_whole_credits(amount_minor: int) -> None:
    cost = cost_of(amount_minor)
    assert (cost - 1) * 100 < amount_minor <= cost * 100


def test_1_and_100_cost_one_credit_and_101_two() -> None:
    assert [cost_of(amount) for amount in (1, 99, 100, 101, 200)] == [1, 1, 1, 2, 2]


@given(CREDITS, CREDITS, st.integers(-400, 400))
def test_daily_allowance_is_renewed_by_midnight_and_never_by_a_clock_that_steps_back(
    left: int, allowance: int, days: int
) -> None:
    day = date(2026, 1, 1)
    today = day + timedelta(days=days)
    expected = allowance if days > 0 else left
    assert daily_free_on(today, left=left, day=day, allowance=allowance) == expected
    assert daily_free_on(today, left=0, day=None, allowance=allowance) == allowance
