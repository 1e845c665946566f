"""Entitlement: its subjects, its end after a missed payment, and the times of further attempts to pay."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plans.entitlement import Dunning, Status, entitled_until, is_entitled

FAILED = datetime(2026, 3, 28, 9, tzinfo=UTC)
GRACE, TICK, DAY = timedelta(days=7), timedelta(microseconds=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("status", "past_due_since", "now", "expected"),
    [
        ("active", None, FAILED, True),
        ("active", FAILED, FAILED + 30 * DAY, True),  # it was paid since
        ("trialing", None, FAILED, True),
        ("incomplete", None, FAILED, False),
        ("incomplete", FAILED, FAILED, False),
        ("incomplete_expired", None, FAILED, False),
        ("past_due", FAILED, FAILED, True),
        ("past_due", FAILED, FAILED + GRACE - TICK, True),
        ("past_due", FAILED, FAILED + GRACE, False),
        ("past_due", None, FAILED, False),
        ("unpaid", FAILED, FAILED, False),
        ("canceled", None, FAILED, False),
        ("paused", None, FAILED, False),
    ],
)
def test_entitlement(status: Status, past_due_since: datetime | None, now: datetime, expected: bool) -> None:
    assert is_entitled(status, past_due_since, GRACE, now) is expected


@pytest.mark.parametrize(
    ("status", "since", "until"),
    [("past_due", FAILED, FAILED + GRACE), ("past_due", None, None), ("active", FAILED, None)],
)
def test_the_end_of_the_grace_period(status: Status, since: datetime | None, until: datetime | None) -> None:
    assert entitled_until(status, since, GRACE) == until


def test_without_grace_a_missed_payment_ends_the_plan() -> None:
    assert not is_entitled("past_due", FAILED, timedelta(0), FAILED)


@pytest.mark.parametrize(
    ("days", "failures", "expected"),
    [
        ((1, 3, 5, 7), 1, 1),
        ((1, 3, 5, 7), 2, 3),
        ((1, 3, 5, 7), 4, 7),
        ((1, 3, 5, 7), 5, None),
        ((1, 3, 5, 7), 50, None),
        ((), 1, None),
        ((2,), 1, 2),
    ],
)
def test_the_next_attempt(days: tuple[int, ...], failures: int, expected: int | None) -> None:
    found = Dunning(days).next_attempt(FAILED, failures)
    assert found == (None if expected is None else FAILED + expected * DAY)


@pytest.mark.parametrize("days", [(0, 1), (3, 1), (2, 2), (-1,)])
def test_a_schedule_goes_forward(days: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        Dunning(days)


def test_there_is_an_attempt_only_after_a_failure() -> None:
    with pytest.raises(ValueError, match="no failure"):
        Dunning().next_attempt(FAILED, 0)


schedules = st.sets(st.integers(1, 60), min_size=1, max_size=8).map(lambda days: tuple(sorted(days)))


@given(days=schedules, passed=st.timedeltas(timedelta(0), timedelta(days=10_000)))
def test_attempts_are_finite_in_order_and_end_with_the_last(days: tuple[int, ...], passed: timedelta) -> None:
    dunning, failed_at = Dunning(days), FAILED + passed
    attempts = [dunning.next_attempt(failed_at, failures) for failures in range(1, len(days) + 2)]
    assert attempts[-1] is None
    times = [attempt for attempt in attempts[:-1] if attempt is not None]
    assert len(times) == len(days)
    assert all(earlier < later for earlier, later in pairwise([failed_at, *times]))
    assert dunning.ends_at(failed_at) == times[-1]


@given(offset=st.timedeltas(timedelta(0), timedelta(days=60)), grace=st.timedeltas(timedelta(0), timedelta(days=30)))
def test_once_the_grace_is_over_it_stays_over(offset: timedelta, grace: timedelta) -> None:
    now = FAILED + offset
    assert is_entitled("past_due", FAILED, grace, now) or not is_entitled("past_due", FAILED, grace, now + DAY)
    until = entitled_until("past_due", FAILED, grace)
    assert until is not None
    assert is_entitled("past_due", FAILED, grace, now) == (now < until)
