"""The proof of the ledger: a sound one passes, and each way of spoiling it is found, with the culprit named."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args, get_type_hints
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Base, Database
from app.db.version_mark import VersionMark
from app.ledger.checks import LEDGER, Proof, compose
from app.ledger.entries import Cause, Kind
from app.ledger.outcomes import New
from app.ledger.pools import Credits
from app.ledger.verification import last_verification
from app.tools.service import ProductInventoryService
from app.verification import PROOFS, verify_books
from app.wallet.service import WalletService
from tests.books import connected
from tests.conftest import ACTOR, settings_for
from tests.databases import SERVICE_ROLE, Urls, create_database, drop_database
from tests.later_version import DOLLAR, write_lots

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Books:
    """A database with an account that has done everything once, and one that a later version gave grants and holds."""

    name: str
    account_id: UUID
    account_with_lots: UUID


async def write_history(urls: Urls) -> UUID:
    settings = settings_for(urls, daily_free_uses=1)
    db = Database(settings.database_url)
    billing = BillingService(db, Configuration(db, settings))
    tools = ProductInventoryService(db, Configuration(db, settings), billing)
    account_id = await billing.accounts.directory.resolve(
        Identity("live", "oauth:google", "a@b.c"), Profile(), ACTOR, NOW
    )
    await billing.credit(account_id, credits=Credits(20), currency=None, transaction_type="grant", actor=ACTOR, now=NOW)
    charge = await billing.charge(ChargeRequest(account_id, 500, "USD", ACTOR, NOW))  # 1 daily, 3 free, 1 paid
    assert isinstance(charge, New)
    await tools.grant(account_id, "web_search", Credits(2), actor=ACTOR, now=NOW)
    await tools.charge(account_id, "web_search", actor=ACTOR, now=NOW)
    for _ in range(6):  # 5 free ones, and one that the main pool pays
        await tools.charge(account_id, "image_gen", actor=ACTOR, now=NOW)
    verification = await verify_books(db, NOW)
    assert verification.ok, verification.problem
    await db.close()
    return account_id


async def write_history_of_a_later_version(urls: Urls) -> UUID:
    settings = settings_for(urls)
    db = Database(settings.database_url)
    billing = BillingService(db, Configuration(db, settings))
    account_id = await billing.accounts.directory.resolve(
        Identity("live", "oauth:google", "lots@b.c"), Profile(), ACTOR, NOW
    )
    await billing.credit(account_id, credits=Credits(9), currency=None, transaction_type="grant", actor=ACTOR, now=NOW)
    await write_lots(urls, account_id, NOW)
    wallet = WalletService(db, billing.accounts, VersionMark(db))
    await wallet.credit_money(account_id, DOLLAR, Kind.BONUS, currency=None, actor=ACTOR, now=NOW)
    await db.close()
    return account_id


@pytest.fixture(scope="module")
async def books(worker_id: str) -> AsyncIterator[Books]:
    name = f"books_{uuid.uuid4().hex}"
    urls = await create_database(name)
    account_id = await write_history(urls)
    yield Books(name, account_id, await write_history_of_a_later_version(urls))
    await drop_database(name)


@pytest.fixture
async def copy(books: Books) -> AsyncIterator[Urls]:
    """The books once more, to be spoilt."""
    name = f"copy_{uuid.uuid4().hex}"
    yield await create_database(name, template=books.name)
    await drop_database(name)


async def spoil(urls: Urls, sql: str) -> None:
    async with connected(urls) as connection:
        await connection.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
        await connection.execute(sql)


async def problem_of(urls: Urls) -> str | None:
    db = Database(SecretStr(urls.service))
    try:
        found = await verify_books(db, NOW)
        last = await last_verification(db)
        assert last is not None
        assert (last.ok, last.problem) == (found.ok, found.problem)
        return found.problem
    finally:
        await db.close()


NEGATIVE = """
    ALTER TABLE accounts DROP CONSTRAINT ck_accounts_debt;
    UPDATE accounts SET debt = -1;
    ALTER TABLE accounts ADD CONSTRAINT ck_accounts_debt CHECK (debt >= 0) NOT VALID;
    UPDATE pg_constraint SET convalidated = true WHERE conname = 'ck_accounts_debt'
"""
CHARGE_OF_NOTHING = """
    INSERT INTO charges SELECT (jsonb_populate_record(c, jsonb_build_object(
        'charge_id', gen_random_uuid(), 'entry_no', 999))).* FROM charges c WHERE operation = 'charge'
"""
PURCHASE_OF_NOTHING = """
    INSERT INTO purchases (account_id, purchase_id, environment, pack, credits, amount_minor, currency, status,
                           status_at, refunded_minor, credits_refunded, credits_disputed, credit_id, payment_intent_id,
                           received_minor, received_currency, created_at, updated_at)
    SELECT account_id, gen_random_uuid(), 'live', 'standard', 20, 500, 'USD', 'succeeded', now(), 0, 0, 0,
           gen_random_uuid(), 'pi_1', 500, 'USD', now(), now() FROM accounts
"""
FIRST_PAID = "(SELECT min(entry_no) FROM ledger_entries WHERE pool = 'paid')"
MAIN_POOL_USE = "product_usage_log WHERE source = 'main_pool'"
SPOILT = {
    "entry deleted": ("DELETE FROM ledger_entries WHERE entry_no = 2", "a gap in an account's entries: account {0}"),
    "entry duplicated": (
        "INSERT INTO ledger_entries SELECT (jsonb_populate_record(e, '{\"entry_no\": 999}')).* "
        "FROM ledger_entries e WHERE entry_no = 1",
        "a gap in an account's entries: account {0}",
    ),
    "balance after": (
        f"UPDATE ledger_entries SET balance_after = 21 WHERE entry_no = {FIRST_PAID}",
        "a broken chain: account {0}, entry 2, pool paid: balance after is 21, expected 20",
    ),
    "delta": (
        f"UPDATE ledger_entries SET delta = 19 WHERE entry_no = {FIRST_PAID}",
        "a broken chain: account {0}, entry 2, pool paid: balance after is 20, expected 19",
    ),
    "balance": (
        "UPDATE accounts SET paid = paid + 1",
        "a balance that is not the sum of its entries: account {0}, pool paid: balance 10, sum of entries 9",
    ),
    "product's balance": (
        "UPDATE product_inventory SET paid = 3 WHERE product_type = 'web_search'",
        "not the sum of its entries: account {0}, pool web_search/paid: balance 3, sum of entries 2",
    ),
    "product's row": (
        "DELETE FROM product_inventory WHERE product_type = 'web_search'",
        "not the sum of its entries: account {0}, pool web_search/free: balance 0, sum of entries 9",
    ),
    "negative": (NEGATIVE, "not the sum of its entries: account {0}, pool debt: balance -1, sum of entries 0"),
    "uses": ("UPDATE accounts SET total_uses = 14", "total_uses 14, credits spent 15"),
    "charge's parts": (
        "UPDATE charges SET from_free = 2, from_paid = 2 WHERE operation = 'charge' AND from_grants = 0",
        "recorded 1/2/2/0, entries 1/3/1/0",
    ),
    "charge deleted": ("DELETE FROM charges WHERE operation = 'charge'", "an entry without its cause: account {0}"),
    "charge of nothing": (CHARGE_OF_NOTHING, "recorded 1/3/1/0, entries 0/0/0/0"),
    "credit's size": ("UPDATE credits SET credits = 21", "recorded 21, entries 20"),
    "credit deleted": ("DELETE FROM credits", "an entry without its cause: account {0}, entry 2: no credit"),
    "tool use's payer": (
        "UPDATE product_usage_log SET source = 'paid' WHERE product_type = 'web_search'",
        "a tool use that is not what its entry says: account {0}",
    ),
    "tool use deleted": (
        "DELETE FROM product_usage_log WHERE product_type = 'web_search'",
        "an entry without its cause: account {0}",
    ),
    "tool use of another charge": (
        "UPDATE product_usage_log SET charge_id = gen_random_uuid() WHERE source = 'main_pool'",
        "a tool use that is not what its entry says: account {0}",
    ),
    "use of the main pool deleted": (f"DELETE FROM {MAIN_POOL_USE}", "a tool charge without its use: account {0}"),
    "cause": (
        f"UPDATE ledger_entries SET cause_type = 'miracle' WHERE entry_no = {FIRST_PAID}",
        "a credit that is not what its entries say: account {0}",
    ),
    "purchase of nothing": (PURCHASE_OF_NOTHING, "a purchase that is not what its credits say: account {0}"),
    "identity of the other world": (
        "UPDATE account_identities SET environment = 'test'",
        "an identity without its account: test identity of account {0}",
    ),
    "grant's rest": (
        "UPDATE grants SET remaining = remaining + 1 WHERE unit = 'credit'",
        "not the sum of its entries: account {1}, pool grant ",
    ),
    "grant's unit": ("UPDATE grants SET unit = 'EUR' WHERE unit = 'USD'", "account {1}, pool grant EUR "),
    "an entry's unit": (
        "UPDATE ledger_entries SET unit = 'EUR' WHERE pool = 'held' AND unit = 'USD'",
        "not the sum of its entries: account {1}, pool held EUR: balance 0, sum of entries 1000000000",
    ),
    "an entry's lot": (
        "UPDATE ledger_entries SET grant_id = (SELECT grant_id FROM grants WHERE unit = 'USD')"
        " WHERE pool = 'grant' AND kind = 'charge'",
        "a broken chain: account {1}, entry ",
    ),
    "grant deleted": (
        "DELETE FROM grants WHERE unit = 'USD'",
        "not the sum of its entries: account {1}, pool grant USD ",
    ),
    "hold settled without entries": (
        "UPDATE holds SET status = 'released' WHERE unit = 'credit'",
        "not the sum of its entries: account {1}, pool held: balance 0, sum of entries 5",
    ),
    "hold settled twice": (
        "UPDATE holds SET status = 'held' WHERE status = 'released'",
        "not the sum of its entries: account {1}, pool held: balance 8, sum of entries 5",
    ),
    "hold deleted": ("DELETE FROM holds WHERE status = 'released'", "an entry without its cause: account {1}"),
    "part of a hold": (
        "UPDATE hold_parts SET amount = 2 WHERE pool = 'paid'",
        "a hold that is not its parts: account {1}",
    ),
    "part of a hold deleted": (
        "DELETE FROM hold_parts WHERE pool = 'paid'",
        "a hold that is not its parts: account {1}",
    ),
    "charge's part from grants": (
        "UPDATE charges SET from_grants = 0, from_paid = 2 WHERE from_grants > 0",
        "recorded 0/0/2/0, entries 0/0/0/2",
    ),
    "uses paid by grants": (
        "UPDATE accounts SET total_uses = 0 WHERE total_uses = 2",
        "account {1}: total_uses 0, credits spent 2",
    ),
    "sum of grants": (
        "UPDATE accounts SET grants_credits = 5 WHERE grants_credits = 4",
        "a sum of grants that is not its grants: account {1}: grants 5 credits, 4000000000 nanos",
    ),
    "sum of grants of money": (
        "UPDATE accounts SET grants_money_nanos = 0",
        "a sum of grants that is not its grants: account {1}",
    ),
    "expiry of grants": (
        "UPDATE accounts SET grants_expire_at = now()",
        "a sum of grants that is not its grants: account {0}",
    ),
    "sum of holds": (
        "UPDATE accounts SET held_money_nanos = 0",
        "a sum of holds that is not its holds: account {1}: held 5 credits, 0 nanos; holds say 5, 1000000000",
    ),
    "lifetime total": (
        "UPDATE accounts SET money_granted_nanos = 0, money_used_nanos = 7 WHERE money_granted_nanos > 0",
        "a lifetime total of money that is not its entries: account {1}: purchased 0, granted 0, used 7; entries 0, 60",
    ),
    "credit of money": (
        "UPDATE money_credits SET amount_nanos = 7",
        "a credit of money that is not what its entries say: account {1}, money credit ",
    ),
    "credit of money deleted": (
        "DELETE FROM money_credits",
        "an entry without its cause: account {1}",
    ),
    "balance of money": (
        "UPDATE accounts SET money_nanos = 1 WHERE money_nanos = 0",
        "not the sum of its entries: account {0}, pool money USD: balance 1, sum of entries 0",
    ),
    "debt of money": (
        "UPDATE accounts SET money_debt_nanos = 1",
        "not the sum of its entries: account {0}, pool money_debt USD: balance 1, sum of entries 0",
    ),
    "account deleted": ("DELETE FROM accounts", "not the sum of its entries: account {0}"),
    "CHECK": ("ALTER TABLE accounts DROP CONSTRAINT ck_accounts_paid", "the schema lacks ck_accounts_paid on accounts"),
    "unique constraint": (
        "ALTER TABLE charges DROP CONSTRAINT uq_charges_account_id_operation_idempotency_key",
        "the schema lacks uq_charges_account_id_operation_idempotency_key on charges",
    ),
    "foreign key": (
        "ALTER TABLE ledger_entries DROP CONSTRAINT fk_ledger_entries_account_id_accounts",
        "the schema lacks fk_ledger_entries_account_id_accounts on ledger_entries",
    ),
    "trigger": (
        "ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only",
        "the schema lacks ledger_entries_append_only on ledger_entries",
    ),
    "privilege": (
        f"GRANT DELETE ON ledger_entries TO {SERVICE_ROLE}",
        f"a privilege to change the ledger: role {SERVICE_ROLE} may change ledger_entries",
    ),
}


async def test_sound_books_verify(copy: Urls) -> None:
    assert await problem_of(copy) is None


@pytest.mark.parametrize(("sql", "expected"), SPOILT.values(), ids=SPOILT)
async def test_spoilt_books_name_the_culprit(sql: str, expected: str, copy: Urls, books: Books) -> None:
    await spoil(copy, sql)
    problem = await problem_of(copy)
    assert problem is not None
    assert expected.format(books.account_id, books.account_with_lots) in problem


def test_no_two_packages_use_one_name() -> None:
    with pytest.raises(ValueError, match="registered twice: a broken chain"):
        compose([Proof(checks={"a broken chain": "SELECT 1"})])
    with pytest.raises(ValueError, match="registered twice: account"):
        compose([Proof(causes={"account": "true"})])


def test_each_cause_that_an_entry_can_name_is_proved_by_its_package() -> None:
    causes = [cause for proof in (LEDGER, *PROOFS) for cause in proof.causes]
    assert sorted(causes) == sorted(get_args(get_type_hints(Cause)["type"]))


def test_the_ledgers_checks_read_no_table_of_a_package_above_it() -> None:
    ours = {mapper.class_.__tablename__ for mapper in Base.registry.mappers if "ledger" in mapper.class_.__module__}
    read = {
        table for sql in compose([]).values() for table in re.findall(r"\b(?:FROM|JOIN) ([a-z_]+)", sql, re.IGNORECASE)
    }
    assert "ledger_entries" in read
    assert read - {"pg_class"} <= ours


async def test_what_is_written_meanwhile_does_not_disturb(copy: Urls, books: Books) -> None:
    """All checks see one moment: charges that commit between two of them are not half there."""
    settings = settings_for(copy)
    db = Database(settings.database_url)
    billing = BillingService(db, Configuration(db, settings))
    finished = False

    async def keep_crediting() -> int:
        n = 0
        while not finished:
            await billing.credit(
                books.account_id, credits=Credits(1), currency=None, transaction_type="grant", actor=ACTOR, now=NOW
            )
            n += 1
        return n

    writers = [asyncio.create_task(keep_crediting()) for _ in range(2)]
    problems = [(await verify_books(db, NOW)).problem for _ in range(10)]
    finished = True
    assert sum(await asyncio.gather(*writers)) > 10
    await db.close()
    assert problems == [None] * 10
