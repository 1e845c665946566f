"""The clock: the only place that reads the current time. All other code takes the time as an argument."""

import time
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Annotated

from fastapi import Depends, Request


def utc_now() -> datetime:
    return datetime.now(UTC)


def steady_s() -> float:
    """Return the event loop's time, in seconds. To ask for the running loop would cost a system call."""
    return time.monotonic()


async def request_time(request: Request) -> datetime:
    """Return the time of a request, read once. (FastAPI would run a plain function in a thread.)

    Tests override it in their application. Applications share their routes, so FastAPI does not apply overrides.
    """
    moment = request.app.dependency_overrides.get(request_time, utc_now)()
    found: datetime = await moment if isawaitable(moment) else moment
    return found


Now = Annotated[datetime, Depends(request_time)]
