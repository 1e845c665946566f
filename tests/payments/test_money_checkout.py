"""Buying money on Stripe's page: one page per wish to buy, credited once its payment has arrived."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from app.accounts.directory import Identity, Opening, Profile
from app.configuration.sections import PLANS
from app.configuration.service import Current
from app.db.version_mark import UpgradeInProgress
from app.ledger.entries import Kind
from app.ledger.errors import AccountClosed, AccountSuspended, CurrencyMismatch, IdempotencyKeyReused
from app.ledger.money import MAX_NANOS
from app.payments.discounts import discount_percent
from app.payments.errors import CheckoutCompleted, InvalidAmount, PurchaseGivenUp, TooManyOpenPurchases
from app.payments.orders import discounted
from app.payments.service import CheckoutPage
from app.plans.document import Plan, Plans
from tests.conftest import ACTOR
from tests.payments.conftest import Shop, with_settings
from tests.payments.money_pages import (
    COMPLETED,
    DELAYED,
    EXPIRED,
    LATER_FAILED,
    LATER_PAID,
    SESSIONS,
    SUCCEEDED,
    click,
    order,
    pay,
    purchase_of,
    session,
)
from tests.support.wallets import DOLLAR

# --- opening ---


async def test_session_states_who_buys_what(shop: Shop) -> None:
    account_id = await shop.account()
    found = await session(shop, await click(shop, account_id))
    purchase = await purchase_of(shop, account_id)
    ids = {"account_id": str(account_id), "purchase_id": str(purchase["purchase_id"])}
    assert (found["mode"], found["client_reference_id"]) == ("payment", "user-1")
    assert found["metadata"] == {**ids, "user_id": "user-1", "credits_amount": "2500"}
    assert (found["amount_total"], found["currency"]) == (2500, "usd")
    assert found["adaptive_pricing"] == {"enabled": False}  # the price is what Stripe receives
    assert (found["success_url"], found["cancel_url"]) == ("https://app.example/ok", "https://app.example/no")
    assert (purchase["unit"], purchase["money_nanos"], purchase["credits"]) == ("USD", 25 * DOLLAR, 0)
    assert purchase["status"] == "requires_payment_method"


@with_settings(database_pool_size=10, database_timeout_s=30, stripe_timeout_s=30)
async def test_fifty_clicks_at_once_open_one_session(shop: Shop) -> None:
    account_id = await shop.account()
    pages = await asyncio.gather(*(click(shop, account_id) for _ in range(50)))
    assert len(set(pages)) == 1
    assert len((await shop.stripe("GET", SESSIONS))["data"]) == 1
    assert len(await shop.purchases(account_id)) == 1


async def test_clicks_with_one_key_open_one_session_and_another_amount_is_refused(shop: Shop) -> None:
    account_id = await shop.account()
    pages = await asyncio.gather(*(click(shop, account_id, idempotency_key="k") for _ in range(10)))
    assert len(set(pages)) == 1
    with pytest.raises(IdempotencyKeyReused):
        await click(shop, account_id, 2600, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        await shop.open(account_id, idempotency_key="k", caller_kind="user")
    assert (await click(shop, account_id, idempotency_key="l")) not in pages


async def test_click_gets_another_page_for_another_amount_or_address_or_after_an_hour(shop: Shop) -> None:
    account_id = await shop.account()
    wanted = [order(), order(2501), order(success_url="https://app.example/other")]
    pages = [await click(shop, account_id, order=each) for each in wanted]
    assert [await click(shop, account_id, order=each) for each in wanted] == pages
    pages.append(await click(shop, account_id, now=shop.now + timedelta(hours=1, seconds=1)))
    assert len(set(pages)) == 4


async def test_click_after_a_paid_page_opens_another(shop: Shop) -> None:
    account_id = await shop.account()
    first = await click(shop, account_id)
    await pay(shop, first)  # and no webhook has come yet
    assert await click(shop, account_id) != first
    assert await shop.money(account_id) == (25 * DOLLAR, 0)


async def test_declined_card_leaves_the_page_open(shop: Shop) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    await shop.control(f"checkout_sessions/{page.session_id}/pay", method="pm_card_chargeDeclined")
    await shop.deliver_all(("payment_intent.payment_failed",))
    assert (await purchase_of(shop, account_id))["status"] == "failed"
    assert await click(shop, account_id) == page
    await pay(shop, page)
    await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)


@pytest.mark.parametrize("method", ["pm_card_processing", "pm_oxxo"])
async def test_no_second_page_while_the_money_is_on_its_way(shop: Shop, method: str) -> None:
    account_id = await shop.account()
    await pay(shop, await click(shop, account_id), method)
    for _ in range(2):
        with pytest.raises(CheckoutCompleted):
            await click(shop, account_id)
    await click(shop, account_id, 3000)
    await click(shop, account_id, idempotency_key="once more")


async def test_key_of_an_ended_purchase_opens_nothing(shop: Shop) -> None:
    account_id = await shop.account()
    paid, expired = [await click(shop, account_id, idempotency_key=key) for key in ("paid", "expired")]
    await pay(shop, paid)
    await shop.control(f"checkout_sessions/{expired.session_id}/expire")
    with pytest.raises(CheckoutCompleted):
        await click(shop, account_id, idempotency_key="paid")
    with pytest.raises(PurchaseGivenUp):
        await click(shop, account_id, idempotency_key="expired")
    assert await shop.money(account_id) == (25 * DOLLAR, 0)  # the answer booked it


@with_settings(max_open_purchases=2)
async def test_open_pages_and_open_packs_count_together(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.open(account_id)
    await click(shop, account_id)
    with pytest.raises(TooManyOpenPurchases):
        await click(shop, account_id, 3000)


async def test_money_is_in_the_currency_of_the_account(shop: Shop) -> None:
    identity = Identity("live", "oauth:google", "euros@example.com")
    account_id, _ = await shop.billing.accounts.directory.find_or_create(
        identity, ACTOR, shop.now, Opening(currency="EUR"), Profile()
    )
    with pytest.raises(CurrencyMismatch):
        await click(shop, account_id)
    page = await click(shop, account_id, order=order(2500, "amount_minor"))
    assert (await session(shop, page))["currency"] == "eur"
    await pay(shop, page)
    await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
    assert (await purchase_of(shop, account_id))["unit"] == "EUR"


@pytest.mark.parametrize("minor", [-1, 0, 499, 100_001, 2**63])
async def test_amount_out_of_bounds_is_refused(shop: Shop, minor: int) -> None:
    account_id = await shop.account()
    with pytest.raises(InvalidAmount):
        await click(shop, account_id, order=order(minor, "amount_minor"))
    assert await shop.purchases(account_id) == []


async def test_closed_and_suspended_accounts_buy_nothing(shop: Shop) -> None:
    suspended, closed = await shop.account(), await shop.account()
    await shop.billing.accounts.set_status(suspended, "suspended", "fraud", shop.now)
    await shop.billing.accounts.set_status(closed, "closed", None, shop.now)
    for account_id, refusal in ((suspended, AccountSuspended), (closed, AccountClosed)):
        with pytest.raises(refusal):
            await click(shop, account_id)


async def test_nothing_is_sold_while_an_older_version_may_run(shop: Shop) -> None:
    await shop.execute(
        "COMMENT ON TABLE alembic_version IS 'This schema works with versions of the service that know revision 0035.'"
    )
    account_id = await shop.account()
    with pytest.raises(UpgradeInProgress):
        await click(shop, account_id)
    assert await shop.purchases(account_id) == []


# --- discounts ---


@pytest.mark.parametrize(("plan", "percent"), [("free", "0"), ("gold", "12.5"), ("standard", "0")])
def test_the_discount_is_the_one_of_the_plan_in_the_configuration(plan: str, percent: str) -> None:
    plans = Plans(
        plans=[Plan(name="free", title="Free"), Plan(name="gold", title="G", purchase_discount_percent="12.5")]
    )
    current = Current(changes=0, documents={PLANS.name: plans}, packs={}, products={}, providers={})
    assert discount_percent(current, plan) == Decimal(percent)


@pytest.mark.parametrize(
    ("minor", "percent", "currency", "price"),
    [
        (2500, "0", "USD", 2500),
        (2500, "10", "USD", 2250),
        (2505, "10", "USD", 2254),  # 2254.5, in the buyer's favor
        (2500, "12.5", "USD", 2187),
        (2500, "20", "USD", 2000),
        (2500, "99", "USD", 25),
        (2505, "10", "KWD", 2250),  # Stripe accepts multiples of ten
        (501, "10", "JPY", 450),
    ],
)
def test_discount_lowers_the_price(minor: int, percent: str, currency: str, price: int) -> None:
    assert discounted(minor, Decimal(percent), currency) == price


@with_settings(default_plan_name="pro")
async def test_plan_lowers_the_price_and_not_the_money(shop: Shop) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    assert (await session(shop, page))["amount_total"] == 2000
    await pay(shop, page)
    await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
    purchase = await purchase_of(shop, account_id)
    assert (purchase["amount_minor"], purchase["received_minor"], purchase["discount_percent"]) == (2000, 2000, 20)
    await shop.refund(purchase["payment_intent_id"], 500)  # a quarter of the price is a quarter of the money
    await shop.deliver_all(("charge.refunded",))
    assert await shop.money(account_id) == (25 * DOLLAR * 3 // 4, 0)


# --- events ---


@pytest.mark.parametrize("kind", [COMPLETED, SUCCEEDED])
async def test_either_event_credits_and_both_credit_once(shop: Shop, kind: str) -> None:
    account_id = await shop.account()
    await pay(shop, await click(shop, account_id))
    await shop.deliver_all((kind,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
    await shop.deliver_all((COMPLETED, SUCCEEDED, "charge.succeeded"))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
    purchase = await purchase_of(shop, account_id)
    assert purchase["status"] == "succeeded"
    assert purchase["card_last4"] == "4242"
    assert purchase["receipt_url"].startswith(f"{shop.local.url}/receipts/ch_")
    [credit] = await shop.rows("SELECT * FROM money_credits")
    assert (credit["transaction_type"], credit["external_transaction_id"]) == (
        "purchase",
        purchase["payment_intent_id"],
    )
    assert credit["description"] == "Purchase of 25.00 USD"


@pytest.mark.parametrize("method", DELAYED)
async def test_delayed_money_counts_when_it_arrives(shop: Shop, method: str) -> None:
    account_id = await shop.account()
    payment_id = await pay(shop, await click(shop, account_id), method)
    await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (0, 0)
    await shop.control(f"payment_intents/{payment_id}/succeed")
    await shop.deliver_all((LATER_PAID,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)


async def test_delayed_money_that_fails_ends_the_purchase(shop: Shop) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    payment_id = await pay(shop, page, "pm_card_processing")
    await shop.control(f"payment_intents/{payment_id}/fail")
    await shop.deliver_all((COMPLETED, LATER_FAILED))
    assert (await purchase_of(shop, account_id))["status"] == "canceled"
    assert await click(shop, account_id) != page


async def test_expired_page_ends_the_purchase(shop: Shop) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    await shop.control(f"checkout_sessions/{page.session_id}/expire")
    await shop.deliver_all((EXPIRED,))
    assert (await purchase_of(shop, account_id))["status"] == "canceled"
    assert await click(shop, account_id) != page


async def test_sessions_of_others_in_the_same_stripe_account_are_ignored(shop: Shop) -> None:
    price = {"line_items[0][price_data][currency]": "usd", "line_items[0][price_data][unit_amount]": "2500"}
    name = {"line_items[0][price_data][product_data][name]": "Something else"}
    made = await shop.stripe("POST", SESSIONS, mode="payment", success_url="https://x.example", **price, **name)
    await pay(shop, CheckoutPage(made["id"], made["url"]))
    await shop.deliver_all((COMPLETED, SUCCEEDED))
    assert set((await shop.inbox()).values()) == {"ignored"}


async def test_money_without_room_waits_for_review(shop: Shop) -> None:
    account_id = await shop.account()
    await pay(shop, await click(shop, account_id))
    wallet = shop.app.state.wallet
    await wallet.credit_money(account_id, MAX_NANOS, Kind.BONUS, currency=None, actor=ACTOR, now=shop.now)
    await shop.deliver_all((COMPLETED, SUCCEEDED))
    purchase = await purchase_of(shop, account_id)
    assert (purchase["status"], purchase["review_reason"]) == ("unknown", "balance_limit")
    assert await shop.money(account_id) == (MAX_NANOS, 0)


async def test_wrong_amount_waits_for_review(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = await pay(shop, await click(shop, account_id), "pm_card_authenticationRequired")
    await shop.control(f"payment_intents/{payment_id}/succeed", amount_received=2499)
    await shop.deliver_all((COMPLETED, SUCCEEDED))
    purchase = await purchase_of(shop, account_id)
    assert (purchase["status"], purchase["review_reason"]) == ("unknown", "amount_mismatch")
    assert await shop.money(account_id) == (0, 0)
