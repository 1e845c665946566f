"""Money credits: once for each idempotency key, debt first for purchases only, each amount in one lifetime total."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from app.accounts.directory import Identity
from app.auth.caller import Actor
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import UpgradeInProgress, VersionMark
from app.errors import AppError
from app.ledger.entries import Cause, Kind
from app.ledger.errors import AccountClosed, IdempotencyKeyReused
from app.ledger.locked_account import lock_account, write
from app.ledger.money import MAX_NANOS
from app.ledger.pools import Shortfall, pay
from app.wallet.money_credits import MoneyCredit, give_money
from app.wallet.service import WalletService
from tests.books import account_locked, balances, connected, waiting_for_locks
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.support.wallets import DOLLAR, give, locked, open_account, wallet_of


async def credit(
    wallet: WalletService, account_id: UUID, nanos: int, now: datetime, kind: Kind = Kind.BONUS, **options: Any
) -> MoneyCredit:
    values = {"currency": None, "actor": ACTOR, "now": now, **options}
    return await wallet.credit_money(account_id, nanos, kind, **values)


async def test_money_is_added_and_shown_with_live_grants(
    wallet: WalletService, db: Database, account_id: UUID, database: Urls, now: datetime
) -> None:
    await give(db, account_id, DOLLAR, now, unit="USD")
    added = await credit(wallet, account_id, 2 * DOLLAR + 1, now)
    assert (added.amount_nanos, added.currency, added.balance_after_nanos) == (2 * DOLLAR + 1, "USD", 3 * DOLLAR + 1)
    assert (await balances(database, account_id))["money"] == 2 * DOLLAR + 1


async def test_a_purchase_pays_debt_first_and_a_bonus_does_not(
    wallet: WalletService, db: Database, account_id: UUID, database: Urls, now: datetime
) -> None:
    await credit(wallet, account_id, 3 * DOLLAR, now, Kind.PURCHASE)
    await spend(db, account_id, 3 * DOLLAR, now)
    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        await give_money(tx, account, -2 * DOLLAR, Kind.REFUND_REVERSAL, actor=ACTOR, now=now)
        await write(tx, [account], now)
    assert (await balances(database, account_id))["money_debt"] == 2 * DOLLAR
    await credit(wallet, account_id, DOLLAR, now, Kind.BONUS)
    assert (await balances(database, account_id))["money_debt"] == 2 * DOLLAR
    bought = await credit(wallet, account_id, 5 * DOLLAR, now, Kind.PURCHASE)
    assert (bought.amount_nanos, bought.balance_after_nanos) == (5 * DOLLAR, 4 * DOLLAR)
    row = await wallet_of(database, account_id)
    totals = [row[f"money_{name}_nanos"] // DOLLAR for name in ("purchased", "granted", "used")]
    assert totals == [3 - 2 + 5, 1, 3]
    assert "money_debt" not in await balances(database, account_id)


async def spend(db: Database, account_id: UUID, nanos: int, now: datetime) -> None:
    """Use money, as usage events do."""
    async with locked(db, account_id, now) as account:
        debits = pay(account.money_buckets(now), nanos, unit="USD", now=now)
        assert not isinstance(debits, Shortfall)
        account.post_debits(debits, Kind.USAGE, Cause("account", account_id), ACTOR, now)


async def test_a_repeated_key_adds_nothing_and_belongs_to_its_kind_of_caller(
    wallet: WalletService, account_id: UUID, database: Urls, now: datetime
) -> None:
    first = await credit(wallet, account_id, DOLLAR, now, idempotency_key="k", description="hello")
    again = await credit(wallet, account_id, DOLLAR, now, idempotency_key="k")
    assert (again.replayed, again.money_credit_id, again.description) == (True, first.money_credit_id, "hello")
    for nanos, kind in ((2 * DOLLAR, Kind.BONUS), (DOLLAR, Kind.PURCHASE)):
        with pytest.raises(IdempotencyKeyReused):
            await credit(wallet, account_id, nanos, now, kind, idempotency_key="k")
    other = await credit(wallet, account_id, DOLLAR, now, idempotency_key="k", actor=Actor("api_key", "x"))
    assert not other.replayed
    assert (await balances(database, account_id))["money"] == 2 * DOLLAR


async def test_racing_equal_requests_add_once(
    wallet: WalletService, account_id: UUID, database: Urls, now: datetime
) -> None:
    async with account_locked(database, account_id):
        racing = [asyncio.create_task(credit(wallet, account_id, 1, now, idempotency_key="k")) for _ in range(4)]
        await waiting_for_locks(database, 1)
    assert sorted(each.replayed for each in await asyncio.gather(*racing)) == [False, True, True, True]
    assert (await balances(database, account_id))["money"] == 1


@pytest.mark.parametrize(
    ("options", "code"), [({"currency": "EUR"}, "currency_mismatch"), ({"nanos": MAX_NANOS}, "balance_limit_exceeded")]
)
async def test_money_that_does_not_fit_is_refused(
    wallet: WalletService, account_id: UUID, database: Urls, now: datetime, options: dict[str, Any], code: str
) -> None:
    await credit(wallet, account_id, 1, now)
    with pytest.raises(AppError) as refused:
        await credit(wallet, account_id, options.pop("nanos", 1), now, **options)
    assert refused.value.code == code
    assert (await balances(database, account_id))["money"] == 1


async def test_a_closed_account_gets_no_money(
    wallet: WalletService, billing: BillingService, account_id: UUID, now: datetime
) -> None:
    await billing.accounts.set_status(account_id, "closed", None, now)
    with pytest.raises(AccountClosed):
        await credit(wallet, account_id, 1, now)


@pytest.mark.parametrize(("nanos", "kind"), [(0, Kind.BONUS), (-1, Kind.BONUS), (-1, Kind.ADJUSTMENT)])
async def test_only_purchases_are_taken_back(
    db: Database, account_id: UUID, now: datetime, nanos: int, kind: Kind
) -> None:
    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        with pytest.raises(ValueError, match="nanos as"):
            await give_money(tx, account, nanos, kind, actor=ACTOR, now=now)


async def test_no_money_is_added_before_the_upgrade_is_finished(
    own_database: Urls, identity: Identity, now: datetime
) -> None:
    async with connected(own_database) as connection:
        await connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    settings = settings_for(own_database)
    db = Database(settings.database_url, pool_size=3)
    billing = BillingService(db, Configuration(db, settings))
    account_id = await open_account(billing, identity, now)
    with pytest.raises(UpgradeInProgress):
        await credit(WalletService(db, billing.accounts, VersionMark(db)), account_id, 1, now)
    assert "money" not in await balances(own_database, account_id)
    await db.close()
