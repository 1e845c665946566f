"""Ending a background task: a cancellation that no library can lose."""

import asyncio
from typing import Any

REPEAT_S = 1.0


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it has ended. Drop its result and its error.

    Libraries can lose a cancellation: `asyncio.wait_for` of Python 3.11 does if its inner task ends at that moment.
    A task that loops would then continue, and its caller would wait forever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=REPEAT_S)
    if not task.cancelled():
        task.exception()  # without this, asyncio logs 'exception was never retrieved'
