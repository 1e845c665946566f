"""A server that answers no one is called by one caller at a time."""

import pytest

from app.circuit_breaker import CircuitBreaker

FAILURES, PAUSE_S, PROBE_S = 3, 1.0, 3.0


def closed(failures: int = FAILURES) -> CircuitBreaker:
    return CircuitBreaker(failures=failures, pause_s=PAUSE_S, probe_s=PROBE_S)


def opened(at_s: float) -> CircuitBreaker:
    breaker = closed()
    for _ in range(FAILURES):
        assert breaker.admits(at_s)
        breaker.unanswered(at_s)
    return breaker


def test_an_open_breaker_admits_one_probe_at_a_time_until_an_answer() -> None:
    breaker = opened(100.0)
    assert not breaker.admits(100.0)
    assert not breaker.admits(100.0 + PAUSE_S - 0.1)
    assert breaker.admits(101.0)
    assert not breaker.admits(101.0)
    breaker.unanswered(103.0)
    assert not breaker.admits(103.0)
    assert breaker.admits(104.0)
    breaker.answered()
    assert all(breaker.admits(104.0) for _ in range(10))


def test_a_probe_without_a_report_blocks_others_for_a_bounded_time() -> None:
    breaker = opened(0.0)
    assert breaker.admits(10.0)
    assert not breaker.admits(10.0 + PROBE_S)
    assert breaker.admits(10.0 + PROBE_S + PAUSE_S)


def test_an_answer_in_between_keeps_the_breaker_closed() -> None:
    breaker = closed()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.unanswered(0.0)
        breaker.answered()
        assert breaker.admits(0.0)


def test_one_failure_opens_a_breaker_of_one() -> None:
    breaker = closed(failures=1)
    breaker.unanswered(50.0)
    assert not breaker.admits(50.5)
    assert breaker.admits(51.0)


@pytest.mark.parametrize("back_s", [5.0, 3600.0])
def test_a_clock_that_was_set_back_does_not_keep_it_open(back_s: float) -> None:
    breaker = opened(10_000.0)
    assert breaker.admits(10_000.0 - back_s)
