"""RecentKeys: bounded, and certain of the keys that came last."""

from app.ledger.recent_keys import RecentKeys


def test_the_last_keys_are_known_and_the_memory_is_bounded() -> None:
    keys = RecentKeys(generation=100)
    for number in range(1_000):
        assert not keys.add(number)
        assert len(keys._young) + len(keys._old) <= 200
    assert all(keys.add(number) for number in range(950, 1_000))
    assert not keys.add(0)


def test_a_key_that_is_used_again_stays_known() -> None:
    keys = RecentKeys(generation=10)
    keys.add("hot")
    for number in range(100):
        keys.add(number)
        assert keys.add("hot")
