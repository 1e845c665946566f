"""The clock: the only place that reads the current time. All other code takes the time as an argument."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends


def utc_now() -> datetime:
    return datetime.now(UTC)


async def request_time() -> datetime:
    """Return the time of a request, read once. Tests override it. (FastAPI would run a plain function in a thread.)"""
    return utc_now()


Now = Annotated[datetime, Depends(request_time)]
