"""Bought money after lost events, crashes and closings: it is credited once, or goes back."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.accounts.erasure import forget_texts
from app.payments.erasure import TEXTS
from app.payments.errors import PaymentProviderUnavailable, PurchaseRejected
from app.payments.service import CheckoutPage
from tests.payments.conftest import Shop
from tests.payments.money_pages import COMPLETED, LATER_PAID, SESSIONS, click, pay, purchase_of, session
from tests.payments.test_closed_accounts import close, erase, run_jobs
from tests.payments.test_reconcile import forget_the_event_log
from tests.support.wallets import DOLLAR


@pytest.mark.parametrize("without", ["events", "list of payments"])
async def test_lost_webhooks_of_a_paid_page_are_found(shop: Shop, without: str) -> None:
    account_id = await shop.account()
    await pay(shop, await click(shop, account_id))
    if without == "events":
        await forget_the_event_log(shop)
    assert (await shop.payments.reconcile(shop.now + timedelta(minutes=1)))["failed"] == 0
    assert await shop.money(account_id) == (25 * DOLLAR, 0)


async def test_stuck_page_is_asked_about(shop: Shop) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    payment_id = await pay(shop, page, "pm_card_processing")
    await shop.deliver_all((COMPLETED,))
    purchase = await purchase_of(shop, account_id)
    days_later = shop.now + timedelta(days=5)
    assert not await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], days_later)
    assert (await purchase_of(shop, account_id))["status"] == "processing"
    await shop.control(f"payment_intents/{payment_id}/succeed")
    assert await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], days_later)
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
    assert (await purchase_of(shop, account_id))["card_last4"] == "0077"


async def test_abandoned_page_is_closed_after_a_day(shop: Shop) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    assert (await shop.payments.reconcile(shop.now + timedelta(hours=25)))["failed"] == 0
    assert (await session(shop, page))["status"] == "expired"
    assert (await purchase_of(shop, account_id))["status"] == "canceled"


@pytest.mark.parametrize("end", [close, erase])
async def test_page_of_a_closed_account_is_closed_and_late_money_goes_back(shop: Shop, end: Any) -> None:
    open_page, delayed = await shop.account(), await shop.account()
    page = await click(shop, open_page)
    payment_id = await pay(shop, await click(shop, delayed), "pm_card_processing")
    for account_id in (open_page, delayed):
        await end(shop, account_id)
    await run_jobs(shop.settings)
    assert (await session(shop, page))["status"] == "expired"
    await shop.control(f"payment_intents/{payment_id}/succeed")
    await shop.deliver_all((LATER_PAID,))
    await run_jobs(shop.settings)
    assert await shop.money(delayed) == (0, 0)
    purchase = await purchase_of(shop, delayed)
    assert (purchase["status"], purchase["refunded_minor"]) == ("canceled", 2500)


async def test_unopened_page_of_an_erased_person_is_given_up(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", path=f"/v1/{SESSIONS}", status=None, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await click(shop, account_id)
    await erase(shop, account_id)
    await forget_texts(shop.db, account_id, [TEXTS])
    await shop.payments.settle_purchases(account_id, shop.now)
    assert (await purchase_of(shop, account_id))["status"] == "canceled"
    assert (await shop.stripe("GET", SESSIONS))["data"] == []


async def test_lost_page_is_noted_by_its_job_and_books_when_paid(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", path=f"/v1/{SESSIONS}", status=None, times=3, after=True)
    with pytest.raises(PaymentProviderUnavailable):
        await click(shop, account_id)
    [job] = await shop.jobs("reconcile_purchase")
    await shop.payments.reconcile_purchase(account_id, UUID(job["purchase_id"]), shop.now + timedelta(minutes=10))
    [made] = (await shop.stripe("GET", SESSIONS))["data"]
    assert (await purchase_of(shop, account_id))["checkout_session_id"] == made["id"]
    assert await click(shop, account_id) == CheckoutPage(made["id"], made["url"])


async def test_payment_of_a_page_that_was_never_noted_is_booked(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", path=f"/v1/{SESSIONS}", status=None, times=3, after=True)
    with pytest.raises(PaymentProviderUnavailable):
        await click(shop, account_id)
    [made] = (await shop.stripe("GET", SESSIONS))["data"]
    await pay(shop, CheckoutPage(made["id"], made["url"]))
    await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)


async def test_failing_stripe_is_asked_again_with_another_key(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", path=f"/v1/{SESSIONS}", status=500, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await click(shop, account_id)
    await click(shop, account_id)
    assert len((await shop.stripe("GET", SESSIONS))["data"]) == 1


async def test_rejected_page_ends_the_purchase(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", path=f"/v1/{SESSIONS}", status=400)
    with pytest.raises(PurchaseRejected):
        await click(shop, account_id)
    assert (await purchase_of(shop, account_id))["status"] == "canceled"
    await click(shop, account_id)


@pytest.fixture
async def failing_commits(shop: Shop) -> None:
    """Every commit that books money fails, as if the process had died before it."""
    await shop.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON money_credits DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()
        """
    )


async def test_failed_commit_leaves_nothing_and_the_repeated_event_everything(
    shop: Shop, failing_commits: None
) -> None:
    account_id = await shop.account()
    await pay(shop, await click(shop, account_id))
    with pytest.raises(Exception, match="refused"):
        await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (0, 0)
    assert await shop.inbox() == {}
    await shop.execute("DROP TRIGGER refuse ON money_credits")
    await shop.deliver_all((COMPLETED,))
    assert await shop.money(account_id) == (25 * DOLLAR, 0)
