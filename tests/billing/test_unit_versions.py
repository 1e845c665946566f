"""Units, grants and holds across versions: the version before 0021 and this one serve from one schema.

`verification_before_0021.json` is the verification of that version: its queries, and the constraints that it looks for.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.accounts.directory import Identity
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.outcomes import New
from app.ledger.pools import Credits
from app.settings import Settings
from app.tools.service import ProductInventoryService
from tests.billing.test_charges import open_account
from tests.books import balances, connected
from tests.conftest import ACTOR
from tests.databases import Urls, alembic
from tests.support.earlier_version import (
    charge_as_before,
    check_each_step,
    continue_as_before,
    database_of,
    problems_seen_by,
    use_tool_as_before,
    verification_before,
    verify,
)
from tests.test_verify import write_history

BEFORE = "0020"
VERIFICATION = verification_before("0021")


async def units(urls: Urls) -> set[tuple[str, str, UUID | None]]:
    async with connected(urls) as connection:
        rows = await connection.fetch("SELECT DISTINCT pool, unit, grant_id FROM ledger_entries")
    return {tuple(row) for row in rows}


async def test_the_version_before_proves_the_books_that_this_version_writes(own_database: Urls) -> None:
    await write_history(own_database)
    assert await problems_seen_by(VERIFICATION, own_database) == []
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
    assert await problems_seen_by(VERIFICATION, own_database) == []
    assert await verify(own_database, now) is None


# --- the migration ----------------------------------------------------------------------------------------------


@pytest.fixture
async def older_database(now: datetime) -> AsyncIterator[Urls]:
    async with database_of(BEFORE, now) as urls:
        yield urls


async def test_this_version_proves_the_books_that_the_version_before_wrote(older_database: Urls, now: datetime) -> None:
    assert await problems_seen_by(VERIFICATION, older_database) == []
    alembic(older_database, "upgrade", "head")
    assert await verify(older_database, now) is None
    # The version before continues on the new schema until the deployment has replaced it.
    await continue_as_before(older_database, now)
    assert await verify(older_database, now) is None
    assert await problems_seen_by(VERIFICATION, older_database) == []
    assert {(unit, lot) for _, unit, lot in await units(older_database)} == {("credit", None)}


async def test_the_version_before_finds_no_fault_at_any_step_of_the_migration(older_database: Urls) -> None:
    await check_each_step(VERIFICATION, older_database, BEFORE, "0021")


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
