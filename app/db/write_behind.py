"""Write-behind: values are collected in memory and written every few seconds; no request waits for the write."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress

FLUSH_EVERY_S = 5.0


class WriteBehind(ABC):
    """Flushes every FLUSH_EVERY_S between `start` and `stop`. A flush is never abandoned halfway."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def flush(self) -> None:
        """Write the collected values. Raises nothing while the database is down."""

    def start(self) -> None:
        """Flush every FLUSH_EVERY_S, until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let the current flush finish, then write the rest."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        await self.flush_rest()

    async def flush_rest(self) -> None:
        """Write all values before the process ends. Override it where `flush` keeps some for later."""
        await self.flush()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._stopping.wait()
            if not self._stopping.is_set():
                await self.flush()
