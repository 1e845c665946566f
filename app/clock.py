"""The only place that asks what time it is. Everything else takes the time as an argument."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends


def utc_now() -> datetime:
    return datetime.now(UTC)


Now = Annotated[datetime, Depends(utc_now)]
"""The time of a request, read once. Tests override `utc_now` to move it."""
