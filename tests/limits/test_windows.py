"""Windows of limits: calendar days and months of a time zone, through changes of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.limits import WINDOWS, Window, window_end, window_start

ZONES = [
    *("UTC", "Europe/Kyiv", "America/New_York", "America/Havana", "America/Sao_Paulo", "Africa/Cairo"),
    *("Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Kiritimati", "America/St_Johns"),
]
MOMENTS = st.integers(946_684_800, 2_114_380_800).map(lambda second: datetime.fromtimestamp(second, UTC))


@pytest.mark.parametrize(
    ("zone", "window", "now", "start", "end"),
    [
        ("UTC", "minute", "2026-11-30T10:20:30Z", "2026-11-30T10:20:00Z", "2026-11-30T10:21:00Z"),
        ("UTC", "hour", "2026-11-30T10:20:30Z", "2026-11-30T10:00:00Z", "2026-11-30T11:00:00Z"),
        ("Asia/Kolkata", "hour", "2026-11-30T10:20:30Z", "2026-11-30T09:30:00Z", "2026-11-30T10:30:00Z"),
        ("Europe/Kyiv", "day", "2026-11-30T21:59:59.999999Z", "2026-11-29T22:00:00Z", "2026-11-30T22:00:00Z"),
        ("Europe/Kyiv", "day", "2026-11-30T22:00:00Z", "2026-11-30T22:00:00Z", "2026-12-01T22:00:00Z"),
        ("Europe/Kyiv", "month", "2026-11-30T22:00:00Z", "2026-11-30T22:00:00Z", "2026-12-31T22:00:00Z"),
        # 23 and 25 hours
        ("Europe/Kyiv", "day", "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
        ("Europe/Kyiv", "day", "2026-10-25T12:00:00Z", "2026-10-24T21:00:00Z", "2026-10-25T22:00:00Z"),
        ("Europe/Berlin", "day", "2027-03-28T12:00:00Z", "2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z"),
        ("Europe/Berlin", "day", "2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ("Europe/Berlin", "hour", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
        ("Europe/Berlin", "hour", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
        ("Europe/Kyiv", "month", "2026-03-31T12:00:00Z", "2026-02-28T22:00:00Z", "2026-03-31T21:00:00Z"),
        # the clock skips midnight: the day begins at 1, and the next one at 0
        ("Africa/Cairo", "day", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
        # midnight happens twice
        ("America/Havana", "day", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ("UTC", "lifetime", "2026-11-30T10:20:30Z", "1970-01-01T00:00:00Z", None),
    ],
)
def test_windows_begin_and_end_by_the_calendar(
    zone: str, window: Window, now: str, start: str, end: str | None
) -> None:
    moment = datetime.fromisoformat(now)
    tz = ZoneInfo(zone)
    assert window_start(window, moment, tz) == datetime.fromisoformat(start)
    assert window_end(window, moment, tz) == (None if end is None else datetime.fromisoformat(end))


@pytest.mark.parametrize("zone", ZONES)
@given(moment=MOMENTS)
def test_windows_contain_their_moments_and_follow_each_other(zone: str, moment: datetime) -> None:
    tz = ZoneInfo(zone)
    for window in WINDOWS:
        start, end = window_start(window, moment, tz), window_end(window, moment, tz)
        assert start <= moment
        if end is None:
            continue
        assert moment < end
        if window in ("day", "month"):
            assert window_start(window, end, tz) == end
            assert window_start(window, end - timedelta(microseconds=1), tz) == start
            assert window_start(window, start, tz) == start
