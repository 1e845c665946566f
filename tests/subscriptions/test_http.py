"""`/v1/subscriptions` and `/api/subscriptions` over HTTP, with the local Stripe that calls back."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from app.subscriptions import refreshing
from tests.neighbours.strict import z_error
from tests.subscriptions.store import CHANGE, CHECKOUT, ME, Buyer
from tests.support.invalid_requests import NASTY_VALUES


async def test_user_subscribes_and_has_the_plan_and_its_money(buyer: Buyer) -> None:
    assert await buyer.me() == {
        **dict.fromkeys(("current_period_end", "status", "interval", "cancel_at", "next_plan", "grace_ends_at")),
        "plan": "free",
        "is_subscribed": False,
        "monthly_credits": 0,
    }
    await buyer.subscribe()
    me = await buyer.me()
    assert (me["plan"], me["is_subscribed"], me["monthly_credits"]) == ("standard", True, 2500)
    assert (me["status"], me["interval"]) == ("active", "month")
    assert 28 <= (datetime.fromisoformat(me["current_period_end"]) - buyer.store.now).days <= 31
    assert await buyer.balance() == ("standard", 2500)
    history = (await buyer.client.get("/v1/credits/transactions")).json()["transactions"]
    assert [(row["transaction_type"], row["amount_cents"]) for row in history] == [("subscriptiongrant", 2500)]
    assert (await buyer.client.get("/v1/accounts/me")).json()["lifetime_purchased_cents"] == 2500


async def test_missing_account_is_created(open_buyer: Callable[[], Buyer]) -> None:
    buyer = open_buyer()
    await buyer.subscribe("pro")
    assert await buyer.balance() == ("pro", 6000)


async def test_user_who_returns_before_the_events_sees_the_subscription(buyer: Buyer) -> None:
    page = (await buyer.client.post(CHECKOUT, json={"plan": "standard"})).json()
    await buyer.store.control("webhooks", hold=True)
    await buyer.store.control(f"checkout_sessions/{page['session_id']}/pay", method="pm_card_visa")
    assert (await buyer.me())["plan"] == "standard"
    assert await buyer.balance() == ("standard", 2500)
    await buyer.store.control("webhooks/release", reverse=True)
    await buyer.store.delivered()
    assert await buyer.balance() == ("standard", 2500)


async def test_lost_events_are_caught_up_by_the_worker(buyer: Buyer) -> None:
    page = (await buyer.client.post(CHECKOUT, json={"plan": "standard"})).json()
    await buyer.store.control("webhooks", drop=50)
    await buyer.store.pay(page)
    await buyer.store.control("webhooks")
    assert await buyer.balance() == ("free", 0)
    await buyer.store.worker.payments.reconcile(buyer.store.now)
    assert await buyer.balance() == ("standard", 2500)


async def test_clicks_get_one_page_and_another_wish_closes_it(buyer: Buyer) -> None:
    pages = await asyncio.gather(*(buyer.client.post(CHECKOUT, json={"plan": "standard"}) for _ in range(8)))
    assert {page.status_code for page in pages} == {200}
    assert len({page.json()["url"] for page in pages}) == 1
    other = (await buyer.client.post(CHECKOUT, json={"plan": "pro"})).json()
    closed = await buyer.store.stripe("GET", f"checkout/sessions/{pages[0].json()['session_id']}")
    assert closed["status"] == "expired"
    await buyer.store.pay(other)
    assert await buyer.balance() == ("pro", 6000)
    again = await buyer.client.post(CHECKOUT, json={"plan": "pro"})
    assert (again.status_code, again.json()["code"]) == (409, "already_subscribed")
    assert len(await buyer.store.rows("SELECT FROM subscriptions WHERE account_id = $1", await buyer.account_id())) == 1


async def test_addresses_are_of_allowed_apps_only(buyer: Buyer) -> None:
    for path, body in (
        (CHECKOUT, {"plan": "standard", "success_url": "https://evil.example/"}),
        (CHECKOUT, {"plan": "standard", "cancel_url": "javascript:alert(1)"}),
        ("/v1/subscriptions/portal", {"return_url": "https://app.example.evil.example/"}),
    ):
        refused = await buyer.client.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (400, "return_url_not_allowed")


@pytest.mark.parametrize(
    ("body", "code"),
    [({"plan": "gold"}, "unknown_plan"), ({"plan": "old"}, "unknown_plan"), ({"plan": "free"}, "plan_not_sold")],
)
async def test_plans_that_are_not_for_sale(buyer: Buyer, body: dict[str, Any], code: str) -> None:
    refused = await buyer.client.post(CHECKOUT, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    z_error(refused)


async def test_portal_opens_for_the_accounts_customer(buyer: Buyer) -> None:
    opened = await buyer.client.post("/v1/subscriptions/portal")
    assert opened.status_code == 200, opened.text
    assert opened.json()["url"].startswith(buyer.store.local.url)


# --- the passage of time ---


async def test_renewals_grant_each_month_and_the_end_restores_the_plan(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id = await buyer.account_id()
    for month in range(2, 5):
        await buyer.store.pass_days(account_id, 31)
        await buyer.store.pass_days(account_id, 1)
        assert await buyer.balance() == ("standard", 2500 * month)
    canceled = (await buyer.client.post("/v1/subscriptions/cancel")).json()
    assert canceled["cancel_at"] == canceled["current_period_end"]
    resumed = (await buyer.client.post("/v1/subscriptions/resume")).json()
    assert (resumed["cancel_at"], resumed["is_subscribed"]) == (None, True)
    await buyer.client.post("/v1/subscriptions/cancel")
    assert (await buyer.balance())[0] == "standard"
    await buyer.store.pass_days(account_id, 32)
    assert await buyer.balance() == ("free", 10_000)
    gone = await buyer.client.post("/v1/subscriptions/resume")
    assert (gone.status_code, gone.json()["code"]) == (404, "no_subscription")
    await buyer.subscribe("pro")
    assert await buyer.balance() == ("pro", 16_000)


async def test_yearly_plan_grants_each_month(buyer: Buyer) -> None:
    await buyer.subscribe("standard", "year")
    account_id = await buyer.account_id()
    for month in range(2, 15):
        await buyer.store.pass_days(account_id, 31)
        assert await buyer.balance() == ("standard", 2500 * month)
    assert len(await buyer.store.rows("SELECT FROM subscription_invoices WHERE account_id = $1", account_id)) == 2


async def test_unpaid_renewal_keeps_the_plan_for_the_grace_period_only(buyer: Buyer) -> None:
    await buyer.store.control("billing", retry_days=[3, 12], after_retries="past_due")
    await buyer.subscribe()
    account_id = await buyer.account_id()
    customer_id = await buyer.store.customer_of(account_id)
    bad = await buyer.store.stripe("POST", "payment_methods/pm_card_chargeCustomerFail/attach", customer=customer_id)
    [row] = await buyer.store.rows("SELECT subscription_id FROM subscriptions WHERE account_id = $1", account_id)
    subscription = f"subscriptions/{row['subscription_id']}"
    await buyer.store.stripe("POST", subscription, default_payment_method=bad["id"])
    await buyer.store.pass_days(account_id, 32)
    me = await buyer.me()
    assert (me["status"], me["is_subscribed"], me["plan"]) == ("past_due", True, "standard")
    assert me["grace_ends_at"] is not None
    await buyer.store.pass_days(account_id, 9)
    assert await buyer.balance() == ("free", 2500)
    refused = await buyer.person.post(CHANGE, json={"plan": "pro"})
    assert (refused.status_code, refused.json()["code"]) == (409, "change_not_possible")
    good = await buyer.store.stripe("POST", "payment_methods/pm_card_visa/attach", customer=customer_id)
    await buyer.store.stripe("POST", subscription, default_payment_method=good["id"])
    await buyer.store.pass_days(account_id, 8)
    assert await buyer.balance() == ("standard", 5000)


# --- changes ---


async def test_refund_takes_the_grant_back(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id = await buyer.account_id()
    [row] = await buyer.store.rows(
        "SELECT payment_ids->>0 AS id FROM subscription_invoices WHERE account_id = $1", account_id
    )
    await buyer.store.stripe("POST", "refunds", payment_intent=row["id"], amount=1000)
    await buyer.store.delivered()
    assert await buyer.balance() == ("standard", 1250)


async def test_closing_ends_the_subscription_and_erasure_the_customer(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id = await buyer.account_id()
    accounts = buyer.store.worker.billing.accounts
    await accounts.set_status(account_id, "closed", None, buyer.store.now)
    await buyer.store.worker.subscriptions.refresher.account_changed(account_id, buyer.store.now)
    [row] = await buyer.store.rows(
        "SELECT subscription_id, status FROM subscriptions WHERE account_id = $1", account_id
    )
    assert row["status"] == "canceled"
    assert (await buyer.store.stripe("GET", f"subscriptions/{row['subscription_id']}"))["status"] == "canceled"
    await buyer.store.rows("UPDATE accounts SET erased_at = now() WHERE account_id = $1", account_id)
    for _ in range(2):
        await buyer.store.worker.subscriptions.refresher.account_changed(account_id, buyer.store.now)
    customer = await buyer.store.stripe("GET", f"customers/{await buyer.store.customer_of(account_id)}")
    assert customer["deleted"] is True


async def test_deleting_the_account_ends_the_subscription_and_the_customer(buyer: Buyer) -> None:
    await buyer.subscribe()
    account_id, store = await buyer.account_id(), buyer.store
    customer_id = await store.customer_of(account_id)
    deleted = await buyer.person.delete("/v1/accounts/me")
    assert (deleted.status_code, deleted.json()) == (200, {"deleted": True})
    jobs = "SELECT 1 FROM procrastinate_jobs WHERE task_name = 'settle_purchases' AND args ->> 'account_id' = $1"
    assert len(await store.rows(jobs, str(account_id))) == 1
    await store.worker.subscriptions.refresher.account_changed(account_id, store.now)
    [row] = await store.rows("SELECT subscription_id, status FROM subscriptions WHERE account_id = $1", account_id)
    assert row["status"] == "canceled"
    assert (await store.stripe("GET", f"subscriptions/{row['subscription_id']}"))["status"] == "canceled"
    assert (await store.stripe("GET", f"customers/{customer_id}"))["deleted"] is True


async def test_payment_that_arrives_for_a_closed_account_goes_back(buyer: Buyer) -> None:
    page = (await buyer.client.post(CHECKOUT, json={"plan": "standard"})).json()
    account_id = await buyer.account_id()
    await buyer.store.worker.billing.accounts.set_status(account_id, "closed", None, buyer.store.now)
    await buyer.store.pay(page)
    [row] = await buyer.store.rows("SELECT subscription_id FROM subscriptions WHERE account_id = $1", account_id)
    for _ in range(2):
        refresher = buyer.store.worker.subscriptions.refresher
        await refresher.refresh("live", account_id, row["subscription_id"], buyer.store.now)
    await buyer.store.delivered()
    [invoice] = await buyer.store.rows(
        "SELECT refunded_minor FROM subscription_invoices WHERE account_id = $1", account_id
    )
    assert invoice["refunded_minor"] == 2000
    assert await buyer.store.rows("SELECT FROM period_grants WHERE account_id = $1", account_id) == []


async def test_closing_keeps_the_payments_of_a_plan_that_grants_nothing(buyer: Buyer) -> None:
    await buyer.subscribe("calm")
    account_id = await buyer.account_id()
    assert await buyer.balance() == ("calm", 0)
    await buyer.store.worker.billing.accounts.set_status(account_id, "closed", None, buyer.store.now)
    await buyer.store.worker.subscriptions.refresher.account_changed(account_id, buyer.store.now)
    await buyer.store.delivered()
    [invoice] = await buyer.store.rows(
        "SELECT amount_paid_minor, refunded_minor FROM subscription_invoices WHERE account_id = $1", account_id
    )
    assert (invoice["amount_paid_minor"], invoice["refunded_minor"]) == (1000, 0)


async def test_erasure_deletes_the_customer_of_a_person_without_a_subscription(buyer: Buyer) -> None:
    assert (await buyer.client.post("/v1/subscriptions/portal")).status_code == 200
    account_id = await buyer.account_id()
    await buyer.store.rows("UPDATE accounts SET status = 'closed', erased_at = now() WHERE account_id = $1", account_id)
    await buyer.store.worker.subscriptions.refresher.account_changed(account_id, buyer.store.now)
    customer = await buyer.store.stripe("GET", f"customers/{await buyer.store.customer_of(account_id)}")
    assert customer["deleted"] is True


# --- orders and subscriptions that the provider does not answer for ---


async def test_page_of_a_day_ago_is_closed_before_another_is_opened(buyer: Buyer) -> None:
    first = (await buyer.client.post(CHECKOUT, json={"plan": "standard"})).json()
    buyer.store.ahead = timedelta(hours=23, minutes=30)
    second = (await buyer.client.post(CHECKOUT, json={"plan": "standard"})).json()
    assert second["session_id"] != first["session_id"]
    assert (await buyer.store.stripe("GET", f"checkout/sessions/{first['session_id']}"))["status"] == "expired"


async def test_order_of_a_subscription_that_the_provider_lacks_ends(buyer: Buyer) -> None:
    await buyer.client.post("/api/subscriptions/zero-pro", json={"paymentMethodId": "pm_card_visa"})
    account_id = await buyer.account_id()
    await buyer.store.rows(
        "UPDATE subscription_orders SET subscription_id = 'sub_of_other_keys' WHERE account_id = $1", account_id
    )
    [order] = await buyer.store.rows("SELECT * FROM subscription_orders WHERE account_id = $1", account_id)
    refresher = buyer.store.worker.subscriptions.refresher
    assert not await refresher.look_at_order(order, order["created_at"] + timedelta(hours=1))
    assert await refresher.look_at_order(order, order["created_at"] + timedelta(hours=26))
    await buyer.subscribe("standard")


async def test_subscription_that_cannot_be_refreshed_does_not_keep_others_from_their_turn(
    open_buyer: Callable[[], Buyer], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = open_buyer(), open_buyer()
    for year, buyer in enumerate((first, second), 2000):
        await buyer.subscribe()
        await buyer.store.rows(
            "UPDATE subscriptions SET due_at = make_timestamptz($2, 1, 1, 0, 0, 0) WHERE account_id = $1",
            await buyer.account_id(),
            year,
        )
    await first.store.rows(  # the operator has removed the keys of this environment
        "UPDATE subscriptions SET environment = 'test' WHERE account_id = $1", await first.account_id()
    )
    monkeypatch.setattr(refreshing, "AT_ONCE", 1)
    for _ in range(2):
        await first.store.worker.subscriptions.refresher.look_at_due(first.store.now)
    for buyer in (first, second):
        [row] = await buyer.store.rows(
            "SELECT due_at FROM subscriptions WHERE account_id = $1", await buyer.account_id()
        )
        assert row["due_at"] > buyer.store.now


# --- the zOS web app ---


async def test_zero_pro_is_paid_in_the_apps_own_page(open_buyer: Callable[[], Buyer]) -> None:
    buyer = open_buyer()
    assert (await buyer.client.get("/api/subscriptions/status?type=ZERO")).json() == {"subscription": None}
    body = {"billingDetails": {"email": "ada@example.com", "name": "Ada"}, "paymentMethodId": "pm_card_visa"}
    first = await buyer.client.post("/api/subscriptions/zero-pro", json=body)
    assert first.status_code == 200, first.text
    begun = first.json()
    assert begun["status"] == "incomplete"
    assert await buyer.balance() == ("free", 0)
    again = (await buyer.client.post("/api/subscriptions/zero-pro", json=body)).json()
    assert again == begun
    assert (await buyer.client.get("/api/subscriptions/status")).json() == {"subscription": None}
    payment_id = begun["clientSecret"].partition("_secret_")[0]
    await buyer.store.stripe("POST", f"payment_intents/{payment_id}/confirm", payment_method="pm_card_visa")
    await buyer.store.delivered()
    assert await buyer.balance() == ("pro", 6000)
    shown = (await buyer.client.get("/api/subscriptions/status")).json()["subscription"]
    assert (shown["status"], shown["type"], shown["stripeSubscriptionId"]) == (
        "active",
        "ZERO",
        begun["subscriptionId"],
    )
    assert (await buyer.client.post("/api/subscriptions/cancel")).json() == {"cancelled": True}
    assert (await buyer.me())["cancel_at"] is not None
    await buyer.store.pass_days(await buyer.account_id(), 32)
    assert (await buyer.client.get("/api/subscriptions/status")).json()["subscription"]["status"] == "cancelled"


async def test_subscription_whose_payment_has_just_arrived_is_not_ended_for_another_wish(buyer: Buyer) -> None:
    begun = (await buyer.client.post("/api/subscriptions/zero-pro", json={"paymentMethodId": "pm_card_visa"})).json()
    await buyer.store.delivered()
    await buyer.store.control("webhooks", hold=True)
    payment_id = begun["clientSecret"].partition("_secret_")[0]
    await buyer.store.stripe("POST", f"payment_intents/{payment_id}/confirm", payment_method="pm_card_visa")
    refused = await buyer.client.post(CHECKOUT, json={"plan": "standard"})
    await buyer.store.control("webhooks/release")
    await buyer.store.delivered()
    assert (refused.status_code, refused.json()["code"]) == (409, "already_subscribed")
    assert await buyer.balance() == ("pro", 6000)


async def test_abandoned_card_payment_does_not_block_the_page(buyer: Buyer) -> None:
    body = {"paymentMethodId": "pm_card_visa"}
    begun = (await buyer.client.post("/api/subscriptions/zero-pro", json=body)).json()
    await buyer.subscribe("standard")
    assert await buyer.balance() == ("standard", 2500)
    ended = await buyer.store.stripe("GET", f"subscriptions/{begun['subscriptionId']}")
    assert ended["status"] in ("incomplete_expired", "canceled")


# --- hostile callers ---


@pytest.mark.parametrize("path", [CHECKOUT, CHANGE, "/v1/subscriptions/portal", "/api/subscriptions/zero-pro"])
async def test_no_body_is_a_server_error(buyer: Buyer, path: str) -> None:
    for value in NASTY_VALUES:
        for name in (
            "plan",
            "interval",
            "success_url",
            "return_url",
            "prorated_at",
            "paymentMethodId",
            "billingDetails",
        ):
            answer = await buyer.person.post(path, json={"plan": "standard", "preview": True, name: value})
            assert answer.status_code < 500, (name, value, answer.text)


async def test_users_reach_their_own_subscription_only(open_buyer: Callable[[], Buyer]) -> None:
    one, other = open_buyer(), open_buyer()
    await one.subscribe()
    for path in ("cancel", "resume", "change"):
        refused = await other.person.post(f"/v1/subscriptions/{path}", json={"plan": "pro"})
        assert refused.status_code == 404
    assert (await httpx.AsyncClient(base_url=one.store.desk.url).get(ME)).status_code == 401
    assert (await one.me())["cancel_at"] is None
