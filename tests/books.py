"""Direct reads of the books for tests, and locks that hold up their writers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg

from tests.databases import Urls

COUNTS = """
    SELECT (SELECT count(*) FROM charges) AS charges, (SELECT count(*) FROM ledger_entries) AS entries,
           (SELECT count(*) FROM product_usage_log) AS uses, (SELECT sum(xmin::text::bigint) FROM accounts) AS versions
"""
WALLET = {
    "money": "money_nanos",
    "money_debt": "money_debt_nanos",
    "grant": "grants_credits",
    "grant of money": "grants_money_nanos",
    "held": "held_credits",
    "held of money": "held_money_nanos",
}
"""Pools of money, grants and holds, by name: the account's column. `balances` names only those that hold something."""


@contextlib.asynccontextmanager
async def connected(urls: Urls) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(urls.superuser)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def account_locked(urls: Urls, account_id: UUID | str) -> AsyncIterator[None]:
    """Hold the lock of the account's row in another transaction."""
    async with connected(urls) as connection, connection.transaction():
        await connection.execute("SELECT FROM accounts WHERE account_id = $1 FOR UPDATE", UUID(str(account_id)))
        yield


async def waiting_for_locks(urls: Urls, number: int) -> None:
    """Until so many of the database's connections wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with connected(urls) as connection:
        for _ in range(6000):
            if await connection.fetchval(sql) >= number:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the requests do not meet")


async def balances(urls: Urls, account_id: UUID | str) -> dict[str, int]:
    """Every pool of an account, as the account's and the products' rows say; asserts that the ledger says the same."""
    async with connected(urls) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        key = UUID(str(account_id))
        row = await connection.fetchrow("SELECT * FROM accounts WHERE account_id = $1", key)
        assert row is not None
        stored = {pool: row[pool] for pool in ("daily_free", "free", "paid", "debt")}
        stored |= {pool: row[column] for pool, column in WALLET.items() if row[column]}
        for product in await connection.fetch("SELECT * FROM product_inventory WHERE account_id = $1", key):
            stored[f"{product['product_type']}/free"] = product["free"]
            stored[f"{product['product_type']}/paid"] = product["paid"]
        sums = await connection.fetch(
            "SELECT CASE WHEN pool IN ('grant', 'held') AND unit <> 'credit' THEN pool || ' of money' ELSE pool END"
            " AS pool, sum(delta)::bigint AS total FROM ledger_entries WHERE account_id = $1 GROUP BY 1",
            key,
        )
    ledger = dict.fromkeys(stored, 0) | {
        row["pool"]: row["total"] for row in sums if row["total"] or row["pool"] in stored
    }
    assert ledger == stored
    return stored


async def counts(urls: Urls) -> dict[str, Any]:
    async with connected(urls) as connection:
        row = await connection.fetchrow(COUNTS)
    assert row is not None
    return dict(row)
