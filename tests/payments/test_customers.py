"""An account's customer at Stripe: one, whatever runs at the same time, crashes, or is deleted there."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from app.auth.caller import Environment
from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import UpgradeInProgress
from app.payments import customers as module
from app.payments.customers import Customers
from app.payments.errors import PaymentProviderFailed, PaymentProviderUnavailable
from app.payments.stripe_customers import StripeCustomers
from app.payments.stripe_gateway import StripeGateway
from app.settings import Settings
from tests.books import connected
from tests.databases import Urls
from tests.payments.test_history import new_account


class Stripe:
    """The customers of a Stripe that repeats its answer to an idempotency key, and its own failures."""

    def __init__(self) -> None:
        self.answers: dict[tuple[UUID, int], str] = {}
        self.made: list[str] = []
        self.fails = False
        self.lost_answers = 0

    async def create(self, _: Environment, account_id: UUID, attempt: int) -> str:
        await asyncio.sleep(0)
        answer = self.answers.get((account_id, attempt))
        if answer is None:
            answer = "failure" if self.fails else f"cus_{uuid4().hex}"
            self.answers[account_id, attempt] = answer
            self.made += [] if self.fails else [answer]
        if answer == "failure":
            raise PaymentProviderFailed
        if self.lost_answers > 0:
            self.lost_answers -= 1
            raise PaymentProviderUnavailable
        return answer

    async def exists(self, _: Environment, customer_id: str) -> bool:
        return customer_id in self.made

    async def delete(self, _: Environment, customer_id: str) -> None:
        self.made.remove(customer_id)


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Stripe:
    stripe = Stripe()
    for name in ("create", "exists", "delete"):
        monkeypatch.setattr(StripeCustomers, name, staticmethod(getattr(stripe, name)))
    return stripe


@pytest.fixture
async def customers(db: Database, settings: Settings, stripe: Stripe) -> AsyncIterator[Customers]:
    gateway = StripeGateway(settings, Configuration(db, settings))
    yield Customers(db, gateway)
    await gateway.close()


async def test_fifty_callers_at_once_get_one_customer(
    customers: Customers, stripe: Stripe, db: Database, settings: Settings, now: datetime
) -> None:
    account_id = await new_account(db, settings, now)
    got = await asyncio.gather(*(customers.customer_of("live", account_id, now) for _ in range(50)))
    assert set(got) == set(stripe.made)
    assert len(stripe.made) == 1
    assert await customers.known_customer(account_id) == got[0]
    assert await customers.account_of("live", got[0]) == account_id
    assert await customers.account_of("test", got[0]) is None


async def test_lost_answer_makes_no_second_customer(
    customers: Customers, stripe: Stripe, db: Database, settings: Settings, now: datetime
) -> None:
    account_id = await new_account(db, settings, now)
    stripe.lost_answers = 1
    with pytest.raises(PaymentProviderUnavailable):
        await customers.customer_of("live", account_id, now)
    assert await customers.known_customer(account_id) is None
    assert [await customers.customer_of("live", account_id, now)] == stripe.made


async def test_failure_that_stripe_repeats_is_left_by_another_attempt(
    customers: Customers, stripe: Stripe, db: Database, settings: Settings, now: datetime
) -> None:
    account_id = await new_account(db, settings, now)
    stripe.fails = True
    for _ in range(2):
        with pytest.raises(PaymentProviderFailed):
            await customers.customer_of("live", account_id, now)
    stripe.fails = False
    assert [await customers.customer_of("live", account_id, now)] == stripe.made


async def test_customer_that_stripe_lacks_is_replaced_once(
    customers: Customers, stripe: Stripe, db: Database, settings: Settings, now: datetime
) -> None:
    account_id = await new_account(db, settings, now)
    first = await customers.customer_of("live", account_id, now)
    assert not await customers.forget_missing("live", account_id, first, now)
    await customers.delete("live", account_id)
    assert all(await asyncio.gather(*(customers.forget_missing("live", account_id, first, now) for _ in range(5))))
    second = await customers.customer_of("live", account_id, now)
    assert second != first
    assert stripe.made == [second]


async def test_no_customer_while_an_older_version_may_run(
    customers: Customers,
    stripe: Stripe,
    db: Database,
    settings: Settings,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account_id = await new_account(db, settings, now)
    monkeypatch.setattr(module, "SINCE", "9999")
    with pytest.raises(UpgradeInProgress):
        await customers.customer_of("live", account_id, now)
    assert stripe.made == []


async def test_customer_of_one_account_is_not_stored_for_another(
    customers: Customers, stripe: Stripe, db: Database, settings: Settings, now: datetime, database: Urls
) -> None:
    accounts = [await new_account(db, settings, now) for _ in range(2)]
    got = [await customers.customer_of("live", account_id, now) for account_id in accounts]
    async with connected(database) as connection:
        rows = await connection.fetch(
            "SELECT account_id, customer_id FROM payment_customers WHERE account_id = ANY ($1)", accounts
        )
    assert {row["account_id"]: row["customer_id"] for row in rows} == dict(zip(accounts, got, strict=True))
