"""Money back from the back office, through the local Stripe."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.payments.queries import find_unsettled
from tests.admin.shops import open_shop, sign_in
from tests.databases import Urls
from tests.payments.conftest import Shop


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(own_database) as shop:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "admin") as client:
        yield client


def refund(key: str, amount_minor: int | None = None) -> dict[str, object]:
    return {"idempotency_key": key, "amount_minor": amount_minor, "reason": "unhappy"}


async def test_refunds_take_the_credits_in_proportion_and_each_key_once(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [listed] = (await admin.get("/admin/purchases", params={"status": "succeeded"})).json()["purchases"]
    path = f"/admin/purchases/{listed['purchase_id']}"
    for _ in range(2):
        part = await admin.post(f"{path}/refund", json=refund("a", 125))
        assert (part.json()["refunded_minor"], part.json()["credits_refunded"]) == (125, 5)
    too_much = await admin.post(f"{path}/refund", json=refund("b", 400))
    assert (too_much.status_code, too_much.json()["code"]) == (409, "refund_refused")
    rest = await admin.post(f"{path}/refund", json=refund("c"))
    assert (rest.json()["refunded_minor"], rest.json()["credits_refunded"]) == (500, 20)
    await shop.deliver_all(("charge.refunded",))  # which tells nothing new
    assert await shop.balances(account_id) == (0, 0)
    detail = (await admin.get(path)).json()
    kinds = sorted(event["type"] for event in detail["events"])  # received in one moment: their order says nothing
    assert kinds == ["charge.refunded"] * 2 + ["payment_intent.succeeded"]
    for view in ("paid_not_credited", "refunded_but_credited", "for_review"):
        assert (await admin.get("/admin/purchases", params={"view": view})).json()["purchases"] == []


async def test_refund_is_in_the_audit_log_even_when_stripe_is_away(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [purchase] = await shop.purchases(account_id)
    path = f"/admin/purchases/{purchase['purchase_id']}/refund"
    await shop.control("failures", path="/v1/refunds", status=None, times=3)
    away = await admin.post(path, json=refund("k"))
    assert (away.status_code, "Retry-After" in away.headers) == (503, True)
    assert (await admin.post(path, json=refund("k"))).json()["refunded_minor"] == 500
    rows = await shop.rows("SELECT * FROM admin_audit_log WHERE action = 'purchase.refund'")
    assert [row["reason"] for row in rows] == ["unhappy", "unhappy"]  # one row per request, with the requested values
    assert await shop.balances(account_id) == (0, 0)


async def test_payment_that_no_webhook_told_is_seen_and_booked_by_hand(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    [purchase] = await shop.purchases(account_id)
    answer = await admin.post(f"/admin/purchases/{purchase['purchase_id']}/reconcile")
    assert (answer.json()["booked"], answer.json()["purchase"]["credited"]) == (True, True)
    assert await shop.balances(account_id) == (20, 0)


async def test_money_that_did_not_arrive_as_agreed_is_shown_for_review(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    [event] = await shop.events("payment_intent.succeeded")
    event["data"]["object"]["amount_received"] = 1
    await shop.deliver(event)
    for view in ("for_review", "paid_not_credited"):
        [shown] = (await admin.get("/admin/purchases", params={"view": view})).json()["purchases"]
        assert (shown["status"], shown["review_reason"]) == ("unknown", "amount_mismatch")
    system = (await admin.get("/admin/system")).json()
    assert (system["paid_but_not_credited"], system["for_review"]) == (1, 1)


async def test_a_refund_settles_what_did_not_arrive_as_agreed(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.control(f"payment_intents/{payment_id}/succeed", amount_received=300)
    await shop.deliver_all(("payment_intent.succeeded",))
    [waiting] = (await admin.get("/admin/purchases", params={"view": "paid_not_credited"})).json()["purchases"]
    path = f"/admin/purchases/{waiting['purchase_id']}"
    reconciled = (await admin.post(f"{path}/reconcile")).json()
    assert (reconciled["booked"], reconciled["purchase"]["credited"]) == (True, False)
    part = (await admin.post(f"{path}/refund", json=refund("a", 100))).json()
    assert (part["status"], part["review_reason"]) == ("unknown", "amount_mismatch")
    rest = (await admin.post(f"{path}/refund", json=refund("b"))).json()
    assert (rest["status"], rest["review_reason"], rest["refunded_minor"]) == ("canceled", None, 300)
    await shop.deliver_all(("payment_intent.succeeded", "charge.refunded"))  # again, and late
    for view in ("for_review", "paid_not_credited"):
        assert (await admin.get("/admin/purchases", params={"view": view})).json()["purchases"] == []
    system = (await admin.get("/admin/system")).json()
    assert (system["paid_but_not_credited"], system["for_review"]) == (0, 0)
    assert (await find_unsettled(shop.db))["not_credited"] == 0
    assert await shop.balances(account_id) == (0, 0)
