"""The batcher: one transaction for all operations that wait, and nothing recorded twice when one of them is wrong."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.accounts.directory import Identity
from app.billing.posting import Charge, ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.db.statements import Tx
from app.ledger.batching import Accounts
from app.ledger.outcomes import New, Outcome
from app.ledger.pools import Shortfall
from app.tools.service import ProductInventoryService
from tests.billing.test_charges import open_account, request
from tests.books import account_locked, balances, connected, waiting_for_locks
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls


async def transactions_of(database: Urls, account_id: UUID, table: str) -> set[str]:
    """The transactions that wrote the account's rows of a table."""
    async with connected(database) as connection:
        rows = await connection.fetch(f"SELECT xmin::text FROM {table} WHERE account_id = $1", account_id)
    return {row["xmin"] for row in rows}


async def run_while_locked(
    billing: BillingService, database: Urls, account_id: UUID, *charges: Coroutine[Any, Any, object]
) -> list[Any]:
    """Start the charges while the account is locked and another charge waits for it. Return their outcomes."""
    async with account_locked(database, account_id):
        first = asyncio.create_task(billing.charge(request(account_id, datetime.now(UTC))))
        await waiting_for_locks(database, 1)
        tasks = [asyncio.create_task(charge) for charge in charges]
        while len(billing.batcher._group._held[account_id]) < len(tasks):  # noqa: ASYNC110  (it has no event for that)
            await asyncio.sleep(0.01)
    assert isinstance(await first, New)
    return await asyncio.gather(*tasks)


async def test_charges_and_tool_charges_of_an_account_share_a_transaction(
    db: Database, billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    """They take its lock once, see each other's postings, and each gets its own outcome."""
    products = {"image": {"price_credits": 2, "initial_free": 0, "daily_free": 0}}
    tools = ProductInventoryService(db, Configuration(db, settings_for(database, products=products)), billing)
    account_id = await open_account(billing, identity, now, paid=7)  # and three free uses: one is for the first charge
    a, image, b, no_image, c = await run_while_locked(
        billing,
        database,
        account_id,
        billing.charge(request(account_id, now, "a", amount_minor=400)),
        tools.charge(account_id, "image", actor=ACTOR, now=now, idempotency_key="a"),
        billing.charge(request(account_id, now, "b", amount_minor=200)),
        tools.charge(account_id, "image", actor=ACTOR, now=now, idempotency_key="b"),
        billing.charge(request(account_id, now, "c", amount_minor=100)),
    )
    assert (a.record.paid_after, b.record.paid_after, c.record.paid_after) == (5, 3, 2)
    paid, unpaid = (image, no_image) if isinstance(image, New) else (no_image, image)  # each reads prices at first
    assert (paid.record.main_pool, unpaid) == (0, Shortfall(available=0, required=2))
    uses, charges = [await transactions_of(database, account_id, name) for name in ("product_usage_log", "charges")]
    assert (len(uses), len(charges), uses <= charges) == (1, 2, True)
    assert sum((await balances(database, account_id)).values()) == 0


@pytest.mark.parametrize("runs", [["r", None], [None, "r"]])
async def test_tool_charges_with_and_without_a_run_share_a_transaction(
    db: Database, billing: BillingService, identity: Identity, now: datetime, database: Urls, runs: list[str | None]
) -> None:
    products = {"image": {"price_credits": 2, "initial_free": 0, "daily_free": 0}}
    tools = ProductInventoryService(db, Configuration(db, settings_for(database, products=products)), billing)
    account_id = await open_account(billing, identity, now, paid=7)
    charges = [tools.charge(account_id, "image", actor=ACTOR, now=now, run_id=run) for run in runs]
    outcomes = await run_while_locked(billing, database, account_id, *charges)
    assert [type(outcome) for outcome in outcomes] == [New, New]
    assert len(await transactions_of(database, account_id, "product_usage_log")) == 1
    async with connected(database) as connection:
        stored = await connection.fetch("SELECT run_id FROM product_usage_log WHERE account_id = $1", account_id)
    assert {row["run_id"] for row in stored} == {None, "r"}


async def test_an_operation_with_too_few_outcomes_records_nothing(
    billing: BillingService, identity: Identity, now: datetime, database: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await open_account(billing, identity, now, paid=10)
    before = await balances(database, account_id)
    decide = billing._charges.decide

    async def lose_one(tx: Tx, accounts: Accounts, requests: Sequence[ChargeRequest]) -> Sequence[Outcome[Charge]]:
        return (await decide(tx, accounts, requests))[1:]

    with monkeypatch.context() as broken:
        broken.setattr(billing._charges, "decide", lose_one)
        with pytest.raises(ValueError, match="shorter"):
            await asyncio.wait_for(billing.charge(request(account_id, now)), 5)
    assert await balances(database, account_id) == before
    assert isinstance(await billing.charge(request(account_id, now)), New)
