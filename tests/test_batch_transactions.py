"""Transactions straight on the driver: all or nothing, and a connection that died while idle is replaced."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.billing import queries
from app.billing.posting import CHARGE, ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import LOOKUP_PLANNING, Database, was_rolled_back
from app.db.driver_pool import PoolExhausted
from app.db.statements import Tx, fetch, write
from app.ledger import queries as ledger_queries
from app.ledger.locked_account import lock_account
from app.ledger.outcomes import New
from app.observability.metrics import CONNECTION_TIMEOUTS
from tests.books import account_locked, connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.pooler import running_pgbouncer, statement_cache_size

PID = "SELECT pg_backend_pid() AS pid"
CUT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = 'billing_service'
    """


@pytest.fixture
async def small(own_database: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(own_database.service), timeout_s=1, planning=LOOKUP_PLANNING)
    yield db
    await db.close()


async def pid_of(db: Database) -> int:
    async with db.batch() as tx:
        [row] = await tx.fetch(PID)
    return int(row["pid"])


async def create(tx: Tx, account_id: UUID) -> None:
    now = datetime.now(UTC)
    counters = dict.fromkeys(("daily_free", "free", "paid", "debt", "total_uses", "last_entry_no"), 0)
    names = {"environment": "live", "currency": "USD", "plan_name": "free", "daily_free_day": None}
    row = {"account_id": account_id, **names, **counters, "created_at": now, "updated_at": now}
    await ledger_queries.insert_accounts(tx, [row])


async def exists(db: Database, account_id: UUID) -> bool:
    return await ledger_queries.find_account(db, account_id) is not None


async def test_a_block_that_ends_is_committed_and_one_that_raises_is_not(small: Database) -> None:
    """The connection serves the next caller in both cases."""
    kept, lost = uuid4(), uuid4()
    pid = await pid_of(small)
    async with small.batch() as tx:
        await create(tx, kept)

    async def fail() -> None:
        async with small.batch() as tx:
            await create(tx, lost)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await exists(small, kept), await exists(small, lost)) == (True, False)
    assert await pid_of(small) == pid


async def test_a_commit_that_postgresql_turns_into_a_rollback_is_an_error(small: Database) -> None:
    """A statement failed and the block swallowed the error: nothing was stored, so no caller may read success."""
    account_id = uuid4()

    async def swallow() -> None:
        async with small.batch() as tx:
            await create(tx, account_id)
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                await tx.fetch("SELECT 1 / 0")

    with pytest.raises(asyncpg.InFailedSQLTransactionError) as error:
        await swallow()
    assert was_rolled_back(error.value)
    assert not await exists(small, account_id)


async def test_writes_are_one_statement_and_their_failure_is_raised(small: Database) -> None:
    first, second = uuid4(), uuid4()
    async with small.batch() as tx:
        await create(tx, first)
        await write(
            tx,
            "UPDATE accounts SET total_uses = $2, updated_at = $3 WHERE account_id = $1",
            first,
            1,
            datetime.now(UTC),
        )
        await create(tx, second)
        assert await tx.fetch("SELECT FROM accounts WHERE account_id = ANY ($1)", [first, second]) == []
    assert await exists(small, first)
    assert await exists(small, second)

    async def repeat() -> None:
        async with small.batch() as tx:
            await create(tx, uuid4())
            await create(tx, first)

    with pytest.raises(asyncpg.UniqueViolationError):
        await repeat()


async def test_a_caller_who_gives_up_leaves_nothing(small: Database) -> None:
    account_id = uuid4()
    begun = asyncio.Event()

    async def stuck() -> None:
        async with small.batch() as tx:
            await create(tx, account_id)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stuck())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not await exists(small, account_id)
    assert small.usage()["batches"][0] == 0


async def test_connections_cut_while_idle_are_replaced_before_anything_is_sent(
    small: Database, own_database: Urls, identity: Identity, now: datetime
) -> None:
    """A charge without a key is answered, although it may not be sent twice."""
    billing = BillingService(small, Configuration(small, settings_for(own_database)))
    account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
    request = ChargeRequest(account_id, 100, None, ACTOR, now)
    assert isinstance(await billing.charge(request), New)
    async with connected(own_database) as superuser:
        assert await superuser.fetchval(CUT) > 0
    assert isinstance(await billing.charge(request), New)
    assert (await billing.accounts.state(account_id))["free"] == 1


async def test_without_a_free_connection_nothing_is_sent(own_database: Urls) -> None:
    # As behind a pooler: the server does not end transactions that are idle as long as the callers wait.
    db = Database(SecretStr(own_database.service), timeout_s=0.2, pooled=True)
    timeouts = CONNECTION_TIMEOUTS.labels("batches")
    before = timeouts._value.get()
    async with contextlib.AsyncExitStack() as holding:
        for _ in range(db.usage()["batches"][1]):
            await holding.enter_async_context(db.batch())
        assert db.usage()["batches"] == (3, 3)
        with pytest.raises(PoolExhausted) as error:
            async with db.batch():
                pass
    assert was_rolled_back(error.value)
    assert timeouts._value.get() == before + 1
    await db.close()


async def test_a_batch_can_wait_for_locks_for_a_shorter_time(
    small: Database, own_database: Urls, identity: Identity, now: datetime
) -> None:
    billing = BillingService(small, Configuration(small, settings_for(own_database)))
    account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
    async with account_locked(own_database, account_id):
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with small.batch(lock_timeout_ms=10) as tx:
                await lock_account(tx, account_id)
    async with small.batch() as tx:
        [row] = await tx.fetch("SELECT current_setting('lock_timeout') AS bound")
        assert row["bound"] == "1s"


async def test_a_statement_gives_the_same_rows_in_either_kind_of_transaction(
    small: Database, own_database: Urls, identity: Identity, now: datetime
) -> None:
    """JSON, times and ids included."""
    billing = BillingService(small, Configuration(small, settings_for(own_database)))
    account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
    details = {"message_id": "m", "nested": {"é": [1, None]}}
    request = ChargeRequest(account_id, 100, None, ACTOR, now, idempotency_key="k", details=details)
    assert isinstance(await billing.charge(request), New)
    key = request.key
    assert key is not None
    async with small.batch() as tx:
        by_driver = await queries.find_charges_by_keys(tx, CHARGE, [key])
    async with small.transaction() as session:
        by_sqlalchemy = await queries.find_charges_by_keys(session, CHARGE, [key])
    assert {name: dict(row) for name, row in by_driver.items()} == {
        name: dict(row) for name, row in by_sqlalchemy.items()
    }
    assert by_driver[key]["metadata"] == details


async def test_behind_a_pooler_each_batch_sets_the_planner_for_itself(database: Urls) -> None:
    with running_pgbouncer(database, pool_size=1) as pooler:
        size = statement_cache_size()
        db = Database(SecretStr(pooler), pooled=True, statement_cache_size=size, planning=LOOKUP_PLANNING)
        show = "SELECT current_setting('enable_seqscan') AS seqscan, current_setting('plan_cache_mode') AS mode"
        async with db.batch() as tx:
            assert [tuple(row.values()) for row in await fetch(tx, show)] == [("off", "force_generic_plan")]
        row = await db.fetch_row(show)
        assert row is not None
        assert tuple(row.values()) == ("on", "auto")
        await db.close()
