"""Events about subscriptions become grants, a plan and its limits: once, in every order."""

import asyncio
import itertools
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.accounts.service import AccountService
from app.ledger.locked_account import Cause, Kind, lock_account, write
from app.ledger.pools import Shortfall, pay
from app.ledger.refill_queries import store_settings
from app.plans.document import PlanGrant
from tests.conftest import ACTOR
from tests.subscriptions import stripe_events as stripe
from tests.subscriptions.conftest import SOLD, Business, Customer, priced
from tests.subscriptions.made import DOLLAR, at, plan

JAN, FEB, MAR, APR = at("2026-01-31"), at("2026-02-28"), at("2026-03-31"), at("2026-04-30")
FIRST, SECOND, THIRD = (JAN, FEB), (FEB, MAR), (MAR, APR)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def bought(one: Customer) -> list[dict[str, Any]]:
    """The events of a new subscription whose first invoice is paid."""
    return [
        one.state("created", JAN, FIRST, status="incomplete"),
        one.state("updated", JAN + timedelta(seconds=2), FIRST),
        one.invoice("paid", 1, JAN + timedelta(seconds=2), one.line(FIRST)),
        one.payment(1, JAN + timedelta(seconds=2)),
    ]


def renewed(one: Customer, number: int = 2, period: tuple[datetime, datetime] = SECOND) -> list[dict[str, Any]]:
    start = period[0]
    return [
        one.state("updated", start, period, started_at=JAN),
        one.invoice("created", number, start, one.line(period), status="draft"),
        one.invoice("paid", number, start + HOUR, one.line(period)),
        one.payment(number, start + HOUR),
    ]


@pytest.mark.parametrize("shape", stripe.SHAPES)
async def test_paid_subscription_gives_its_plan_and_its_grant_once(business: Business, shape: Any) -> None:
    account_id = await business.account()
    one = Customer(account_id, shape=shape)
    assert await business.plan_of(account_id) == "free"
    for _ in range(2):
        await business.deliver(*bought(one))
    assert await business.plan_of(account_id) == "standard"
    assert await business.money(account_id) == 25
    [grant] = await business.grants(account_id)
    assert (grant["kind"], grant["plan_name"], grant["unit"]) == ("USD:month", "standard", "USD")
    assert (grant["period_start"], grant["period_end"]) == FIRST
    assert [
        row["payment_ids"]
        for row in await business.rows(
            "SELECT payment_ids::text FROM subscription_invoices WHERE account_id = $1", account_id
        )
    ] == [f'["{one.payment_id(1)}"]']


async def test_incomplete_subscription_gives_nothing(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(
        one.state("created", JAN, FIRST, status="incomplete"),
        one.invoice("payment_failed", 1, JAN, one.line(FIRST), status="open"),
    )
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("free", 0)
    await business.deliver(one.state("updated", JAN + DAY, FIRST, status="incomplete_expired"))
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("free", 0)


async def test_every_order_of_events_ends_in_the_same_books(business: Business) -> None:
    """Bought, renewed, refunded and ended: random orders with repetitions, and all of those of the last six."""
    ends = set()
    for order in itertools.islice(itertools.permutations(range(6)), 0, None, 7):
        account_id = await business.account()
        one = Customer(account_id)
        events = [
            *bought(one)[1:3],
            renewed(one)[2],
            one.refund(2, 1000, FEB + DAY),
            one.state("deleted", FEB + 3 * DAY, SECOND, status="canceled", ended_at=FEB + 3 * DAY, started_at=JAN),
            one.payment(2, FEB + HOUR),
        ]
        for i in (*order, *order[::2]):
            await business.deliver(events[i])
        await business.deliver(one.payment(2, FEB + HOUR), one.refund(2, 1000, FEB + DAY))  # as the refresh reads them
        grants = [
            (row["period_start"], row["kind"], row["amount"], row["refunded"])
            for row in await business.grants(account_id)
        ]
        ends.add((await business.plan_of(account_id), await business.money(account_id), tuple(grants)))
    [(plan_name, money, given)] = ends
    assert (plan_name, money, len(given)) == ("free", 25 + 12.5, 2)


async def test_parallel_reports_of_a_period_give_one_grant(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one)[:2])
    paid = [one.invoice("paid", 1, JAN + timedelta(seconds=2 + i % 3), one.line(FIRST)) for i in range(12)]
    await asyncio.gather(*(business.deliver(event) for event in paid))
    assert await business.money(account_id) == 25


async def test_renewal_while_suspended_gives_its_grant(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    await business.billing.accounts.set_status(account_id, "suspended", "abuse", business.now)
    await business.deliver(*renewed(one))
    assert await business.money(account_id) == 50


async def test_payment_for_a_closed_account_waits_for_its_reopening(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.billing.accounts.set_status(account_id, "closed", None, business.now)
    await business.deliver(*bought(one))
    assert await business.money(account_id) == 0
    await business.billing.accounts.set_status(account_id, "active", None, business.now)
    await business.settle(account_id, business.now)
    assert await business.money(account_id) == 25


async def test_missed_payment_keeps_the_plan_within_the_grace_period(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    due = FEB + HOUR
    await business.deliver(
        one.state("updated", FEB, SECOND, started_at=JAN),
        one.invoice("payment_failed", 2, due, one.line(SECOND), status="open"),
        one.state("updated", due, SECOND, status="past_due", started_at=JAN),
        now=due,
    )
    for days, plan_name in ((6.9, "standard"), (7.1, "free"), (6.9, "standard")):
        await business.settle(account_id, due + timedelta(days=days))
        assert await business.plan_of(account_id) == plan_name
    [row] = await business.rows("SELECT due_at FROM subscriptions WHERE account_id = $1", account_id)
    assert row["due_at"] <= due + timedelta(days=7)
    assert await business.money(account_id) == 25
    await business.deliver(
        one.invoice("paid", 2, FEB + 9 * DAY, one.line(SECOND)),
        one.state("updated", FEB + 9 * DAY, SECOND, started_at=JAN),
    )
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("standard", 50)


async def test_end_of_an_old_subscription_does_not_affect_a_newer_one(business: Business) -> None:
    account_id = await business.account(plan_name="partner")
    old, new = Customer(account_id), Customer(account_id)
    await business.deliver(*bought(old))
    await business.deliver(
        new.state("created", FEB, SECOND, "price_pro"), new.invoice("paid", 1, FEB, new.line(SECOND, "price_pro", 5000))
    )
    assert await business.plan_of(account_id) == "pro"
    await business.deliver(old.state("deleted", FEB + DAY, FIRST, status="canceled", ended_at=FEB + DAY))
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("pro", 85)
    await business.deliver(
        new.state("deleted", FEB + 2 * DAY, SECOND, "price_pro", status="canceled", ended_at=FEB + 2 * DAY)
    )
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("partner", 85)


@pytest.mark.parametrize(
    ("events", "money"),
    [
        (lambda one: [one.refund(1, 2000, JAN + DAY)], 0),
        (lambda one: [one.refund(1, 500, JAN + DAY)], 18.75),
        (lambda one: [one.refund(1, 2000, JAN + DAY), one.refund(1, 2000, JAN + 2 * DAY, "failed")], 25),
        (lambda one: [one.dispute("created", 1, 2000, JAN + DAY, "needs_response")], 0),
        (
            lambda one: [
                one.dispute("created", 1, 2000, JAN + DAY, "needs_response"),
                one.dispute("closed", 1, 2000, JAN + 2 * DAY, "won"),
            ],
            25,
        ),
        (lambda one: [one.dispute("closed", 1, 2000, JAN + 2 * DAY, "lost")], 0),
    ],
    ids=["refund", "part", "failed refund", "dispute", "won", "lost"],
)
async def test_returned_payment_takes_the_grant_of_its_period_back(
    business: Business, events: Any, money: float
) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    for _ in range(2):
        await business.deliver(*events(one))
    assert await business.money(account_id) == money


async def test_disputed_payment_switches_refills_off(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    async with business.db.transaction() as tx:
        await store_settings(
            tx,
            account_id,
            enabled=True,
            trigger_below_nanos=DOLLAR,
            amount_nanos=5 * DOLLAR,
            monthly_cap_nanos=None,
            now=business.now,
        )
    for _ in range(2):
        await business.deliver(one.dispute("created", 1, 2000, JAN + DAY, "needs_response"))
    [row] = await business.rows("SELECT enabled, off_reason FROM refill_settings WHERE account_id = $1", account_id)
    assert row == {"enabled": False, "off_reason": "disputed"}


async def test_spent_part_of_a_returned_grant_becomes_debt(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    await spend(business, account_id, 10)
    await business.deliver(one.refund(1, 2000, JAN + DAY))
    pools = await business.pools(account_id)
    assert (pools["money_debt"], pools.get("money", 0)) == (10 * 10**9, 0)
    await business.deliver(one.refund(1, 2000, JAN + 2 * DAY, "failed"))
    assert await business.money(account_id) == 15


async def test_expired_rest_is_not_taken_again_and_rolls_over_as_the_plan_says(business: Business) -> None:
    monthly = PlanGrant(unit="money", currency="USD", amount="25", rollover="up_to", rollover_up_to="5")
    business.set_plans(SOLD[0], priced(plan("standard", grants=[monthly]), 2000, 20_000), SOLD[2])
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one), now=JAN + DAY)
    assert await business.money(account_id, FEB - DAY) == 25
    assert await business.money(account_id, FEB) == 0
    await business.deliver(*renewed(one), now=FEB + HOUR)
    assert await business.money(account_id, FEB + HOUR) == 30
    await business.deliver(one.refund(1, 2000, FEB + DAY), now=FEB + DAY)
    assert await business.money(account_id, FEB + DAY) == 30
    await business.deliver(one.refund(2, 2000, FEB + DAY), now=FEB + DAY)
    assert await business.money(account_id, FEB + DAY) == 5


async def test_rest_of_a_period_rolls_over_once_when_the_interval_changes(business: Business) -> None:
    monthly = PlanGrant(unit="money", currency="USD", amount="25", rollover="all")
    business.set_plans(SOLD[0], priced(plan("standard", grants=[monthly]), 2000, 20_000), SOLD[2])
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one), now=JAN + DAY)
    await business.deliver(*renewed(one), now=FEB + HOUR)
    assert await business.money(account_id, FEB + HOUR) == 50
    middle = at("2026-03-15")
    lines = [
        one.line((middle, MAR), amount=-1000, proration=True),
        one.line((middle, at("2027-03-15")), "price_standard_year", 20_000),
    ]
    await business.deliver(one.invoice("paid", 3, middle, *lines), now=middle + HOUR)
    assert await business.money(account_id, middle + HOUR) == pytest.approx(50 + 25 - 25 * 16 / 31)


async def test_period_that_is_known_after_its_end_gives_what_never_expires_only(business: Business) -> None:
    monthly = [
        PlanGrant(unit="money", currency="USD", amount="25"),
        PlanGrant(unit="credit", amount="7", expires="never"),
        PlanGrant(unit="money", currency="EUR", amount="9", expires="never"),
    ]
    business.set_plans(SOLD[0], priced(plan("standard", grants=monthly), 2000, 20_000), SOLD[2])
    account_id = await business.account()
    await business.deliver(*bought(Customer(account_id)), now=FEB + DAY)
    assert await business.money(account_id, FEB + DAY) == 0
    assert (await business.billing.accounts.state(account_id))["grants_credits"] == 7
    assert [(row["kind"], row["grant_id"] is None) for row in await business.grants(account_id)] == [
        ("USD:month", True),
        ("credit:month", False),
    ]


async def test_returned_payment_takes_credits_back_too(business: Business) -> None:
    monthly = PlanGrant(unit="credit", amount="100", expires="never")
    business.set_plans(SOLD[0], priced(plan("standard", grants=[monthly]), 2000, 20_000), SOLD[2])
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one), one.refund(1, 500, JAN + DAY))
    assert (await business.billing.accounts.state(account_id))["grants_credits"] == 75
    await business.deliver(one.dispute("created", 1, 2000, JAN + DAY, "needs_response"))
    assert (await business.billing.accounts.state(account_id))["grants_credits"] == 0
    await business.deliver(one.dispute("closed", 1, 2000, JAN + 2 * DAY, "won"))
    assert (await business.pools(account_id))["paid"] == 75


async def test_subscribers_keep_their_terms_when_the_plan_changes(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    await business.deliver(*bought(one))
    business.set_plans(SOLD[0], priced(plan("standard", 1), 2000, 20_000), SOLD[2])
    await business.deliver(*renewed(one))
    assert await business.money(account_id) == 50
    other = await business.account()
    await business.deliver(*bought(Customer(other)))
    assert await business.money(other) == 1


async def test_price_of_no_plan_grants_nothing_until_a_plan_has_it(business: Business) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    business.set_plans(SOLD[0])
    await business.deliver(*bought(one))
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("free", 0)
    business.set_plans(*SOLD)
    await business.settle(account_id, business.now)
    assert (await business.plan_of(account_id), await business.money(account_id)) == ("standard", 25)


async def test_events_of_unknown_customers_are_ignored(business: Business) -> None:
    stranger = Customer(UUID(int=404))
    await business.deliver(*bought(stranger))
    assert await business.rows("SELECT FROM subscriptions WHERE subscription_id = $1", stranger.subscription_id) == []


async def test_failure_to_commit_leaves_nothing_and_the_repeat_gives_all(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await business.account()
    one = Customer(account_id)
    created, active, paid, payment = bought(one)
    await business.deliver(created, active)
    with monkeypatch.context() as patch:

        async def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("the last step")

        patch.setattr(AccountService, "set_plan_in", fail)
        with pytest.raises(RuntimeError):
            await business.deliver(paid)
    assert (await business.money(account_id), await business.grants(account_id)) == (0, [])
    await business.deliver(paid, payment)
    assert await business.money(account_id) == 25


async def spend(business: Business, account_id: UUID, dollars: int) -> None:
    """Spend money of the account's grants, as usage does."""
    async with business.db.transaction() as tx:
        account = await lock_account(tx, account_id)
        debits = pay(account.money_buckets(business.now), dollars * DOLLAR, unit="USD", now=business.now)
        assert not isinstance(debits, Shortfall)
        account.post_debits(debits, Kind.USAGE, Cause("account", account_id), ACTOR, business.now)
        await write(tx, [account], business.now)
