"""Figures of checks and charges: the spendable sum, and the metrics by result and pool."""

import uuid
from collections.abc import Callable
from datetime import datetime

import pytest

from app.accounts.directory import Identity
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.ledger.errors import IdempotencyKeyReused
from app.ledger.outcomes import New, Refused
from app.ledger.pools import Credits
from app.observability.metrics import CHARGED, REGISTRY
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.support.wallets import give, open_account

Grown = Callable[..., float]
POOLS = ("free", "paid")


@pytest.fixture
def grown() -> Grown:
    """`grown("billing_checks_total", result="credit")`: how much a metric of charges has grown since its first call."""
    before: dict[str, float] = {}

    def value(name: str, **labels: str) -> float:
        now = REGISTRY.get_sample_value(name, {"operation": "charge", **labels}) or 0.0
        return now - before.setdefault(f"{name} {labels}", now)

    return value


def counted(pool: str) -> float | None:
    labels = {"operation": "charge", "pool": pool}
    return REGISTRY.get_sample_value("billing_charged_credits_total", labels)


@pytest.mark.parametrize(
    ("paid", "granted", "free", "status", "result"),
    [
        (0, 0, 0, "active", "exhausted"),
        (1, 0, 0, "active", "credit"),
        (0, 1, 0, "active", "credit"),
        (0, 0, 1, "active", "credit"),
        (5, 7, 3, "active", "credit"),
        (5, 7, 3, "suspended", "inactive"),
    ],
)
async def test_a_check_states_all_that_can_be_spent_and_counts_its_result(
    db: Database,
    database: Urls,
    billing: BillingService,
    identity: Identity,
    now: datetime,
    grown: Grown,
    paid: int,
    granted: int,
    free: int,
    status: str,
    result: str,
) -> None:
    account_id = await open_account(billing, identity, now)
    while (state := await billing.check(account_id, now)).spendable > free:  # the initial free uses
        await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, now))
    assert state.spendable == free
    if paid:
        credits = Credits(paid)
        await billing.credit(account_id, credits=credits, currency=None, transaction_type="grant", actor=ACTOR, now=now)
    if granted:
        await give(db, account_id, granted, now)
    if status != "active":
        async with connected(database) as connection:
            await connection.execute(
                "UPDATE accounts SET status = $2, status_reason = 'x' WHERE account_id = $1", account_id, status
            )
    results = ("credit", "exhausted", "inactive")
    for each in results:
        grown("billing_checks_total", result=each)
    found = await billing.check(account_id, now)
    assert (found.paid, found.grants, found.free, found.spendable) == (paid, granted, free, paid + granted + free)
    assert {each: grown("billing_checks_total", result=each) for each in results} == {
        each: float(each == result) for each in results
    }


async def test_a_charge_counts_the_credits_of_each_pool_once(
    billing: BillingService, identity: Identity, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    await billing.credit(account_id, credits=Credits(2), currency=None, transaction_type="grant", actor=ACTOR, now=now)
    for pool in POOLS:
        CHARGED.labels(
            "charge", pool
        ).reset()  # after another test's enormous charge, a float would not notice two credits
    charge = ChargeRequest(account_id, 500, None, ACTOR, now, idempotency_key=uuid.uuid4().hex)
    assert isinstance(await billing.charge(charge), New)
    await billing.charge(charge)
    assert [counted(pool) for pool in POOLS] == [3, 2]


async def test_a_reused_key_is_named(billing: BillingService, identity: Identity, now: datetime) -> None:
    account_id = await open_account(billing, identity, now)
    await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, now, idempotency_key="key-1"))
    outcome = await billing.charge(ChargeRequest(account_id, 200, None, ACTOR, now, idempotency_key="key-1"))
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, IdempotencyKeyReused)
    assert "'key-1'" in outcome.error.detail


async def test_charges_of_one_batch_name_only_their_own_grants(
    db: Database, database: Urls, billing: BillingService, identity: Identity, now: datetime
) -> None:
    """A batch with a charge that a grant paid names the columns of grants for all of its rows."""
    rich = await open_account(billing, identity, now)
    plain = await open_account(billing, Identity("live", "oauth:google", uuid.uuid4().hex), now)
    await give(db, rich, 9, now)
    await billing.charge_many([ChargeRequest(account_id, 100, None, ACTOR, now) for account_id in (rich, plain)])
    async with connected(database) as connection:
        rows = await connection.fetch(
            "SELECT account_id, from_grants, grants_after FROM charges WHERE account_id = ANY ($1)", [rich, plain]
        )
    assert {row["account_id"]: (row["from_grants"], row["grants_after"]) for row in rows} == {
        rich: (1, 8),
        plain: (0, 0),
    }
