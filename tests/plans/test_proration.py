"""Proration, and when a change of plan takes effect."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plans.calendar import Period
from app.plans.document import Interval
from app.plans.proration import Effect, Terms, effect_of_change, prorated, upgrade_difference

START = datetime(2026, 4, 1, tzinfo=UTC)
APRIL = Period(START, START + timedelta(days=30))
DOLLAR = 10**9
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("amount", "at", "expected"),
    [
        (30, START, 30),
        (30, START - DAY, 30),  # a clock that is behind
        (30, START + 10 * DAY, 20),
        (30, START + 10 * DAY + timedelta(microseconds=1), 19),  # rounded down
        (30, APRIL.end - timedelta(microseconds=1), 0),
        (30, APRIL.end, 0),
        (30, APRIL.end + DAY, 0),
        (0, START, 0),
        (2**63 - 1, START, 2**63 - 1),
        (2**63 - 1, START + 15 * DAY, (2**63 - 1) // 2),  # exact: no float is involved
    ],
)
def test_the_part_for_the_rest_of_a_period(amount: int, at: datetime, expected: int) -> None:
    assert prorated(amount, APRIL, at) == expected


def test_a_negative_amount_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not negative"):
        prorated(-1, APRIL, START)


@pytest.mark.parametrize(
    ("before", "after", "days", "expected"),
    [
        (25 * DOLLAR, 60 * DOLLAR, 0, 35 * DOLLAR),
        (25 * DOLLAR, 60 * DOLLAR, 15, 35 * DOLLAR // 2),
        (25 * DOLLAR, 60 * DOLLAR, 30, 0),
        (60 * DOLLAR, 25 * DOLLAR, 0, 0),  # nothing is taken away
        (0, 25 * DOLLAR, 29, 25 * DOLLAR // 30),
    ],
)
def test_an_upgrade_grants_the_difference_for_the_rest(before: int, after: int, days: int, expected: int) -> None:
    assert upgrade_difference(before, after, APRIL, START + days * DAY) == expected


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (("standard", "month", 2000), ("pro", "month", 5000), "now"),
        (("pro", "month", 5000), ("standard", "month", 2000), "period_end"),
        (("standard", "month", 2000), ("standard", "month", 2000), "none"),
        (("standard", "month", 2000), ("standard", "year", 20_000), "now"),
        (("standard", "year", 20_000), ("standard", "month", 2000), "period_end"),
        (("standard", "month", 2000), ("pro", "year", 48_000), "now"),
        (("pro", "month", 5000), ("standard", "year", 20_000), "period_end"),
        (("standard", "month", 2000), ("team", "month", 2000), "period_end"),  # as expensive: the present one is paid
        (("standard", "year", 24_000), ("team", "month", 2001), "now"),
        (("standard", "month", 2000), ("free", "month", 0), "period_end"),
        (("free", "month", 0), ("standard", "month", 2000), "now"),
    ],
)
def test_when_a_change_takes_effect(
    before: tuple[str, Interval, int], after: tuple[str, Interval, int], effect: Effect
) -> None:
    assert effect_of_change(Terms(*before), Terms(*after)) == effect


amounts = st.integers(0, 2**63 - 1)
lengths = st.integers(1, 10**15).map(lambda us: timedelta(microseconds=us))


@st.composite
def moments_in(draw: st.DrawFn) -> tuple[Period, datetime, datetime]:
    """A period and two moments in or around it, in order."""
    whole = Period(START, START + draw(lengths))
    spots = sorted(draw(st.lists(st.floats(-0.1, 1.1), min_size=2, max_size=2)))
    first, second = (whole.start + whole.length * spot for spot in spots)
    return whole, first, second


@given(before=amounts, after=amounts, moments=moments_in())
def test_proration_is_between_nothing_and_the_difference(
    before: int, after: int, moments: tuple[Period, datetime, datetime]
) -> None:
    whole, first, second = moments
    early, late = (upgrade_difference(before, after, whole, moment) for moment in (first, second))
    assert 0 <= late <= early <= max(0, after - before)


@given(plans=st.lists(amounts, min_size=3, max_size=3), moments=moments_in())
def test_two_upgrades_grant_no_more_than_one(plans: list[int], moments: tuple[Period, datetime, datetime]) -> None:
    whole, first, second = moments
    small, middle, large = sorted(plans)
    steps = upgrade_difference(small, middle, whole, first) + upgrade_difference(middle, large, whole, second)
    assert steps <= upgrade_difference(small, large, whole, first)
