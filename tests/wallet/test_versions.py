"""Money and grants across versions: the version before 0025 and this one serve from one schema.

`verification_before_0025.json` in tests/billing is the verification of that version: its queries, and the constraints
that it looks for. Nothing that it cannot read is written before the upgrade is finished (ADR 26).
"""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from tests.billing.test_key_space_versions import charge_as_before
from tests.billing.test_unit_versions import (
    open_as_before,
    problems_seen_by_the_version_before,
    use_tool_as_before,
    verify,
)
from tests.books import connected
from tests.databases import Urls, alembic, create_database, drop_database
from tests.test_verify import write_history

BEFORE, AFTER = "0024", "0025"
FILE = Path(__file__).parent.parent / "billing" / "verification_before_0025.json"
VERIFICATION = json.loads(FILE.read_text(encoding="utf-8"))


async def problems(urls: Urls) -> list[str]:
    return await problems_seen_by_the_version_before(urls, VERIFICATION)


@pytest.fixture
async def older_database(now: datetime) -> AsyncIterator[Urls]:
    """A database with the schema of the version before, to which it has written charges, credits and uses of a tool."""
    name = f"wallet_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    alembic(urls, "upgrade", BEFORE)
    account_id = await open_as_before(urls, now)
    assert await charge_as_before(urls, account_id, "api_key", "k", now)
    await use_tool_as_before(urls, account_id, now)
    yield urls
    await drop_database(name)


async def test_the_version_before_proves_the_books_that_this_version_writes_during_an_upgrade(
    own_database: Urls,
) -> None:
    await write_history(own_database)
    assert len(VERIFICATION["checks"]) > 20
    assert await problems(own_database) == []


async def test_both_prove_the_books_that_the_version_before_writes_during_an_upgrade(
    older_database: Urls, now: datetime
) -> None:
    alembic(older_database, "upgrade", "head")
    async with connected(older_database) as connection:
        account_id = await connection.fetchval("SELECT account_id FROM accounts")
    await use_tool_as_before(older_database, account_id, now)
    assert await charge_as_before(older_database, account_id, "api_key", "k2", now)
    assert await verify(older_database, now) is None
    assert await problems(older_database) == []


async def test_the_version_before_finds_no_fault_at_any_step_of_the_migration(older_database: Urls) -> None:
    output = alembic(older_database, "upgrade", f"{BEFORE}:{AFTER}", "--sql")
    sql = "\n".join(line for line in output.splitlines() if not line.startswith(("INFO", "BEGIN;", "COMMIT;", "-- ")))
    statements = [statement.strip() for statement in sql.split(";\n\n") if statement.strip()]
    assert len(statements) > 15
    connection = await asyncpg.connect(older_database.owner)
    try:
        for statement in statements:
            await connection.execute(statement)
            assert await problems(older_database) == [], statement
    finally:
        await connection.close()
    assert AFTER in alembic(older_database, "current")


async def test_a_migration_that_was_interrupted_is_repeated(older_database: Urls, now: datetime) -> None:
    alembic(older_database, "upgrade", AFTER)
    async with connected(older_database) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = $1", BEFORE)
        await connection.execute("ALTER TABLE accounts DROP CONSTRAINT ck_accounts_sums, DROP COLUMN has_limits")
        await connection.execute("DROP INDEX ix_grants_open")
    alembic(older_database, "upgrade", "head")
    assert await verify(older_database, now) is None
    assert "No new upgrade operations detected" in alembic(older_database, "check")
