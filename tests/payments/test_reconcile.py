"""Reconciliation heals what webhooks have missed, and nothing that is wrong with one payment keeps it from the next."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

import pytest

from app.auth.caller import Environment
from app.payments import stripe_gateway
from app.payments.errors import PaymentProviderUnavailable
from app.payments.facts import Event
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_objects import DISPUTES
from tests.payments.conftest import Shop

NOTHING = {"events": 0, "payments": 0, "failed": 0}


def later(shop: Shop, **delta: float) -> datetime:
    return shop.now + timedelta(**delta)


async def forget_the_event_log(shop: Shop) -> None:
    """Mark the event log as read, so that only the payments themselves are left to check."""
    await shop.execute("INSERT INTO payment_cursors VALUES ('live', $1), ('test', $1)", later(shop, hours=20))


async def test_every_kind_of_event_is_caught_up_on(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.refund(payment_id, 100)
    await shop.control(f"payment_intents/{payment_id}/dispute", amount=200)
    done = await shop.payments.reconcile(later(shop, minutes=1))
    assert done["failed"] == 0
    assert (
        done["events"] == 6
    )  # charge and payment succeeded, refund created, charge refunded, dispute created, funds withdrawn
    assert await shop.balances(account_id) == (8, 0)  # 300 of 500 cents gone
    assert await shop.payments.reconcile(later(shop, minutes=6)) == NOTHING


async def test_purchase_that_is_stuck_is_asked_about(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await forget_the_event_log(shop)
    [purchase] = await shop.purchases(account_id)
    assert await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], later(shop, minutes=10))
    assert await shop.balances(account_id) == (20, 0)


async def test_succeeded_payment_that_we_lost_is_found_in_the_list(shop: Shop) -> None:
    """Stripe's answer was lost, but the buyer paid: the payment's metadata names the purchase."""
    account_id = await shop.account()
    await shop.control("failures", after=True, status=None, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.open(account_id)
    [intent] = await shop.intents()
    assert [p["payment_intent_id"] for p in await shop.purchases(account_id)] == [None]
    await shop.pay(intent["id"])
    await forget_the_event_log(shop)
    assert (await shop.payments.reconcile(later(shop, minutes=1)))["payments"] == 1
    assert [p["payment_intent_id"] for p in await shop.purchases(account_id)] == [intent["id"]]
    assert await shop.balances(account_id) == (20, 0)


async def test_opening_a_purchase_leaves_a_job_that_looks_after_it(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.open(account_id)
    [job] = await shop.rows(
        "SELECT args::text, scheduled_at FROM procrastinate_jobs WHERE task_name = 'reconcile_purchase'"
    )
    [purchase] = await shop.purchases(account_id)
    assert str(purchase["purchase_id"]) in job["args"]
    assert job["scheduled_at"] == later(shop, minutes=10)


async def test_purchase_that_stripe_never_heard_of_is_opened_there(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", status=500, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.open(account_id)
    assert await shop.intents() == []
    [purchase] = await shop.purchases(account_id)
    await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], later(shop, minutes=10))
    [intent] = await shop.intents()
    assert (await shop.purchases(account_id))[0]["payment_intent_id"] == intent["id"]


async def test_abandoned_purchases_come_to_an_end(shop: Shop) -> None:
    opened, unopened = await shop.account(), await shop.account()
    await shop.open(opened)
    await shop.control("failures", status=500, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.open(unopened)
    assert (await shop.payments.reconcile(later(shop, hours=25)))["failed"] == 0
    assert [intent["status"] for intent in await shop.intents()] == ["canceled"]
    for account_id in (opened, unopened):
        assert [p["status"] for p in await shop.purchases(account_id)] == ["canceled"]


async def test_abandoned_purchase_that_is_paid_at_the_last_moment_is_booked(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.payments.reconcile(later(shop, hours=25))
    assert await shop.balances(account_id) == (20, 0)


async def test_one_purchase_that_stripe_refuses_holds_up_no_other(shop: Shop) -> None:
    first, second = await shop.account(), await shop.account()
    refused = (await shop.open(first)).payment_id
    payment_id = (await shop.open(second)).payment_id
    await shop.pay(payment_id)
    await shop.control("failures", method="GET", path=f"/v1/payment_intents/{refused}", status=400, times=9)
    await forget_the_event_log(shop)
    await shop.execute("UPDATE purchases SET updated_at = $1", later(shop, days=-1))
    await shop.execute("UPDATE purchases SET updated_at = $2 WHERE account_id = $1", first, later(shop, days=-2))
    done = await shop.payments.reconcile(later(shop, minutes=11))
    assert done == {"events": 0, "payments": 1, "failed": 1}
    assert await shop.balances(second) == (20, 0)


async def test_payment_of_another_stripe_account_is_given_up_and_booked_all_the_same_if_it_comes_back(
    shop: Shop,
) -> None:
    """An admin enters another account's keys, under which Stripe does not know this payment; then the right ones."""
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    rename = "UPDATE purchases SET payment_intent_id = $1 WHERE account_id = $2"
    await shop.execute(rename, "pi_elsewhere", account_id)
    done = await shop.payments.reconcile(later(shop, minutes=11))
    assert done["failed"] == 0
    assert [purchase["status"] for purchase in await shop.purchases(account_id)] == ["canceled"]
    await shop.execute(rename, payment_id, account_id)
    await shop.pay(payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    assert [purchase["status"] for purchase in await shop.purchases(account_id)] == ["succeeded"]
    assert await shop.balances(account_id) == (20, 0)


async def test_event_that_cannot_be_applied_holds_up_no_other_and_is_tried_again(shop: Shop) -> None:
    first, second = await shop.account(), await shop.account()
    for account_id in (first, second):
        await shop.pay((await shop.open(account_id)).payment_id)
    await shop.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON accounts FOR EACH ROW
            WHEN (NEW.account_id = '{first}') EXECUTE FUNCTION refuse()
        """
    )
    done = await shop.payments.reconcile(later(shop, hours=3))
    assert done["failed"] > 0
    assert await shop.balances(second) == (20, 0)
    assert await shop.balances(first) == (0, 0)
    await shop.execute("DROP TRIGGER refuse ON accounts")
    # However long it took: the cursor has stayed with the event.
    done = await shop.payments.reconcile(later(shop, days=3))
    assert (done["events"], done["failed"]) == (1, 0)
    assert await shop.balances(first) == (20, 0)


async def test_a_quiet_event_log_is_read_in_few_parts_and_a_busy_one_page_by_page(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of six hours may be long. A longer part is held in memory only if it is one page."""
    read: list[tuple[timedelta, int | None]] = []
    events_between = StripeGateway.events_between

    async def observed(
        gateway: StripeGateway,
        environment: Environment,
        types: Collection[str],
        since: datetime,
        until: datetime,
        if_few: bool,
    ) -> list[Event] | None:
        events = await events_between(gateway, environment, types, since, until, if_few)
        if environment == "live" and "payment_intent.succeeded" in types:
            read.append((until - since, None if events is None else len(events)))
        return events

    monkeypatch.setattr(StripeGateway, "events_between", observed)
    monkeypatch.setattr(stripe_gateway, "PAGE", 2)
    account_id = await shop.account()
    for _ in range(3):
        await shop.pay((await shop.open(account_id)).payment_id)
    assert (await shop.payments.reconcile(later(shop, days=20)))["events"] == 6  # a charge and a payment each
    hours = [part / timedelta(hours=1) for part, _ in read]
    assert hours[:6] == [6, 12, 24, 48, 96, 192]
    assert None in [found for _, found in read]
    assert max(part for part, found in read if found) == timedelta(hours=6)
    assert await shop.balances(account_id) == (60, 0)


async def test_reconciliation_survives_stripe_being_away(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    await shop.control("failures", method="GET", path="/v1/", status=503, times=1000)
    assert await shop.payments.reconcile(later(shop, minutes=11)) == {"events": 0, "payments": 0, "failed": 2}
    assert await shop.balances(account_id) == (0, 0)


async def test_two_reconciliations_at_once_book_once(shop: Shop) -> None:
    accounts = [await shop.account() for _ in range(5)]
    for account_id in accounts:
        await shop.pay((await shop.open(account_id)).payment_id)
    other = PaymentService(shop.db, shop.billing.configuration, shop.billing, shop.payments._gateway)
    await asyncio.gather(*(service.reconcile(later(shop, minutes=11)) for service in (shop.payments, other)))
    for account_id in accounts:
        assert await shop.balances(account_id) == (20, 0)


@pytest.mark.parametrize("at_once", [True, False])
async def test_payment_in_progress_is_not_canceled(shop: Shop, at_once: bool) -> None:
    """A bank may take days: the day after which unpaid purchases are canceled is not for it."""
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.stripe("POST", f"payment_intents/{payment_id}/confirm", payment_method="pm_card_processing")
    await forget_the_event_log(shop)
    [purchase] = await shop.purchases(account_id)
    if at_once:
        assert await shop.payments.reconcile(later(shop, hours=25)) == NOTHING
    else:
        assert not await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], later(shop, hours=25))
    assert [p["status"] for p in await shop.purchases(account_id)] == ["processing"]
    assert [i["status"] for i in await shop.intents()] == ["processing"]
    await shop.control(f"payment_intents/{payment_id}/succeed")
    await shop.payments.reconcile(later(shop, hours=26))
    assert await shop.balances(account_id) == (20, 0)


async def test_objects_with_unknown_statuses_hold_up_no_other(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe adds statuses. The refund and the dispute cannot be read; the payment is still booked."""
    account_id, stuck = await shop.account(), await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    await shop.refund(payment_id, 100)
    await shop.control(f"payment_intents/{payment_id}/dispute", amount=200)
    await shop.pay((await shop.open(stuck)).payment_id)
    monkeypatch.setattr("app.payments.stripe_objects.REFUND_STATUSES", ("pending",))
    monkeypatch.delitem(DISPUTES, "needs_response")
    await forget_the_event_log(shop)
    assert (await shop.payments.reconcile(later(shop, hours=23)))["failed"] == 0
    assert await shop.balances(stuck) == (20, 0)
    [purchase] = await shop.purchases(account_id)
    await shop.payments.reconcile_money_back(account_id, purchase["purchase_id"], shop.now)
    assert await shop.balances(account_id) == (20, 0)
    monkeypatch.undo()
    await shop.payments.reconcile_money_back(account_id, purchase["purchase_id"], shop.now)
    assert await shop.balances(account_id) == (8, 0)


async def test_refund_with_an_unknown_status_takes_credits_by_the_total(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [purchase] = await shop.purchases(account_id)
    monkeypatch.setattr("app.payments.stripe_objects.REFUND_STATUSES", ("pending",))
    await shop.payments.refund(account_id, purchase["purchase_id"], 125, "k", shop.now)
    assert await shop.balances(account_id) == (15, 0)
    [refund] = (await shop.stripe("GET", "refunds"))["data"]
    [event] = await shop.events("charge.refunded")
    charge = {**event["data"]["object"], "amount_refunded": 250, "refunds": {"data": [refund]}}
    await shop.deliver({**event, "data": {"object": charge}})
    assert await shop.balances(account_id) == (10, 0)
