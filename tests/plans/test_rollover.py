"""Rollover: the rest of a period's grant goes into the next period."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plans.rollover import renew


@pytest.mark.parametrize(
    ("remaining", "fresh", "most", "carried", "lost", "granted"),
    [
        (10, 100, 0, 0, 10, 100),  # none
        (10, 100, 5, 5, 5, 105),  # up to 5
        (3, 100, 5, 3, 0, 103),
        (10, 100, None, 10, 0, 110),  # all
        (0, 100, None, 0, 0, 100),
        (10, 0, None, 10, 0, 10),  # after a downgrade to a plan without the grant
    ],
)
def test_cases(remaining: int, fresh: int, most: int | None, carried: int, lost: int, granted: int) -> None:
    renewal = renew(remaining, fresh, most)
    assert (renewal.carried, renewal.lost, renewal.granted) == (carried, lost, granted)


@pytest.mark.parametrize("amounts", [(-1, 0, None), (0, -1, None), (0, 0, -1)])
def test_negative_amounts_are_a_bug(amounts: tuple[int, int, int | None]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        renew(*amounts)


amounts = st.integers(0, 2**62)


@given(remaining=amounts, fresh=amounts, most=st.none() | amounts)
def test_nothing_is_made_or_lost(remaining: int, fresh: int, most: int | None) -> None:
    renewal = renew(remaining, fresh, most)
    assert renewal.carried + renewal.lost == remaining
    assert fresh <= renewal.granted <= remaining + fresh
    assert most is None or renewal.carried <= most


@given(fresh=st.integers(0, 1000), most=st.integers(0, 1000), spent=st.lists(st.floats(0, 1), max_size=30))
def test_the_balance_is_bounded_over_many_periods(fresh: int, most: int, spent: list[float]) -> None:
    balance = fresh
    for part in spent:
        balance = renew(balance - int(balance * part), fresh, most).granted
        assert balance <= fresh + most
