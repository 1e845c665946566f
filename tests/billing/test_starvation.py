"""Isolation: slow or stuck work delays no other request, and one bad request does not fail its batch."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.accounts.directory import Identity, Profile
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.errors import BalanceLimitExceeded
from app.ledger.locked_account import MAX_INT64
from app.ledger.outcomes import New, Refused
from tests.books import account_locked, connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls


@pytest.fixture
async def small(own_database: Urls) -> AsyncIterator[Database]:
    """The connections of a default installation."""
    db = Database(SecretStr(own_database.service), pool_size=10, timeout_s=3)
    yield db
    await db.close()


@pytest.fixture
def service(small: Database, own_database: Urls) -> BillingService:
    return BillingService(small, Configuration(small, settings_for(own_database)))


async def open_account(service: BillingService, now: datetime) -> uuid.UUID:
    identity = Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")
    return await service.accounts.directory.resolve(identity, Profile(), ACTOR, now)


def charge_of(account_id: uuid.UUID, now: datetime, key: str | None = None) -> ChargeRequest:
    return ChargeRequest(account_id, 100, None, ACTOR, now, idempotency_key=key)


async def test_slow_lists_hold_up_no_charge(small: Database, service: BillingService, now: datetime) -> None:
    async def slow_list() -> None:
        async with small.read() as db:
            await db.execute(text("SELECT pg_sleep(2)"))

    account_id = await open_account(service, now)
    lists = [asyncio.create_task(slow_list()) for _ in range(30)]
    await asyncio.sleep(0.2)
    assert isinstance(await service.charge(charge_of(account_id, now, "k")), New)
    other = await open_account(service, now)
    await service.check(other, now)
    assert not any(task.done() for task in lists)
    for task in lists:
        task.cancel()
    await asyncio.gather(*lists, return_exceptions=True)


async def test_many_locked_accounts_hold_up_no_other(
    service: BillingService, now: datetime, own_database: Urls
) -> None:
    """Requests that wait for locked accounts leave connections for the rest, however many accounts are locked."""
    stuck = [await open_account(service, now) for _ in range(12)]
    free = await open_account(service, now)
    async with AsyncExitStack() as locks:
        for account_id in stuck:
            await locks.enter_async_context(account_locked(own_database, account_id))
        waiting = [asyncio.create_task(service.charge(charge_of(account_id, now, "k"))) for account_id in stuck]
        await asyncio.sleep(0.3)
        assert isinstance(await service.charge(charge_of(free, now, "k")), New)
        await open_account(service, now)
        assert not any(task.done() for task in waiting)
    assert all(isinstance(outcome, New) for outcome in await asyncio.gather(*waiting))


async def test_uses_that_no_longer_fit_are_refused_and_cost_no_neighbour(
    service: BillingService, now: datetime, own_database: Urls
) -> None:
    full = await open_account(service, now)
    others = [await open_account(service, now) for _ in range(20)]
    async with connected(own_database) as connection:
        await connection.execute("UPDATE accounts SET total_uses = $2 WHERE account_id = $1", full, MAX_INT64)
    refused, *charged = await asyncio.gather(*(service.charge(charge_of(a, now)) for a in [full, *others]))
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, BalanceLimitExceeded)
    assert all(isinstance(outcome, New) for outcome in charged)


async def test_a_statement_that_fails_costs_only_its_own_account(
    service: BillingService, now: datetime, own_database: Urls
) -> None:
    """A row that the database rejects fails its batch; the others, without keys, are charged nevertheless."""
    bad = await open_account(service, now)
    others = [await open_account(service, now) for _ in range(20)]
    async with connected(own_database) as connection:
        await connection.execute(f"ALTER TABLE charges ADD CONSTRAINT ck_test CHECK (account_id <> '{bad}') NOT VALID")
    outcomes = await asyncio.gather(
        *(service.charge(charge_of(a, now)) for a in [bad, *others]), return_exceptions=True
    )
    assert isinstance(outcomes[0], Exception)
    assert all(isinstance(outcome, New) for outcome in outcomes[1:])


async def test_connections_that_were_cut_while_idle_are_not_noticed_by_a_charge_with_a_key(
    service: BillingService, now: datetime, own_database: Urls
) -> None:
    account_id = await open_account(service, now)
    await asyncio.gather(*(service.charge_many([charge_of(account_id, now)]) for _ in range(3)))
    async with connected(own_database) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'billing_service'"
        )
    account_id = await open_account_again(service, now)
    assert isinstance(await service.charge(charge_of(account_id, now, "k")), New)


async def open_account_again(service: BillingService, now: datetime) -> uuid.UUID:
    """Open an account, twice if necessary: creation has no retry, and the first attempt finds the cut connection."""
    try:
        return await open_account(service, now)
    except Exception:
        return await open_account(service, now)
