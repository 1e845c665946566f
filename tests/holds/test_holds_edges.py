"""Holds at their edges: repeats of captures, grants that end while they are held, the ends of 64 bits."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.holds.requests import Capture, Rejected
from app.holds.service import HoldService
from app.ledger.money import MAX_NANOS
from app.ledger.outcomes import New
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.holds.conftest import balances, capture, done, held, place
from tests.support.wallets import give

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
