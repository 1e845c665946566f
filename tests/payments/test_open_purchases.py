"""Open purchases: their number, their time, and the one that a second click gets."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
import stripe

from app.demo.stripe.cards import VOUCHERS
from app.payments.errors import TooManyOpenPurchases
from app.payments.facts import DELAYED_ACTIONS, has_begun
from tests.payments.conftest import Shop, with_settings

EVENTS = ("payment_intent.requires_action", "payment_intent.processing")
PROMPT_ACTIONS = {
    "alipay_handle_redirect",
    "blik_authorize",
    "card_await_notification",
    "cashapp_handle_redirect_or_display_qr_code",
    "klarna_display_qr_code",
    "paynow_display_qr_code",
    "promptpay_display_qr_code",
    "redirect_to_url",
    "swish_handle_redirect_or_display_qr_code",
    "upi_handle_redirect_or_display_qr_code",
    "use_stripe_sdk",
    "wechat_pay_display_qr_code",
    "wechat_pay_redirect_to_android_app",
    "wechat_pay_redirect_to_ios_app",
}
"""Actions that a buyer completes within minutes, or not at all."""


def test_every_next_action_that_stripe_knows_is_prompt_or_delayed() -> None:
    known = set(stripe.PaymentIntent.NextAction.__annotations__) - {"type"}
    assert known == PROMPT_ACTIONS | set(DELAYED_ACTIONS)
    assert set(VOUCHERS.values()) == set(DELAYED_ACTIONS)


async def begun(shop: Shop, method: str) -> tuple[UUID, str]:
    """An account whose payment was begun with `method`, and that payment."""
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.confirm(payment_id, method)
    return account_id, payment_id


async def test_payments_that_take_days_are_neither_canceled_nor_begun_again(shop: Shop) -> None:
    methods = {method: await begun(shop, method) for method in (*VOUCHERS, "pm_card_processing")}
    await shop.deliver_all(EVENTS)
    for age in (timedelta(hours=2), timedelta(days=29)):
        now = shop.now + age
        assert (await shop.payments.reconcile(now))["failed"] == 0
        for method, (account_id, payment_id) in methods.items():
            again = await shop.payments.open_purchase("live", account_id, now=now)
            polled = await shop.payments.payment("live", payment_id, now)
            assert again.payment_id == payment_id
            assert again.status == polled.status == ("requires_action" if method in VOUCHERS else "processing")
    for account_id, payment_id in methods.values():
        assert (await shop.open(account_id, pack="large")).payment_id != payment_id
        await shop.control(f"payment_intents/{payment_id}/succeed")
        await shop.payments.payment("live", payment_id, now)
        assert await shop.balances(account_id) == (20, 0)


async def test_a_begun_payment_comes_before_one_whose_next_action_is_unknown(shop: Shop) -> None:
    """The version before stores `requires_action` without the next action."""
    account_id = await shop.account()
    begun = (await shop.open(account_id)).payment_id
    later = shop.now + timedelta(hours=2)
    unknown = (await shop.payments.open_purchase("live", account_id, now=later)).payment_id
    assert unknown != begun
    await shop.confirm(begun, "pm_card_processing")
    assert (await shop.payments.payment("live", begun, later)).status == "processing"
    await shop.execute("UPDATE purchases SET status = 'requires_action' WHERE payment_intent_id = $1", unknown)
    assert (await shop.payments.open_purchase("live", account_id, now=later)).payment_id == begun


async def test_payments_that_nobody_completes_end(shop: Shop) -> None:
    """3-D Secure after a day, as the buyer does not return to it; a voucher after 30 days."""
    payments = {method: (await begun(shop, method))[1] for method in ("pm_card_authenticationRequired", "pm_boleto")}
    await shop.deliver_all(EVENTS)
    for age, open_still in (
        (timedelta(hours=23), {*payments.values()}),
        (timedelta(hours=25), {payments["pm_boleto"]}),
        (timedelta(days=30, minutes=-1), {payments["pm_boleto"]}),
        (timedelta(days=30, minutes=11), set()),
    ):
        await shop.payments.reconcile(shop.now + age)
        assert {intent["id"] for intent in await shop.intents() if intent["status"] == "requires_action"} == open_still
    assert {row["status"] for row in await shop.rows("SELECT status FROM purchases")} == {"canceled"}


async def test_voucher_that_expires_at_stripe_lets_the_next_click_buy(shop: Shop) -> None:
    account_id, payment_id = await begun(shop, "pm_oxxo")
    await shop.deliver_all(EVENTS)
    await shop.control(f"payment_intents/{payment_id}/fail")
    now = shop.now + timedelta(days=3)
    await shop.payments.payment("live", payment_id, now)
    later = await shop.payments.open_purchase("live", account_id, now=now)
    assert (later.payment_id != payment_id, later.status) == (True, "requires_payment_method")
    assert not has_begun("requires_payment_method", "oxxo_display_details")


@with_settings(max_open_purchases=3)
async def test_open_purchases_of_an_account_are_limited(shop: Shop) -> None:
    account_id, other = await shop.account(), await shop.account()
    results = await asyncio.gather(
        *(shop.open(account_id, idempotency_key=f"{i}") for i in range(12)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, TooManyOpenPurchases)]
    assert len(refused) == 9
    assert len(await shop.intents()) == len(await shop.purchases(account_id)) == 3
    opened = [result for result in results if not isinstance(result, BaseException)]
    key = (await shop.purchases(account_id))[0]["idempotency_key"]
    assert (await shop.open(account_id, idempotency_key=key)).payment_id in {p.payment_id for p in opened}
    assert (await shop.open(other)).status == "requires_payment_method"
    await shop.pay(opened[0].payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    assert (await shop.open(account_id)).status == "requires_payment_method"  # one was paid: there is room again


@with_settings(max_open_purchases=2)
@pytest.mark.parametrize("is_worker_running", [True, False])
async def test_open_purchases_that_nobody_pays_lock_nobody_out(shop: Shop, is_worker_running: bool) -> None:
    account_id = await shop.account()
    second = [await shop.open(account_id, pack=pack) for pack in ("large", "standard")][1]
    assert (
        await shop.open(account_id)
    ).payment_id == second.payment_id  # a second click gets the fresh one nevertheless
    with pytest.raises(TooManyOpenPurchases, match="pay one of them, or wait until one expires"):
        await shop.open(account_id, idempotency_key="k")
    a_day_later = shop.now + timedelta(hours=24, minutes=1)
    if is_worker_running:
        await shop.payments.reconcile(a_day_later)
        assert {intent["status"] for intent in await shop.intents()} == {"canceled"}
    later = await shop.payments.open_purchase("live", account_id, now=a_day_later, idempotency_key="k")
    assert later.status == "requires_payment_method"


@with_settings(max_open_purchases=2)
async def test_vouchers_count_as_open_and_payments_under_way_do_not(shop: Shop) -> None:
    account_id = await shop.account()
    for i, method in enumerate(("pm_oxxo", "pm_card_processing", "pm_boleto")):
        payment_id = (await shop.open(account_id, idempotency_key=f"{i}")).payment_id
        await shop.confirm(payment_id, method)
        await shop.payments.payment("live", payment_id, shop.now)
    with pytest.raises(TooManyOpenPurchases):
        await shop.payments.open_purchase("live", account_id, now=shop.now + timedelta(days=20))


@with_settings(max_open_purchases=1)
async def test_the_limit_answers_409_to_a_key(shop: Shop) -> None:
    user = {"oauth_provider": "oauth:google", "external_id": "buyer@example.com"}
    async with await shop.client() as client:
        assert (await client.post("/v1/billing/purchases", json=user)).status_code == 201
        refused = await client.post("/v1/billing/purchases", json={**user, "pack": "large"})
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_open_purchases")
        assert (await client.post("/v1/billing/purchases", json=user)).status_code == 201
