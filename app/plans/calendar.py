"""Calendar periods: the periods of a subscription and of its grants, from an anchor. Pure.

    boundary(anchor, "month", 1, zone)      # the first renewal of a subscription that began at the anchor
    period_at(anchor, "month", now, zone)   # the period that `now` is in

Every boundary is computed from the anchor, never from the boundary before. So 31 January, 28 February, 31 March follow
each other. The wall clock of the zone counts: a period that begins at 09:00 ends at 09:00, also across a change to
daylight saving time. Of a time that the clock shows twice, the first one counts. A time that it skips is read with the
offset before the change: 02:30 becomes 03:30.

Periods tile time: each begins where the one before ends, and includes its start but not its end. A period is empty only
where a zone skipped a whole day.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

Unit = Literal["day", "month", "year"]
DAYS_PER_YEAR = 365.2425
_MONTHS = {"month": 1, "year": 12}
_DAYS = {"day": 1.0, "month": DAYS_PER_YEAR / 12, "year": DAYS_PER_YEAR}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """The time from `start` up to, but not including, `end`. In UTC."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    @property
    def length(self) -> timedelta:
        return self.end - self.start


def boundary(anchor: datetime, unit: Unit, number: int, zone: tzinfo = UTC) -> datetime:
    """Return the start of the period `number` in UTC; that of period 0 is the anchor. Negative ones came before it.

    A month that lacks the anchor's day ends the period on its last day.
    """
    if number == 0:
        return anchor.astimezone(UTC)
    local = anchor.astimezone(zone).replace(tzinfo=None)
    if unit == "day":
        return _moment(local + timedelta(days=number), zone)
    months = local.year * 12 + local.month - 1 + number * _MONTHS[unit]
    year, month = divmod(months, 12)
    day = min(local.day, monthrange(year, month + 1)[1])
    return _moment(local.replace(year=year, month=month + 1, day=day), zone)


def period(anchor: datetime, unit: Unit, number: int, zone: tzinfo = UTC) -> Period:
    """Return the period with a number."""
    return Period(boundary(anchor, unit, number, zone), boundary(anchor, unit, number + 1, zone))


def number_at(anchor: datetime, unit: Unit, now: datetime, zone: tzinfo = UTC) -> int:
    """Return the number of the period that `now` is in."""
    number = int((now - anchor) / timedelta(days=_DAYS[unit]))
    while boundary(anchor, unit, number, zone) > now:
        number -= 1
    while boundary(anchor, unit, number + 1, zone) <= now:
        number += 1
    return number


def period_at(anchor: datetime, unit: Unit, now: datetime, zone: tzinfo = UTC) -> Period:
    """Return the period that `now` is in."""
    return period(anchor, unit, number_at(anchor, unit, now, zone), zone)


def periods_within(anchor: datetime, unit: Unit, whole: Period, zone: tzinfo = UTC) -> list[Period]:
    """Return the periods that begin in `whole`, in order; the last one ends with it.

    The monthly grants of a yearly period are twelve. The anchor is the subscription's.
    """
    first = number_at(anchor, unit, whole.start, zone)
    if boundary(anchor, unit, first, zone) < whole.start:
        first += 1
    found = []
    while (start := boundary(anchor, unit, first, zone)) < whole.end:
        found.append(Period(start, min(boundary(anchor, unit, first + 1, zone), whole.end)))
        first += 1
    return found


def _moment(local: datetime, zone: tzinfo) -> datetime:
    """Return the moment, in UTC, at which the clock of the zone shows a time. A skipped time has the offset before."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)
