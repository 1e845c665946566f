"""Bursts of new users: every first check is answered, and every account opens with its free uses exactly once."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from tests.books import connected
from tests.chaos.proxy import CommitCutter, CommitMessage
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.servers import running_server

USERS = 200
ROUND_TRIP_S = 0.02
"""As to a database in another zone under load: 200 transactions, one after the other, would take far too long."""
GRANTED = """
    SELECT i.external_id, count(DISTINCT i.account_id) AS accounts, count(e.entry_no) AS grants, max(a.free) AS free,
           max(p.display_name) AS display_name
      FROM account_identities i JOIN accounts a USING (account_id) LEFT JOIN account_profiles p USING (account_id)
      LEFT JOIN ledger_entries e ON e.account_id = i.account_id AND e.kind = 'opening_grant'
     WHERE i.external_id LIKE $1 GROUP BY 1
    """


@pytest.fixture
async def cutter(database: Urls) -> AsyncIterator[CommitCutter]:
    cutter = CommitCutter(SecretStr(database.service))
    await cutter.start()
    yield cutter
    await cutter.stop()


@pytest.fixture
async def client(cutter: CommitCutter, database: Urls, db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which reaches PostgreSQL through the cutter."""
    key = await make_key(db, "live", *Permission)
    settings = settings_for(replace(database, service=cutter.url.get_secret_value()))
    async with running_app(settings) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://billing", headers={"X-API-Key": key}
        ) as client:
            yield client


async def check(client: httpx.AsyncClient, external_id: str) -> int:
    user = {"oauth_provider": "oauth:google", "external_id": external_id, "display_name": external_id}
    return (await client.post("/v1/billing/credits/check", json=user)).status_code


async def assert_granted_once(database: Urls, run: str) -> None:
    async with connected(database) as connection:
        rows = [dict(row) for row in await connection.fetch(GRANTED, f"{run}-%")]
    assert len(rows) == USERS
    for row in rows:
        expected = {"accounts": 1, "grants": 1, "free": 3, "display_name": row["external_id"]}
        assert row == {"external_id": row["external_id"], **expected}


async def test_200_new_users_at_once_are_all_answered(
    client: httpx.AsyncClient, cutter: CommitCutter, database: Urls
) -> None:
    run = uuid.uuid4().hex
    await check(client, "warm-up")
    cutter.latency_s = ROUND_TRIP_S / 2
    statuses = await asyncio.gather(*(check(client, f"{run}-{n}") for n in range(USERS)))
    cutter.heal()
    assert Counter(statuses) == {200: USERS}
    await assert_granted_once(database, run)


@pytest.mark.parametrize("cuts", ["request", "answer"])
async def test_a_commit_lost_in_the_middle_of_a_burst_costs_nobody_an_answer(
    cuts: CommitMessage, client: httpx.AsyncClient, cutter: CommitCutter, database: Urls
) -> None:
    """Whether or not PostgreSQL committed, a second try finds or makes the account."""
    run = uuid.uuid4().hex
    await check(client, "warm-up")
    cutter.cut_next(cuts)
    statuses = await asyncio.gather(*(check(client, f"{run}-{n}") for n in range(USERS)))
    assert cutter.has_cut
    assert Counter(statuses) == {200: USERS}
    await assert_granted_once(database, run)


async def test_two_processes_create_the_same_new_users_once(
    client: httpx.AsyncClient, cutter: CommitCutter, database: Urls, db: Database
) -> None:
    """Also while one of the processes loses all of its connections: its callers repeat what was not answered."""
    run = uuid.uuid4().hex
    key = await make_key(db, "live", *Permission)

    async def until_answered(caller: httpx.AsyncClient, names: list[str]) -> None:
        async with asyncio.timeout(60):
            while names:
                statuses = await asyncio.gather(*(check(caller, name) for name in names))
                assert set(statuses) <= {200, 503}
                names = [name for name, status in zip(names, statuses, strict=True) if status == 503]
                await asyncio.sleep(0.5 if names else 0)  # callers that never pause would starve the cut application

    with running_server(database) as server:
        limits = httpx.Limits(max_connections=USERS)
        async with httpx.AsyncClient(
            base_url=server.url, headers={"X-API-Key": key}, timeout=60, limits=limits
        ) as other:
            names = [f"{run}-{n}" for n in range(USERS)]
            burst = asyncio.gather(until_answered(client, names), until_answered(other, names[::-1]))
            await asyncio.wait({burst}, timeout=0.1)
            cutter.reset_all()
            await burst
    await assert_granted_once(database, run)
