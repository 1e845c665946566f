"""Behind the real Caddy, replicas may be replaced and may die: nothing is lost, and nothing is charged twice."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.billing.verify import verify_ledger
from app.db import Database
from ciris_billing import AsyncBillingClient, User
from tests.books import connected
from tests.conftest import make_key
from tests.databases import Urls, create_database, drop_database
from tests.edge.caddy import Edge, running_caddy
from tests.edge.replicas import TURNS_TO_A_NEW_REPLICA_IN_S, Load, Replica, load
from tests.rolling import mixed_traffic

CALLERS = 4
pytestmark = pytest.mark.timeout(240)  # processes start four times here


@dataclass
class Site:
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
        verification = await verify_ledger(db, datetime.now(UTC))
        assert verification.ok, verification.problem
    finally:
        for replica in replicas:
            replica.close()
        await db.close()
        await drop_database(name)


async def times_charged(urls: Urls, keys: list[str]) -> dict[str, int]:
    async with connected(urls) as connection:
        query = "SELECT idempotency_key AS key, count(*) FROM charges WHERE idempotency_key = ANY($1) GROUP BY 1"
        found = {row["key"]: row["count"] for row in await connection.fetch(query, keys)}
    return {key: found.get(key, 0) for key in keys}


async def everything_acknowledged_is_charged_once(urls: Urls, load: Load) -> None:
    assert len(set(load.acknowledged)) == len(load.acknowledged) > 0
    assert set((await times_charged(urls, load.acknowledged)).values()) == {1}


async def test_replicas_are_replaced_one_after_the_other_and_no_request_fails(site: Site) -> None:
    async with load(site.edge, site.key, CALLERS) as callers:
        for replica in site.replicas:
            assert await asyncio.to_thread(replica.replace) == 0
            await asyncio.sleep(TURNS_TO_A_NEW_REPLICA_IN_S)
    assert set(callers.answers) == {("charge", 201), ("check", 200), ("read", 200)}  # at the first try, all of them
    await everything_acknowledged_is_charged_once(site.urls, callers)


async def test_a_replica_that_is_killed_costs_repetitions_and_no_charge(site: Site) -> None:
    """Of the requests under way, charges are answered 503, to be repeated with their keys; checks and reads are not."""
    victim = site.replicas[0]
    async with httpx.AsyncClient(verify=site.edge.tls()) as http:
        client = AsyncBillingClient(site.edge.url, site.key, http_client=http)
        user = User("oauth:google", f"{uuid.uuid4()}@example.com")
        await client.get_or_create_account(user, initial_balance_minor=10_000_000)
        async with load(site.edge, site.key, CALLERS) as callers:

            async def charge_by_the_sdk() -> list[str]:
                """Every charge is acknowledged, or the client raises."""
                made = []
                while not callers.stopping:
                    key = str(uuid.uuid4())
                    await client.charge(user, amount_minor=100, idempotency_key=key)
                    made.append(key)
                return made

            by_sdk = asyncio.create_task(charge_by_the_sdk())
            await asyncio.sleep(0.5)
            await asyncio.to_thread(victim.server.kill)
            await asyncio.sleep(1)
            await asyncio.to_thread(victim.start)
            await asyncio.sleep(TURNS_TO_A_NEW_REPLICA_IN_S)
        callers.acknowledged.extend(await by_sdk)
    assert callers.given_up == []
    assert {status for _, status in callers.answers} <= {200, 201, 409, 503}
    assert {status for operation, status in callers.answers if operation != "charge"} == {200}
    await everything_acknowledged_is_charged_once(site.urls, callers)


async def test_versions_share_a_schema(site: Site) -> None:
    """Here both are this version: what scripts/rolling-check does with the previous one works."""
    old, new = (replica.url for replica in site.replicas)
    assert await mixed_traffic(old, new, site.key, rounds=2) > 0
