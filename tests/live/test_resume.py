"""A client that comes back with the id of its last event gets what it missed: each entry once, in order."""

import asyncio
import random
import uuid
from typing import Any

import httpx
import pytest

from app.db import Database
from app.live import feeds
from app.main import create_app
from tests.books import connected
from tests.conftest import settings_for
from tests.databases import Urls
from tests.live.conftest import Account, new_account
from tests.live.reading import Event, opened
from tests.servers import serving

WRITERS, CHARGES = 6, 25
GROW = """
    WITH entry AS (
        INSERT INTO ledger_entries (account_id, entry_no, pool, delta, balance_after, kind, cause_type, cause_id,
                                    actor_type, actor_id, created_at)
        SELECT $1, n, 'paid', 1, 20 + n - 2, 'grant', 'credit', gen_random_uuid(), 'system', 'tests', now()
          FROM generate_series(3, $2::bigint) AS n)
    UPDATE accounts SET last_entry_no = $2, paid = 20 + $2 - 2 WHERE account_id = $1
"""
SHRINK = "UPDATE accounts SET last_entry_no = 1, paid = 0 WHERE account_id = $1"


def resumed(entry_no: object) -> dict[str, Any]:
    return {"headers": {"Last-Event-ID": str(entry_no)}}


async def test_missed_changes_follow_the_snapshot(account: Account) -> None:
    async with opened(account.client, account.events) as reader:
        last = await reader.next()
    charges = [await account.charge() for _ in range(5)]
    async with opened(account.client, account.events, **resumed(last.id)) as reader:
        first, *missed = await reader.take(6)
        await account.charge()
        new = await reader.next()
    # Without an id: a client that is cut off right after it must not skip what follows.
    assert (first.name, first.id, first.balance["entry_no"], first.data["is_complete"]) == ("snapshot", None, 7, True)
    assert [event.id for event in missed] == [3, 4, 5, 6, 7]
    assert [event.entry["reference_id"] for event in missed] == [charge["charge_id"] for charge in charges]
    assert new.id == 8


async def test_nothing_missed_is_a_snapshot_alone(account: Account) -> None:
    async with opened(account.client, account.events, **resumed(2)) as reader:
        assert (await reader.next()).name == "snapshot"
        await account.charge()
        assert (await reader.next()).id == 3


async def test_the_query_resumes_a_browser_and_the_header_is_newer(account: Account) -> None:
    for _ in range(3):
        await account.charge()
    async with opened(account.client, account.events, params={"last_event_id": "3"}) as reader:
        assert [event.id for event in await reader.take(3)] == [None, 4, 5]
    async with opened(account.client, account.events, params={"last_event_id": "3"}, **resumed(4)) as reader:
        assert [event.id for event in await reader.take(2)] == [None, 5]


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "1e3", "\uff19", "9" * 19, "9" * 300, "1 2", "+1"])
async def test_a_position_that_is_no_number_is_refused(account: Account, text: str) -> None:
    by_query = await account.client.get(account.events, params={"last_event_id": text})
    assert (by_query.status_code, by_query.json()["field"]) == (422, "last_event_id")
    by_header = await account.client.get(account.events, headers=[(b"Last-Event-ID", text.encode())])
    assert (by_header.status_code, by_header.json()["field"]) == (422, "Last-Event-ID")


@pytest.mark.parametrize(("sent", "first"), [(("2", "x"), 3), (("3", "2"), 4), (("2", str(2**62)), 3)])
async def test_of_two_positions_the_first_one_counts(account: Account, sent: tuple[str, str], first: int) -> None:
    for _ in range(3):
        await account.charge()
    headers = [(b"Last-Event-ID", value.encode()) for value in sent]
    async with opened(account.client, account.events, headers=headers) as reader:
        assert [event.id for event in await reader.take(2)] == [None, first]


async def test_an_empty_position_is_none(account: Account) -> None:
    async with opened(account.client, account.events, headers={"Last-Event-ID": ""}) as reader:
        assert (await reader.next()).id == 2


async def test_a_position_that_the_account_does_not_have_begins_again(account: Account) -> None:
    async with opened(account.client, account.events, **resumed(2**62)) as reader:
        first = await reader.next()
        assert (first.id, first.data["is_complete"]) == (2, False)
        await account.charge()
        assert (await reader.next()).id == 3


async def test_ten_thousand_missed_changes_follow_without_a_gap(own_books: Urls, own_agent: httpx.AsyncClient) -> None:
    """Two clients catch up at the same time, and one of them while the account is charged."""
    missed = 10_000
    account = await new_account(own_agent)
    async with connected(own_books) as connection:
        await connection.execute(GROW, uuid.UUID(account.account_id), 2 + missed)

    async def catch_up(*, charges: int) -> list[int | None]:
        async with opened(own_agent, account.events, **resumed(2)) as reader:
            first = await reader.next()
            assert (first.id, first.data["is_complete"]) == (None, True)
            for _ in range(charges):
                await account.charge()
            return [event.id for event in await reader.take(missed + charges)]

    seen = await asyncio.gather(catch_up(charges=0), catch_up(charges=3))
    assert seen[0] == list(range(3, missed + 3))
    assert seen[1] == list(range(3, missed + 6))


async def test_an_approval_does_not_wait_for_missed_changes(own_books: Urls, own_agent: httpx.AsyncClient) -> None:
    account = await new_account(own_agent)
    limit = {**account.user, "window": "day", "unit": "credits", "amount": "0", "action": "ask"}
    assert (await own_agent.put("/v1/billing/limits", json=limit)).status_code == 200
    asked = await own_agent.post("/v1/billing/charges", json={**account.user, "amount_minor": 100})
    assert asked.json()["code"] == "approval_required"
    async with connected(own_books) as connection:
        await connection.execute(GROW, uuid.UUID(account.account_id), 10_000)
    async with opened(own_agent, account.events) as watching:
        await watching.until("approval")  # the feed of the account has it
        async with opened(own_agent, account.events, **resumed(2)) as reader:
            names = [event.name for event in await reader.take(3)]
    assert names == ["snapshot", "approval", "change"]


async def test_a_restored_account_begins_again(own_books: Urls, own_agent: httpx.AsyncClient) -> None:
    account = await new_account(own_agent)
    async with opened(own_agent, account.events) as reader:
        assert (await reader.next()).id == 2
        async with connected(own_books) as connection:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute("DELETE FROM ledger_entries WHERE entry_no > 1")
            await connection.execute(SHRINK, uuid.UUID(account.account_id))
        again = await reader.next()
        assert (again.name, again.id, again.data["is_complete"], again.balance["balance_minor"]) == (
            *("snapshot", 1, False),
            0,
        )
        await account.charge()
        assert (await reader.next()).id == 2


async def follow(account: Account, last: int, rng: random.Random, seen: list[Event]) -> None:
    """Read until the entry `last`, and be cut off again and again, in the middle of the changes."""
    position: int | None = 0
    while position is None or position < last:
        async with opened(account.client, account.events, **resumed(position)) as reader:
            for _ in range(rng.randint(1, 15)):
                event = await reader.next()
                if event.id is not None:
                    seen.append(event)
                    position = event.id
                if position == last:
                    return


async def test_interrupted_readers_see_every_entry_once_and_in_order(
    agent: httpx.AsyncClient, books: Urls, live_db: Database
) -> None:
    """Writers on several connections; readers who are cut off and resume: their events are the ledger."""
    accounts = [await new_account(agent, credits=1_000) for _ in range(2)]
    seen: list[list[Event]] = [[] for _ in range(4)]
    last = 2 + WRITERS * CHARGES

    async def write(account: Account) -> None:
        for _ in range(CHARGES):
            await account.charge(idempotency_key=uuid.uuid4().hex)

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for account in accounts:
            for _ in range(WRITERS):
                group.create_task(write(account))
        for number, events in enumerate(seen):
            group.create_task(follow(accounts[number % 2], last, random.Random(number), events))
    for number, events in enumerate(seen):
        assert [event.id for event in events] == list(range(1, last + 1))
        async with connected(books) as connection:
            ledger = await connection.fetch(
                "SELECT entry_no, pool, delta, balance_after, cause_id FROM ledger_entries"
                " WHERE account_id = $1 ORDER BY 1",
                uuid.UUID(accounts[number % 2].account_id),
            )
        for event, row in zip(events, ledger, strict=True):
            assert event.entry["entry_no"] == row["entry_no"] == event.id
            assert (event.entry["pool"], event.entry["amount_minor"]) == (row["pool"], row["delta"] * 100)
            assert event.entry["balance_after_minor"] == row["balance_after"] * 100
            assert event.entry["reference_id"] == str(row["cause_id"])
            assert event.balance["entry_no"] >= row["entry_no"]


async def test_readings_that_are_cut_lose_nothing(
    own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More new entries than one reading takes: of an account, and of all together."""
    monkeypatch.setattr(feeds, "ENTRIES_PER_ACCOUNT", 3)
    monkeypatch.setattr(feeds, "ROWS_PER_POLL", 4)
    monkeypatch.setattr(feeds, "PAGE", 2)
    with serving(create_app(settings_for(own_books))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            accounts = [await new_account(client, credits=100) for _ in range(2)]
            async with opened(client, accounts[0].events) as one, opened(client, accounts[1].events) as other:
                await asyncio.gather(one.next(), other.next())
                await asyncio.gather(*(account.charge() for account in accounts for _ in range(20)))
                seen = await asyncio.gather(one.take(20), other.take(20))
    for events in seen:
        assert [event.id for event in events] == list(range(3, 23))
