"""The routes of cost records by the clients' methods, what cannot be sent, and a server that is killed."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ciris_billing import (
    ApiCalls,
    AsyncBillingClient,
    CostRecordItem,
    CostRecordOpening,
    CostRecordSettled,
    LlmTokens,
    NotFound,
    Options,
    ServiceUnavailable,
    User,
)
from ciris_billing.reporter import UsageReporter
from tests.databases import Urls
from tests.metering.conftest import Desk
from tests.metering.test_usage_races import CENT, books, key, open_account, servers
from tests.sdk.conftest import QUICK, faults_before, usage_key
from tests.sdk.reactions import Reaction
from tests.sdk.test_cost_records import COST, QUEUE, work
from tests.sdk.test_retries import LOST
from tests.servers import free_port, running_server
from tests.support.wallets import DOLLAR

__all__ = ["key"]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"user_id": "x", "user": User("oauth:google", "x")}, TypeError),
        ({"user_id": "x", "client_key": "y"}, TypeError),
        ({}, TypeError),
        ({"user_id": "x", "estimate": "1", "estimate_cents": 1}, TypeError),
        ({"user_id": "x", "request_id": ""}, ValueError),
        ({"user_id": "x", "estimate": 0.1}, TypeError),
    ],
    ids=str,
)
def test_what_is_no_opening(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CostRecordOpening(tool="search", **wrong).body()


@pytest.mark.parametrize(
    "wrong", [{}, {"cost": "1", "cost_cents": 1}, {"cost": 0.1}, {"cost": "1", "item_id": ""}], ids=str
)
def test_what_is_no_item(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        CostRecordItem(**wrong).body()


async def test_raw_routes(usage_desk: Desk) -> None:
    desk, payer = usage_desk, await usage_desk.user(1000)
    async with AsyncBillingClient(desk.url, usage_key(desk)) as client:
        opening = CostRecordOpening(tool="search", user_id=payer, expires_in_s=60, on_expiry="charge_nothing")
        record = await client.open_cost_record(opening)
        assert (await client.open_cost_record(opening)).record_id == record.record_id
        assert (record.status, record.on_expiry, record.item_count) == ("open", "charge_nothing", 0)
        item = CostRecordItem(usage=ApiCalls("/search", 100), cost_cents=3)
        added = await client.add_cost_record_item(record.record_id, item)
        assert (added.replayed, added.cost, added.item.stated) == (False, Decimal("0.03"), True)
        assert (await client.add_cost_record_item(record.record_id, item)).replayed
        done = await client.complete_cost_record(record.record_id, "completed", execution_time_ms=12)
        assert (done.status, done.charged, done.execution_time_ms) == ("completed", Decimal("0.03"), 12)
        assert await client.complete_cost_record(record.record_id, "completed") == done
        with pytest.raises(CostRecordSettled) as settled:
            await client.complete_cost_record(record.record_id, "failed", error_message="late")
        assert (settled.value.outcome, settled.value.charged, settled.value.status) == (
            "completed",
            Decimal("0.03"),
            409,
        )
        late = CostRecordItem(usage=LlmTokens("openai", "gpt-4o-mini", 1, 1))
        with pytest.raises(CostRecordSettled):
            await client.add_cost_record_item(record.record_id, late)
        with pytest.raises(NotFound):
            await client.get_cost_record("cr_unknown")


async def test_killed_server_is_sent_the_completion_once(own_database: Urls, key: str, folder: Path) -> None:
    """Killed between the items and the completion; another process of the caller delivers it, twice in doubt."""
    port = free_port()
    async with servers(own_database, key, 1) as (running, http):
        await open_account(own_database, running[0], http, "one", 100 * CENT)
    options = Options(retry=QUICK.retry, timeout_s=5, deadline_s=5)
    with running_server(own_database, port=port) as server:
        first = UsageReporter(server.url, key, folder, options=QUEUE, client_options=options)
        async with AsyncBillingClient(server.url, key, options=options, usage=first) as client:
            async with client.record(user_id="one", tool="search", request_id="r-1") as record:
                work(record)
                assert await first.aflush(30)
                server.kill()
            assert not await first.aclose(0.2)
        assert isinstance(first.status().last_error, ServiceUnavailable)
    with running_server(own_database, port=port) as server, faults_before(server.url) as between:
        between.reactions = [LOST, Reaction(503), LOST]
        async with UsageReporter(between.url, key, folder, options=QUEUE) as successor:
            assert await successor.aflush(30)
            assert successor.refused() == []
    cost = int(COST * DOLLAR)
    assert await books(own_database) == (100 * CENT - cost, 1, cost)
