"""Ids tell the order of writing, whatever the clock does."""

import time

import pytest

from app.db import IdClock, new_id

HOUR_NS = 3_600_000_000_000


def test_ids_follow_a_clock_set_ahead_and_go_on_when_it_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.ID_CLOCK", IdClock())
    right = time.time_ns

    def given_ms() -> int:
        return new_id().int >> 80

    first = given_ms()
    assert abs(first - right() // 1_000_000) < 60_000
    monkeypatch.setattr(time, "time_ns", lambda: right() - HOUR_NS)
    behind = given_ms()
    assert first <= behind < first + 60_000
    time.sleep(0.01)
    assert given_ms() > behind
    monkeypatch.setattr(time, "time_ns", lambda: right() + HOUR_NS)
    ahead = given_ms()
    assert ahead >= first + HOUR_NS // 1_000_000
    monkeypatch.setattr(time, "time_ns", right)
    assert given_ms() >= ahead


def test_ids_are_put_right_by_the_databases_clock_when_far_off() -> None:
    clock = IdClock()
    right_ms = clock.now_ms()
    clock.compare(right_ms + 3000)
    assert clock.now_ms() < right_ms + 2000  # near enough
    for off_ms in (60_000, -60_000):
        clock.compare(right_ms + off_ms)
        assert abs(clock.now_ms() - right_ms - off_ms) < 2000
