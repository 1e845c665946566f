"""Due holds are settled by each transaction that locks their account, before it does anything else."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.db.version_mark import VersionMark
from app.holds.requests import Amount, Progress
from app.holds.service import HoldService
from app.ledger.entries import Cause, Kind
from app.ledger.locked_account import lock_account, write
from app.ledger.outcomes import New
from app.ledger.pools import CREDIT, Credits
from app.limits.service import LimitService, NewLimit
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.holds.conftest import KEY, balances, capture, held, place, release
from tests.support.wallets import give, locked

MINUTE = timedelta(minutes=1)
DAY_LIMIT = NewLimit("account", "", "day", CREDIT, 11, "refuse")


async def credit(billing: BillingService, db: Database, account_id: UUID, now: datetime) -> None:
    credits = Credits(1)
    await billing.credit(account_id, credits=credits, currency="USD", transaction_type="grant", actor=ACTOR, now=now)


async def give_grant(billing: BillingService, db: Database, account_id: UUID, now: datetime) -> None:
    await give(db, account_id, 1, now)


async def suspend(billing: BillingService, db: Database, account_id: UUID, now: datetime) -> None:
    await billing.accounts.set_status(account_id, "suspended", "abuse", now)


async def set_limit(billing: BillingService, db: Database, account_id: UUID, now: datetime) -> None:
    await limits_of(billing, db).put(account_id, DAY_LIMIT, "operator", now)


async def only_lock(billing: BillingService, db: Database, account_id: UUID, now: datetime) -> None:
    async with db.transaction() as tx:
        await lock_account(tx, account_id)


def limits_of(billing: BillingService, db: Database) -> LimitService:
    return LimitService(db, billing.accounts, VersionMark(db))


@pytest.fixture(autouse=True)
async def _books_add_up(db: Database, now: datetime) -> AsyncIterator[None]:
    yield
    verification = await verify_books(db, now)
    assert verification.ok, verification.problem


Change = Callable[[BillingService, Database, UUID, datetime], Awaitable[None]]


@pytest.mark.parametrize(
    ("change", "given"), [(credit, 1), (give_grant, 1), (suspend, 0), (set_limit, 0), (only_lock, 0)]
)
async def test_each_lock_settles_what_is_due(
    change: Change,
    given: int,
    holds: HoldService,
    billing: BillingService,
    db: Database,
    account_id: UUID,
    database: Urls,
    now: datetime,
) -> None:
    """Of 13 credits, 6 return and 2 are captured. A hold that is not due stays."""
    past = now - 20 * MINUTE
    released = await held(holds, account_id, 6, past)
    captured = await held(holds, account_id, 3, past, on_expiry="capture_reported")
    await holds.run(Progress(place(captured), "live", Amount(2, False), KEY, past))
    later = await held(holds, account_id, 1, past, expires_in=timedelta(days=1))
    await change(billing, db, account_id, now)
    found = [await holds.find("live", place(hold)) for hold in (released, captured, later)]
    assert [(hold.status, hold.captured) for hold in found] == [("expired", 0), ("expired", 2), ("held", 0)]
    after = await balances(database, account_id)
    assert after.get("free", 0) + after.get("paid", 0) + after.get("grants_credits", 0) == 10 + given
    assert (after["held_credits"], after["total_uses"]) == (1, 2)


async def test_what_an_expired_hold_returns_is_taken_back_before_a_debt(
    holds: HoldService, db: Database, account_id: UUID, database: Urls, now: datetime
) -> None:
    """A refund of all 10 bought credits, while an expired hold has 13: nothing was spent, so nothing is owed."""
    await held(holds, account_id, 13, now - 20 * MINUTE)
    async with locked(db, account_id, now) as account:
        account.take_back_paid(10, Kind.REFUND_REVERSAL, Cause("account", account_id), ACTOR, now)
        assert Kind.DEBT_INCURRED not in [entry.kind for entry in account.entries]
    assert await balances(database, account_id) == {"free": 3}


@pytest.mark.parametrize("is_charge", [True, False])
async def test_many_due_holds_are_settled_at_once(
    is_charge: bool,
    holds: HoldService,
    billing: BillingService,
    db: Database,
    account_id: UUID,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All 60 credits are held by 60 holds that are due. Then all of them are charged, or taken back by a refund."""
    credits = Credits(60 - 13)
    await billing.credit(account_id, credits=credits, currency="USD", transaction_type="grant", actor=ACTOR, now=now)
    for _ in range(60):
        await held(holds, account_id, 1, now)
    for module in ("app.holds.service", "app.ledger.due"):
        monkeypatch.setattr(f"{module}.utc_now", lambda: now + 20 * MINUTE)
    if is_charge:
        assert isinstance(await billing.charge(ChargeRequest(account_id, 6000, None, ACTOR, now)), New)
        return
    async with locked(db, account_id, now) as account:
        account.take_back_paid(57, Kind.REFUND_REVERSAL, Cause("account", account_id), ACTOR, now)
        assert account.balances["debt"] == 0


@pytest.mark.parametrize(("on_expiry", "counted"), [("release", 0), ("capture_reported", 2), ("capture_all", 6)])
async def test_a_limit_counts_an_expired_hold_until_its_settlement(
    on_expiry: str,
    counted: int,
    holds: HoldService,
    billing: BillingService,
    db: Database,
    account_id: UUID,
    now: datetime,
) -> None:
    """Then it counts what the expiry has spent."""
    limits = limits_of(billing, db)
    await limits.put(account_id, DAY_LIMIT, "operator", now)
    hold = await held(holds, account_id, 6, now, expires_in=-MINUTE, on_expiry=on_expiry)
    await holds.run(Progress(place(hold), "live", Amount(2, False), KEY, now))
    assert [limit.counted for limit in await limits.list(account_id, now)] == [6]
    await only_lock(billing, db, account_id, now)
    assert [limit.counted for limit in await limits.list(account_id, now)] == [counted]
    assert (await holds.find("live", place(hold))).status == "expired"


async def test_a_hold_that_is_due_at_the_second_lock_of_a_transaction_waits(
    holds: HoldService,
    billing: BillingService,
    db: Database,
    account_id: UUID,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller has entries to write then, so that a settlement would take their numbers."""
    hold = await held(holds, account_id, 6, now)
    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        account.give_paid(5, Kind.GRANT, Cause("account", account_id), ACTOR, now)
        monkeypatch.setattr("app.ledger.due.utc_now", lambda: now + 20 * MINUTE)
        assert (await lock_account(tx, account_id)).last_entry_no == account.last_entry_no - 1
        await write(tx, [account], now)
    assert (await holds.find("live", place(hold))).status == "held"
    monkeypatch.setattr("app.holds.service.utc_now", lambda: now + 20 * MINUTE)
    await only_lock(billing, db, account_id, now)
    assert (await holds.find("live", place(hold))).status == "expired"


async def test_a_hold_of_an_earlier_version_counts_for_its_agent_until_it_is_settled(
    holds: HoldService, billing: BillingService, db: Database, account_id: UUID, now: datetime
) -> None:
    """It may have a number as the agent's id."""
    limits = limits_of(billing, db)
    await limits.put(account_id, NewLimit("agent", "7", "day", CREDIT, 11, "refuse"), "operator", now)
    hold = await held(holds, account_id, 6, now, details={"agent_id": 7})
    assert [limit.counted for limit in await limits.list(account_id, now)] == [6]
    await holds.run(release(hold, now))
    assert [limit.counted for limit in await limits.list(account_id, now)] == [0]


async def test_the_noted_expiry_may_be_early_but_never_late(
    holds: HoldService,
    billing: BillingService,
    account_id: UUID,
    database: Urls,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A settlement reads no other hold. The first transaction after the noted moment finds the next one."""

    async def noted() -> datetime | None:
        async with connected(database) as connection:
            sql = "SELECT holds_expire_at FROM accounts WHERE account_id = $1"
            moment: datetime | None = await connection.fetchval(sql, account_id)
            return moment

    first = await held(holds, account_id, 6, now)
    second = await held(holds, account_id, 2, now, expires_in=timedelta(days=1))
    await holds.run(capture(first, 6, now))
    assert await noted() == first.expires_at
    monkeypatch.setattr("app.holds.service.utc_now", lambda: now + 20 * MINUTE)
    await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, now))
    assert await noted() == second.expires_at
    await holds.run(release(second, now))
    assert await noted() is None
