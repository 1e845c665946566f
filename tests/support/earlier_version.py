"""Earlier versions of the service: the rows that they write, and what their verification reports.

A deployment runs two versions on one schema for a while. Each must prove the books that both write.
"""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from app.db import Database, new_id
from app.verification import verify_books
from tests.books import connected
from tests.databases import ROOT, SERVICE_ROLE, Urls, alembic, create_database, drop_database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Verification: TypeAlias = Mapping[str, Any]
"""The `checks` of a version, each a query that returns nothing, and the `constraints` that it looks for."""
_IN_FORCE = """
    SELECT t.relname, c.conname AS name
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
     WHERE t.relnamespace = 'public'::regnamespace AND c.convalidated
     UNION ALL
    SELECT t.relname, g.tgname FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
     WHERE t.relnamespace = 'public'::regnamespace AND g.tgenabled IN ('O', 'A') AND NOT g.tgisinternal
"""


def verification_before(revision: str) -> Verification:
    """Return the verification of the version before a revision."""
    file = ROOT / "tests" / "billing" / f"verification_before_{revision}.json"
    found: Verification = json.loads(file.read_text(encoding="utf-8"))
    return found


async def problems_seen_by(verification: Verification, urls: Urls) -> list[str]:
    """Return all that the verification of an earlier version would report."""
    async with connected(urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        in_force = {(row["relname"], row["name"]) for row in await connection.fetch(_IN_FORCE)}
        missing = {(table, name) for table, name in verification["constraints"]} - in_force
        culprits = [await connection.fetchval(sql) for sql in verification["checks"].values()]
    return [*(f"the schema lacks {name}" for _, name in sorted(missing)), *(found for found in culprits if found)]


async def check_each_step(verification: Verification, urls: Urls, before: str, after: str) -> None:
    """Migrate, and fail if the earlier version's verification finds a fault between two statements.

    Its hourly verification may run between any two, each of which commits alone.
    """
    output = alembic(urls, "upgrade", f"{before}:{after}", "--sql")
    sql = "\n".join(line for line in output.splitlines() if not line.startswith(("INFO", "BEGIN;", "COMMIT;", "-- ")))
    statements = [statement.strip() for statement in sql.split(";\n\n") if statement.strip()]
    assert len(statements) > 15
    connection = await asyncpg.connect(urls.owner)
    try:
        for statement in statements:
            await connection.execute(statement)
            assert await problems_seen_by(verification, urls) == [], statement
    finally:
        await connection.close()
    assert after in alembic(urls, "current")


@asynccontextmanager
async def database_of(revision: str, now: datetime) -> AsyncIterator[Urls]:
    """Yield a new database with an earlier schema, to which its version has written a charge and a use of a tool."""
    name = f"earlier_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    alembic(urls, "upgrade", revision)
    account_id = await open_as_before(urls, now)
    assert await charge_as_before(urls, account_id, "api_key", "k", now)
    await use_tool_as_before(urls, account_id, now)
    yield urls
    await drop_database(name)


async def continue_as_before(urls: Urls, now: datetime) -> None:
    """Use and charge the account of `database_of` on a newer schema, as a version that still runs does."""
    async with connected(urls) as connection:
        account_id = await connection.fetchval("SELECT account_id FROM accounts")
    await use_tool_as_before(urls, account_id, now)
    assert await charge_as_before(urls, account_id, "api_key", "k2", now)


async def insert(connection: Connection, table: str, **row: object) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())


async def charge_as_before(urls: Urls, account_id: UUID, actor: str, key: str, now: datetime) -> bool:
    """Charge one paid credit as the previous version does: False if any caller has used the key."""
    async with connected(urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        async with connection.transaction():
            account = await connection.fetchrow(
                "SELECT paid, last_entry_no + 1 AS entry_no FROM accounts WHERE account_id = $1 FOR NO KEY UPDATE",
                account_id,
            )
            assert account is not None
            if await connection.fetchval(
                "SELECT true FROM charges WHERE account_id = $1 AND operation = 'charge' AND idempotency_key = $2",
                account_id,
                key,
            ):
                return False
            charge_id = new_id()
            await insert(
                connection,
                "charges",
                account_id=account_id,
                charge_id=charge_id,
                entry_no=account["entry_no"],
                operation="charge",
                idempotency_key=key,
                amount_minor=100,
                currency="USD",
                cost=1,
                from_daily_free=0,
                from_free=0,
                from_paid=1,
                paid_after=account["paid"] - 1,
                metadata="{}",
                created_at=now,
            )
            await connection.execute(
                "INSERT INTO ledger_entries"
                " SELECT $1, $2, 'paid', 'credit', -1, $3, 'charge', 'charge', $4, $5, 'x', $6",
                account_id,
                account["entry_no"],
                account["paid"] - 1,
                charge_id,
                actor,
                now,
            )
            await connection.execute(
                "UPDATE accounts SET paid = paid - 1, total_uses = total_uses + 1, last_entry_no = $2"
                " WHERE account_id = $1",
                account_id,
                account["entry_no"],
            )
    return True


async def verify(urls: Urls, now: datetime) -> str | None:
    db = Database(SecretStr(urls.service), pool_size=3)
    try:
        return (await verify_books(db, now)).problem
    finally:
        await db.close()


async def open_as_before(urls: Urls, now: datetime) -> UUID:
    """An account as the version before opens it: 3 one-time free uses and 9 paid credits."""
    account_id = new_id()
    none = dict.fromkeys(("daily_free", "debt", "total_uses"), 0)
    async with connected(urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        row = {"environment": "live", "currency": "USD", "plan_name": "free", "last_entry_no": 2, **none}
        times = {"created_at": now, "updated_at": now}
        await insert(connection, "accounts", account_id=account_id, free=3, paid=9, **row, **times)
        for entry_no, pool, amount in ((1, "free", 3), (2, "paid", 9)):
            await _insert_entry(connection, account_id, entry_no, pool, amount, amount, "opening_grant", now)
    return account_id


async def use_tool_as_before(urls: Urls, account_id: UUID, now: datetime) -> None:
    """The version before opens a product's pool of 5 free uses, if there is none, and spends one. It names no unit."""
    async with connected(urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        async with connection.transaction():
            last: int = await connection.fetchval(
                "SELECT last_entry_no FROM accounts WHERE account_id = $1 FOR NO KEY UPDATE", account_id
            )
            left = await connection.fetchval(
                "SELECT free FROM product_inventory WHERE account_id = $1 AND product_type = 'image_gen'", account_id
            )
            usage_log_id, keys = new_id(), {"account_id": account_id, "product_type": "image_gen"}
            if left is None:
                last, left = last + 1, 5
                await _insert_entry(
                    connection, account_id, last, "image_gen/free", 5, 5, "opening_grant", now, usage_log_id
                )
                rest = {"free": 5, "free_day": now.date(), "paid": 0, "total_uses": 0, "updated_at": now}
                await insert(connection, "product_inventory", **keys, **rest)
            await _insert_entry(
                connection, account_id, last + 1, "image_gen/free", -1, left - 1, "tool_charge", now, usage_log_id
            )
            await connection.execute(
                "UPDATE product_inventory SET free = free - 1, total_uses = total_uses + 1"
                " WHERE account_id = $1 AND product_type = 'image_gen'",
                account_id,
            )
            await insert(
                connection,
                "product_usage_log",
                **keys,
                usage_log_id=usage_log_id,
                source="free",
                result="{}",
                actor_type="system",
                actor_id="x",
                created_at=now,
            )
            await connection.execute(
                "UPDATE accounts SET last_entry_no = $2 WHERE account_id = $1", account_id, last + 1
            )


async def _insert_entry(
    connection: Connection,
    account_id: UUID,
    entry_no: int,
    pool: str,
    delta: int,
    balance_after: int,
    kind: str,
    now: datetime,
    usage_log_id: UUID | None = None,
) -> None:
    await insert(
        connection,
        "ledger_entries",
        account_id=account_id,
        entry_no=entry_no,
        pool=pool,
        delta=delta,
        balance_after=balance_after,
        kind=kind,
        cause_type="account" if usage_log_id is None else "tool_usage",
        cause_id=usage_log_id or account_id,
        actor_type="system",
        actor_id="x",
        created_at=now,
    )
