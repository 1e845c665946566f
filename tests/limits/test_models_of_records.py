"""Limits of a model count the items of cost records that name it, when they are reported, unless the work fails."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.auth.caller import Actor
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.ids import place_of
from app.cost_records.records import Addition, Completion, Item, Request
from app.cost_records.service import CostRecordService
from app.metering.events import StatedCost, Terms
from app.pricing.usage import LlmTokens
from tests.books import connected
from tests.limits.conftest import LIMITS, METRIC, MODEL, Teller

OTHER = "claude-3-haiku"
BEFORE = datetime(2027, 5, 10, 20, 59, 59, tzinfo=UTC)
"""The last second of a day in Kyiv."""


def of(model: str) -> dict[str, str]:
    return {"type": "model", "value": model}


def records_of(teller: Teller) -> CostRecordService:
    """A service as another process has it, which counts in limits."""
    configuration = Configuration(teller.desk.db, teller.desk.app.state.settings)
    return CostRecordService(teller.desk.db, BillingService(teller.desk.db, configuration).batcher, configuration)


async def opened(teller: Teller, user: str, **fields: Any) -> str:
    body = {"user_id": user, "request_id": uuid.uuid4().hex, "tool": "t", "estimate": "0.000000009", **fields}
    answer = await teller.boss.post("/v1/cost-records", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["record_id"])


async def add(teller: Teller, record_id: str, nanos: int, model: str | None = MODEL) -> None:
    metric = {} if model is None else {"metric": {**METRIC, "model": model}}
    item = {"item_id": uuid.uuid4().hex, "cost": f"0.{nanos:09}", **metric}
    answer = await teller.boss.post(f"/v1/cost-records/{record_id}/items", json=item)
    assert answer.status_code == 201, answer.text


async def complete(teller: Teller, record_id: str, status: str = "completed") -> None:
    answer = await teller.boss.post(f"/v1/cost-records/{record_id}/complete", json={"status": status})
    assert answer.status_code == 200, answer.text


async def counted(teller: Teller, user: str) -> dict[tuple[str, str], float]:
    """The counter of each limit, by its model and unit: money in nanos."""
    found: dict[tuple[str, str], float] = {}
    for limit in await teller.limits(user):
        scale = 1 if limit["unit"] == "uses" else 10**9
        found[limit["scope_value"] or "", limit["unit"]] = round(float(limit["spent"]) * scale)
    return found


async def watched(teller: Teller, user: str, **terms: Any) -> None:
    """Set limits of both models and of the account, of money and uses, that refuse nothing."""
    for scope in (of(MODEL), of(OTHER), {"type": "account"}):
        await teller.limit(user, scope=scope, unit="money", amount="1", **terms)
        await teller.limit(user, scope=scope, unit="uses", amount="1000", **terms)


@pytest.mark.parametrize("window", ["day", "lifetime"])
@pytest.mark.parametrize(("status", "is_charged"), [("completed", True), ("failed", False), (None, True)])
async def test_items_count_for_their_models(
    window: str, status: str | None, is_charged: bool, teller: Teller, user: str
) -> None:
    """Not the estimate, which names no model. The account's limit counts the record once, as before."""
    await watched(teller, user, window=window)
    record = await opened(teller, user)
    assert await counted(teller, user) == {
        **{(model, unit): 0 for model in (MODEL, OTHER) for unit in ("USD", "uses")},
        ("", "USD"): 9,
        ("", "uses"): 1,
    }
    for nanos, model in ((4, MODEL), (3, MODEL), (5, OTHER), (6, None)):
        await add(teller, record, nanos, model)
    if status is not None:
        await complete(teller, record, status)
    expected = {(MODEL, "USD"): 7, (MODEL, "uses"): 2, (OTHER, "USD"): 5, (OTHER, "uses"): 1}
    expected |= {("", "USD"): 18, ("", "uses"): 1}
    assert await counted(teller, user) == (expected if is_charged else dict.fromkeys(expected, 0))


@pytest.mark.parametrize("status", ["completed", "failed", None])
async def test_a_repeat_counts_nothing(status: str | None, teller: Teller, user: str) -> None:
    await watched(teller, user)
    record = await opened(teller, user)
    item = {"item_id": "i", "cost": "0.000000004", "metric": METRIC | {"model": MODEL}}
    for expected in (201, 200):
        answer = await teller.boss.post(f"/v1/cost-records/{record}/items", json=item)
        assert answer.status_code == expected
    if status is not None:
        for _ in range(2):
            await complete(teller, record, status)
    assert (await counted(teller, user))[MODEL, "USD"] == (0 if status == "failed" else 4)


async def test_open_and_completed_records_leave_no_room_for_usage(teller: Teller, user: str) -> None:
    """Items are work that is done: they are counted beyond the amount, and then events are refused."""
    limit = await teller.limit(user, scope=of(MODEL), unit="money", amount="0.000000010")
    record = await opened(teller, user)
    await add(teller, record, 8)
    refused = await teller.spend("usage", user)
    assert (refused.status_code, refused.json()["limit"]["id"]) == (402, limit["id"])
    assert (await teller.spend("usage", user, model=OTHER)).is_success
    await complete(teller, record)
    assert (await teller.spend("usage", user)).status_code == 402
    failed = await opened(teller, user)
    await add(teller, failed, 8)
    await complete(teller, failed, "failed")
    assert await teller.spent(user) == ["0.000000008"]
    assert (await teller.limit(user, scope=of(MODEL), unit="money", amount="0.000000011"))["spent"] == "0.000000008"
    assert (await teller.spend("usage", user)).is_success


@pytest.mark.parametrize("on_expiry", ["charge_reported", "charge_nothing"])
async def test_an_expired_record_counts_as_its_policy_charges(on_expiry: str, teller: Teller, user: str) -> None:
    await watched(teller, user)
    record = await opened(teller, user, expires_in_s=1, on_expiry=on_expiry)
    await add(teller, record, 4)
    await records_of(teller).expire(datetime.now(UTC) + timedelta(seconds=5))
    found = await counted(teller, user)
    is_charged = on_expiry == "charge_reported"
    assert (found[MODEL, "USD"], found[MODEL, "uses"]) == ((4, 1) if is_charged else (0, 0))


async def test_an_item_counts_on_the_day_of_its_report(teller: Teller, user: str, set_time: Any) -> None:
    """An old open record hides nothing. A failure takes back only the items of this day."""
    set_time(BEFORE)
    await watched(teller, user, window="day")
    await teller.limit(user, scope=of(MODEL), unit="money", window="month", amount="1")
    record = await opened(teller, user)
    await add(teller, record, 4)
    set_time(BEFORE + timedelta(seconds=1))
    await add(teller, record, 5)
    days = {limit["window"]: limit["spent"] for limit in await teller.limits(user) if limit["unit"] == "USD"}
    assert (await counted(teller, user))[MODEL, "uses"] == 1
    assert days["month"] == "0.000000009"
    await complete(teller, record, "failed")
    assert await counted(teller, user) == dict.fromkeys(await counted(teller, user), 0)


class NoBooks:
    """Every cost is stated."""

    def at(self, currency: str, moment: datetime) -> None:
        return None


async def test_items_and_a_failure_in_one_transaction(teller: Teller, user: str) -> None:
    """The batch has not written the items that its last request takes back."""
    await watched(teller, user)
    record = await opened(teller, user)
    await add(teller, record, 2)
    account_id, record_id = place_of(record)
    now = datetime.now(UTC)
    actor = Actor("system", "tests")
    usage = LlmTokens(provider="anthropic", model=MODEL, tokens={"input_uncached": 1})
    terms = Terms(actor, now, max_stated_nanos=10**9)
    items = [Item(f"b{number}", usage, StatedCost("nanos", 3), None) for number in range(3)]
    requests: list[Request] = [Addition(account_id, "live", record_id, item, terms, NoBooks(), {}) for item in items]
    requests.append(Completion(account_id, "live", record_id, "failed", None, None, actor, now))
    await records_of(teller)._requests.run_all(requests)
    assert (await counted(teller, user))[MODEL, "USD"] == 0
    rows = await teller.desk.rows("SELECT count(*) AS items FROM cost_record_items WHERE record_id = $1", record_id)
    assert rows[0]["items"] == 4


async def test_items_of_a_version_before_are_not_taken_back(teller: Teller, user: str) -> None:
    """It did not count them."""
    await watched(teller, user)
    record, other = await opened(teller, user), await opened(teller, user)
    await add(teller, other, 6)
    await add(teller, record, 4)
    _, record_id = place_of(record)
    async with connected(teller.desk.urls) as connection:
        await connection.execute("UPDATE cost_record_items SET is_counted = false WHERE record_id = $1", record_id)
    before = await counted(teller, user)
    await complete(teller, record, "failed")
    assert (await counted(teller, user))[MODEL, "USD"] == before[MODEL, "USD"]
    for limit in await teller.limits(user):
        assert (await teller.boss.delete(f"{LIMITS}/{limit['id']}")).status_code == 200
    await watched(teller, user)
    assert (await counted(teller, user))[MODEL, "USD"] == 6


async def test_many_at_once_are_counted_once_each(teller: Teller, user: str) -> None:
    await watched(teller, user)
    records = [await opened(teller, user) for _ in range(4)]
    await asyncio.gather(*(add(teller, record, 1) for record in records for _ in range(10)))
    statuses = ("completed", "failed")
    await asyncio.gather(*(complete(teller, record, statuses[n % 2]) for n, record in enumerate(records)))
    found = await counted(teller, user)
    assert (found[MODEL, "USD"], found[MODEL, "uses"]) == (20, 20)
