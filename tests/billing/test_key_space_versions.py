"""Key spaces across versions: a schema from before them, and a version of the service that does not know them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.accounts.directory import Identity
from app.auth.caller import Actor, CallerKind
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database, new_id
from app.ledger.outcomes import New, Replayed
from app.ledger.pools import Credits
from app.payments.queries import find_purchase_by_key
from app.settings import Settings
from tests.billing.test_charges import open_account
from tests.books import balances, connected
from tests.databases import Urls, alembic, create_database, drop_database
from tests.support.earlier_version import Connection, charge_as_before, insert

KINDS: dict[Literal["api_key", "user", "admin", "system"], CallerKind] = {
    "api_key": "key",
    "user": "user",
    "admin": "admin",
    "system": "admin",
}
BEFORE = "0013"
"""The last revision of the schema without kinds of caller."""


async def insert_entry(
    connection: Connection,
    account_id: UUID,
    entry_no: int,
    delta: int,
    cause: tuple[str, UUID],
    actor: str,
    now: datetime,
) -> None:
    await insert(
        connection,
        "ledger_entries",
        account_id=account_id,
        entry_no=entry_no,
        pool="paid",
        delta=delta,
        balance_after=100,
        kind="charge" if cause[0] == "charge" else "grant",
        cause_type=cause[0],
        cause_id=cause[1],
        actor_type=actor,
        actor_id="somebody",
        created_at=now,
    )


async def charges_of(urls: Urls, account_id: UUID) -> list[tuple[str, str]]:
    async with connected(urls) as connection:
        rows = await connection.fetch(
            "SELECT caller_kind, idempotency_key FROM charges WHERE account_id = $1 ORDER BY 2, 1", account_id
        )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("actor", KINDS)
async def test_what_the_version_before_charged_is_replayed_for_its_kind_of_caller(
    actor: Literal["api_key", "user", "admin", "system"],
    billing: BillingService,
    identity: Identity,
    now: datetime,
    database: Urls,
) -> None:
    account_id = await open_account(billing, identity, now, paid=5)
    assert await charge_as_before(database, account_id, actor, "k", now)
    assert await charges_of(database, account_id) == [(KINDS[actor], "k")]

    async def charge(by: Actor) -> type:
        return type(await billing.charge(ChargeRequest(account_id, 100, None, by, now, idempotency_key="k")))

    assert await charge(Actor(actor, "another token or key")) is Replayed
    others = [Actor(other, "x") for other in KINDS if KINDS[other] != KINDS[actor]]
    assert await charge(others[0]) is New
    assert not await charge_as_before(database, account_id, actor, "k", now)


@pytest.mark.parametrize("actor", ["api_key", "user"])
async def test_two_versions_at_once_charge_each_key_once(
    actor: Literal["api_key", "user"], billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now, paid=100)
    keys = [f"k{number}" for number in range(4)]
    by = Actor(actor, "x")
    outcomes = await asyncio.gather(
        *(
            charged
            for _ in range(3)
            for key in keys
            for charged in (
                charge_as_before(database, account_id, actor, key, now),
                billing.charge(ChargeRequest(account_id, 100, None, by, now, idempotency_key=key)),
            )
        )
    )
    assert sum(outcome is True or isinstance(outcome, New) for outcome in outcomes) == 4
    assert await charges_of(database, account_id) == [(KINDS[actor], key) for key in keys]
    assert sum((await balances(database, account_id)).values()) == 103 - 4


# --- the migration ----------------------------------------------------------------------------------------------


@pytest.fixture
async def older_database() -> AsyncIterator[Urls]:
    """A database with the schema before kinds of caller, which a test migrates."""
    name = f"key_spaces_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    alembic(urls, "upgrade", BEFORE)
    yield urls
    await drop_database(name)


MANY = 5003
"""More rows than one batch of the migration fills."""
FILL_ENTRIES = f"""
    INSERT INTO ledger_entries
    SELECT $1, n, 'free', 'credit', -1, 0, 'charge', 'charge', md5(n::text)::uuid, 'api_key', 'x', $2
      FROM generate_series(1, {MANY}) n
"""
FILL_CHARGES = f"""
    INSERT INTO charges (account_id, charge_id, entry_no, operation, idempotency_key, amount_minor, currency, cost,
                         from_daily_free, from_free, from_paid, paid_after, metadata, created_at)
    SELECT $1, md5(n::text)::uuid, n, 'charge', 'm' || n, 100, 'USD', 1, 0, 1, 0, 0, '{{}}', $2
      FROM generate_series(1, {MANY}) n
"""


async def fill_as_before(urls: Urls, identity: Identity, now: datetime) -> UUID:
    """An account of the version before: charges and credits of every kind of caller, a purchase, and many charges."""
    account_id = new_id()
    async with connected(urls) as connection:
        await insert(
            connection,
            "accounts",
            account_id=account_id,
            environment="live",
            currency="USD",
            plan_name="free",
            **dict.fromkeys(("daily_free", "free", "debt", "total_uses"), 0),
            paid=100,
            last_entry_no=MANY + 9,
            created_at=now,
            updated_at=now,
        )
        await insert(
            connection,
            "account_identities",
            environment="live",
            oauth_provider=identity.oauth_provider,
            external_id=identity.external_id,
            account_id=account_id,
            created_at=now,
        )
        await connection.execute(FILL_ENTRIES, account_id, now)
        await connection.execute(FILL_CHARGES, account_id, now)
        money = {"account_id": account_id, "currency": "USD", "created_at": now}
        for number, actor in enumerate((*KINDS, "stripe"), MANY + 1):
            credit_id = new_id()
            await insert_entry(connection, account_id, number, 5, ("credit", credit_id), actor, now)
            await insert(
                connection,
                "credits",
                **money,
                credit_id=credit_id,
                entry_no=number,
                transaction_type="grant",
                idempotency_key=None if actor == "stripe" else f"credit {actor}",
                credits=5,
                paid_after=100,
            )
        for number, actor in enumerate(KINDS, MANY + 6):
            charge_id = new_id()
            await insert_entry(connection, account_id, number, -1, ("charge", charge_id), actor, now)
            await insert(
                connection,
                "charges",
                **money,
                charge_id=charge_id,
                entry_no=number,
                operation="charge",
                idempotency_key=f"charge {actor}",
                amount_minor=100,
                cost=1,
                from_daily_free=0,
                from_free=0,
                from_paid=1,
                paid_after=100,
                metadata="{}",
            )
        await insert(
            connection,
            "purchases",
            **money,
            purchase_id=new_id(),
            environment="live",
            pack="standard",
            credits=20,
            amount_minor=500,
            idempotency_key="click",
            status="pending",
            status_at=now,
            refunded_minor=0,
            credits_refunded=0,
            credits_disputed=0,
            updated_at=now,
        )
    return account_id


async def test_the_migration_gives_existing_keys_to_the_callers_that_used_them(
    older_database: Urls, identity: Identity, now: datetime, settings: Settings
) -> None:
    account_id = await fill_as_before(older_database, identity, now)
    alembic(older_database, "upgrade", "head")
    async with connected(older_database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM charges WHERE caller_kind = 'key'") == MANY + 1
        assert await connection.fetchval("SELECT count(*) FROM charges WHERE caller_kind IS NULL") == 0
        assert await connection.fetchval("SELECT count(*) FROM credits WHERE caller_kind IS NULL") == 1, "Stripe's"
    db = Database(SecretStr(older_database.service), pool_size=3)
    billing = BillingService(db, Configuration(db, settings))
    for actor, kind in KINDS.items():
        for other in (Actor(actor, "x"), Actor("user" if kind != "user" else "api_key", "x")):
            charge = await billing.charge(
                ChargeRequest(account_id, 100, None, other, now, idempotency_key=f"charge {actor}")
            )
            assert isinstance(charge, Replayed if other.kind == kind else New)
            credit = await billing.credit(
                account_id,
                credits=Credits(5),
                currency=None,
                transaction_type="grant",
                actor=other,
                now=now,
                idempotency_key=f"credit {actor}",
            )
            assert credit.replayed is (other.kind == kind)
    async with db.read() as session:
        for caller in ("key", "user"):
            assert await find_purchase_by_key(session, account_id, caller, "click") is not None  # for either caller
    await db.close()


async def test_a_migration_that_was_interrupted_is_repeated(
    older_database: Urls, identity: Identity, now: datetime
) -> None:
    """Everything in it was done but the mark that it was: from half a column to constraints that are replaced."""
    await fill_as_before(older_database, identity, now)
    alembic(older_database, "upgrade", "+1")
    async with connected(older_database) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = $1", BEFORE)
        await connection.execute("UPDATE charges SET caller_kind = NULL WHERE entry_no > 5000")
        await connection.execute("CREATE UNIQUE INDEX uq_charges_caller_kind ON charges (charge_id)")
    alembic(older_database, "upgrade", "head")
    async with connected(older_database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM charges WHERE caller_kind IS NULL") == 0
        keys = await connection.fetchval(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conname = 'uq_charges_account_id_operation_idempotency_key'"
        )
    assert keys == "UNIQUE (account_id, operation, idempotency_key, caller_kind)"
