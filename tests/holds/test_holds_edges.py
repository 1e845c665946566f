"""Holds at their edges: repeats of captures, grants that end while they are held, the ends of 64 bits."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.accounts.erasure import BOOKS, erase_person, forget_texts
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.db.version_mark import VersionMark
from app.holds.requests import Amount, Capture, Done, Extension, Progress, Rejected
from app.holds.service import HoldService
from app.ledger.entries import Cause, Kind
from app.ledger.money import MAX_NANOS
from app.ledger.outcomes import New
from app.verification import verify_books
from app.wallet.service import WalletService
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.holds.conftest import KEY, balances, capture, done, held, opening, place, release
from tests.support.wallets import DOLLAR, give, locked

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def _books_add_up(db: Database, now: datetime) -> AsyncIterator[None]:
    yield
    verification = await verify_books(db, now)
    assert verification.ok, verification.problem


async def _refused(holds: HoldService, request: Capture) -> tuple[int, str | None]:
    outcome = await holds.run(request)
    assert isinstance(outcome, Rejected), outcome
    return outcome.error.status, outcome.error.code


async def test_a_repeat_of_a_capture_that_was_not_charged_is_a_repeat(
    holds: HoldService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    await give(db, account_id, 3 * DOLLAR, now, unit="USD")
    hold = await held(holds, account_id, 2 * DOLLAR, now, money=True)
    async with connected(database) as connection:
        await connection.execute("UPDATE accounts SET billing_enabled = false WHERE account_id = $1", account_id)
    first = done(await holds.run(capture(hold, DOLLAR, now)))
    assert (first.captured, first.reported) == (0, DOLLAR)
    repeat = await holds.run(capture(hold, DOLLAR, now))
    assert isinstance(repeat, Done)
    assert not repeat.is_new
    assert await _refused(holds, capture(hold, DOLLAR + 1, now)) == (409, "hold_settled")


@pytest.mark.parametrize(
    ("amount", "overage", "is_repeat"),
    [(7, "charge_what_fits", True), (7, "refuse", False), (5, "refuse", False), (6, "charge_what_fits", False)],
)
async def test_only_the_same_capture_beyond_a_hold_is_a_repeat(
    amount: int, overage: str, is_repeat: bool, holds: HoldService, account_id: UUID, now: datetime
) -> None:
    hold = await held(holds, account_id, 5, now)
    assert done(await holds.run(capture(hold, 7, now, overage="charge_what_fits"))).overage == 2
    again = capture(hold, amount, now, overage=overage)
    if is_repeat:
        outcome = await holds.run(again)
        assert isinstance(outcome, Done)
        assert not outcome.is_new
    else:
        assert await _refused(holds, again) == (409, "hold_settled")


async def test_a_grant_that_is_ended_while_all_of_it_is_held_stays_ended(
    holds: HoldService, billing: BillingService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    grant = await give(db, account_id, 4, now)
    hold = await held(holds, account_id, 4, now)
    wallet = WalletService(db, billing.accounts, VersionMark(db))
    await wallet.end_grant("live", grant, actor=ACTOR, now=now)
    await wallet.end_grant("live", grant, actor=ACTOR, now=now + DAY)  # a repeat
    done(await holds.run(release(hold, now)))
    assert await balances(database, account_id) == {"free": 3, "paid": 10}
    async with connected(database) as connection:
        assert await connection.fetchval("SELECT ended_at FROM grants WHERE grant_id = $1", grant) == now


async def test_overage_of_money_takes_what_grants_and_the_balance_have(
    holds: HoldService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    await give(db, account_id, 2 * DOLLAR, now, unit="USD")
    hold = await held(holds, account_id, DOLLAR, now, money=True)
    async with locked(db, account_id, now) as account:
        account.give_money(3 * DOLLAR, Kind.GRANT, Cause("account", account_id), ACTOR, now)
    spent = done(await holds.run(capture(hold, 10 * DOLLAR, now, overage="charge_what_fits")))
    assert (spent.captured, spent.overage) == (DOLLAR, 4 * DOLLAR)
    assert await balances(database, account_id) == {"free": 3, "paid": 10, "money_used_nanos": 5 * DOLLAR}
    async with connected(database) as connection:
        cost = await connection.fetchval("SELECT cost_nanos FROM usage_events WHERE usage_id = $1", spent.spending_id)
    assert cost == 5 * DOLLAR
    again = await holds.run(capture(hold, 10 * DOLLAR, now, overage="charge_what_fits"))
    assert isinstance(again, Done)
    assert not again.is_new


@pytest.mark.parametrize("money", [False, True])
async def test_overage_stops_at_64_bits(
    money: bool, holds: HoldService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    """The books cannot count more uses: the capture takes the hold, and of the rest what can be counted."""
    if money:
        await give(db, account_id, 20, now, unit="USD")
    hold = await held(holds, account_id, 5, now, money=money)
    most = MAX_NANOS if money else 2**63 - 1
    column = "money_used_nanos" if money else "total_uses"
    async with connected(database) as connection:
        await connection.execute(f"UPDATE accounts SET {column} = $2 WHERE account_id = $1", account_id, most - 7)
    try:
        spent = done(await holds.run(capture(hold, 12, now, overage="charge_what_fits")))
        assert (spent.captured, spent.overage) == (5, 2)
        assert (await balances(database, account_id))[column] == most
    finally:
        async with connected(database) as connection:
            await connection.execute(
                f"UPDATE accounts SET {column} = {column} - $2 WHERE account_id = $1", account_id, most - 7
            )


async def test_a_wrong_unit_is_refused_after_the_settlement_too(
    holds: HoldService, account_id: UUID, now: datetime
) -> None:
    hold = await held(holds, account_id, 5, now)
    done(await holds.run(capture(hold, 5, now)))
    wrong = Capture(place(hold), "live", Amount(5, True), "refuse", KEY, now)
    for _ in range(2):  # the second time by a read without a lock
        assert await _refused(holds, wrong) == (422, "wrong_unit")


@pytest.mark.parametrize("are_texts_forgotten", [False, True])
@pytest.mark.parametrize("money", [False, True])
async def test_a_hold_is_settled_after_the_erasure_of_its_person(
    money: bool,
    are_texts_forgotten: bool,
    holds: HoldService,
    account_id: UUID,
    database: Urls,
    db: Database,
    now: datetime,
) -> None:
    """Of three holds, one is captured, one released and one captured by its expiry. No row names the person again."""
    await give(db, account_id, 9 * DOLLAR, now, unit="USD")
    about: Any = {"run_id": "of Ann", "details": {"agent_id": "Ann's", "for": "Ann"}, "idempotency_key": "Ann"}
    terms: Any = {**about, "money": money, "on_expiry": "capture_reported"}
    captured, released, left = [
        await held(holds, account_id, 3, now, **{**terms, "idempotency_key": f"Ann {number}"}) for number in range(3)
    ]
    async with db.transaction() as tx:
        assert await erase_person(tx, account_id, now) == "live"
    if are_texts_forgotten:
        await forget_texts(db, account_id, BOOKS)
    amount = Amount(2, money)
    assert done(await holds.run(Progress(place(left), "live", amount, KEY, now))).reported == 2
    assert done(await holds.run(Extension(place(left), "live", DAY, KEY, now))).expires_at == now + DAY
    spent = done(await holds.run(capture(captured, 9, now, overage="charge_what_fits")))
    assert (spent.status, spent.captured, spent.overage) == ("captured", 3, 0)
    assert done(await holds.run(release(released, now, "Ann"))).outcome is None
    await holds.expire(now + DAY)
    assert (await holds.find("live", place(left))).captured == 2
    if not are_texts_forgotten:
        await forget_texts(db, account_id, BOOKS)
    refused = await holds.run(opening(account_id, 1, now, money=money))
    assert isinstance(refused, Rejected)
    assert refused.error.code == "account_closed"
    async with connected(database) as connection:
        for table in ("holds", "charges", "usage_events"):
            rows = await connection.fetch(
                f"SELECT to_jsonb(t)::text AS text FROM {table} t WHERE account_id = $1", account_id
            )
            assert not any("Ann" in row["text"] for row in rows), table


async def test_the_hook_and_a_capture_of_another_hold_share_a_transaction(
    holds: HoldService, billing: BillingService, account_id: UUID, database: Urls, now: datetime
) -> None:
    past = now - timedelta(minutes=20)
    due = [await held(holds, account_id, 2, past, on_expiry="capture_all") for _ in range(3)]
    hold = await held(holds, account_id, 3, now)
    done(await holds.run(capture(hold, 3, now)))
    assert [(await holds.find("live", place(each))).status for each in due] == ["expired"] * 3
    assert isinstance(await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, now)), New)
    assert (await balances(database, account_id))["total_uses"] == 10
