"""Recent idempotency keys: which keys this process has seen, so that only repeated ones cost a read."""

from collections.abc import Hashable

GENERATION = 32_768
"""Keys of a generation. Two are kept: at least the last 32,768 keys, and at most 6.5 MB for a batcher."""


class RecentKeys:
    """A bounded set of the keys of recent requests. It may forget a key, and may take a new key for a known one."""

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, key: Hashable) -> bool:
        """Add a key. Return whether it was there."""
        value = hash(key)
        if value in self._young:
            return True
        known = value in self._old
        self._young.add(value)
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, set()
        return known
