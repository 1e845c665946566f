"""External waits: a request's deadline names the server that has not answered it (ADR 14)."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from app.errors import AppError

_unanswered: WeakKeyDictionary["asyncio.Task[Any]", tuple[float, AppError]] = WeakKeyDictionary()
"""The last call of each task that was not answered: when it began, on the event loop's clock, and its error."""


@contextlib.contextmanager
def waiting_for(unavailable: AppError) -> Iterator[None]:
    """Have the deadline of this task's request answer `unavailable`, until the server has answered.

    A block that raises an error of its class was not answered. Any other end of the block is an answer.
    """
    task = asyncio.current_task()
    assert task is not None
    _unanswered[task] = (asyncio.get_running_loop().time(), unavailable)
    try:
        yield
    except type(unavailable):
        raise
    except Exception:
        _unanswered.pop(task, None)
        raise
    _unanswered.pop(task, None)


def unanswered_since(task: "asyncio.Task[Any]", started_s: float) -> AppError | None:
    """Return the error of the task's last call that began since then and was not answered."""
    call = _unanswered.get(task)
    if call is None:
        return None
    began_s, unavailable = call
    return unavailable if began_s >= started_s else None
