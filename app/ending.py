"""The end of a background task."""

import asyncio
from typing import Any

REPEAT_S = 1.0


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended; its result and its error are dropped.

    Libraries can lose a cancellation: `asyncio.wait_for` of Python 3.11 does if its inner task ends at that moment.
    A task that loops would then go on, and who waits for it would wait for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=REPEAT_S)
    if not task.cancelled():
        task.exception()  # without this, asyncio logs 'exception was never retrieved'
