"""Billing periods: calendar months and years from an anchor, in UTC.

A period starts on the anchor's day, or on the month's last day if the month is shorter: 31 January, 28 February,
31 March.
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta

from app.demo.stripe.objects import Object


def boundary(anchor_s: int, recurring: Object, number: int) -> int:
    """Return the start of the period with this number, in seconds. The anchor starts period 0."""
    anchor = datetime.fromtimestamp(anchor_s, UTC)
    steps = number * recurring["interval_count"]
    if recurring["interval"] in ("day", "week"):
        moved = anchor + timedelta(days=steps * (7 if recurring["interval"] == "week" else 1))
        return int(moved.timestamp())
    months = anchor.year * 12 + anchor.month - 1 + steps * (12 if recurring["interval"] == "year" else 1)
    year, month = divmod(months, 12)
    day = min(anchor.day, monthrange(year, month + 1)[1])
    return int(anchor.replace(year=year, month=month + 1, day=day).timestamp())


def period_at(anchor_s: int, recurring: Object, at_s: int) -> tuple[int, int]:
    """Return the start and the end of the period that contains a second at or after the anchor."""
    number = 0
    while boundary(anchor_s, recurring, number + 1) <= at_s:
        number += 1
    return boundary(anchor_s, recurring, number), boundary(anchor_s, recurring, number + 1)


def day_of(moment_s: int) -> str:
    """Return a date such as 2026-02-28, in UTC."""
    return datetime.fromtimestamp(moment_s, UTC).date().isoformat()
