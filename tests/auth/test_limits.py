"""Token buckets and the slowing of guesses: exact, independent of each other, and bounded in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.api_keys import brute_force
from app.auth.api_keys.brute_force import FREE_ATTEMPTS, MAX_PAUSE_S, FailedAttempts
from app.auth.rate_limits import token_buckets
from app.auth.rate_limits.token_buckets import TokenBuckets

START_S = 1_000_000.0


def test_a_full_bucket_holds_a_minutes_worth() -> None:
    buckets = TokenBuckets()
    for limit in (1, 3, 7, 60, 6000):
        waits = [buckets.take(f"limit {limit}", limit, START_S) for _ in range(limit + 1)]
        assert waits[:-1] == [0] * limit
        assert waits[-1] >= 1


def test_a_refusal_says_when_to_come_back_and_that_is_true() -> None:
    buckets = TokenBuckets()
    for _ in range(6):
        assert buckets.take("key", 6, START_S) == 0
    wait_s = buckets.take("key", 6, START_S)
    assert wait_s == 10
    assert buckets.take("key", 6, START_S + wait_s - 0.01) == 1
    assert buckets.take("key", 6, START_S + wait_s) == 0
    assert buckets.take("key", 6, START_S + wait_s) == 10


def test_buckets_do_not_share() -> None:
    buckets = TokenBuckets()
    assert buckets.take("one", 1, START_S) == 0
    assert buckets.take("one", 1, START_S) > 0
    assert buckets.take("other", 1, START_S) == 0


@given(limit=st.integers(1, 600), gaps=st.lists(st.sampled_from([0.0, 0.01, 0.1, 1.0, 30.0, 90.0]), max_size=200))
def test_never_more_than_the_bucket_and_its_refill_pass(limit: int, gaps: list[float]) -> None:
    """Against the plain bucket: `limit` tokens at first, limit/60 more each second, never above `limit`."""
    buckets, tokens, now_s = TokenBuckets(), float(limit), START_S
    for gap_s in gaps:
        now_s += gap_s
        tokens = min(float(limit), tokens + gap_s * limit / 60)
        taken = buckets.take("key", limit, now_s) == 0
        if abs(tokens - 1) > 1e-3:  # at the very edge the two round differently
            assert taken == (tokens >= 1)
        tokens -= taken


def test_buckets_are_bounded_in_number() -> None:
    buckets = TokenBuckets()
    for n in range(token_buckets.MAX_BUCKETS + 500):
        buckets.take(f"address {n}", 10, START_S)
    assert len(buckets._full_at_s) == token_buckets.MAX_BUCKETS


def failed(record: FailedAttempts, now_s: float, address: str = "a", key_id: str = "k") -> int:
    return record.begin(key_id, address, now_s)


def test_wrong_secrets_wait_longer_and_longer() -> None:
    record = FailedAttempts()
    assert [failed(record, START_S) for _ in range(FREE_ATTEMPTS)] == [0] * FREE_ATTEMPTS
    now_s, pauses = START_S, []
    for _ in range(14):
        pauses.append(wait_s := failed(record, now_s))
        assert failed(record, now_s + wait_s - 0.5) == 1
        now_s += wait_s
        assert failed(record, now_s) == 0
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300]
    assert max(pauses) == MAX_PAUSE_S


def test_other_addresses_and_other_keys_are_not_slowed() -> None:
    record = FailedAttempts()
    for _ in range(FREE_ATTEMPTS):
        failed(record, START_S)
    assert failed(record, START_S) > 0
    assert failed(record, START_S, address="b") == 0
    assert failed(record, START_S, key_id="other") == 0


def test_a_success_an_undecided_attempt_and_time_forgive() -> None:
    record = FailedAttempts()
    for _ in range(FREE_ATTEMPTS):
        failed(record, START_S)
    record.succeeded("k", "a")
    assert failed(record, START_S) == 0
    for _ in range(50):
        record.undecided("k", "a")
        assert failed(record, START_S) == 0
    for _ in range(FREE_ATTEMPTS - 1):
        failed(record, START_S)
    assert failed(record, START_S) > 0
    assert [failed(record, START_S + brute_force.FORGET_AFTER_S) for _ in range(FREE_ATTEMPTS)] == [0] * FREE_ATTEMPTS


def test_an_undecided_attempt_forgives_itself_and_no_other() -> None:
    record = FailedAttempts()
    failed(record, START_S)
    record.undecided("k", "a")
    for _ in range(FREE_ATTEMPTS):
        assert failed(record, START_S) == 0
    record.undecided("k", "a")
    assert failed(record, START_S) == 0
    assert failed(record, START_S) > 0


def test_the_records_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brute_force, "MAX_TRACKED", 2)
    record = FailedAttempts()
    for address in ("a", "b", "a", "c"):
        failed(record, START_S, address=address)
    assert [address for _, address in record._records] == ["a", "c"]


def test_the_buckets_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_buckets, "MAX_BUCKETS", 2)
    buckets = TokenBuckets()
    for name in ("a", "b", "a", "c"):
        buckets.take(name, 10, START_S)
    assert list(buckets._full_at_s) == ["a", "c"]


def test_records_are_bounded_in_number() -> None:
    record = FailedAttempts()
    for n in range(brute_force.MAX_TRACKED + 500):
        failed(record, START_S, address=str(n))
    assert len(record._records) == brute_force.MAX_TRACKED
