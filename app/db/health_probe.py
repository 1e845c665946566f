"""Health probe: a circuit breaker that checks in the background whether a server answers, so requests fail fast."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.ending import end

EVERY_S = 0.5
TIMEOUT_S = 1.0
TIMEOUT_WHILE_DOWN_S = 3.0
"""Longer: a new connection takes several round trips, and a slow answer is better than none."""

log = structlog.get_logger()


class HealthProbe:
    """Runs `check()` every EVERY_S. While it fails or takes longer than TIMEOUT_S, the server `is_down`.

    A request that finds the server down fails at once. Without the probe each request would wait for its own time-out.
    `check` raises if there was no answer; an error as an answer counts as one.

    A process that is too slow to read the answer in time fails the check as well. So requests are rejected only after
    two failed checks in a row during which no other caller got an answer. One successful check ends that.
    """

    def __init__(self, check: Callable[[], Awaitable[None]], *, of: str) -> None:
        self._check = check
        self._of = of
        self.answers = 0
        """Increased by each caller that gets an answer."""
        self._missed = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_down(self) -> bool:
        return self._missed > 1

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        while True:
            was_down, answers = self.is_down, self.answers
            try:
                async with asyncio.timeout(TIMEOUT_WHILE_DOWN_S if was_down else TIMEOUT_S):
                    await self._check()
                self._missed = 0
            except Exception as error:  # any error: if this task ended, `is_down` would never change again
                self._missed = self._missed + 1 if answers == self.answers else 0
                reason = type(error).__name__
            if self.is_down and not was_down:
                log.error("dependency_down", dependency=self._of, error=reason)
            elif was_down and not self.is_down:
                log.warning("dependency_recovered", dependency=self._of)
            await asyncio.sleep(EVERY_S)
