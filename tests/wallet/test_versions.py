"""Money and grants across versions: the version before 0025 and this one serve from one schema.

`verification_before_0025.json` in tests/billing is the verification of that version: its queries, and the constraints
that it looks for. Nothing that it cannot read is written before the upgrade is finished (ADR 26).
"""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from tests.books import connected
from tests.databases import Urls, alembic
from tests.support.earlier_version import (
    check_each_step,
    continue_as_before,
    database_of,
    problems_seen_by,
    verification_before,
    verify,
)
from tests.test_verify import write_history

BEFORE, AFTER = "0024", "0025"
VERIFICATION = verification_before("0025")


@pytest.fixture
async def older_database(now: datetime) -> AsyncIterator[Urls]:
    async with database_of(BEFORE, now) as urls:
        yield urls


async def test_the_version_before_proves_the_books_that_this_version_writes_during_an_upgrade(
    own_database: Urls,
) -> None:
    await write_history(own_database)
    assert len(VERIFICATION["checks"]) > 20
    assert await problems_seen_by(VERIFICATION, own_database) == []


async def test_both_prove_the_books_that_the_version_before_writes_during_an_upgrade(
    older_database: Urls, now: datetime
) -> None:
    alembic(older_database, "upgrade", "head")
    await continue_as_before(older_database, now)
    assert await verify(older_database, now) is None
    assert await problems_seen_by(VERIFICATION, older_database) == []


async def test_the_version_before_finds_no_fault_at_any_step_of_the_migration(older_database: Urls) -> None:
    await check_each_step(VERIFICATION, older_database, BEFORE, AFTER)


async def test_a_migration_that_was_interrupted_is_repeated(older_database: Urls, now: datetime) -> None:
    alembic(older_database, "upgrade", AFTER)
    async with connected(older_database) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = $1", BEFORE)
        await connection.execute("ALTER TABLE accounts DROP CONSTRAINT ck_accounts_sums, DROP COLUMN has_limits")
        await connection.execute("DROP INDEX ix_grants_open")
    alembic(older_database, "upgrade", "head")
    assert await verify(older_database, now) is None
    assert "No new upgrade operations detected" in alembic(older_database, "check")
