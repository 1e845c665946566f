"""Usage events through races, several processes, SIGKILL and lost connections: no event twice, none overspent."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.db import Database
from app.ledger.entries import Cause, Kind
from app.verification import verify_books
from tests.books import account_locked, connected
from tests.conftest import ACTOR, make_usage_key
from tests.databases import Urls
from tests.metering.conftest import ALL, EXPENSIVE, PROVIDER, Desk, llm, put_in_force, usage
from tests.servers import Server, running_server
from tests.support.killed_servers import kill
from tests.support.wallets import DOLLAR, locked

PATH = "/v1/usage"
CENT = DOLLAR // 100


@pytest.fixture
async def key(own_database: Urls) -> str:
    """A key of a database with a price book."""
    db = Database(SecretStr(own_database.service))
    await put_in_force(db)
    text = await make_usage_key(db, EXPENSIVE, "live", *ALL)
    await db.close()
    return text


@contextlib.asynccontextmanager
async def servers(urls: Urls, key: str, number: int) -> AsyncIterator[tuple[list[Server], httpx.AsyncClient]]:
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(running_server(urls)) for _ in range(number)]
        async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30) as client:
            yield running, client


async def open_account(urls: Urls, server: Server, client: httpx.AsyncClient, user: str, nanos: int) -> None:

    answer = await client.post(f"{server.url}{PATH}/check", json={"user_id": user, "required_cents": 0})
    assert answer.status_code == 200, answer.text
    db = Database(SecretStr(urls.service))
    now = datetime.now(UTC)
    async with connected(urls) as connection:
        account_id = await connection.fetchval(
            "SELECT account_id FROM account_identities WHERE oauth_provider = $1 AND external_id = $2", PROVIDER, user
        )
    async with locked(db, account_id, now) as account:
        account.give_money(nanos, Kind.OPENING_GRANT, Cause("account", account_id), ACTOR, now)
    await db.close()


async def books(urls: Urls) -> tuple[int, int, int]:
    """(money left, accepted events, their cost), of a database whose books verify."""
    db = Database(SecretStr(urls.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem
    async with connected(urls) as connection:
        row = await connection.fetchrow(
            """
            SELECT (SELECT sum(money_nanos)::bigint FROM accounts), count(*), coalesce(sum(cost_nanos), 0)::bigint
              FROM usage_events WHERE status = 'charged'
            """
        )
    assert row is not None
    return tuple(row)


async def test_four_processes_in_any_order_never_overspend_and_count_no_event_twice(
    own_database: Urls, key: str
) -> None:
    async with servers(own_database, key, 4) as (running, client):
        await open_account(own_database, running[0], client, "one", 60 * CENT)
        events = [usage("one", f"e{number}", cost_cents=1) for number in range(90)]
        sent = [(server, event) for event in events for server in running]
        random.shuffle(sent)
        answers = await asyncio.gather(*(client.post(f"{server.url}{PATH}", json=event) for server, event in sent))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 402, 409}
    assert statuses[200] == 60
    assert await books(own_database) == (0, 60, 60 * CENT)
    paid = {answer.json()["event_id"] for answer in answers if answer.status_code == 200}
    assert len(paid) == 60
    repeats = [answer.json()["event_id"] for answer in answers if answer.status_code == 409]
    assert set(repeats) <= paid


async def test_killed_servers_lose_and_double_no_event(own_database: Urls, key: str) -> None:
    """Batches and single events are sent again to another process until all are answered: each counts once."""
    async with servers(own_database, key, 4) as (running, client):
        await open_account(own_database, running[0], client, "one", 1000 * CENT)
        events = [usage("one", f"e{number}", cost_cents=1) for number in range(400)]

        async def deliver(part: list[dict[str, Any]], first: int) -> None:
            """As a reporter with a queue: it sends the same until an answer arrives, to one server after another."""
            for attempt in range(40):
                url = running[(first + attempt) % 4].url
                try:
                    answer = await client.post(f"{url}{PATH}/batch", json={"events": part}, timeout=5)
                except httpx.TransportError:
                    continue
                results = answer.json()["results"] if answer.status_code == 200 else []
                if results and all(item["success"] or item["error"] == "duplicate_event" for item in results):
                    return
            raise AssertionError("not delivered")

        parts = [events[first : first + 20] for first in range(0, 400, 20)]
        await asyncio.gather(kill(running[:3], 0.15), *(deliver(part, number) for number, part in enumerate(parts)))
    assert await books(own_database) == (600 * CENT, 400, 400 * CENT)


async def test_a_replay_is_answered_while_the_account_is_locked(desk: Desk, user: str) -> None:
    event = usage(user)
    assert (await desk.router.post(PATH, json=event)).status_code == 200
    async with account_locked(desk.urls, await desk.account_id(user)), asyncio.timeout(2):
        assert (await desk.router.post(PATH, json=event)).status_code == 409
        batch = (await desk.router.post(f"{PATH}/batch", json={"events": [event]})).json()
        assert batch["results"][0]["error"] == "duplicate_event"
        check = await desk.router.post(f"{PATH}/check", json={"user_id": user, "required_cents": 1})
        assert check.status_code == 200


async def test_a_batch_waits_for_no_account_but_its_own(desk: Desk) -> None:
    held, free = [await desk.user(100) for _ in range(2)]
    async with account_locked(desk.urls, await desk.account_id(held)):
        batch = asyncio.create_task(
            desk.router.post(f"{PATH}/batch", json={"events": [usage(held), usage(free), usage(held)]})
        )
        for _ in range(3000):
            if await desk.events(free):
                break
            await asyncio.sleep(0.02)
        assert len(await desk.events(free)) == 1
        assert not batch.done()
    assert (await batch).json()["processed"] == 3


async def test_an_account_that_stays_locked_fails_its_own_events_only(desk: Desk) -> None:
    held, free = [await desk.user(100) for _ in range(2)]
    async with account_locked(desk.urls, await desk.account_id(held)):
        answer = await desk.router.post(f"{PATH}/batch", json={"events": [usage(held), usage(free), usage(held)]})
    assert [(item["success"], item["error"]) for item in answer.json()["results"]] == [
        (False, "busy"),
        (True, None),
        (False, "busy"),
    ]
    assert await desk.events(held) == []


async def test_batches_that_overlap_in_any_order_record_each_event_once(desk: Desk) -> None:
    user = await desk.user(1000)
    events = [usage(user, f"e{number}", llm(1, 1)) for number in range(60)]
    answers = await asyncio.gather(
        *(desk.router.post(f"{PATH}/batch", json={"events": random.sample(events, len(events))}) for _ in range(6))
    )
    recorded = Counter(item["event_id"] for answer in answers for item in answer.json()["results"] if item["success"])
    assert recorded == Counter(event["event_id"] for event in events)
    assert len(await desk.events(user)) == 60
