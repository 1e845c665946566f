"""Point reads that are asked for at once share executions, and nothing else: neither rows nor failures."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.billing import queries as billing_queries
from app.db import Database
from app.db.driver_pool import Connection
from app.db.point_reads import EXECUTIONS, MAX_BATCH, PointRead
from app.ledger import queries as ledger_queries
from app.tools import queries as tool_queries
from tests.databases import Urls

SQUARE = PointRead("SELECT k.n * k.n AS square, statement_timestamp() AS at WHERE k.n > 0", n="int")
SLOW = PointRead("SELECT k.n, pg_sleep(k.seconds)", n="int", seconds="float8")
LOCKED = PointRead("SELECT k.n, pg_backend_pid() AS pid, pg_advisory_xact_lock(k.n)", n="int")
WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
FIND_TEXT = PointRead("SELECT k.value || '!' AS found", value="text")


@pytest.fixture
async def db(database: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(database.service))
    yield db
    await db.close()


async def test_each_gets_the_row_of_its_own_key_from_a_few_executions(db: Database) -> None:
    numbers = [*range(-50, 300), 7, 7]
    rows = await asyncio.gather(*(db.find(SQUARE, n) for n in numbers))
    assert [row and row["square"] for row in rows] == [n * n if n > 0 else None for n in numbers]
    executions = {row["at"] for row in rows if row is not None}
    assert len(executions) <= len(numbers) / MAX_BATCH + EXECUTIONS


async def test_who_asks_while_an_execution_is_under_way_sees_what_was_committed_before(db: Database) -> None:
    """An account that was changed is read as changed, however many reads of it have begun before."""
    account_id, now = uuid4(), datetime.now(UTC)
    values = {
        "account_id": account_id,
        "environment": "test",
        "currency": "USD",
        "plan_name": "free",
        "status": "active",
    }
    values |= {"daily_free": 0, "daily_free_day": now.date(), "free": 0, "paid": 0, "debt": 0, "total_uses": 0}
    async with db.transaction() as tx:
        await ledger_queries.insert_accounts(tx, [{**values, "last_entry_no": 0, "created_at": now, "updated_at": now}])
    change = text("UPDATE accounts SET total_uses = :n WHERE account_id = :account_id")
    readers = []
    for n in range(1, 30):
        readers += [asyncio.create_task(ledger_queries.find_account(db, account_id)) for _ in range(5)]
        async with db.transaction() as tx:
            await tx.execute(change, {"n": n, "account_id": account_id})
        row = await ledger_queries.find_account(db, account_id)
        assert row is not None
        assert row["total_uses"] == n
    await asyncio.gather(*readers)
    async with db.transaction() as tx:
        await tx.execute(change, {"n": 0, "account_id": account_id})  # as its ledger says


async def test_a_key_that_postgresql_cannot_take_fails_alone(db: Database) -> None:
    keys = ["a", "b\0", "c", "d\ud800", "e"]
    answers = await asyncio.gather(*(db.find(FIND_TEXT, key) for key in keys), return_exceptions=True)
    assert [type(answers[n]) for n in (1, 3)] == [asyncpg.CharacterNotInRepertoireError, asyncpg.DataError]
    assert [answers[n]["found"] for n in (0, 2, 4)] == ["a!", "c!", "e!"]  # type: ignore[index]  # rows, none of them None


async def test_a_caller_who_gives_up_takes_nobody_along_and_keeps_no_place(db: Database) -> None:
    running = [asyncio.create_task(db.find(SLOW, n, 0.2)) for n in range(EXECUTIONS)]
    await asyncio.sleep(0.05)
    waiting = [asyncio.create_task(db.find(SLOW, n, 0.0)) for n in range(10)]
    hopeless = asyncio.create_task(db.find(SLOW, 99, 60.0))
    await asyncio.sleep(0)
    for task in (running[0], waiting[3], hopeless):
        task.cancel()
    rows = await asyncio.gather(*running[1:], *waiting[:3], *waiting[4:])
    assert [row and row["n"] for row in rows] == [1, 0, 1, 2, 4, 5, 6, 7, 8, 9]
    with pytest.raises(asyncio.CancelledError):
        await hopeless


async def waiting_for(connection: Connection, lock: int) -> int:
    deadline = time.monotonic() + 60
    while (pid := await connection.fetchval(WAITING, lock)) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return int(pid)


async def test_reads_whose_connections_are_cut_are_asked_once_more(db: Database, database: Urls) -> None:
    cut = await asyncpg.connect(database.superuser)
    lock = uuid4().int % 2**31
    await cut.execute("SELECT pg_advisory_lock($1)", lock)
    asking = [asyncio.create_task(db.find(LOCKED, lock + n)) for n in range(20)]
    try:
        pid = await waiting_for(cut, lock)
        await cut.execute("SELECT pg_terminate_backend($1)", pid)
        await cut.execute("SELECT pg_advisory_unlock($1)", lock)
        rows = await asyncio.gather(*asking)
    finally:
        await cut.close()
    assert [row and row["n"] for row in rows] == [lock + n for n in range(20)]
    assert pid not in {row["pid"] for row in rows if row is not None}


async def test_a_failure_reaches_everybody_who_waits_for_it(db: Database) -> None:
    missing = PointRead("SELECT * FROM there_is_no_such_table WHERE id = k.id", id="int")
    answers = await asyncio.gather(*(db.find(missing, n) for n in range(20)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {asyncpg.UndefinedTableError}
    assert (await db.find(SQUARE, 3) or {})["square"] == 9


@pytest.mark.parametrize(
    ("read", "table"),
    [
        (ledger_queries._FIND_ACCOUNT, "accounts"),
        (billing_queries._FIND_CHARGE_BY_KEY, "charges"),
        (tool_queries._FIND_USAGE_BY_KEY, "product_usage_log"),
        (tool_queries._FIND_INVENTORY, "product_inventory"),
    ],
)
async def test_each_looks_into_an_index_even_while_the_tables_are_believed_to_be_empty(
    own_database: Urls, read: PointRead, table: str
) -> None:
    """A plan is kept while a new installation's tables grow: it must not read them whole."""
    connection = await asyncpg.connect(own_database.service)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE read AS {read.sql}")
    nothing = ", ".join("NULL" for _ in range(read.sql.count("[]")))
    plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE read ({nothing})"))
    await connection.close()
    assert f"on {table}" in plan
    assert "Seq Scan" not in plan
