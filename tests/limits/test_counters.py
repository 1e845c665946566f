"""Counters of limits: their first count, and their windows around midnight."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.ledger.limits import WINDOWS
from app.limits.service import MAX_LIMITS
from tests.limits.conftest import LIMITS, METRIC, MODEL, REQUESTS, Teller

BEFORE = datetime(2027, 3, 27, 21, 59, 59, tzinfo=UTC)
"""In Kyiv, the last second before the day on which the clock is put forward."""
LONG_DAY = datetime(2027, 10, 30, 21, 0, tzinfo=UTC)
"""In Kyiv, the first moment of the day on which the clock is set back."""


async def everything(teller: Teller, user: str) -> None:
    """Spend in every way, by two keys, agents and tools."""
    boss = teller.boss
    for route in REQUESTS:
        await teller.spend(route, user)
        await teller.spend(route, user, teller.other, agent="other", tool="painter", model="claude-3-haiku")
    await teller.spend("usage", user, teller.debtor)
    for action, body in [
        ("release", {}),
        ("capture", {"amount_minor": 100}),
        ("capture", {"amount_minor": 800, "overage": "charge_what_fits"}),
    ]:
        hold = (await teller.spend("hold of credits", user, agent="holder")).json()["hold_id"]
        assert (await boss.post(f"/v1/billing/holds/{hold}/{action}", json=body)).status_code == 200
    for amount in ("0.000000001", "0.000000009"):
        hold = (await teller.spend("hold of money", user)).json()["hold_id"]
        body = {"amount": amount, "overage": "charge_what_fits"}
        assert (await boss.post(f"/v1/billing/holds/{hold}/capture", json=body)).status_code == 200
    for cost, status in [("0.000000002", "completed"), ("0.000000008", "completed"), ("0.000000008", "failed")]:
        record = (await teller.spend("record", user)).json()["record_id"]
        item = {"item_id": "1", "cost": cost}
        assert (await boss.post(f"/v1/cost-records/{record}/items", json=item)).status_code == 201
        assert (await boss.post(f"/v1/cost-records/{record}/complete", json={"status": status})).status_code == 200
    for outcome in ("completed", "failed", None):
        record = (await teller.spend("record", user)).json()["record_id"]
        for number, model in enumerate(("claude-3-haiku", "claude-3-haiku", MODEL, None)):
            metric: dict[str, Any] = {} if model is None else {"metric": {**METRIC, "model": model}}
            part: dict[str, Any] = {"item_id": str(number), "cost": f"0.00000000{number + 1}", **metric}
            assert (await boss.post(f"/v1/cost-records/{record}/items", json=part)).status_code == 201
        if outcome is not None:
            done = await boss.post(f"/v1/cost-records/{record}/complete", json={"status": outcome})
            assert done.status_code == 200


async def test_a_new_limit_begins_with_what_an_older_one_has_counted(teller: Teller, user: str) -> None:
    """The older ones are soft and were set before anything was spent; the new ones are hard."""
    scopes = [
        {"type": "account"},
        {"type": "key", "value": teller.key_id},
        {"type": "agent", "value": "scout"},
        {"type": "agent", "value": "holder"},
        {"type": "model", "value": "claude-3-haiku"},
        {"type": "tool", "value": "painter"},
    ]
    terms = [
        {"scope": scope, "window": window, "unit": unit}
        for scope in scopes
        for window in ("hour", "month")
        for unit in ("credits", "money", "uses")
        if (scope["type"], unit) != ("model", "credits")
    ]
    assert len(terms) <= MAX_LIMITS
    for one in terms:
        await teller.limit(user, **one, amount=1_000_000, action="notify")
    await everything(teller, user)
    older = {limit["id"]: limit for limit in await teller.limits(user)}
    for limit in older.values():
        assert (await teller.boss.delete(f"{LIMITS}/{limit['id']}")).status_code == 200
    begun = [await teller.limit(user, **one, amount=1_000_000) for one in terms]
    key = ("scope", "scope_value", "window", "unit", "spent")
    expected = sorted(tuple(str(limit[name]) for name in key) for limit in older.values())
    assert sorted(tuple(str(limit[name]) for name in key) for limit in begun) == expected
    assert sum(float(limit["spent"]) > 0 for limit in begun) >= len(begun) - 6


async def test_a_lifetime_begins_with_what_is_open(teller: Teller, user: str) -> None:
    await teller.spend("charge", user)
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    record = (await teller.spend("record", user)).json()["record_id"]
    for unit, spent in (("credits", "3"), ("money", "0.000000003"), ("uses", "2")):
        assert (await teller.limit(user, window="lifetime", unit=unit, amount="5"))["spent"] == spent
    assert (await teller.boss.post(f"/v1/billing/holds/{hold}/release", json={})).status_code == 200
    done = await teller.boss.post(f"/v1/cost-records/{record}/complete", json={"status": "failed"})
    assert done.status_code == 200
    assert [float(spent) for spent in await teller.spent(user)] == [0, 0, 0]


async def test_earlier_windows_are_not_counted(teller: Teller, user: str, set_time: Any) -> None:
    """Spent yesterday, this month: the month counts it, the day does not."""
    set_time(datetime(2026, 12, 10, 21, 59, 59, tzinfo=UTC))
    assert (await teller.spend("charge", user)).status_code == 201
    set_time(datetime(2026, 12, 10, 22, 0, tzinfo=UTC))
    assert (await teller.limit(user, window="day"))["spent"] == "0"
    assert (await teller.limit(user, window="month"))["spent"] == "3"
    assert set(WINDOWS) > {"day", "month"}


# --- midnight ---


async def test_a_day_ends_at_midnight_of_the_time_zone(teller: Teller, user: str, set_time: Any) -> None:
    set_time(BEFORE)
    limit = await teller.limit(user, amount="3")
    assert limit["resets_at"] == "2027-03-27T22:00:00.000Z"
    assert (await teller.spend("charge", user)).status_code == 201
    assert (await teller.spend("charge", user)).status_code == 402
    set_time(BEFORE + timedelta(seconds=1))
    [limit] = await teller.limits(user)
    assert (limit["spent"], limit["resets_at"]) == ("0", "2027-03-28T21:00:00.000Z")
    assert (await teller.spend("charge", user)).status_code == 201
    assert (await teller.spend("charge", user)).status_code == 402


async def test_a_day_of_25_hours_is_one_window(teller: Teller, user: str, set_time: Any) -> None:
    """A hold at its begin is corrected 24 hours and 59 minutes later."""
    set_time(LONG_DAY)
    limit = await teller.limit(user, amount="3")
    assert limit["resets_at"] == "2027-10-31T22:00:00.000Z"
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    set_time(LONG_DAY + timedelta(hours=24, minutes=59))
    assert (await teller.spend("charge", user)).status_code == 402
    assert (await teller.boss.post(f"/v1/billing/holds/{hold}/release", json={})).status_code == 200
    assert (await teller.spend("charge", user)).status_code == 201
    set_time(LONG_DAY + timedelta(hours=25))
    assert (await teller.spend("charge", user)).status_code == 201


@pytest.mark.parametrize("before", [BEFORE, LONG_DAY + timedelta(hours=24, minutes=59, seconds=59)])
@pytest.mark.parametrize(("action", "body", "month"), [("release", {}, "0"), ("capture", {"amount_minor": 100}, "1")])
async def test_a_hold_over_midnight_counts_on_the_day_of_its_opening(
    action: str, body: dict[str, Any], month: str, before: datetime, teller: Teller, user: str, set_time: Any
) -> None:
    """At the end of October, the hold is of another month too, which loses nothing by its settlement."""
    set_time(before)
    await teller.limit(user, amount="3")
    await teller.limit(user, window="month", amount="9")
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    set_time(before + timedelta(seconds=1))
    assert (await teller.spend("charge", user)).status_code == 201
    assert (await teller.boss.post(f"/v1/billing/holds/{hold}/{action}", json=body)).status_code == 200
    assert await teller.spent(user) == ["3", "3" if before != BEFORE else str(3 + int(month))]
    assert (await teller.spend("charge", user)).status_code == 402


# --- changes while a hold is open ---


@pytest.mark.parametrize(
    ("action", "body", "spent"), [("release", {}, "0"), ("capture", {"amount_minor": 100}, "1"), (None, {}, "3")]
)
@pytest.mark.parametrize("is_set_again_first", [True, False])
async def test_a_limit_that_is_removed_while_a_hold_is_open_begins_with_it_again(
    is_set_again_first: bool, action: str | None, body: dict[str, Any], spent: str, teller: Teller, user: str
) -> None:
    limit = await teller.limit(user, amount="9")
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    assert (await teller.boss.delete(f"{LIMITS}/{limit['id']}")).status_code == 200
    if is_set_again_first:
        assert (await teller.limit(user, amount="9"))["spent"] == "3"
    if action is not None:
        assert (await teller.boss.post(f"/v1/billing/holds/{hold}/{action}", json=body)).status_code == 200
    if not is_set_again_first:
        await teller.limit(user, amount="9")
    assert await teller.spent(user) == [spent]


@pytest.mark.parametrize(
    ("action", "body", "spent"),
    [
        ("release", {}, "0"),
        ("capture", {"amount_minor": 300}, "3"),
        ("capture", {"amount_minor": 900, "overage": "charge_what_fits"}, "3"),
    ],
)
async def test_a_hold_is_settled_after_its_limit_was_lowered_below_it(
    action: str, body: dict[str, Any], spent: str, teller: Teller, user: str
) -> None:
    """The capture of the hold succeeds; beyond it, the limit leaves nothing."""
    await teller.limit(user, amount="9")
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    await teller.limit(user, amount="1")
    assert (await teller.boss.post(f"/v1/billing/holds/{hold}/{action}", json=body)).status_code == 200
    assert await teller.spent(user) == [spent]
    assert (await teller.spend("charge", user)).status_code == 402
