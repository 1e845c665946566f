"""Cost records through races, several processes and SIGKILL: one outcome, charged once."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.cost_records.ids import place_of
from app.cost_records.records import Completion, Done, Rejected
from tests.books import account_locked, connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.metering.conftest import Desk, llm, usage
from tests.metering.test_cost_records import CALLS, PATH, add, complete, get, opened, opening, records_of
from tests.metering.test_usage_races import CENT, books, key, open_account, servers
from tests.servers import Server
from tests.support.killed_servers import delivered, kill
from tests.support.wallets import DOLLAR

__all__ = ["key"]
RACES = 20


async def until_waiting(desk: Desk, number: int) -> None:
    """Until so many reports and requests about records wait for their account."""
    for _ in range(6000):
        if desk.app.state.usage.waiting + desk.app.state.cost_records.waiting == number:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the requests do not wait")


async def start(client: httpx.AsyncClient, server: Server, number: int) -> str:
    """A record of one cent."""
    answer = await client.post(f"{server.url}{PATH}", json=opening("one", request_id=f"r{number}"))
    record_id = str(answer.json()["record_id"])
    item = {"item_id": "i", "cost_cents": 1}
    assert (await client.post(f"{server.url}{PATH}/{record_id}/items", json=item)).status_code == 201
    return record_id


async def test_two_processes_that_complete_or_fail_at_once_have_one_outcome(own_database: Urls, key: str) -> None:
    async with servers(own_database, key, 2) as (running, client):
        await open_account(own_database, running[0], client, "one", 100 * CENT)
        charged = 0
        for number in range(RACES):
            record_id = await start(client, running[0], number)
            paths = [f"{server.url}{PATH}/{record_id}/complete" for server in running] * 2
            answers = await asyncio.gather(
                *(
                    client.post(path, json={"status": status})
                    for path in paths
                    for status in (["completed", "failed"] if number % 2 else ["completed"])
                )
            )
            [outcome] = {answer.json()["status"] for answer in answers if answer.status_code == 200}
            lost = [answer for answer in answers if answer.status_code != 200]
            assert len(lost) == (4 if number % 2 else 0)
            assert {answer.status_code for answer in lost} <= {409}
            assert {answer.json()["error"]["details"]["status"] for answer in lost} <= {outcome}
            charged += outcome == "completed"
    assert charged >= RACES // 2
    assert await books(own_database) == ((100 - charged) * CENT, charged, charged * CENT)


async def test_killed_servers_charge_each_record_once(own_database: Urls, key: str) -> None:
    """Each step is sent again to another process until it is answered."""
    async with servers(own_database, key, 3) as (running, client):
        await open_account(own_database, running[0], client, "one", 1000 * CENT)

        async def deliver(path: str, body: dict[str, object], first: int) -> httpx.Response:
            answer = await delivered(client, running, PATH + path, body, first)
            assert answer.is_success, answer.text
            return answer

        async def work(number: int) -> None:
            record = (await deliver("", opening("one", request_id=f"r{number}"), number)).json()
            for item in range(2):
                await deliver(f"/{record['record_id']}/items", {"item_id": f"i{item}", "cost_cents": 1}, number + item)
            done = await deliver(f"/{record['record_id']}/complete", {"status": "completed"}, number + 2)
            assert done.json()["charged"] == "0.020000"

        await asyncio.gather(kill(running[:2]), *(work(number) for number in range(60)))
    assert await books(own_database) == (880 * CENT, 60, 120 * CENT)


@pytest.mark.parametrize("on_expiry", ["charge_reported", "charge_nothing"])
async def test_expiry_and_completion_at_once_settle_a_record_once(desk: Desk, user: str, on_expiry: str) -> None:
    """Two workers and two callers of each outcome at once."""
    await records_of(desk).expire(datetime.now(UTC) + timedelta(seconds=5))  # those of other tests
    records = [
        await opened(desk, user, {"cost": "0.01"}, on_expiry=on_expiry, expires_in_s=1) for _ in range(RACES // 2)
    ]
    later = datetime.now(UTC) + timedelta(seconds=2)
    workers = asyncio.gather(records_of(desk).expire(later), records_of(desk).expire(later))
    answers = await asyncio.gather(
        *(complete(desk, record, status) for record in records for status in ("completed", "failed") * 2)
    )
    assert sum(await workers) <= len(records)
    assert {answer.status_code for answer in answers} <= {200, 409}
    outcomes = Counter([(await get(desk, record))["status"] for record in records])
    paid = outcomes["completed"] + (outcomes["expired"] if on_expiry == "charge_reported" else 0)
    assert outcomes["open"] == 0
    assert await desk.wallet(user) == (10 * DOLLAR - paid * CENT, 0)
    assert len(await desk.events(user)) == paid


async def test_parallel_openings_items_and_completions_count_once(desk: Desk, user: str) -> None:
    body = opening(user)
    answers = await asyncio.gather(*(desk.router.post(PATH, json=body) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    [record_id] = {answer.json()["record_id"] for answer in answers}
    added = await asyncio.gather(
        *(add(desk, record_id, item_id=f"i{number % 10}", cost="0.01") for number in range(30))
    )
    assert Counter(answer.status_code for answer in added) == {201: 10, 200: 20}
    done = await asyncio.gather(*(complete(desk, record_id) for _ in range(20)))
    assert [answer.json()["charged"] for answer in done] == ["0.100000"] * 20
    assert sum("Idempotency-Replayed" not in answer.headers for answer in done) == 1
    assert await desk.wallet(user) == (10 * DOLLAR - 10 * CENT, 0)


async def test_items_and_events_that_share_a_transaction_share_the_months_volume(desk: Desk, user: str) -> None:
    """3,000 calls: the first 1,000 cost a dollar, the others half as much each, whatever the order of their reports."""
    record_id = await opened(desk, user)
    async with account_locked(desk.urls, await desk.account_id(user)):
        reports = [asyncio.create_task(add(desk, record_id, metric={**CALLS, "count": 150})) for _ in range(10)]
        events = [usage(user, metric={**CALLS, "count": 150}) for _ in range(10)]
        reports += [asyncio.create_task(desk.router.post("/v1/usage", json=event)) for event in events]
        await until_waiting(desk, len(reports))
    assert Counter([(await report).status_code for report in reports]) == {201: 10, 200: 10}
    await complete(desk, record_id)
    assert await desk.wallet(user) == (8 * DOLLAR, 0)


async def test_parallel_requests_for_work_without_a_user_count_once(desk: Desk) -> None:
    body = {"request_id": "r", "tool": "search", "client_key": "parallel"}
    answers = await asyncio.gather(*(desk.router.post(PATH, json=body) for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 9}
    [record_id] = {answer.json()["record_id"] for answer in answers}
    await asyncio.gather(*(add(desk, record_id, item_id=f"i{number % 5}", metric=llm()) for number in range(10)))
    done = await asyncio.gather(
        *(complete(desk, record_id, status) for status in ("completed", "failed") for _ in range(5))
    )
    assert Counter(answer.status_code for answer in done) == {200: 5, 409: 5}
    assert ((await get(desk, record_id))["cost"]) == "0.022500"


async def test_a_repeat_is_answered_while_the_account_is_locked(desk: Desk, user: str) -> None:
    body = opening(user)
    record_id = (await desk.router.post(PATH, json=body)).json()["record_id"]
    await add(desk, record_id, item_id="i", metric=llm())
    await complete(desk, record_id)
    async with account_locked(desk.urls, await desk.account_id(user)), asyncio.timeout(2):
        assert (await desk.router.post(PATH, json=body)).status_code == 200
        assert (await add(desk, record_id, item_id="i", metric=llm())).status_code == 200
        assert (await complete(desk, record_id)).status_code == 200
        assert (await complete(desk, record_id, "failed")).status_code == 409


async def test_a_record_that_cannot_be_settled_stays_open_and_stops_no_other(desk: Desk) -> None:
    """The account's total of used money is full: its record waits, the other one expires."""
    full, user = await desk.user(), await desk.user(100)
    stuck = await opened(desk, full, {"cost": "0.01"}, expires_in_s=1)
    other = await opened(desk, user, {"cost": "0.01"}, expires_in_s=1)
    account_id = await desk.account_id(full)
    set_used = "UPDATE accounts SET money_used_nanos = $2 WHERE account_id = $1"
    async with connected(desk.urls) as connection:
        await connection.execute(set_used, account_id, 2**63 - 1)
        await records_of(desk).expire(datetime.now(UTC) + timedelta(seconds=2))
        await connection.execute(set_used, account_id, 0)
    assert [(await get(desk, record))["status"] for record in (stuck, other)] == ["open", "expired"]
    await records_of(desk).expire(datetime.now(UTC) + timedelta(seconds=2))
    assert (await get(desk, stuck))["debt"] == "0.010000"


async def test_a_refused_settlement_leaves_no_trace_in_its_transaction(desk: Desk) -> None:
    """The account's total of used money is full, so the work cannot be charged. The next outcome counts."""
    full = await desk.user()
    record = await opened(desk, full, {"cost": "0.01"})
    place, now = place_of(record), datetime.now(UTC)
    completed = Completion(place.account_id, "live", place.record_id, "completed", None, None, ACTOR, now)
    set_used = "UPDATE accounts SET money_used_nanos = $2 WHERE account_id = $1"
    async with connected(desk.urls) as connection:
        await connection.execute(set_used, place.account_id, 2**63 - 1)
        outcomes = await records_of(desk)._requests.run_all([completed, replace(completed, status="failed")])
        await connection.execute(set_used, place.account_id, 0)
    assert [type(outcome) for outcome in outcomes] == [Rejected, Done]
    settled = await get(desk, record)
    assert (settled["status"], settled["transaction_id"], settled["charged"]) == ("failed", None, "0.000000")
