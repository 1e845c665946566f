"""Behind a real PgBouncer that hands its connections on after each transaction: the same money, the same bounds."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db import LOOKUP_PLANNING, Database
from app.db.schema_check import bound_role
from app.verification import verify_books
from tests.books import balances, connected
from tests.conftest import running_app, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.payments.conftest import Shop
from tests.pooler import KEEPS_PREPARED_STATEMENTS, running_pgbouncer, version
from tests.servers import environment, running_server, running_stripe
from tests.test_cli import DONE, UNUSABLE, run

PREPARED, UNPREPARED = 100, 0
USERS, MESSAGES, GRANTED, SALES = 4, 12, 6, 3


def cache_sizes() -> list[int]:
    """An older PgBouncer can only be used without prepared statements; a newer one is tried in both ways."""
    return [UNPREPARED, PREPARED] if version() >= KEEPS_PREPARED_STATEMENTS else [UNPREPARED]


@pytest.fixture(scope="module")
async def urls() -> AsyncIterator[Urls]:
    name = f"billing_{uuid.uuid4().hex}"
    yield await create_database(name)
    await drop_database(name)


@asynccontextmanager
async def pooled_shop(urls: Urls, cache_size: int) -> AsyncIterator[Shop]:
    """The application on a PgBouncer with three server connections, in front of a database with bounded roles."""
    with running_stripe() as local, running_pgbouncer(urls, pool_size=3) as pooler:
        settings = settings_for(
            replace(urls, service=pooler),
            database_direct_url=urls.service,
            database_statement_cache_size=cache_size,
            stripe_live=local.keys,
            stripe_api_base=local.url,
            free_uses=0,
            packs={"standard": {"price_minor": 500, "credits": 20}},
        )
        direct = Database(settings.direct_url, pool_size=3)
        await bound_role(direct, settings.database_timeout_s)
        async with running_app(settings) as app, httpx.AsyncClient(timeout=10) as http:
            yield Shop(app, urls, settings, local, http)
            verification = await verify_books(direct, datetime.now(UTC))
            assert verification.ok, verification.problem
        await direct.close()


async def test_parallel_load_through_three_connections_keeps_exact_balances(urls: Urls) -> None:
    """Charges, each three times, checks, tool charges and webhooks, all at once: the remaining credits are exact."""
    for cache_size in cache_sizes():
        await put_under_load(urls, cache_size)


async def put_under_load(urls: Urls, cache_size: int) -> None:
    async with pooled_shop(urls, cache_size) as shop, await shop.client() as client:
        users = [{"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"} for _ in range(USERS)]
        for user in users:
            new = {**user, "initial_balance_minor": GRANTED * 100}
            assert (await client.post("/v1/billing/accounts", json=new)).status_code == 201
        buyer = await shop.account()
        for number in range(SALES):
            await shop.pay((await shop.open(buyer, idempotency_key=f"{number}")).payment_id)
        events = await shop.events("payment_intent.succeeded")

        async def charge(user: dict[str, str], key: str) -> int:
            body = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": key}
            return (await client.post("/v1/billing/charges", json=body)).status_code

        async def check(user: dict[str, str]) -> int:
            return (await client.post("/v1/billing/credits/check", json=user)).status_code

        async def use_tool(user: dict[str, str], key: str) -> int:
            body = {**user, "product_type": "web_search", "idempotency_key": key}
            return (await client.post("/v1/tools/charge", json=body)).status_code

        *statuses, _ = await asyncio.gather(
            asyncio.gather(*(charge(user, f"{n}") for n in range(MESSAGES) for user in users for _ in range(3))),
            asyncio.gather(*(check(user) for _ in range(MESSAGES) for user in users)),
            asyncio.gather(*(use_tool(user, f"{n}") for n in range(3) for user in users for _ in range(2))),
            asyncio.gather(*(shop.deliver(event) for event in events * 3)),
        )
        charges, checks, uses = (Counter(each) for each in statuses)
        # The first messages to arrive are paid, and their replays cost nothing. Tools are paid by their own pool.
        assert charges[201] == USERS * GRANTED
        assert charges.keys() == {201, 402, 409}
        assert checks == {200: USERS * MESSAGES}
        assert uses == {200: USERS * 3 * 2}
        for user in users:
            account = (await client.get(f"/v1/billing/accounts/{user['oauth_provider']}/{user['external_id']}")).json()
            found = await balances(urls, account["account_id"])
            assert (found["paid"], found["free"], found["debt"]) == (0, 0, 0)
            assert account["total_uses"] == GRANTED
        assert await shop.balances(buyer) == (SALES * 20, 0)


@asynccontextmanager
async def pooled_database(urls: Urls, timeout_s: float) -> AsyncIterator[Database]:
    direct = Database(SecretStr(urls.service), pool_size=3)
    await bound_role(direct, timeout_s)
    await direct.close()
    with running_pgbouncer(urls) as pooler:
        # The driver's own time-out is ten seconds longer: PostgreSQL ends statements here.
        db = Database(SecretStr(pooler), pool_size=5, timeout_s=10, pooled=True, statement_cache_size=0)
        yield db
        await db.close()


async def test_a_transaction_behind_the_pooler_sets_the_planner_for_itself_alone(urls: Urls) -> None:
    show = text("SELECT current_setting('enable_seqscan'), current_setting('plan_cache_mode')")
    with running_pgbouncer(urls, pool_size=1) as pooler:
        db = Database(SecretStr(pooler), pooled=True, statement_cache_size=0, planning=LOOKUP_PLANNING)
        async with db.transaction() as tx:
            assert tuple((await tx.execute(show)).one()) == ("off", "force_generic_plan")
        async with db.read() as reading:
            assert tuple((await reading.execute(show)).one()) == ("on", "auto")
        await db.close()


async def test_postgresql_ends_what_takes_too_long_behind_the_pooler(urls: Urls) -> None:
    """By the role's own settings, since a session's do not get through: statements, locks, idle transactions."""
    async with pooled_database(urls, 0.3) as db:
        with pytest.raises(asyncpg.QueryCanceledError):
            await db.fetch_row("SELECT pg_sleep(5)")
        async with connected(urls) as other, other.transaction():
            await other.execute("LOCK TABLE accounts")
            with pytest.raises((asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)):  # either limit may end it
                await db.fetch_row("SELECT count(*) FROM accounts")
        with pytest.raises(DBAPIError):
            await idle_in_transaction(db, 0.6)


async def idle_in_transaction(db: Database, for_s: float) -> None:
    async with db.transaction() as tx:
        await tx.execute(text("SELECT 1"))
        await asyncio.sleep(for_s)
        await tx.execute(text("SELECT 1"))


def pooled_environment(urls: Urls, pooler: str) -> dict[str, str]:
    return {
        **environment(urls),
        "DATABASE_URL": pooler,
        "DATABASE_DIRECT_URL": urls.service,
        "DATABASE_STATEMENT_CACHE_SIZE": str(cache_sizes()[-1]),
    }


async def test_serve_starts_behind_the_pooler_only_when_migrate_has_set_the_bounds(own_database: Urls) -> None:
    with running_pgbouncer(own_database) as pooler:
        env = pooled_environment(own_database, pooler)
        refused = await asyncio.to_thread(run, env, "serve")
        assert refused.status == UNUSABLE
        assert "ciris-billing migrate" in refused.err.splitlines()[-1]
    with running_pgbouncer(own_database) as pooler:
        env = pooled_environment(own_database, pooler)
        assert (await asyncio.to_thread(run, env, "migrate")).status == DONE
        with running_server(own_database, env=env) as server:
            async with httpx.AsyncClient(base_url=server.url) as client:
                assert (await client.get("/health")).json()["database"] == "connected"
