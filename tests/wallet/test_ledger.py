"""Lots and money in the ledger: burn order, expiry, sums, debt and lifetime totals, proven by the verification."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.directory import Identity
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database, new_id
from app.ledger.entries import Cause, Kind
from app.ledger.errors import BalanceLimitExceeded, TooManyGrants
from app.ledger.locked_account import LockedAccount
from app.ledger.lots import MAX_OPEN_LOTS, Lot, in_burn_order, next_expiry
from app.ledger.money import MAX_NANOS
from app.ledger.outcomes import New
from app.ledger.pools import CREDIT, MAX_CREDITS, Shortfall, pay
from app.verification import verify_books
from app.wallet import expiry
from app.wallet.expiry import expire_grants
from tests.books import account_locked, balances
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.support.wallets import DOLLAR, entries_of, give, locked, lot, open_account, wallet_of

NOON = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
HOUR = timedelta(hours=1)


def cause_of(account: LockedAccount) -> Cause:
    return Cause("account", account.account_id)


# --- burn order -------------------------------------------------------------------------------------------------

LOTS = st.lists(
    st.builds(
        lambda priority, hours, category, age, unit: lot(
            1,
            NOON,
            priority=priority,
            expires_at=None if hours is None else NOON + hours * HOUR,
            category=category,
            created_at=NOON - age * HOUR,
            unit=unit,
        ),
        st.integers(0, 2),
        st.sampled_from([None, 1, 2]),
        st.sampled_from(["promotional", "subscription", "purchased", "compensation"]),
        st.integers(0, 2),
        st.sampled_from([CREDIT, "USD"]),
    ),
    max_size=12,
)


@given(LOTS)
def test_the_burn_order(lots: list[Lot]) -> None:
    """Lower priority first, then the earliest expiry, then promotional ones, then the oldest."""
    ordered = in_burn_order(lots, CREDIT)
    assert sorted(each.grant_id for each in ordered) == sorted(each.grant_id for each in lots if each.unit == CREDIT)
    far = NOON + 1000 * HOUR
    for one, other in pairwise(ordered):
        keys = [
            (each.priority, each.expires_at or far, each.category != "promotional", each.created_at)
            for each in (one, other)
        ]
        assert keys[0] <= keys[1]


async def test_a_charge_burns_daily_uses_then_grants_then_free_uses_then_paid_credits(
    billing: BillingService, db: Database, identity: Identity, database: Urls, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)  # 3 free uses
    async with locked(db, account_id, now) as account:
        account.post("paid", 5, Kind.GRANT, cause_of(account), ACTOR, now)
        account.post("daily_free", 1, Kind.DAILY_ALLOWANCE, cause_of(account), ACTOR, now)
        account.daily_free_day = now.date()
    late = await give(db, account_id, 2, now, priority=9)
    soon = await give(db, account_id, 2, now, priority=1, expires_at=now + HOUR)
    async with locked(db, account_id, now) as account:
        assert (account.live_grants(now), account.credits_remaining(now)) == (4, 9)
        debits = pay(account.credit_buckets(now.date(), 0, now), 9, unit=CREDIT, now=now)
        assert not isinstance(debits, Shortfall)
        assert [(bucket.id, bucket.grant_id, amount) for bucket, amount in debits] == [
            ("daily_free", None, 1),
            ("grant", soon, 2),
            ("grant", late, 2),
            ("free", None, 3),
            ("paid", None, 1),
        ]
        main_pool = pay(account.main_pool_buckets(now), 10, unit=CREDIT, now=now)
        assert main_pool == Shortfall(available=9, required=10)


# --- expiry -----------------------------------------------------------------------------------------------------


async def test_the_next_transaction_that_posts_writes_the_expiry(
    billing: BillingService, db: Database, identity: Identity, database: Urls, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    await give(db, account_id, 7, now, expires_at=now + HOUR)
    await give(db, account_id, 4 * DOLLAR, now, unit="USD", expires_at=now + HOUR)
    await give(db, account_id, 2, now, expires_at=now + 2 * HOUR)
    later = now + HOUR
    async with locked(db, account_id, later) as account:
        assert (account.live_grants(later), account.grants_credits) == (2, 9)  # due, without an entry yet
        account.post("free", 1, Kind.GRANT, cause_of(account), ACTOR, later)
    assert (await entries_of(database, account_id))[-3:] == [
        ("grant", "credit", -7, 0, "grant_expiry"),
        ("grant", "USD", -4 * DOLLAR, 0, "grant_expiry"),
        ("free", "credit", 1, 4, "grant"),
    ]
    wallet = await wallet_of(database, account_id)
    assert (wallet["grants_credits"], wallet["grants_money_nanos"]) == (2, 0)
    assert wallet["grants_expire_at"] == now + 2 * HOUR
    assert wallet["money_granted_nanos"] == 4 * DOLLAR
    assert (await balances(database, account_id))["grant"] == 2


async def test_an_expired_grant_never_pays_even_without_an_entry(
    billing: BillingService, db: Database, identity: Identity, database: Urls, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    await give(db, account_id, 7, now, expires_at=now + HOUR)

    async def charge(at: datetime, credits: int) -> object:
        return await billing.charge(ChargeRequest(account_id, 100 * credits, None, ACTOR, at))

    assert await charge(now + HOUR, 4) == Shortfall(available=3, required=4)
    before = await charge(now + HOUR - timedelta(microseconds=1), 1)
    assert isinstance(before, New)
    assert before.debits[0].bucket.id == "grant"
    at_expiry = await charge(now + HOUR, 1)
    assert isinstance(at_expiry, New)
    assert at_expiry.debits[0].bucket.id == "free"
    assert await balances(database, account_id) == {"daily_free": 0, "free": 2, "paid": 0, "debt": 0}


# --- bounds -----------------------------------------------------------------------------------------------------


async def test_paid_credits_and_grants_together_fit_64_bits_in_hundredths(
    billing: BillingService, db: Database, identity: Identity, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    await give(db, account_id, MAX_CREDITS - 5, now)
    async with locked(db, account_id, now) as account:
        assert account.has_room_for(5)
        assert not account.has_room_for(6)
        with pytest.raises(BalanceLimitExceeded):
            account.post("paid", 6, Kind.GRANT, cause_of(account), ACTOR, now)
        with pytest.raises(BalanceLimitExceeded):
            account.give_lot(lot(6, now), Kind.GRANT_GIVEN, ACTOR, now)
        account.give_lot(lot(5, now), Kind.GRANT_GIVEN, ACTOR, now)


async def test_money_and_its_grants_together_fit_64_bits(
    billing: BillingService, db: Database, identity: Identity, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    await give(db, account_id, 3, now, unit="USD")
    async with locked(db, account_id, now) as account:
        account.give_money(MAX_NANOS - 3, Kind.PURCHASE, cause_of(account), ACTOR, now)
        with pytest.raises(BalanceLimitExceeded):
            account.give_money(1, Kind.BONUS, cause_of(account), ACTOR, now)
        with pytest.raises(BalanceLimitExceeded):
            account.give_lot(lot(1, now, unit="USD"), Kind.GRANT_GIVEN, ACTOR, now)
    async with locked(db, account_id, now) as account:  # a lifetime total is bounded as well
        account.take_back_money(5, Kind.ADJUSTMENT, cause_of(account), ACTOR, now)
        with pytest.raises(BalanceLimitExceeded):
            account.give_money(4, Kind.PURCHASE, cause_of(account), ACTOR, now)
        account.require_room_for_usage(MAX_NANOS)
        with pytest.raises(BalanceLimitExceeded):
            account.require_room_for_usage(MAX_NANOS + 1)


async def test_an_account_has_a_bounded_number_of_open_grants(
    billing: BillingService, db: Database, identity: Identity, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    async with locked(db, account_id, now) as account:
        for _ in range(MAX_OPEN_LOTS):
            account.give_lot(lot(1, now, expires_at=now + HOUR), Kind.GRANT_GIVEN, ACTOR, now)
    async with locked(db, account_id, now) as account:
        with pytest.raises(TooManyGrants):
            account.give_lot(lot(1, now), Kind.GRANT_GIVEN, ACTOR, now)
    later = now + HOUR
    async with locked(db, account_id, later) as account:  # the others have expired
        account.give_lot(lot(1, later), Kind.GRANT_GIVEN, ACTOR, later)


# --- money ------------------------------------------------------------------------------------------------------


async def money_of(urls: Urls, account_id: UUID) -> dict[str, int]:
    wallet = await wallet_of(urls, account_id)
    columns = ("money_nanos", "money_debt_nanos", "grants_money_nanos")
    totals = ("money_purchased_nanos", "money_granted_nanos", "money_used_nanos")
    return {name: wallet[name] // DOLLAR for name in (*columns, *totals)}


async def test_usage_burns_grants_first_and_purchases_pay_debt(
    billing: BillingService, db: Database, identity: Identity, database: Urls, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    gift = await give(db, account_id, 2 * DOLLAR, now, unit="USD")
    async with locked(db, account_id, now) as account:
        cause = cause_of(account)
        account.give_money(3 * DOLLAR, Kind.PURCHASE, cause, ACTOR, now)
        assert pay(account.money_buckets(now), 1, unit="EUR", now=now) == Shortfall(0, 1)
        debits = pay(account.money_buckets(now), 4 * DOLLAR, unit="USD", now=now)
        assert not isinstance(debits, Shortfall)
        assert [(bucket.id, bucket.grant_id) for bucket, _ in debits] == [("grant", gift), ("money", None)]
        account.post_debits(debits, Kind.USAGE, cause, ACTOR, now)
    assert list((await money_of(database, account_id)).values()) == [1, 0, 0, 3, 2, 4]
    async with locked(db, account_id, now) as account:  # 3 dollars go back to the buyer, and 2 of them are spent
        account.take_back_money(3 * DOLLAR, Kind.REFUND_REVERSAL, cause, ACTOR, now)
    assert list((await money_of(database, account_id)).values()) == [0, 2, 0, 0, 2, 4]
    async with locked(db, account_id, now) as account:
        account.give_money(DOLLAR, Kind.BONUS, cause, ACTOR, now)  # pays no debt
        account.give_lot(lot(DOLLAR, now, unit="USD"), Kind.GRANT_GIVEN, ACTOR, now)
    assert list((await money_of(database, account_id)).values()) == [1, 2, 1, 0, 4, 4]
    async with locked(db, account_id, now) as account:
        account.give_money(5 * DOLLAR, Kind.PURCHASE, cause, ACTOR, now)
    assert list((await money_of(database, account_id)).values()) == [4, 0, 1, 5, 4, 4]
    assert await balances(database, account_id) == {
        "daily_free": 0,
        "free": 3,
        "paid": 0,
        "debt": 0,
        "money": 4 * DOLLAR,
        "grant of money": DOLLAR,
    }


@pytest.mark.parametrize("unit", [CREDIT, "USD"])
async def test_taking_a_purchase_back_takes_its_own_grant_first(
    billing: BillingService, db: Database, identity: Identity, database: Urls, now: datetime, unit: str
) -> None:
    account_id = await open_account(billing, identity, now)
    own, other = lot(10, now, unit=unit, category="purchased"), lot(10, now, unit=unit)
    async with locked(db, account_id, now) as account:
        account.give_lot(own, Kind.PURCHASE, ACTOR, now)
        account.give_lot(other, Kind.GRANT_GIVEN, ACTOR, now)
        cause = cause_of(account)
        if unit == CREDIT:
            account.give_paid(4, Kind.PURCHASE, cause, ACTOR, now)
            account.take_back_paid(13, Kind.REFUND_REVERSAL, cause, ACTOR, now, own_grant=own.grant_id)
        else:
            account.give_money(4, Kind.PURCHASE, cause, ACTOR, now)
            account.take_back_money(13, Kind.REFUND_REVERSAL, cause, ACTOR, now, own_grant=own.grant_id)
            assert (account.money_purchased_nanos, account.money_granted_nanos) == (1, 10)
        assert account.balances["paid" if unit == CREDIT else "money"] == 1
        assert (own.remaining, other.remaining) == (0, 10)


async def test_a_grant_that_ends_gives_nothing_back(
    billing: BillingService, db: Database, identity: Identity, database: Urls, now: datetime
) -> None:
    account_id = await open_account(billing, identity, now)
    grant_id = await give(db, account_id, 5, now, expires_at=now + HOUR)
    async with locked(db, account_id, now) as account:
        account.end_lot(account.lots[grant_id], ACTOR, now)
    assert (await entries_of(database, account_id))[-1] == ("grant", "credit", -5, 0, "grant_ended")
    wallet = await wallet_of(database, account_id)
    assert (wallet["grants_credits"], wallet["grants_expire_at"]) == (0, None)


def test_the_next_expiry_is_of_open_lots() -> None:
    open_lot, spent = lot(1, NOON, expires_at=NOON + 2 * HOUR), lot(1, NOON, expires_at=NOON + HOUR, remaining=0)
    assert next_expiry([open_lot, spent, lot(1, NOON)]) == NOON + 2 * HOUR
    assert next_expiry([spent, lot(1, NOON)]) is None


async def test_two_kinds_of_accounts_in_one_transaction_are_stored(
    billing: BillingService, db: Database, database: Urls, now: datetime
) -> None:
    """One has a grant, and the statements of the other are the same as if no account had any."""
    identities = [Identity("live", "oauth:google", f"{new_id()}@example.com") for _ in range(2)]
    with_grant, without = [await open_account(billing, identity, now) for identity in identities]
    await give(db, with_grant, 2, now)
    outcomes = await billing.charge_many(
        [ChargeRequest(account_id, 300, None, ACTOR, now) for account_id in (with_grant, without)]
    )
    assert all(isinstance(outcome, New) for outcome in outcomes)
    assert await balances(database, with_grant) == {"daily_free": 0, "free": 2, "paid": 0, "debt": 0}
    assert await balances(database, without) == {"daily_free": 0, "free": 0, "paid": 0, "debt": 0}


# --- the worker -------------------------------------------------------------------------------------------------


async def test_the_worker_records_the_expiry_of_due_grants_only(
    own_database: Urls, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "GRANTS_AT_ONCE", 2)
    settings = settings_for(own_database)
    db = Database(settings.database_url, pool_size=8)
    billing = BillingService(db, Configuration(db, settings))
    accounts = []
    for number in range(3):
        identity = Identity("live", "oauth:google", f"{new_id()}@example.com")
        accounts.append(await open_account(billing, identity, now))
        for hours in (1, 1, 3):
            await give(db, accounts[number], 5, now, expires_at=now + hours * HOUR)
    later = now + HOUR
    async with account_locked(own_database, accounts[0]):
        assert await expire_grants(db, later) == 2  # it waits for no lock
    assert await asyncio.gather(*(expire_grants(db, later) for _ in range(2))) in ([0, 1], [1, 0])
    assert await expire_grants(db, later) == 0
    for account_id in accounts:
        assert (await entries_of(own_database, account_id))[-2:] == [("grant", "credit", -5, 0, "grant_expiry")] * 2
        assert (await balances(own_database, account_id))["grant"] == 5
        assert (await wallet_of(own_database, account_id))["grants_expire_at"] == now + 3 * HOUR
    assert (await verify_books(db, later)).problem is None
    await db.close()
