"""Days and weeks of times, in UTC."""

from datetime import UTC, date, datetime, timedelta


def day_of(at: datetime) -> date:
    return at.astimezone(UTC).date()


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
