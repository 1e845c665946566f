"""Traffic gate: lets the callers' requests pass, or holds them back until none is in progress."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Traffic:
    def __init__(self) -> None:
        self._passing, self._idle = asyncio.Event(), asyncio.Event()
        self._passing.set()
        self._idle.set()
        self._in_progress = 0

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around a request. Waits while requests are held back."""
        while not self._passing.is_set():
            await self._passing.wait()
        self._in_progress += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_progress -= 1
            if not self._in_progress:
                self._idle.set()

    @asynccontextmanager
    async def held_back(self) -> AsyncIterator[None]:
        """While the block runs no request is in progress. Waits for those that are."""
        self._passing.clear()
        try:
            await self._idle.wait()
            yield
        finally:
            self._passing.set()
