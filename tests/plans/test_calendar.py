"""Calendar periods: cases that calendars are known for, and properties of all of them."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plans.calendar import Period, Unit, boundary, number_at, period, period_at, periods_within

KYIV, NEW_YORK, APIA = ZoneInfo("Europe/Kyiv"), ZoneInfo("America/New_York"), ZoneInfo("Pacific/Apia")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # changes by half an hour
ZONES = (UTC, KYIV, NEW_YORK, LORD_HOWE, ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/St_Johns"))
UNITS: tuple[Unit, ...] = ("day", "month", "year")


def at(text: str, zone: object = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)  # type: ignore[arg-type]  # one of the zones above


@pytest.mark.parametrize(
    ("anchor", "unit", "starts"),
    [
        ("2026-01-31", "month", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2024-01-31", "month", ["2024-01-31", "2024-02-29", "2024-03-31"]),
        ("2026-01-30", "month", ["2026-01-30", "2026-02-28", "2026-03-30"]),
        ("2026-12-31", "month", ["2026-12-31", "2027-01-31", "2027-02-28"]),
        ("2024-02-29", "year", ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
        ("2024-02-29", "month", ["2024-02-29", "2024-03-29", "2024-04-29"]),
        ("2023-02-28", "year", ["2023-02-28", "2024-02-28"]),
        ("2026-12-31", "day", ["2026-12-31", "2027-01-01", "2027-01-02"]),
    ],
)
def test_days_that_a_month_lacks(anchor: str, unit: Unit, starts: list[str]) -> None:
    found = [boundary(at(anchor), unit, number) for number in range(len(starts))]
    assert [start.date().isoformat() for start in found] == starts


@pytest.mark.parametrize(
    ("zone", "anchor", "unit", "number", "local"),
    [
        (KYIV, "2026-03-15T09:00", "month", 1, "2026-04-15T09:00"),  # summer time began on 29 March
        (KYIV, "2026-10-15T09:00", "month", 1, "2026-11-15T09:00"),
        (KYIV, "2026-03-28T03:30", "day", 1, "2026-03-29T04:30"),  # the clock skips 03:00 to 04:00
        (KYIV, "2026-03-28T03:30", "day", 2, "2026-03-30T03:30"),
        (KYIV, "2026-10-24T03:30", "day", 1, "2026-10-25T03:30"),  # twice: the first one
        (NEW_YORK, "2026-02-08T02:30", "month", 1, "2026-03-08T03:30"),
        (APIA, "2011-12-29T09:00", "day", 1, "2011-12-31T09:00"),  # Samoa skipped 30 December
    ],
)
def test_the_clock_of_the_zone_counts(zone: ZoneInfo, anchor: str, unit: Unit, number: int, local: str) -> None:
    assert boundary(at(anchor, zone), unit, number, zone) == at(local, zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [(KYIV, "2026-03-29", 23), (KYIV, "2026-10-25", 25), (KYIV, "2026-03-30", 24), (LORD_HOWE, "2026-04-05", 24.5)],
)
def test_days_that_are_longer_or_shorter(zone: ZoneInfo, day: str, hours: float) -> None:
    assert period(at(day, zone), "day", 0, zone).length == timedelta(hours=hours)


@pytest.mark.parametrize("anchor", ["2024-02-29", "2026-01-31", "2026-08-31T23:59", "2026-03-29T02:30"])
def test_a_year_has_twelve_monthly_grants(anchor: str) -> None:
    for year in range(4):
        whole = period(at(anchor, KYIV), "year", year, KYIV)
        months = periods_within(at(anchor, KYIV), "month", whole, KYIV)
        assert len(months) == 12
        assert (months[0].start, months[-1].end) == (whole.start, whole.end)
        assert all(before.end == after.start for before, after in pairwise(months))


def test_a_period_that_was_cut_short_has_the_grants_that_begin_in_it() -> None:
    anchor, whole = at("2026-01-31"), Period(at("2026-02-10"), at("2026-04-10"))
    months = periods_within(anchor, "month", whole)
    assert [month.start.date().isoformat() for month in months] == ["2026-02-28", "2026-03-31"]
    assert months[-1].end == whole.end


def test_a_period_includes_its_start_and_not_its_end() -> None:
    january = period(at("2026-01-01"), "month", 0)
    assert january.start in january
    assert january.end not in january
    assert period_at(at("2026-01-01"), "month", january.end) == period(at("2026-01-01"), "month", 1)


CENTURY = timedelta(days=36_525)
moments = st.timedeltas(timedelta(0), CENTURY).map(lambda passed: datetime(1990, 1, 1, tzinfo=UTC) + passed)
zones, units = st.sampled_from(ZONES), st.sampled_from(UNITS)


@given(anchor=moments, unit=units, zone=zones, number=st.integers(-40, 400))
def test_periods_tile_time(anchor: datetime, unit: Unit, zone: ZoneInfo, number: int) -> None:
    before, after = period(anchor, unit, number, zone), period(anchor, unit, number + 1, zone)
    assert before.end == after.start
    assert before.start < before.end
    days = {"day": (0.9, 1.1), "month": (27.9, 31.1), "year": (364.9, 366.1)}[unit]
    assert days[0] <= before.length / timedelta(days=1) <= days[1]


@given(anchor=moments, unit=units, zone=zones, now=moments)
def test_every_moment_is_in_one_period(anchor: datetime, unit: Unit, zone: ZoneInfo, now: datetime) -> None:
    number = number_at(anchor, unit, now, zone)
    assert now in period(anchor, unit, number, zone)
    assert [n for n in range(number - 2, number + 3) if now in period(anchor, unit, n, zone)] == [number]


@given(anchor=moments, zone=zones, year=st.integers(0, 30))
def test_the_months_of_a_year_tile_it(anchor: datetime, zone: ZoneInfo, year: int) -> None:
    whole = period(anchor, "year", year, zone)
    months = periods_within(anchor, "month", whole, zone)
    assert len(months) == 12
    assert [whole.start, *(month.end for month in months)] == [*(month.start for month in months), whole.end]


@given(anchor=moments, zone=zones, number=st.integers(0, 400))
def test_the_anchors_day_returns_after_a_shorter_month(anchor: datetime, zone: ZoneInfo, number: int) -> None:
    """No month loses a day for the months after it."""
    local, started = anchor.astimezone(zone), boundary(anchor, "month", number, zone).astimezone(zone)
    assert started.day <= local.day
    next_day = started + timedelta(days=1)
    assert started.day == local.day or next_day.day == 1
