"""Units, grants and holds across versions: the version before 0021 and this one serve from one schema.

`verification_before_0021.json` is the verification of that version: its queries, and the constraints that it looks for.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from app.accounts.directory import Identity
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database, new_id
from app.ledger.outcomes import New
from app.ledger.pools import Credits
from app.settings import Settings
from app.tools.service import ProductInventoryService
from app.verification import verify_books
from tests.billing.test_charges import open_account
from tests.billing.test_key_space_versions import charge_as_before, insert
from tests.books import balances, connected
from tests.conftest import ACTOR
from tests.databases import SERVICE_ROLE, Urls, alembic, create_database, drop_database
from tests.test_verify import write_history

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
BEFORE = "0020"
VERIFICATION = json.loads((Path(__file__).parent / "verification_before_0021.json").read_text(encoding="utf-8"))
_IN_FORCE = """
    SELECT t.relname, c.conname AS name
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
     WHERE t.relnamespace = 'public'::regnamespace AND c.convalidated
     UNION ALL
    SELECT t.relname, g.tgname FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
     WHERE t.relnamespace = 'public'::regnamespace AND g.tgenabled IN ('O', 'A') AND NOT g.tgisinternal
"""


async def problems_seen_by_the_version_before(urls: Urls, verification: Mapping[str, Any] = VERIFICATION) -> list[str]:
    """All that the verification of an earlier version would report."""
    async with connected(urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        in_force = {(row["relname"], row["name"]) for row in await connection.fetch(_IN_FORCE)}
        missing = {(table, name) for table, name in verification["constraints"]} - in_force
        culprits = [await connection.fetchval(sql) for sql in verification["checks"].values()]
    return [*(f"the schema lacks {name}" for _, name in sorted(missing)), *(found for found in culprits if found)]


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


async def units(urls: Urls) -> set[tuple[str, str, UUID | None]]:
    async with connected(urls) as connection:
        rows = await connection.fetch("SELECT DISTINCT pool, unit, grant_id FROM ledger_entries")
    return {tuple(row) for row in rows}


async def test_the_version_before_proves_the_books_that_this_version_writes(own_database: Urls) -> None:
    await write_history(own_database)
    assert await problems_seen_by_the_version_before(own_database) == []
    assert {unit for _, unit, _ in await units(own_database)} == {"credit"}


async def test_both_versions_prove_the_books_that_both_write_at_once(
    own_database: Urls, settings: Settings, identity: Identity, now: datetime
) -> None:
    db = Database(SecretStr(own_database.service), pool_size=5)
    billing = BillingService(db, Configuration(db, settings))
    tools = ProductInventoryService(db, Configuration(db, settings), billing)
    account_id = await open_account(billing, identity, now, paid=40)

    async def charge(key: str) -> bool:
        outcome = await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, now, idempotency_key=key))
        return isinstance(outcome, New)

    await asyncio.gather(
        *(
            work
            for number in range(4)
            for work in (
                charge_as_before(own_database, account_id, ACTOR.type, f"old {number}", now),
                charge(f"new {number}"),
                use_tool_as_before(own_database, account_id, now),
                tools.charge(account_id, "web_search", actor=ACTOR, now=now),
                billing.credit(
                    account_id, credits=Credits(1), currency=None, transaction_type="grant", actor=ACTOR, now=now
                ),
            )
        )
    )
    await billing.stop()
    await tools.stop()
    await db.close()
    assert (await balances(own_database, account_id))["image_gen/free"] == 1
    assert await problems_seen_by_the_version_before(own_database) == []
    assert await verify(own_database, now) is None


# --- the migration ----------------------------------------------------------------------------------------------


@pytest.fixture
async def older_database(now: datetime) -> AsyncIterator[Urls]:
    """A database with the schema of the version before, to which it has written charges, credits and uses of a tool."""
    name = f"units_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    alembic(urls, "upgrade", BEFORE)
    account_id = await open_as_before(urls, now)
    assert await charge_as_before(urls, account_id, "api_key", "k", now)
    await use_tool_as_before(urls, account_id, now)
    yield urls
    await drop_database(name)


async def test_this_version_proves_the_books_that_the_version_before_wrote(older_database: Urls, now: datetime) -> None:
    assert await problems_seen_by_the_version_before(older_database) == []
    alembic(older_database, "upgrade", "head")
    assert await verify(older_database, now) is None
    async with connected(older_database) as connection:
        account_id = await connection.fetchval("SELECT account_id FROM accounts")
    # The version before continues on the new schema until the deployment has replaced it.
    await use_tool_as_before(older_database, account_id, now)
    assert await charge_as_before(older_database, account_id, "api_key", "k2", now)
    assert await verify(older_database, now) is None
    assert await problems_seen_by_the_version_before(older_database) == []
    assert {(unit, lot) for _, unit, lot in await units(older_database)} == {("credit", None)}


async def test_the_version_before_finds_no_fault_at_any_step_of_the_migration(older_database: Urls) -> None:
    """Its hourly verification may run between any two statements, each of which commits alone."""
    output = alembic(older_database, "upgrade", f"{BEFORE}:0021", "--sql")
    sql = "\n".join(line for line in output.splitlines() if not line.startswith(("INFO", "BEGIN;", "COMMIT;", "-- ")))
    statements = [statement.strip() for statement in sql.split(";\n\n") if statement.strip()]
    assert len(statements) > 15
    connection = await asyncpg.connect(older_database.owner)
    try:
        for statement in statements:
            await connection.execute(statement)
            assert await problems_seen_by_the_version_before(older_database) == [], statement
    finally:
        await connection.close()
    assert "0021" in alembic(older_database, "current")


async def test_a_migration_that_was_interrupted_is_repeated(older_database: Urls, now: datetime) -> None:
    """It failed between adding a wider CHECK and replacing the old one, with half of the new constraints in place."""
    alembic(older_database, "upgrade", "0021")
    async with connected(older_database) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = $1", BEFORE)
        await connection.execute("ALTER TABLE charges ADD CONSTRAINT ck_charges_cost_0021 CHECK (cost > 0) NOT VALID")
        await connection.execute("ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_unit")
    alembic(older_database, "upgrade", "head")
    assert await verify(older_database, now) is None
    assert "No new upgrade operations detected" in alembic(older_database, "check")
    async with connected(older_database) as connection:
        left = await connection.fetchval("SELECT count(*) FROM pg_constraint WHERE conname LIKE '%\\_0021'")
    assert left == 0
