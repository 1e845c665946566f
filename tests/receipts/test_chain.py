"""The ledger chain: its hashes are those of the documented form, for all writers of the chain and at any time."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from app.accounts.directory import Identity
from app.accounts.erasure import BOOKS, erase_person, forget_texts
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.outcomes import New
from app.receipts import chain as job
from app.receipts import queries
from app.receipts.chain import extend_chains
from app.verification import verify_books
from app.worker.app import create_worker
from app.worker.services import running_services
from tests.books import account_locked, connected, waiting_for_locks
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls, alembic, create_database, drop_database
from tests.receipts.books import NOON, add_many, chain_of, entries_of, expected_chain, write_history
from tests.support.wallets import open_account

RAW_ENTRY = """
    INSERT INTO ledger_entries (account_id, entry_no, pool, delta, balance_after, kind, cause_type, cause_id,
                                actor_type, actor_id, created_at)
    VALUES ($1, $2, 'paid', 1, $2, 'opening_grant', 'account', $1, 'system', $3, $4)
"""
RAW_ACCOUNT = """
    INSERT INTO accounts (account_id, environment, currency, plan_name, daily_free, free, paid, debt, total_uses,
                          last_entry_no, created_at, updated_at)
    VALUES ($1, 'live', 'USD', 'free', 0, 0, $2, 0, 0, $2, now(), now())
"""


@pytest.fixture
async def own_db(own_database: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(own_database.service))
    yield db
    await db.close()


@pytest.fixture
async def account_id(own_database: Urls) -> UUID:
    return await write_history(own_database)


async def assert_sound(db: Database) -> None:
    verification = await verify_books(db, datetime.now(UTC))
    assert verification.ok, verification.problem


async def test_hashes_have_the_documented_form(own_database: Urls, own_db: Database, account_id: UUID) -> None:
    other = await write_history(own_database, "grace@example.com")
    assert await extend_chains(own_db) == sum(
        [len(await entries_of(own_database, each)) for each in (account_id, other)]
    )
    for each in (account_id, other):
        assert await chain_of(own_database, each) == await expected_chain(own_database, each)
    assert (await chain_of(own_database, account_id))[0] != (await chain_of(own_database, other))[0]
    assert await extend_chains(own_db) == 0
    await assert_sound(own_db)


async def test_any_text_and_any_time_can_be_hashed(own_database: Urls, own_db: Database) -> None:
    """A chain that stops at an odd entry would stop permanently."""
    account_id = uuid.uuid4()
    actors = ("", "3:a,", "ключ:1,🔑", "x" * 1000)
    times = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC))
    odd = [(actor, NOON) for actor in actors] + [("tests", time) for time in times]
    async with connected(own_database) as connection:
        await connection.execute(RAW_ACCOUNT, account_id, len(odd) + 2)
        for number, (actor, time) in enumerate(odd, 1):
            await connection.execute(RAW_ENTRY, account_id, number, actor, time)
        for number, infinity in enumerate(("infinity", "-infinity"), len(odd) + 1):
            sql = RAW_ENTRY.replace("$4", f"'{infinity}'")
            await connection.execute(sql, account_id, number, "tests")
    assert await extend_chains(own_db) == len(odd) + 2
    chain = await chain_of(own_database, account_id)
    assert chain[: len(odd)] == await expected_chain(own_database, account_id, len(odd))
    assert len(set(chain)) == len(odd) + 2
    await assert_sound(own_db)


async def test_worker_hashes_what_was_written(own_database: Urls, own_db: Database, account_id: UUID) -> None:
    settings = settings_for(own_database)
    async with running_services(settings) as services:
        queue = create_worker(settings, services)
        async with queue.open_async():
            await queue.configure_task("extend_chains").defer_async(timestamp=0)
            await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
    assert await chain_of(own_database, account_id) == await expected_chain(own_database, account_id)


async def test_an_interrupted_run_continues_where_it_ended(
    own_database: Urls, own_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is out of time ends after a page of accounts; one that dies keeps what it committed."""
    monkeypatch.setattr(job, "ACCOUNTS_AT_ONCE", 1)
    monkeypatch.setattr(job, "ROUNDS", 1)
    accounts = [await write_history(own_database, f"{number}@example.com") for number in range(3)]
    await add_many(own_database, accounts[0], 2000)
    assert await extend_chains(own_db, run_s=0) == 1000
    extend = queries.extend

    async def dying(*_: object) -> None:
        await extend(*_)  # type: ignore[arg-type]  # the same arguments
        raise ConnectionResetError

    monkeypatch.setattr(queries, "extend", dying)
    with contextlib.suppress(ConnectionResetError):
        await extend_chains(own_db)
    monkeypatch.setattr(queries, "extend", extend)
    assert len(await chain_of(own_database, accounts[0])) == 1000
    assert await extend_chains(own_db) == sum([len(await entries_of(own_database, each)) for each in accounts]) - 1000
    for each in accounts:
        assert await chain_of(own_database, each) == await expected_chain(own_database, each)
    await assert_sound(own_db)


async def test_writers_and_extenders_at_once(own_database: Urls, own_db: Database) -> None:
    """Charges commit while three workers and requests extend the same chains: no hash is wrong, lost or doubled."""
    billing = BillingService(own_db, Configuration(own_db, settings_for(own_database, free_uses=1000)))
    accounts = [
        await open_account(billing, Identity("live", "oauth:google", f"{number}@example.com"), NOON)
        for number in range(4)
    ]
    is_charging = True

    async def charge(account_id: UUID) -> None:
        for _ in range(40):
            assert isinstance(await billing.charge(ChargeRequest(account_id, 100, "USD", ACTOR, NOON)), New)

    async def charge_all() -> None:
        nonlocal is_charging
        await asyncio.gather(*(charge(each) for each in accounts))
        is_charging = False

    async def work() -> int:
        total, db = 0, Database(SecretStr(own_database.service))
        while is_charging:
            total += await extend_chains(db)
        await db.close()
        return total

    async def request() -> None:
        while is_charging:
            async with own_db.transaction() as tx:
                await queries.extend(tx, accounts[:1])

    await asyncio.gather(charge_all(), work(), work(), work(), request())
    await extend_chains(own_db)
    for each in accounts:
        assert len(await entries_of(own_database, each)) == 41
        assert await chain_of(own_database, each) == await expected_chain(own_database, each)
    await assert_sound(own_db)


async def test_two_transactions_store_each_hash_once(own_database: Urls, own_db: Database, account_id: UUID) -> None:
    """The second one computes the same hashes while the first has not committed."""
    other = Database(SecretStr(own_database.service))
    async with own_db.transaction() as tx:
        await queries.extend(tx, [account_id])

        async def extend() -> int:
            async with other.transaction() as second:
                return (await queries.extend(second, [account_id]))[1]

        waiting = asyncio.create_task(extend())
        await waiting_for_locks(own_database, 1)
    assert await waiting == 0
    await other.close()
    assert await chain_of(own_database, account_id) == await expected_chain(own_database, account_id)


async def test_a_locked_account_is_hashed_without_waiting(
    own_database: Urls, own_db: Database, account_id: UUID
) -> None:
    async with account_locked(own_database, account_id):
        assert await extend_chains(own_db) == len(await entries_of(own_database, account_id))


async def test_a_chain_never_passes_a_missing_entry(own_database: Urls, own_db: Database, account_id: UUID) -> None:
    async with connected(own_database) as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("DELETE FROM ledger_entries WHERE entry_no = 4")
    assert await extend_chains(own_db) == 3
    assert await extend_chains(own_db) == 0
    assert len(await chain_of(own_database, account_id)) == 3


async def test_entries_of_an_older_version_are_hashed_later(
    own_database: Urls, own_db: Database, account_id: UUID
) -> None:
    """It writes entries and knows no chain. Until the worker comes, the books are sound."""
    await extend_chains(own_db)
    await add_many(own_database, account_id, 2)
    await assert_sound(own_db)
    assert await extend_chains(own_db) == 2
    await assert_sound(own_db)


async def test_a_ledger_from_before_the_migration_is_hashed() -> None:
    name = f"older_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    alembic(urls, "upgrade", "0035")
    account_id = uuid.uuid4()
    async with connected(urls) as connection:
        await connection.execute(RAW_ACCOUNT, account_id, 3)
        for number in (1, 2, 3):
            await connection.execute(RAW_ENTRY, account_id, number, "tests", NOON)
    alembic(urls, "upgrade", "head")
    db = Database(SecretStr(urls.service))
    await assert_sound(db)
    assert await extend_chains(db) == 3
    assert await chain_of(urls, account_id) == await expected_chain(urls, account_id)
    await assert_sound(db)
    await db.close()
    await drop_database(name)


async def test_a_later_column_of_the_ledger_changes_no_hash(
    own_database: Urls, own_db: Database, account_id: UUID
) -> None:
    await extend_chains(own_db)
    before = await chain_of(own_database, account_id)
    async with connected(own_database) as connection:
        await connection.execute("ALTER TABLE ledger_entries ADD COLUMN later text NOT NULL DEFAULT 'x'")
    await add_many(own_database, account_id, 1)
    assert await extend_chains(own_db) == 1
    assert (await chain_of(own_database, account_id))[:-1] == before
    await assert_sound(own_db)


async def test_erasing_a_person_breaks_no_chain(own_database: Urls, own_db: Database, account_id: UUID) -> None:
    await extend_chains(own_db)
    before = await chain_of(own_database, account_id)
    async with own_db.transaction() as tx:
        assert await erase_person(tx, account_id, datetime.now(UTC)) == "live"
    await forget_texts(own_db, account_id, BOOKS)
    await extend_chains(own_db)
    assert await chain_of(own_database, account_id) == before == await expected_chain(own_database, account_id)
    await assert_sound(own_db)


@pytest.mark.parametrize(
    "change", ["UPDATE ledger_chain SET hash = hash", "DELETE FROM ledger_chain", "TRUNCATE ledger_chain"]
)
async def test_not_even_the_owner_changes_the_chain(own_database: Urls, change: str) -> None:
    owner = await asyncpg.connect(own_database.owner)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await owner.execute(change)
    await owner.close()


async def test_balances_at_each_entry_of_a_long_ledger(own_database: Urls, own_db: Database, account_id: UUID) -> None:
    """Each is the last `balance_after` of its pool; beyond 1,000 entries it is read from the stored `latest`."""
    await add_many(own_database, account_id, 2100)
    await extend_chains(own_db)
    entries = await entries_of(own_database, account_id)
    last = len(entries)
    assert last > 2100
    async with own_db.read() as session:
        for entry_no in (0, 1, 5, 15, 999, 1000, 1001, 1999, 2000, 2001, last):
            expected = {
                (entry["pool"], entry["unit"], entry["grant_id"]): entry["balance_after"]
                for entry in entries[:entry_no]
            }
            found = await queries.find_balances(session, account_id, entry_no)
            assert {
                (row["pool"], row["unit"], row["grant_id"] and UUID(row["grant_id"])): row["balance"] for row in found
            } == {pool: balance for pool, balance in expected.items() if balance}
    await assert_sound(own_db)
