"""A dispute, a suspension, a closing and an erasure end refills. A payment is credited or goes back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.accounts.erasure import erase_person
from app.payments.stripe_saved_cards import StripeSavedCards
from tests.refills.conftest import SETTINGS, Buyer

LATER = timedelta(minutes=11)


async def set_status(buyer: Buyer, status: str) -> None:
    reason = "a test" if status == "suspended" else None
    await buyer.desk.shop.billing.accounts.set_status(buyer.account_id, status, reason, datetime.now(UTC))


async def suspend(buyer: Buyer) -> None:
    await set_status(buyer, "suspended")


async def close(buyer: Buyer) -> None:
    await set_status(buyer, "closed")


async def stop(buyer: Buyer) -> None:
    accounts = buyer.desk.shop.billing.accounts
    async with buyer.desk.shop.db.transaction() as tx:
        assert await accounts.suspend_unless_stopped_in(tx, buyer.account_id, "a rule", (), datetime.now(UTC))


async def dispute(buyer: Buyer) -> None:
    """Of an earlier payment."""
    shop = buyer.desk.shop
    payment = await shop.open(buyer.account_id)
    await shop.pay(payment.payment_id)
    await shop.control(f"payment_intents/{payment.payment_id}/dispute")
    for event in await shop.events("payment_intent.succeeded", "charge.dispute.created"):
        data = event["data"]["object"]
        if payment.payment_id in (data["id"], data.get("payment_intent")):
            await shop.deliver(event)


ENDS: dict[str, Any] = {"suspended": suspend, "closed": close, "disputed": dispute}


@pytest.mark.parametrize("reason", ENDS)
async def test_end_of_use_switches_refills_off(buyer: Buyer, reason: str) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await ENDS[reason](buyer)
    await buyer.desk.work()
    assert await buyer.outcomes() == []
    shown = await buyer.settings()
    assert (shown["enabled"], shown["off_reason"]) == (False, reason)
    [row] = await buyer.desk.shop.rows(
        "SELECT refill_below_nanos FROM accounts WHERE account_id = $1", buyer.account_id
    )
    assert row["refill_below_nanos"] is None
    answer = await buyer.person.post(SETTINGS, json={"enabled": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "refills_stopped")
    assert (await buyer.person.post(SETTINGS, json={"enabled": False})).status_code == 200


async def test_rule_that_suspends_an_account_switches_refills_off(buyer: Buyer) -> None:
    await buyer.ready()
    await stop(buyer)
    assert (await buyer.settings())["off_reason"] == "suspended"


async def test_refills_stay_off_after_the_account_is_reopened(buyer: Buyer) -> None:
    await buyer.ready()
    await suspend(buyer)
    await set_status(buyer, "active")
    await buyer.exhaust()
    await buyer.desk.work()
    assert await buyer.outcomes() == []
    await buyer.set()
    await buyer.desk.work()
    assert await buyer.outcomes() == ["paid"]


@pytest.mark.parametrize("reason", ENDS)
async def test_refill_that_was_not_sent_ends_with_the_use(buyer: Buyer, reason: str) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.start()
    await ENDS[reason](buyer)
    await buyer.desk.work()
    assert await buyer.outcomes() == ["canceled"]
    assert not any(intent["customer"] for intent in await buyer.intents())


async def test_refill_of_a_disabled_setting_is_not_sent(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.start()
    await buyer.set(enabled=False)
    await buyer.desk.work()
    assert (await buyer.outcomes(), await buyer.intents()) == (["canceled"], [])
    assert await buyer.jobs() == 0


async def test_money_of_a_suspended_account_is_credited(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.start()
    charge = StripeSavedCards.charge

    async def suspending(self: StripeSavedCards, *args: Any, **options: Any) -> Any:
        payment = await charge(self, *args, **options)
        await suspend(buyer)
        return payment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StripeSavedCards, "charge", suspending)
        await buyer.settle()
    assert (await buyer.outcomes(), await buyer.balance()) == (["paid"], 2900)
    assert (await buyer.settings())["enabled"] is False


async def test_money_of_a_closed_account_goes_back(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.start()
    charge = StripeSavedCards.charge

    async def closing(self: StripeSavedCards, *args: Any, **options: Any) -> Any:
        payment = await charge(self, *args, **options)
        await close(buyer)
        return payment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StripeSavedCards, "charge", closing)
        await buyer.settle()
    await buyer.desk.work()
    [purchase] = await buyer.desk.shop.purchases(buyer.account_id)
    assert (purchase["status"], purchase["refunded_minor"]) == ("canceled", 2500)
    await buyer.settle()
    assert (await buyer.outcomes(), await buyer.balance()) == (["canceled"], 400)


async def test_payment_that_waits_for_its_owner_ends_with_the_account(buyer: Buyer) -> None:
    await buyer.ready("pm_card_authenticationRequired")
    await buyer.exhaust()
    await buyer.desk.work()
    assert await buyer.outcomes() == ["action_required"]
    await close(buyer)
    await buyer.desk.work()
    assert await buyer.outcomes() == ["declined"]
    assert [intent["status"] for intent in await buyer.intents()] == ["canceled"]


async def test_disputed_refill_takes_its_money_back(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.desk.work()
    shop = buyer.desk.shop
    [intent] = await buyer.intents()
    await shop.control(f"payment_intents/{intent['id']}/dispute")
    for event in await shop.events("charge.dispute.created"):
        if event["data"]["object"]["payment_intent"] == intent["id"]:
            await shop.deliver(event)
    assert await buyer.balance() == 400
    assert (await buyer.settings())["off_reason"] == "disputed"


@pytest.mark.parametrize("outcome", ["won", "lost"])
async def test_decided_dispute_leaves_refills_to_the_person(buyer: Buyer, outcome: str) -> None:
    """Late and repeated statements about it switch nothing off."""
    await buyer.ready()
    shop = buyer.desk.shop
    payment = await shop.open(buyer.account_id)
    await shop.pay(payment.payment_id)
    disputed = await shop.control(f"payment_intents/{payment.payment_id}/dispute")
    await shop.control(f"disputes/{disputed['id']}/close", outcome=outcome)
    events = {
        event["type"]: event
        for event in await shop.events("payment_intent.succeeded", "charge.dispute.created", "charge.dispute.closed")
        if payment.payment_id in (event["data"]["object"]["id"], event["data"]["object"].get("payment_intent"))
    }
    await shop.deliver(events["payment_intent.succeeded"])
    await shop.deliver(events["charge.dispute.closed"])
    assert (await buyer.settings())["enabled"] is (outcome == "won")
    await buyer.set()
    await shop.deliver(events["charge.dispute.created"])
    [purchase] = await shop.purchases(buyer.account_id)
    await shop.payments.reconcile_money_back(buyer.account_id, purchase["purchase_id"], datetime.now(UTC))
    assert (await buyer.settings())["enabled"] is True


async def test_erasure_removes_the_cards_and_the_address(buyer: Buyer) -> None:
    await buyer.ready()
    shop = buyer.desk.shop
    [before] = await shop.rows("SELECT * FROM card_consents WHERE account_id = $1", buyer.account_id)
    async with shop.db.transaction() as tx:
        await erase_person(tx, buyer.account_id, datetime.now(UTC))
    await buyer.desk.work()
    [card] = await shop.rows("SELECT * FROM saved_cards WHERE account_id = $1", buyer.account_id)
    assert [card[name] for name in ("brand", "last4", "expiry_month", "expiry_year")] == [None] * 4
    assert card["removed_at"] is not None
    assert (await shop.stripe("GET", f"payment_methods/{card['provider_method_id']}"))["customer"] is None
    [consent] = await shop.rows("SELECT * FROM card_consents WHERE account_id = $1", buyer.account_id)
    assert consent == {**before, "address": None}
    [settings] = await shop.rows("SELECT * FROM refill_settings WHERE account_id = $1", buyer.account_id)
    assert (settings["enabled"], settings["off_reason"]) == (False, "closed")
