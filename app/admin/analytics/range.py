"""Date range of a report: `?environment=live&from=2026-01-01&to=2026-01-31`, both days included."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Query

from app.analytics.days import Days
from app.auth.caller import Environment
from app.clock import Now
from app.errors import InvalidRequest
from app.timestamps import EARLIEST, LATEST

MAX_DAYS = 366
DEFAULT_DAYS = 30
FIRST_DAY, LAST_DAY = EARLIEST.date(), LATEST.date()


def range_fields(days: Days) -> dict[str, Any]:
    """Return the fields of RangeReply."""
    return {"environment": days.environment, "first_day": days.first, "last_day": days.last}


async def day_range(
    now: Now,
    environment: Environment = "live",
    first: Annotated[
        date | None,
        Query(alias="from", ge=FIRST_DAY, le=LAST_DAY, description="First UTC day. Default: a range of 30 days."),
    ] = None,
    last: Annotated[
        date | None,
        Query(alias="to", ge=FIRST_DAY, le=LAST_DAY, description="Last UTC day, inclusive. Default: today."),
    ] = None,
) -> Days:
    """Return the requested range. Raise InvalidRequest."""
    return days_of(environment, first, last, now)


def days_of(environment: Environment, first: date | None, last: date | None, now: datetime) -> Days:
    """Return the range of a request, with the defaults of a report. Raise InvalidRequest."""
    if last is None:
        last = now.date()
    if first is None:
        first = last - timedelta(days=DEFAULT_DAYS - 1)
    if first > last:
        raise InvalidRequest("from must not be after to", field="from")
    if (last - first).days >= MAX_DAYS:
        raise InvalidRequest(f"from and to must be at most {MAX_DAYS} days apart, both included", field="from")
    return Days(environment, first, last)


DayRange = Annotated[Days, Depends(day_range)]
