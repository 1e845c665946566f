"""Behind the real Caddy, replicas may be replaced and may die: nothing is lost, and nothing is charged twice."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.verification import verify_books
from tests.books import connected
from tests.conftest import make_key
from tests.databases import Urls, create_database, drop_database
from tests.edge.caddy import Edge, running_caddy
from tests.edge.replicas import TURNS_TO_A_NEW_REPLICA_IN_S, Load, Replica, load
from tests.rolling import mixed_traffic

CALLERS = 4
WELL = {("charge", 201), ("tool charge", 200), ("check", 200), ("read", 200)}
CHARGED = """
    SELECT charge_id FROM charges JOIN account_identities USING (account_id)
     WHERE external_id = ANY($1) AND operation = 'charge'
"""
USED = "SELECT count(*) FROM product_usage_log JOIN account_identities USING (account_id) WHERE external_id = ANY($1)"
pytestmark = pytest.mark.timeout(240)  # processes start four times here


@dataclass
class Site:
    """A Caddy in front of two replicas, their database, and an API key."""

    edge: Edge
    replicas: list[Replica]
    urls: Urls
    key: str


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    name = f"replicas_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    urls = await create_database(name)
    db = Database(SecretStr(urls.service), pool_size=3)
    key = await make_key(db, "live", Permission.READ, Permission.WRITE, Permission.CREDIT)
    replicas = [Replica(urls), Replica(urls)]
    try:
        await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in replicas))
        with running_caddy([replica.url for replica in replicas], tmp_path_factory.mktemp("site")) as edge:
            yield Site(edge, replicas, urls, key)
        verification = await verify_books(db, datetime.now(UTC))
        assert verification.ok, verification.problem
    finally:
        for replica in replicas:
            replica.close()
        await db.close()
        await drop_database(name)


async def the_books_hold_what_was_acknowledged_and_nothing_else(urls: Urls, load: Load) -> None:
    """Every charge and tool charge once: also those without a key, which a careless repetition would double."""
    assert len(set(load.acknowledged)) == len(load.acknowledged) > 0
    users = [user["external_id"] for user in load.users]
    async with connected(urls) as connection:
        charged = {str(row["charge_id"]) for row in await connection.fetch(CHARGED, users)}
        used = await connection.fetchval(USED, users)
    assert charged == set(load.acknowledged)
    assert used == load.answers["tool charge", 200]


async def test_replicas_are_replaced_one_after_the_other_and_no_request_fails(site: Site) -> None:
    async with load(site.edge, site.key, CALLERS) as callers:
        for replica in site.replicas:
            assert await asyncio.to_thread(replica.replace) == 0
            await asyncio.sleep(TURNS_TO_A_NEW_REPLICA_IN_S)
    assert set(callers.answers) == WELL
    await the_books_hold_what_was_acknowledged_and_nothing_else(site.urls, callers)


async def test_a_replica_that_is_killed_fails_no_request_of_callers_who_repeat_nothing(site: Site) -> None:
    """The other replica takes over its requests: a charge whose answer was lost is answered as a replay."""
    victim = site.replicas[0]
    async with load(site.edge, site.key, CALLERS) as callers:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(victim.server.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(victim.start)
        await asyncio.sleep(TURNS_TO_A_NEW_REPLICA_IN_S)
    assert set(callers.answers) - WELL <= {("charge", 409)}
    await the_books_hold_what_was_acknowledged_and_nothing_else(site.urls, callers)


async def test_versions_share_a_schema(site: Site) -> None:
    """Here both are this version: this checks the traffic that scripts/rolling-check sends to the previous one."""
    old, new = (replica.url for replica in site.replicas)
    assert await mixed_traffic(old, new, site.key, rounds=2) > 0
