"""Money in and money back while credits are spent, all at once on one account: every credit is accounted for."""

import asyncio
import json

from app.billing.posting import ChargeRequest
from app.ledger.outcomes import New
from app.ledger.pools import Credits, Shortfall
from app.payments.errors import RefundRefused
from tests.conftest import ACTOR
from tests.payments.conftest import Event, Shop

SALES = 6
BOUGHT = 20


async def test_parallel_purchases_refunds_grants_and_charges_add_up(shop: Shop) -> None:
    """Six sales are booked, each by three deliveries, and half are refunded in two steps, amid charges and grants.

    Refunds of credits that are already spent become debt, so balance minus debt is exact.
    """
    account_id = await shop.account()
    payments = [await shop.open(account_id, idempotency_key=f"{i}") for i in range(SALES)]
    for payment in payments:
        await shop.pay(payment.payment_id)
    for payment in payments[: SALES // 2]:
        await shop.refund(payment.payment_id, 125)  # a quarter: 5 credits
        await shop.refund(payment.payment_id, 250)  # and a half: 10 more
    events = await shop.events("payment_intent.succeeded", "charge.refunded")
    assert len(events) == SALES + SALES

    def charge(i: int) -> ChargeRequest:
        return ChargeRequest(account_id, 100, None, ACTOR, shop.now, idempotency_key=f"k{i}")

    async def grant() -> None:
        await shop.billing.credit(
            account_id, credits=Credits(1), currency=None, transaction_type="grant", actor=ACTOR, now=shop.now
        )

    async def deliver(event: Event) -> None:
        await shop.deliver(json.loads(json.dumps(event)))

    *_, outcomes = await asyncio.gather(
        asyncio.gather(*(deliver(event) for event in events * 3)),
        asyncio.gather(*(grant() for _ in range(10))),
        asyncio.gather(*(shop.billing.charge(charge(i)) for i in range(150))),
    )
    spent = sum(isinstance(outcome, New) for outcome in outcomes)
    assert all(isinstance(outcome, New | Shortfall) for outcome in outcomes)
    paid, debt = await shop.balances(account_id)
    assert paid - debt == SALES * BOUGHT - SALES // 2 * 15 + 10 - spent
    assert {row["credits_refunded"] for row in await shop.purchases(account_id)} == {0, 15}


async def test_parallel_refunds_of_one_payment_give_no_cent_twice(shop: Shop) -> None:
    """Twenty refunds of a dollar each, at once, of a payment of five: five succeed, and all credits are gone."""
    account_id = await shop.account()
    payment = await shop.open(account_id)
    await shop.pay(payment.payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [purchase] = await shop.purchases(account_id)

    async def refund(i: int) -> bool:
        try:
            await shop.payments.refund(account_id, purchase["purchase_id"], 100, f"r{i}", shop.now)
        except RefundRefused:
            return False
        return True

    results = await asyncio.gather(*(refund(i) for i in range(20)))
    assert sum(results) == 5
    again = await asyncio.gather(*(refund(i) for i in range(20)))
    assert again == results  # the same keys give nothing more
    await shop.deliver_all(("charge.refunded",))
    assert await shop.balances(account_id) == (0, 0)
    [purchase] = await shop.purchases(account_id)
    assert (purchase["refunded_minor"], purchase["credits_refunded"]) == (500, BOUGHT)
