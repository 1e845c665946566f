"""Whether a server that everything waits for is there at all, asked beside the requests instead of by them."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

EVERY_S = 0.5
TIMEOUT_S = 1.0
TIMEOUT_WHILE_AWAY_S = 3.0
"""Longer: to connect anew takes several round trips, and a slow answer is better than none."""

log = structlog.get_logger()


class Pulse:
    """Asks `beat()` every EVERY_S. While it fails or takes longer than TIMEOUT_S, the server `is_away`.

    A request that finds it away can say so at once. One that asked by itself would know only after its own time-out,
    and so would each after it. `beat` raises when there was no answer; an answer of whatever kind is one.

    A process that is itself too slow to read the answer in time has asked in vain as well. So it takes two beats in
    a row that fail, with nobody else answered meanwhile, before anybody is refused; one that succeeds lets everybody
    in again.
    """

    def __init__(self, beat: Callable[[], Awaitable[None]], *, of: str) -> None:
        self._beat = beat
        self._of = of
        self.answers = 0
        """Counted up by whoever gets an answer."""
        self._missed = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        return self._missed > 1

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            was_away, answers = self.is_away, self.answers
            try:
                async with asyncio.timeout(TIMEOUT_WHILE_AWAY_S if was_away else TIMEOUT_S):
                    await self._beat()
                self._missed = 0
            except Exception as error:  # of whatever kind: a pulse that ended would leave things as they are for ever
                self._missed = self._missed + 1 if answers == self.answers else 0
                reason = type(error).__name__
            if self.is_away and not was_away:
                log.error("dependency_away", dependency=self._of, error=reason)
            elif was_away and not self.is_away:
                log.warning("dependency_back", dependency=self._of)
            await asyncio.sleep(EVERY_S)
