"""Invalidated cache: rows that other processes may change, kept until a notification."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class InvalidatedCache(Generic[K, V]):
    """Rows by id; evicts the least recently used.

    A row that was read before an invalidation arrived may be older than the change that caused it. Such a row serves
    the request that read it, but is not kept for others.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._invalidations = 0

    def get(self, name: K) -> V | None:
        entry = self._entries.get(name)
        if entry is not None:
            self._entries.move_to_end(name)
        return entry

    async def load(self, name: K, read: Callable[[K], Awaitable[V | None]]) -> V | None:
        """Read the row and keep it, unless an invalidation arrived while reading. A missing row is not kept."""

        async def read_one() -> dict[K, V]:
            entry = await read(name)
            return {} if entry is None else {name: entry}

        return (await self.load_all(read_one)).get(name)

    async def load_all(self, read: Callable[[], Awaitable[Mapping[K, V]]]) -> Mapping[K, V]:
        """Read some rows and keep them, as `load` does."""
        before = self._invalidations
        found = await read()
        if before == self._invalidations:
            for name, entry in found.items():
                self._entries[name] = entry
                self._entries.move_to_end(name)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return found

    def forget(self, name: K) -> None:
        self._invalidations += 1
        self._entries.pop(name, None)

    def forget_all(self) -> None:
        self._invalidations += 1
        self._entries.clear()
