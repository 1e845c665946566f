"""A closed or erased account cannot be paid for: its purchases end, and money that arrives anyway goes back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.accounts.erasure import erase_person, forget_texts
from app.ledger.errors import AccountClosed
from app.payments import queries
from app.payments.erasure import TEXTS
from app.payments.errors import PaymentProviderUnavailable
from app.settings import Settings
from app.worker.app import RETRY, create_worker
from app.worker.services import running_services
from tests.payments.conftest import Shop, with_settings

SUCCEEDED = ("payment_intent.succeeded",)
End = Callable[[Shop, UUID], Awaitable[None]]


async def close(shop: Shop, account_id: UUID) -> None:
    await shop.billing.accounts.set_status(account_id, "closed", None, shop.now)


async def erase(shop: Shop, account_id: UUID) -> None:
    async with shop.db.transaction() as tx:
        await erase_person(tx, account_id, shop.now)


async def run_jobs(settings: Settings) -> None:
    """The worker does what is due, and ends."""
    async with running_services(settings) as services, create_worker(settings, services).open_async() as queue:
        await queue.run_worker_async(wait=False, install_signal_handlers=False, concurrency=1)


async def statuses(shop: Shop) -> dict[str, str]:
    return {intent["id"]: intent["status"] for intent in await shop.intents()}


async def state_of(shop: Shop, account_id: UUID) -> tuple[Any, ...]:
    [purchase] = await shop.purchases(account_id)
    return purchase["status"], purchase["review_reason"], purchase["refunded_minor"]


@pytest.mark.parametrize("end", [close, erase])
async def test_open_purchases_are_canceled_at_stripe(shop: Shop, end: End) -> None:
    account_id, other = await shop.account(), await shop.account()
    untouched = (await shop.open(account_id)).payment_id
    authenticating = (await shop.open(account_id, pack="large")).payment_id
    voucher = (await shop.open(account_id, idempotency_key="k")).payment_id
    kept = (await shop.open(other)).payment_id
    await shop.confirm(authenticating, "pm_card_authenticationRequired")
    await shop.confirm(voucher, "pm_oxxo")
    await end(shop, account_id)
    await run_jobs(shop.settings)
    ended = dict.fromkeys((untouched, authenticating, voucher), "canceled")
    assert await statuses(shop) == {**ended, kept: "requires_payment_method"}
    assert [purchase["status"] for purchase in await shop.purchases(account_id)] == ["canceled"] * 3


async def test_jobs_of_a_closed_account_are_retried_and_idempotent(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await close(shop, account_id)
    assert await shop.jobs("settle_purchases") == [{"account_id": str(account_id)}]
    await shop.control("failures", path="/v1/payment_intents", status=503, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.payments.settle_purchases(account_id, shop.now)
    assert RETRY.max_attempts is not None
    for _ in range(2):
        await shop.payments.settle_purchases(account_id, shop.now)
    assert await statuses(shop) == {payment_id: "canceled"}
    await close(shop, account_id)
    assert len(await shop.jobs("settle_purchases")) == 1  # closed already: no second job


async def test_reconciliation_cancels_what_the_job_did_not(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await close(shop, account_id)
    done = await shop.payments.reconcile(shop.now + timedelta(minutes=11))
    assert done["failed"] == 0
    assert await statuses(shop) == {payment_id: "canceled"}


@pytest.mark.parametrize(("end", "heard"), [(close, "webhook"), (erase, "poll"), (close, "reconciliation")])
async def test_money_that_arrives_anyway_goes_to_review_and_back_to_the_payer(shop: Shop, end: End, heard: str) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.confirm(payment_id, "pm_card_processing")
    await end(shop, account_id)
    await shop.payments.settle_purchases(account_id, shop.now)
    assert (await statuses(shop))[payment_id] == "processing"  # which Stripe does not cancel
    await shop.control(f"payment_intents/{payment_id}/succeed")
    if heard == "webhook":
        await shop.deliver_all(SUCCEEDED)
        await shop.deliver_all(SUCCEEDED)
    elif heard == "poll":
        assert (await shop.payments.payment("live", payment_id, shop.now)).status == "unknown"
    else:
        await shop.payments.reconcile(shop.now + timedelta(minutes=1))
    assert await shop.balances(account_id) == (0, 0)
    assert await state_of(shop, account_id) == ("unknown", "account_closed", 0)
    await shop.execute("UPDATE procrastinate_jobs SET scheduled_at = $1", shop.now)
    await run_jobs(shop.settings)
    assert await state_of(shop, account_id) == ("canceled", None, 500)
    assert await shop.balances(account_id) == (0, 0)


async def test_refunds_of_one_payment_by_two_workers_are_one_refund(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    [purchase] = await shop.purchases(account_id)
    refund = (account_id, purchase["purchase_id"], shop.now)
    await asyncio.gather(*(shop.payments.refund_closed(*refund) for _ in range(4)))
    assert len((await shop.stripe("GET", "refunds"))["data"]) == 1
    assert await state_of(shop, account_id) == ("canceled", None, 500)


async def test_refund_whose_job_is_lost_is_made_by_reconciliation(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    for minutes in (11, 22):  # the first also reads the charge, and leaves the job its ten minutes
        await shop.payments.reconcile(shop.now + timedelta(minutes=minutes))
    assert await state_of(shop, account_id) == ("canceled", None, 500)


@with_settings(closed_account_payments="review")
async def test_policy_review_leaves_the_money_to_an_admin(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    await run_jobs(shop.settings)
    for minutes in (11, 22):
        await shop.payments.reconcile(shop.now + timedelta(minutes=minutes))
    assert await state_of(shop, account_id) == ("unknown", "account_closed", 0)
    [purchase] = await shop.purchases(account_id)
    await shop.payments.refund(account_id, purchase["purchase_id"], None, "by hand", shop.now)
    assert await state_of(shop, account_id) == ("canceled", None, 500)


async def test_refund_that_stripe_refuses_waits_for_an_admin_and_is_not_tried_for_ever(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    [purchase] = await shop.purchases(account_id)
    await shop.control("failures", path="/v1/refunds", status=400, times=1)
    assert not await shop.payments.refund_closed(account_id, purchase["purchase_id"], shop.now)
    for minutes in (11, 22):
        await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], shop.now)
        await shop.payments.reconcile(shop.now + timedelta(minutes=minutes))
        assert await state_of(shop, account_id) == ("unknown", "refund_refused", 0)
    assert len(await shop.jobs("refund_closed")) == 1


@pytest.mark.usefixtures("forgotten_keys")
async def test_refund_that_fails_later_waits_for_an_admin_and_is_not_tried_for_ever(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    [purchase] = await shop.purchases(account_id)
    assert await shop.payments.refund_closed(account_id, purchase["purchase_id"], shop.now)
    assert await state_of(shop, account_id) == ("canceled", None, 500)
    [refund] = (await shop.stripe("GET", "refunds"))["data"]
    await shop.control(f"refunds/{refund['id']}/settle", outcome="failed")
    await shop.deliver_all(("refund.failed",))
    assert await state_of(shop, account_id) == ("unknown", "account_closed", 0)
    assert not await shop.payments.refund_closed(account_id, purchase["purchase_id"], shop.now)
    for minutes in (11, 22):
        await shop.payments.reconcile(shop.now + timedelta(minutes=minutes))
        assert await state_of(shop, account_id) == ("unknown", "refund_refused", 0)
    assert len((await shop.stripe("GET", "refunds"))["data"]) == 1
    await shop.payments.refund(account_id, purchase["purchase_id"], None, "by hand", shop.now)
    assert await state_of(shop, account_id) == ("canceled", None, 500)


@with_settings(closed_account_payments="review")
async def test_reopening_books_the_money_that_waits(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    await shop.billing.accounts.set_status(account_id, "active", None, shop.now)
    await run_jobs(shop.settings)
    assert await state_of(shop, account_id) == ("succeeded", None, 0)
    assert await shop.balances(account_id) == (20, 0)


async def test_account_that_is_reopened_before_the_refund_is_credited_instead(shop: Shop) -> None:
    account_id = await paid_after_closing(shop)
    [purchase] = await shop.purchases(account_id)
    await shop.billing.accounts.set_status(account_id, "active", None, shop.now)
    assert not await shop.payments.refund_closed(account_id, purchase["purchase_id"], shop.now)
    assert await shop.balances(account_id) == (20, 0)
    assert (await shop.stripe("GET", "refunds"))["data"] == []


async def test_refund_that_a_reopening_overtakes_takes_the_credits_again(shop: Shop) -> None:
    """The money has gone back while the credits were booked: in the end there are neither."""
    account_id = await paid_after_closing(shop)
    await shop.refund((await shop.purchases(account_id))[0]["payment_intent_id"], 500)
    await shop.billing.accounts.set_status(account_id, "active", None, shop.now)
    await shop.payments.settle_purchases(account_id, shop.now)
    await shop.deliver_all(("charge.refunded",))
    assert await shop.balances(account_id) == (0, 0)


async def test_closing_while_stripe_is_asked_gives_the_buyer_nothing_to_pay(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", hold_s=1, times=1)
    opening = asyncio.create_task(shop.open(account_id))
    for _ in range(1000):
        if await shop.purchases(account_id):
            break
    await close(shop, account_id)
    with pytest.raises(AccountClosed):
        await opening
    await run_jobs(shop.settings)
    assert set((await statuses(shop)).values()) == {"canceled"}


async def test_purchase_whose_opening_was_cut_off_is_found_and_canceled(shop: Shop) -> None:
    """Stripe made the payment and its answer was lost: the closing finds it by its idempotency key."""
    account_id = await shop.account()
    await shop.control("failures", after=True, status=None, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.open(account_id)
    await close(shop, account_id)
    await shop.payments.settle_purchases(account_id, shop.now)
    assert list((await statuses(shop)).values()) == ["canceled"]


async def test_closing_races_the_payments_webhook(shop: Shop) -> None:
    """In either order the account has the credits, or the money is due for a refund; never both, never neither."""
    for _ in range(3):
        account_id = await shop.account()
        payment_id = (await shop.open(account_id)).payment_id
        await shop.pay(payment_id)
        events = [e for e in await shop.events(*SUCCEEDED) if e["data"]["object"]["id"] == payment_id]
        await asyncio.gather(close(shop, account_id), *(shop.deliver(event) for event in events))
        status, reason, _ = await state_of(shop, account_id)
        outcome = (status, reason, await shop.balances(account_id))
        assert outcome in (("succeeded", None, (20, 0)), ("unknown", "account_closed", (0, 0)))


async def test_what_was_credited_before_the_closing_stays(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    await shop.deliver_all(SUCCEEDED)
    await close(shop, account_id)
    await run_jobs(shop.settings)
    await shop.deliver_all(SUCCEEDED)
    assert await state_of(shop, account_id) == ("succeeded", None, 0)
    assert await shop.balances(account_id) == (20, 0)


async def test_a_booking_does_not_write_back_what_the_erasure_clears(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker runs both jobs of an erasure at the same time. The second one ends while the first books."""
    account_id = await shop.account()
    await shop.open(account_id, idempotency_key="ann@example.com")
    await shop.execute("UPDATE purchases SET card_brand = 'visa', card_last4 = '4242'")
    await erase(shop, account_id)
    list_refunds = queries.list_refunds

    async def clear_first(*args: Any, **keys: Any) -> Any:
        monkeypatch.undo()
        await forget_texts(shop.db, account_id, [TEXTS])
        return await list_refunds(*args, **keys)

    monkeypatch.setattr(queries, "list_refunds", clear_first)
    await shop.payments.settle_purchases(account_id, shop.now)
    [purchase] = await shop.purchases(account_id)
    assert purchase["status"] == "canceled"
    assert {purchase[name] for name in TEXTS.become} == {None}


async def paid_after_closing(shop: Shop) -> UUID:
    """An account whose money arrived after it was closed, reported by webhook."""
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.confirm(payment_id, "pm_card_processing")
    await close(shop, account_id)
    await shop.control(f"payment_intents/{payment_id}/succeed")
    await shop.deliver_all(SUCCEEDED)
    return account_id
