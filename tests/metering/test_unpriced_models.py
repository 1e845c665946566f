"""Models without a price, by every way to report usage: counted, whether they are refused or have the stated price."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.observability.metrics import REGISTRY
from tests.live.reading import until
from tests.metering.conftest import Desk, llm, put_in_force, usage
from tests.metering.test_cost_records import add, opened
from tests.metering.test_usage_events_http import event, send

NEW = llm(10, 1, "claude-next")
STATED = {"prices": {"input_uncached": "100", "output_text": "300"}}
COST = 1_300_000
"""Nanos of NEW at the stated prices."""


async def report(desk: Desk, user: str) -> None:
    await desk.debtor.post("/v1/usage", json=usage(user, metric=NEW))


async def report_in_a_batch(desk: Desk, user: str) -> None:
    await desk.debtor.post("/v1/usage/batch", json={"events": [usage(user, metric=NEW)]})


async def send_an_event(desk: Desk, user: str) -> None:
    names = {"provider.name": "anthropic", "request.model": "claude-next"}
    tokens = {"usage.input_tokens": 10, "usage.output_tokens": 1}
    await send(desk, event(user, {f"gen_ai.{name}": value for name, value in (names | tokens).items()}))


async def add_to_a_record(desk: Desk, user: str) -> None:
    await add(desk, await opened(desk, user), metric=NEW)


Way = Callable[[Desk, str], Awaitable[None]]
WAYS: list[Way] = [report, report_in_a_batch, send_an_event, add_to_a_record]


def counted(outcome: str) -> float:
    labels = {"reason": "no_row", "outcome": outcome}
    return REGISTRY.get_sample_value("billing_unknown_models_total", labels) or 0.0


@pytest.fixture(scope="module")
async def in_zloty(desk: Desk) -> str:
    """A user whose currency has a price book with stated prices for unknown models."""
    await put_in_force(desk.db, currency="PLN", unknown_models=STATED)
    user = await desk.user()
    account_id = await desk.account_id(user)
    await desk.rows("UPDATE accounts SET currency = 'PLN' WHERE account_id = $1 RETURNING 1", account_id)

    async def is_known() -> bool:
        answer = await desk.reader.post("/v1/usage/quote", json={"metric": NEW, "user_id": user})
        return answer.status_code == 200

    await until(is_known)
    return user


@pytest.mark.parametrize("way", WAYS)
async def test_a_refused_model_is_counted(desk: Desk, user: str, way: Way) -> None:
    before = counted("refused")
    await way(desk, user)
    assert counted("refused") == before + 1
    assert await desk.events(user) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_at_the_stated_price_is_counted(desk: Desk, in_zloty: str, way: Way) -> None:
    before = counted("stated_price"), counted("refused")
    await way(desk, in_zloty)
    assert (counted("stated_price"), counted("refused")) == (before[0] + 1, before[1])
    table = "cost_record_items" if way is add_to_a_record else "usage_events"
    row = (await desk.rows(f"SELECT * FROM {table} WHERE model = 'claude-next'"))[-1]
    stored: dict[str, Any] = json.loads(row["price"])
    assert (row["cost_nanos"], stored) == (COST, {"rows": ["unknown_models"], "fallback": True})
    assert row["price_version"] is not None
