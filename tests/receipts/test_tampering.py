"""A superuser's changes of the ledger or of its chain are found, with the account and the entry."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.db import Database
from app.ledger import queries as ledger_queries
from app.receipts.chain import extend_chains
from app.receipts.checks import PROOF
from app.verification import verify_books
from tests.books import connected
from tests.databases import SERVICE_ROLE, Urls, create_database, drop_database
from tests.processes import run_command
from tests.receipts.books import add_many, write_history
from tests.servers import environment

LONG = 1100


@dataclass(frozen=True)
class Books:
    """A database with a chained ledger, and its account with many entries."""

    name: str
    account_id: UUID


@pytest.fixture(scope="module")
async def books() -> AsyncIterator[Books]:
    """A chained ledger of two accounts, one of them long."""
    name = f"chained_{uuid.uuid4().hex}"
    urls = await create_database(name)
    account_id = await write_history(urls)
    await add_many(urls, account_id, LONG)
    await write_history(urls, "grace@example.com")
    db = Database(SecretStr(urls.service))
    await extend_chains(db)
    verification = await verify_books(db, datetime.now(UTC))
    assert verification.ok, verification.problem
    await db.close()
    yield Books(name, account_id)
    await drop_database(name)


@pytest.fixture
async def copy(books: Books) -> AsyncIterator[Urls]:
    """The books once more, to be spoilt."""
    name = f"copy_{uuid.uuid4().hex}"
    yield await create_database(name, template=books.name)
    await drop_database(name)


CHANGED = "{account}, entry {entry}: the entry, its order or its hash was changed"
ITS = "account_id = '{account}'"
SWAP = """
    UPDATE {table} SET entry_no = -{a} WHERE account_id = '{account}' AND entry_no = {a};
    UPDATE {table} SET entry_no = {a} WHERE account_id = '{account}' AND entry_no = {b};
    UPDATE {table} SET entry_no = {b} WHERE account_id = '{account}' AND entry_no = -{a};
"""


def swap(table: str, one: int, other: int) -> str:
    return SWAP.format(table=table, a=one, b=other, account="{account}")


REHASHED = f"""
    UPDATE ledger_entries SET actor_id = 'somebody else' WHERE {ITS} AND entry_no = 3;
    UPDATE ledger_chain SET hash = sha256(hash) WHERE {ITS} AND entry_no = 3
"""
INSERTED = f"""
    UPDATE ledger_entries SET entry_no = entry_no + 100000 WHERE {ITS} AND entry_no > 4;
    UPDATE ledger_entries SET entry_no = entry_no - 99999 WHERE {ITS} AND entry_no > 100000;
    INSERT INTO ledger_entries SELECT (jsonb_populate_record(e, '{{{{"entry_no": 5}}}}')).*
      FROM ledger_entries e WHERE {ITS} AND entry_no = 4
"""
REMOVED = f"""
    DELETE FROM ledger_entries WHERE {ITS} AND entry_no = 5;
    UPDATE ledger_entries SET entry_no = entry_no + 100000 WHERE {ITS} AND entry_no > 5;
    UPDATE ledger_entries SET entry_no = entry_no - 100001 WHERE {ITS} AND entry_no > 100000
"""
LACKS = "{account}, entry {entry}: the chain lacks entry {missing}"
SPOILT: dict[str, tuple[str, int, str]] = {
    **{
        f"an entry's {column}": (
            f"UPDATE ledger_entries SET {column} = {value} WHERE {ITS} AND entry_no = 3",
            3,
            CHANGED,
        )
        for column, value in {
            "pool": "'money'",
            "unit": "'EUR'",
            "grant_id": "gen_random_uuid()",
            "delta": "delta + 1",
            "balance_after": "balance_after + 1",
            "kind": "'bonus'",
            "cause_type": "'tool_usage'",
            "cause_id": "gen_random_uuid()",
            "actor_type": "'admin'",
            "actor_id": "actor_id || ' '",
            "created_at": "created_at + interval '1 microsecond'",
        }.items()
    },
    "two entries that changed places": (swap("ledger_entries", 2, 3), 2, CHANGED),
    "an entry inserted between others": (INSERTED, 5, CHANGED),
    "an entry removed, and the others renumbered": (REMOVED, 5, CHANGED),
    "an entry deleted": (
        f"DELETE FROM ledger_entries WHERE {ITS} AND entry_no = 3",
        3,
        "{account}, entry 3: the entry is missing",
    ),
    "the last entry deleted": (
        f"DELETE FROM ledger_entries WHERE {ITS} AND entry_no = (SELECT max(entry_no) FROM ledger_entries WHERE {ITS})",
        0,
        ": the entry is missing",
    ),
    "a hash": (f"UPDATE ledger_chain SET hash = sha256(hash) WHERE {ITS} AND entry_no = 3", 3, CHANGED),
    "two hashes that changed places": (swap("ledger_chain", 2, 3), 2, CHANGED),
    "an entry and its hash": (REHASHED, 3, CHANGED),
    "the first hash deleted": (
        f"DELETE FROM ledger_chain WHERE {ITS} AND entry_no = 1",
        2,
        LACKS.replace("{missing}", "1"),
    ),
    "a hash deleted": (f"DELETE FROM ledger_chain WHERE {ITS} AND entry_no = 3", 4, LACKS.replace("{missing}", "3")),
    "a hash of nothing": (
        f"INSERT INTO ledger_chain SELECT account_id, max(entry_no) + 1, sha256('') FROM ledger_chain WHERE {ITS}"
        " GROUP BY 1",
        0,
        ": the entry is missing",
    ),
    "the stored last entries of the pools": (
        f"UPDATE ledger_chain SET latest = '{{{{1}}}}' WHERE {ITS} AND entry_no = 1000",
        1000,
        "{account}, entry 1000: last entries of the pools {{1}}, expected",
    ),
    "the trigger": (
        "DROP TRIGGER ledger_chain_append_only ON ledger_chain",
        0,
        "the trigger ledger_chain_append_only is missing or off",
    ),
    "the trigger switched off": (
        "ALTER TABLE ledger_chain DISABLE TRIGGER ALL",
        0,
        "the trigger ledger_chain_append_only is missing or off",
    ),
    "a privilege": (
        f"GRANT UPDATE ON ledger_chain TO {SERVICE_ROLE}",
        0,
        f"role {SERVICE_ROLE} may change ledger_chain",
    ),
}


async def spoil(urls: Urls, sql: str) -> None:
    async with connected(urls) as connection:
        await connection.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
        await connection.execute("ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_grant_id")
        await connection.execute("ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_unit")
        await connection.execute("ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_entry_no")
        await connection.execute("ALTER TABLE ledger_chain DROP CONSTRAINT ck_ledger_chain_entry_no")
        await connection.execute(sql)


async def faults_of(urls: Urls) -> list[str]:
    """The faults that the chain's own checks find, in their order, as the service's role sees it."""
    db = Database(SecretStr(urls.service))
    async with db.snapshot() as snapshot:
        found = [await ledger_queries.first_culprit(snapshot, check) for check in PROOF.checks.values()]
    await db.close()
    return [fault for fault in found if fault is not None]


@pytest.mark.parametrize(("sql", "entry", "expected"), SPOILT.values(), ids=SPOILT)
async def test_what_is_changed_is_found(books: Books, copy: Urls, sql: str, entry: int, expected: str) -> None:
    await spoil(copy, sql.format(account=books.account_id))
    faults = await faults_of(copy)
    assert faults
    assert expected.format(account=books.account_id, entry=entry) in faults[0]


async def test_a_sound_chain_has_no_fault(copy: Urls) -> None:
    assert await faults_of(copy) == []


async def test_the_command_finds_a_change_that_leaves_the_balances_right(books: Books, copy: Urls) -> None:
    """An entry with another actor leaves all sums right. Only its hash is wrong."""
    sound = run_command(environment(copy), "ledger", "verify", "--json")
    assert (sound.status, sound.json["ok"]) == (0, True)
    async with connected(copy) as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "UPDATE ledger_entries SET actor_id = 'x' WHERE account_id = $1 AND entry_no = 2", books.account_id
        )
    found = run_command(environment(copy), "ledger", "verify", "--json")
    assert (found.status, found.json["ok"]) == (1, False)
    fault = f"account {books.account_id}, entry 2: the entry, its order or its hash was changed"
    assert found.json["problem"] == f"a ledger chain that is not its entries: {fault}"


async def test_entries_rewritten_with_their_hashes_contradict_only_the_kept_statement(books: Books, copy: Urls) -> None:
    """A superuser who recomputes a chain leaves sound books, and another hash than the one that was signed."""
    last = "SELECT hash FROM ledger_chain WHERE account_id = $1 ORDER BY entry_no DESC LIMIT 1"
    async with connected(copy) as connection:
        signed = await connection.fetchval(last, books.account_id)
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            "UPDATE ledger_entries SET actor_id = 'x' WHERE account_id = $1 AND entry_no = 2", books.account_id
        )
        await connection.execute("DELETE FROM ledger_chain WHERE account_id = $1", books.account_id)
    db = Database(SecretStr(copy.service))
    await extend_chains(db)
    await db.close()
    assert await faults_of(copy) == []
    async with connected(copy) as connection:
        assert await connection.fetchval(last, books.account_id) != signed
