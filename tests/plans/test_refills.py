"""Whether an account's balance is topped up now: every reason against it, and the cap under any history."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plans.refills import (
    MAX_DECLINES,
    NoRefill,
    Refill,
    RefillBounds,
    RefillRule,
    RefillState,
    after_decline,
    decide,
    problem_of,
    retry_at,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TICK = timedelta(microseconds=1)
RULE = RefillRule(enabled=True, trigger_below=500, amount=2500, monthly_cap=10_000)
BOUNDS = RefillBounds(
    least_trigger=100, least_amount=500, most_amount=50_000, most_monthly=100_000, cooldown=5 * MINUTE, backoff=HOUR
)
READY = RefillState(has_consent=True)


@pytest.mark.parametrize(
    ("rule", "state", "balance", "reason"),
    [
        ({}, {}, 499, None),
        ({}, {}, 0, None),
        ({}, {}, -100, None),  # a debt
        ({}, {}, -2500, None),  # the largest that a refill covers
        ({}, {}, -2501, "beyond_one_refill"),
        ({}, {}, 500, "above_trigger"),
        ({"enabled": False}, {}, 0, "off"),
        ({}, {"has_consent": False}, 0, "no_consent"),
        ({}, {"is_active": False}, 0, "account_stopped"),
        ({}, {"in_flight": True}, 0, "in_flight"),
        ({}, {"paid_this_month": 7500}, 0, None),  # the last one that fits
        ({}, {"paid_this_month": 7501}, 0, "monthly_cap"),
        ({"monthly_cap": 10**9}, {"paid_this_month": 98_000}, 0, "monthly_cap"),  # the operator's bound
        ({}, {"last_started_at": NOW - 5 * MINUTE + TICK}, 0, "cooling_down"),
        ({}, {"last_started_at": NOW - 5 * MINUTE}, 0, None),
        ({}, {"declines": 1, "last_declined_at": NOW - HOUR + TICK}, 0, "backing_off"),
        ({}, {"declines": 1, "last_declined_at": NOW - HOUR}, 0, None),
        ({}, {"declines": 2, "last_declined_at": NOW - HOUR}, 0, "backing_off"),  # it doubles
        ({}, {"declines": 2, "last_declined_at": NOW - 2 * HOUR}, 0, None),
        ({}, {"declines": 3, "last_declined_at": NOW - 1000 * HOUR}, 0, "too_many_declines"),
        ({"enabled": False}, {"in_flight": True}, 0, "off"),
    ],
)
def test_decisions(rule: dict[str, Any], state: dict[str, Any], balance: int, reason: str | None) -> None:
    found = decide(replace(RULE, **rule), replace(READY, **state), balance, BOUNDS, NOW)
    assert found == Refill(2500) if reason is None else isinstance(found, NoRefill) and found.reason == reason


@pytest.mark.parametrize(
    ("state", "until"),
    [
        ({"last_started_at": NOW - MINUTE}, NOW + 4 * MINUTE),
        ({"declines": 2, "last_declined_at": NOW}, NOW + 2 * HOUR),
        ({"in_flight": True}, None),
    ],
)
def test_a_time_that_is_in_the_way_is_stated(state: dict[str, Any], until: datetime | None) -> None:
    found = decide(RULE, replace(READY, **state), 0, BOUNDS, NOW)
    assert isinstance(found, NoRefill)
    assert found.until == until
    if until is not None:
        assert decide(RULE, replace(READY, **state), 0, BOUNDS, until) == Refill(2500)


@pytest.mark.parametrize(("declines", "found"), [(0, (1, False)), (1, (2, False)), (2, (3, True)), (9, (10, True))])
def test_three_declines_in_a_row_switch_it_off(declines: int, found: tuple[int, bool]) -> None:
    assert after_decline(replace(READY, declines=declines)) == found


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, None),
        ({"trigger_below": 99}, "trigger_below"),
        ({"trigger_below": -1}, "trigger_below"),
        ({"amount": 499}, "amount"),
        ({"amount": 50_001, "monthly_cap": 60_000}, "amount"),
        ({"monthly_cap": 2499}, "monthly_cap"),
        ({"monthly_cap": 2500}, None),
        ({"monthly_cap": 100_001}, "monthly_cap"),
    ],
)
def test_the_operators_bounds(changes: dict[str, Any], field: str | None) -> None:
    problem = problem_of(replace(RULE, **changes), BOUNDS)
    assert (None if problem is None else problem[0]) == field


steps = st.lists(
    st.tuples(
        st.sampled_from(["spend", "succeed", "decline"]),
        st.integers(0, 5000),
        st.timedeltas(timedelta(0), timedelta(hours=3)),
    ),
    max_size=60,
)


@given(steps=steps, cap=st.integers(2500, 20_000))
def test_any_history_stays_within_the_cap_with_one_payment_in_flight(
    steps: list[tuple[str, int, timedelta]], cap: int
) -> None:
    """Money that is paid and in flight never exceeds the cap; three declines end it."""
    rule, state, now, balance, started = replace(RULE, monthly_cap=cap), READY, NOW, 1000, 0
    for action, amount, passed in steps:
        now += passed
        if action == "spend":
            balance -= amount
            found = decide(rule, state, balance, BOUNDS, now)
            if isinstance(found, Refill):
                assert not state.in_flight
                assert found.amount == rule.amount
                assert state.last_started_at is None or now >= state.last_started_at + BOUNDS.cooldown
                assert (ready := retry_at(state, BOUNDS)) is None or now >= ready
                started += 1
                paid = state.paid_this_month + found.amount
                state = replace(state, in_flight=True, paid_this_month=paid, last_started_at=now)
        elif state.in_flight and action == "succeed":
            balance += rule.amount
            state = replace(state, in_flight=False, declines=0, last_declined_at=None)
        elif state.in_flight:
            declines, is_off = after_decline(state)
            paid = state.paid_this_month - rule.amount
            state = replace(state, in_flight=False, paid_this_month=paid, declines=declines, last_declined_at=now)
            assert is_off == (declines >= MAX_DECLINES)
        assert 0 <= state.paid_this_month <= cap
        assert state.declines <= MAX_DECLINES
