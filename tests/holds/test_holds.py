"""Holds: reserved in burn order, spent or returned once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.holds.requests import Amount, Change, Done, Extension, Outcome, Progress, Rejected, Unpaid
from app.holds.service import HoldService
from app.ledger.entries import Cause, Kind
from app.ledger.holds import Hold
from app.ledger.outcomes import New
from app.ledger.pools import Shortfall
from app.verification import verify_books
from tests.billing.test_batcher import run_while_locked, transactions_of
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.holds.conftest import balances, capture, done, held, opening, place, release
from tests.support.wallets import DOLLAR, entries_of, give, locked

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def _books_add_up(db: Database, now: datetime) -> AsyncIterator[None]:
    yield
    verification = await verify_books(db, now)
    assert verification.ok, verification.problem


async def test_a_hold_takes_in_burn_order_and_returns_the_rest(
    holds: HoldService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    grant = await give(db, account_id, 4, now, expires_at=now + DAY)
    hold = await held(holds, account_id, 12, now)
    assert [(part.pool, part.grant_id, part.amount) for part in hold.parts] == [
        ("grant", grant, 4),
        ("free", None, 3),
        ("paid", None, 5),
    ]
    assert await balances(database, account_id) == {"paid": 5, "held_credits": 12}
    captured = done(await holds.run(capture(hold, 6, now + MINUTE)))
    assert (captured.status, captured.captured, captured.settled_at) == ("captured", 6, now + MINUTE)
    assert await balances(database, account_id) == {"free": 1, "paid": 10, "total_uses": 6}
    async with connected(database) as connection:
        row = await connection.fetchrow("SELECT * FROM charges WHERE charge_id = $1", captured.spending_id)
    assert row is not None
    assert (row["cost"], row["from_grants"], row["from_free"], row["from_paid"]) == (6, 4, 2, 0)
    assert (await entries_of(database, account_id))[-5:] == [
        ("held", "credit", -6, 6, "charge"),
        ("held", "credit", -1, 5, "hold_release"),
        ("free", "credit", 1, 1, "hold_release"),
        ("held", "credit", -5, 0, "hold_release"),
        ("paid", "credit", 5, 10, "hold_release"),
    ]


async def test_what_is_held_pays_for_nothing_else(
    holds: HoldService, billing: BillingService, account_id: UUID, database: Urls, now: datetime
) -> None:
    await held(holds, account_id, 9, now)
    assert await holds.run(opening(account_id, 5, now)) == Unpaid(4, 5, "credit")
    assert await billing.charge(ChargeRequest(account_id, 500, None, ACTOR, now)) == Shortfall(4, 5)
    assert isinstance(await billing.charge(ChargeRequest(account_id, 400, None, ACTOR, now)), New)
    assert await balances(database, account_id) == {"held_credits": 9, "total_uses": 4}


async def test_money_is_held_and_spent_as_a_usage_event(
    holds: HoldService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    async with locked(db, account_id, now) as account:
        account.give_money(5 * DOLLAR, Kind.GRANT, _cause(account_id), ACTOR, now)
    await give(db, account_id, DOLLAR, now, unit="USD")
    before = await balances(database, account_id)
    hold = await held(holds, account_id, 3 * DOLLAR, now, money=True)
    assert await holds.run(opening(account_id, 4 * DOLLAR, now, money=True)) == Unpaid(3 * DOLLAR, 4 * DOLLAR, "USD")
    spent = done(await holds.run(capture(hold, DOLLAR + 5, now)))
    assert await balances(database, account_id) == {
        **{name: value for name, value in before.items() if name != "grants_money_nanos"},
        "money_nanos": 5 * DOLLAR - 5,
        "money_used_nanos": DOLLAR + 5,
    }
    async with connected(database) as connection:
        event = await connection.fetchrow("SELECT * FROM usage_events WHERE usage_id = $1", spent.spending_id)
    assert event is not None
    assert (event["meter"], event["status"], event["cost_nanos"]) == ("captured-hold", "charged", DOLLAR + 5)


def _cause(account_id: UUID) -> Cause:
    return Cause("account", account_id)


@pytest.mark.parametrize(
    ("on_expiry", "reported", "captured"),
    [("release", 4, 0), ("capture_reported", 4, 4), ("capture_reported", 0, 0), ("capture_all", 4, 9)],
)
async def test_a_hold_that_is_left_open_is_settled_by_its_policy(
    on_expiry: str,
    reported: int,
    captured: int,
    holds: HoldService,
    account_id: UUID,
    database: Urls,
    now: datetime,
) -> None:
    hold = await held(holds, account_id, 9, now, on_expiry=on_expiry)
    if reported:
        for amount in (reported, 1, reported):
            done(await holds.run(Progress(place(hold), "live", Amount(amount, False), ACTOR, now)))
    await holds.expire(now + 14 * MINUTE)
    assert (await holds.find("live", place(hold))).status == "held"
    for _ in range(2):
        await holds.expire(now + 15 * MINUTE)
    settled = await holds.find("live", place(hold))
    assert (settled.status, settled.captured, settled.reported) == ("expired", captured, reported)
    after = await balances(database, account_id)
    assert sum(after.get(pool, 0) for pool in ("free", "paid")) == 13 - captured
    assert after.get("held_credits", 0) == 0
    late = await holds.run(capture(hold, 9, now + 16 * MINUTE))
    assert isinstance(late, Rejected)
    assert (late.error.status, late.error.code) == (409, "hold_settled")


async def test_the_next_charge_of_the_account_settles_a_due_hold(
    holds: HoldService, billing: BillingService, account_id: UUID, database: Urls, now: datetime
) -> None:
    past = now - 20 * MINUTE
    first = await held(holds, account_id, 6, past)
    second = await held(holds, account_id, 2, past, expires_in=DAY)
    third = await held(holds, account_id, 5, past, on_expiry="capture_all")
    assert isinstance(await billing.charge(ChargeRequest(account_id, 500, None, ACTOR, now)), New)
    statuses = [(await holds.find("live", place(hold))).status for hold in (first, second, third)]
    assert statuses == ["expired", "held", "expired"]
    assert await balances(database, account_id) == {"paid": 1, "held_credits": 2, "total_uses": 10}
    async with connected(database) as connection:
        due = await connection.fetchval("SELECT holds_expire_at FROM accounts WHERE account_id = $1", account_id)
    assert due == second.expires_at


async def test_a_late_capture_counts_until_the_hold_is_settled(
    holds: HoldService, account_id: UUID, database: Urls, now: datetime
) -> None:
    hold = await held(holds, account_id, 6, now - 20 * MINUTE)
    assert done(await holds.run(capture(hold, 6, now))).status == "captured"
    await holds.expire(now)
    assert await balances(database, account_id) == {"paid": 7, "total_uses": 6}


async def test_extending_delays_the_expiry_and_never_hastens_it(
    holds: HoldService, account_id: UUID, now: datetime
) -> None:
    hold = await held(holds, account_id, 1, now)
    for span, expected in ((timedelta(hours=2), timedelta(hours=2)), (MINUTE, timedelta(hours=2))):
        extended = done(await holds.run(Extension(place(hold), "live", span, ACTOR, now)))
        assert extended.expires_at == now + expected
    for hours, status in ((1, "held"), (2, "expired")):
        await holds.expire(now + timedelta(hours=hours))
        assert (await holds.find("live", place(hold))).status == status
    refused = await holds.run(Extension(place(hold), "live", DAY, ACTOR, now))
    assert isinstance(refused, Rejected)
    assert refused.error.code == "hold_settled"


async def test_a_hold_is_extended_for_longer_than_a_day_in_all(
    holds: HoldService, account_id: UUID, database: Urls, now: datetime
) -> None:
    """Each extension is at most a day from its time. The hold stays one: it reserves, and is captured at last."""
    hold = await held(holds, account_id, 12, now, expires_in=DAY)
    for hours in (20, 40, 60):
        at = now + timedelta(hours=hours)
        await holds.expire(at)
        assert done(await holds.run(Extension(place(hold), "live", DAY, ACTOR, at))).expires_at == at + DAY
        assert await holds.run(opening(account_id, 2, at)) == Unpaid(1, 2, "credit")
    assert done(await holds.run(capture(hold, 12, now + timedelta(hours=83)))).captured == 12
    assert await balances(database, account_id) == {"paid": 1, "total_uses": 12}


async def test_both_units_share_a_transaction(
    holds: HoldService, billing: BillingService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    await give(db, account_id, DOLLAR, now, unit="USD")
    outcomes = await run_while_locked(
        billing,
        database,
        account_id,
        holds.run(opening(account_id, 2, now)),
        holds.run(opening(account_id, DOLLAR, now, money=True)),
        billing.charge(ChargeRequest(account_id, 300, None, ACTOR, now)),
        holds.run(opening(account_id, 1, now, money=True)),
    )
    assert [type(outcome) for outcome in outcomes] == [Done, Done, New, Unpaid]
    assert len(await transactions_of(database, account_id, "holds")) == 1
    assert await transactions_of(database, account_id, "holds") <= await transactions_of(
        database, account_id, "charges"
    )
    async with connected(database) as connection:
        units = await connection.fetch("SELECT DISTINCT unit FROM holds WHERE account_id = $1", account_id)
    assert {row["unit"] for row in units} == {"credit", "USD"}


async def test_repeats_change_nothing_and_other_settlements_are_refused(
    holds: HoldService, account_id: UUID, database: Urls, now: datetime
) -> None:
    first = opening(account_id, 5, now, idempotency_key="k")
    hold = done(await holds.run(first))
    again = await holds.run(opening(account_id, 5, now + MINUTE, idempotency_key="k"))
    assert isinstance(again, Done)
    assert (again.is_new, again.hold.hold_id) == (False, hold.hold_id)
    other = await holds.run(opening(account_id, 6, now, idempotency_key="k"))
    assert isinstance(other, Rejected)
    assert other.error.code == "idempotency_key_reused"
    assert done(await holds.run(capture(hold, 2, now))).captured == 2
    repeat = await holds.run(capture(hold, 2, now + MINUTE))
    assert isinstance(repeat, Done)
    assert not repeat.is_new
    for request in (capture(hold, 3, now), release(hold, now)):
        refused = await holds.run(request)
        assert isinstance(refused, Rejected)
        assert (refused.error.status, refused.error.code) == (409, "hold_settled")
    assert (await balances(database, account_id))["total_uses"] == 2


async def test_a_capture_above_the_hold_charges_what_fits_if_asked(
    holds: HoldService, account_id: UUID, database: Urls, now: datetime
) -> None:
    hold = await held(holds, account_id, 5, now)
    refused = await holds.run(capture(hold, 6, now))
    assert isinstance(refused, Rejected)
    assert (refused.error.status, refused.error.code) == (422, "amount_above_hold")
    spent = done(await holds.run(capture(hold, 100, now, overage="charge_what_fits")))
    assert (spent.captured, spent.overage) == (5, 8)
    assert await balances(database, account_id) == {"total_uses": 13}


async def _expire(holds: HoldService, hold: Hold, at: datetime) -> Outcome:
    await holds.expire(at)
    return Done(await holds.find("live", place(hold)), is_new=True)


SETTLEMENTS: dict[str, Callable[[HoldService, Hold, datetime], Awaitable[Outcome]]] = {
    "captured": lambda holds, hold, at: holds.run(capture(hold, hold.amount, at)),
    "released": lambda holds, hold, at: holds.run(release(hold, at)),
    "expired": _expire,
}
ALL_BACK = {"free": 3, "paid": 10, "grants_credits": 5}
EVENTS: dict[str, tuple[str, dict[str, int]]] = {
    "nothing": ("SELECT $1::uuid, $2::timestamptz", ALL_BACK),
    "grant expiry": ("UPDATE grants SET expires_at = $2 WHERE account_id = $1", {"free": 3, "paid": 10}),
    "end of the grant": ("UPDATE grants SET ended_at = $2 WHERE account_id = $1", {"free": 3, "paid": 10}),
    # 15 bought credits are taken back, of which 7 are left. The 3 that return pay 3 of the debt of 8.
    "refund": ("SELECT $1::uuid, $2::timestamptz", {"free": 3, "grants_credits": 5, "debt": 5}),
    "suspension": (
        "UPDATE accounts SET status = 'suspended', status_reason = 'x', updated_at = $2 WHERE account_id = $1",
        ALL_BACK,
    ),
    "closing": ("UPDATE accounts SET status = 'closed', updated_at = $2 WHERE account_id = $1", ALL_BACK),
}
"""By event: the statement that makes it, and the balances after a release."""


@pytest.mark.parametrize("settlement", SETTLEMENTS)
@pytest.mark.parametrize("event", EVENTS)
async def test_a_settlement_succeeds_whatever_happened_since(
    event: str,
    settlement: str,
    holds: HoldService,
    account_id: UUID,
    database: Urls,
    db: Database,
    now: datetime,
) -> None:
    """The table of docs/holds.md."""
    await give(db, account_id, 5, now, expires_at=now + DAY)
    hold = await held(holds, account_id, 11, now)  # 5 of the grant, 3 free uses, 3 paid credits
    at = hold.expires_at
    statement, returned = EVENTS[event]
    async with connected(database) as connection:
        await connection.execute(statement, account_id, at)
    if event == "refund":
        async with locked(db, account_id, at) as account:
            account.take_back_paid(15, Kind.REFUND_REVERSAL, _cause(account_id), ACTOR, at)
    settled = done(await SETTLEMENTS[settlement](holds, hold, at))
    assert settled.status == settlement
    after = await balances(database, account_id)
    if settlement == "captured":
        assert settled.captured == after["total_uses"] == 11
        assert after.get("debt", 0) == (8 if event == "refund" else 0)
    else:
        assert after == returned


@pytest.mark.parametrize(("hours", "daily_free"), [(1, 3), (30, 0)])
async def test_free_uses_of_a_day_that_has_ended_do_not_return(
    hours: int, daily_free: int, holds: HoldService, account_id: UUID, database: Urls, db: Database, now: datetime
) -> None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    async with locked(db, account_id, midnight) as account:
        account.renew_daily_free(3, _cause(account_id), ACTOR, midnight)
    hold = await held(holds, account_id, 4, midnight, expires_in=timedelta(days=1))
    assert [(part.pool, part.amount) for part in hold.parts] == [("daily_free", 3), ("free", 1)]
    done(await holds.run(release(hold, midnight + timedelta(hours=hours))))
    after = await balances(database, account_id)
    assert (after.get("daily_free", 0), after["free"], after["paid"]) == (daily_free, 3, 10)


async def test_concurrent_settlements_have_one_outcome(
    holds: HoldService, account_id: UUID, database: Urls, now: datetime
) -> None:
    for number in range(10):
        hold = await held(holds, account_id, 1, now, on_expiry="capture_all")
        late = hold.expires_at
        requests: list[Change] = [capture(hold, 1, late), release(hold, late), capture(hold, 1, late)]
        expiry = asyncio.create_task(holds.expire(late))
        outcomes = await asyncio.gather(*(holds.run(request) for request in requests))
        await expiry
        counted = Counter(outcome.is_new for outcome in outcomes if isinstance(outcome, Done))
        status = (await holds.find("live", place(hold))).status
        assert counted[True] + (status == "expired") == 1, (number, counted, status)
        refused = {outcome.error.code for outcome in outcomes if isinstance(outcome, Rejected)}
        assert refused <= {"hold_settled"}
