"""Payment decision: which buckets pay, for every input."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.pools import (
    CREDIT,
    MAX_CREDITS,
    Bucket,
    Credits,
    Debit,
    Shortfall,
    cost_of,
    credits_of_grant,
    daily_free_on,
    pay,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREDITS = st.integers(0, MAX_CREDITS)


def three(daily_free: int, free: int, paid: int) -> list[Bucket]:
    """The buckets of an account without grants, in burn order."""
    return [
        Bucket("daily_free", "daily_free", CREDIT, daily_free),
        Bucket("free", "free", CREDIT, free),
        Bucket("paid", "paid", CREDIT, paid),
    ]


POOLS = st.builds(three, CREDITS, CREDITS, CREDITS)
ANY_BUCKETS = st.lists(
    st.builds(
        Bucket,
        id=st.uuids().map(str),
        kind=st.sampled_from(["daily_free", "free", "paid"]),
        unit=st.sampled_from([CREDIT, "USD", "EUR"]),
        available=st.integers(-5, 12),  # a negative balance is a bug elsewhere, and must not make another bucket pay
        expires_at=st.sampled_from([None, NOW - timedelta(seconds=1), NOW, NOW + timedelta(microseconds=1)]),
    ),
    max_size=8,
)


def may_pay(bucket: Bucket, unit: str) -> bool:
    return bucket.unit == unit and bucket.available > 0 and (bucket.expires_at is None or bucket.expires_at > NOW)


@given(POOLS, st.integers(1, 3 * MAX_CREDITS))
def test_all_or_nothing_and_never_more_than_the_balances(pools: list[Bucket], cost: int) -> None:
    outcome = pay(pools, Credits(cost), unit=CREDIT, now=NOW)
    total = sum(bucket.available for bucket in pools)
    if isinstance(outcome, Shortfall):
        assert outcome == (total, cost)
        assert total < cost
    else:
        assert sum(debit.amount for debit in outcome) == cost
        assert all(0 < debit.amount <= debit.bucket.available for debit in outcome)


@given(POOLS, st.integers(1, MAX_CREDITS))
def test_a_later_pool_pays_only_when_the_earlier_are_empty(pools: list[Bucket], cost: int) -> None:
    outcome = pay(pools, Credits(cost), unit=CREDIT, now=NOW)
    if not isinstance(outcome, Shortfall):
        daily_free, free, paid = (sum(debit.amount for debit in outcome if debit.bucket is bucket) for bucket in pools)
        assert free == 0 or daily_free == pools[0].available
        assert paid == 0 or (daily_free, free) == (pools[0].available, pools[1].available)


@given(ANY_BUCKETS, st.integers(0, 40), st.sampled_from([CREDIT, "USD"]))
def test_any_buckets_pay_exactly_in_order_and_within_their_unit_and_time(
    buckets: list[Bucket], cost: int, unit: str
) -> None:
    outcome = pay(buckets, cost, unit=unit, now=NOW)
    eligible = [bucket for bucket in buckets if may_pay(bucket, unit)]
    total = sum(bucket.available for bucket in eligible)
    if isinstance(outcome, Shortfall):
        assert outcome == (total, cost)
        assert total < cost
        return
    assert total >= cost
    assert sum(debit.amount for debit in outcome) == cost
    # The debited buckets are the first eligible ones; all of them but the last are emptied.
    assert [debit.bucket for debit in outcome] == eligible[: len(outcome)]
    assert all(debit.amount == debit.bucket.available for debit in outcome[:-1])
    assert all(0 < debit.amount <= debit.bucket.available for debit in outcome)


@given(ANY_BUCKETS, st.integers(1, 40), st.integers(1, 40))
def test_two_charges_pay_as_much_as_one_of_their_sum(buckets: list[Bucket], first: int, second: int) -> None:
    together = pay(buckets, first + second, unit=CREDIT, now=NOW)
    before = pay(buckets, first, unit=CREDIT, now=NOW)
    if isinstance(before, Shortfall):
        assert isinstance(together, Shortfall)
        return
    taken = {debit.bucket.id: debit.amount for debit in before}
    rest = [bucket._replace(available=bucket.available - taken.get(bucket.id, 0)) for bucket in buckets]
    after = pay(rest, second, unit=CREDIT, now=NOW)
    if isinstance(together, Shortfall):
        assert after == Shortfall(together.available - first, second)
    else:
        assert not isinstance(after, Shortfall)
        for debit in after:
            taken[debit.bucket.id] = taken.get(debit.bucket.id, 0) + debit.amount
        assert taken == {debit.bucket.id: debit.amount for debit in together}


def test_an_expired_bucket_and_one_of_another_unit_are_skipped() -> None:
    expired = Bucket("lot 1", "paid", CREDIT, 9, expires_at=NOW)
    money = Bucket("money", "paid", "USD", 9)
    live = Bucket("lot 2", "paid", CREDIT, 2, expires_at=NOW + timedelta(microseconds=1))
    assert pay([expired, money, live], 2, unit=CREDIT, now=NOW) == [Debit(live, 2)]
    assert pay([expired, money, live], 3, unit=CREDIT, now=NOW) == Shortfall(available=2, required=3)


def test_nothing_costs_nothing_and_a_negative_cost_is_an_error() -> None:
    assert pay(three(1, 1, 1), 0, unit=CREDIT, now=NOW) == []
    with pytest.raises(ValueError, match="negative"):
        pay(three(1, 1, 1), -1, unit=CREDIT, now=NOW)


@given(st.integers(1, 2**63 - 1))
def test_cost_is_rounded_up_to_whole_credits(amount_minor: int) -> None:
    cost = cost_of(amount_minor)
    assert (cost - 1) * 100 < amount_minor <= cost * 100


def test_1_and_100_cost_one_credit_and_101_two() -> None:
    assert [cost_of(amount) for amount in (1, 99, 100, 101, 200)] == [1, 1, 1, 2, 2]


@given(st.integers(0, MAX_CREDITS))
def test_a_grant_gives_exactly_its_credits(credits: int) -> None:
    assert credits_of_grant(100 * credits) == credits


@pytest.mark.parametrize("amount_minor", [-100, -1, 1, 99, 101])
def test_a_grant_of_no_whole_credits_is_an_error(amount_minor: int) -> None:
    with pytest.raises(ValueError, match="whole credits"):
        credits_of_grant(amount_minor)


@given(CREDITS, CREDITS, st.integers(-400, 400))
def test_daily_allowance_is_renewed_by_midnight_and_never_by_a_clock_that_steps_back(
    left: int, allowance: int, days: int
) -> None:
    day = date(2026, 1, 1)
    today = day + timedelta(days=days)
    expected = allowance if days > 0 else left
    assert daily_free_on(today, left=left, day=day, allowance=allowance) == expected
    assert daily_free_on(today, left=0, day=None, allowance=allowance) == allowance
