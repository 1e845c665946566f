"""Purchases of money in the back office: their unit and price, refunds in part, reports, export and erasure."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.accounts.erasure import erase_person, forget_texts
from app.payments.erasure import TEXTS
from app.verification import verify_books
from app.wallet.erasure import TEXTS as MONEY_TEXTS
from tests.admin.shops import open_shop, sign_in
from tests.databases import Urls
from tests.payments.conftest import Shop
from tests.payments.money_pages import click
from tests.support.wallets import DOLLAR

PURCHASES = "/admin/purchases"


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(own_database, default_plan_name="standard") as shop:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "admin") as client:
        yield client


@pytest.fixture
async def bought(shop: Shop) -> tuple[UUID, UUID]:
    """An account that paid 22.50 for 25 dollars, and the purchase."""
    account_id = await shop.account()
    page = await click(shop, account_id)
    await shop.control(f"checkout_sessions/{page.session_id}/pay", method="pm_card_visa")
    await shop.deliver_all(("checkout.session.completed", "charge.succeeded"))
    [purchase] = await shop.purchases(account_id)
    return account_id, purchase["purchase_id"]


async def shown(admin: httpx.AsyncClient, purchase_id: UUID) -> dict[str, Any]:
    found: dict[str, Any] = (await admin.get(f"{PURCHASES}/{purchase_id}")).json()
    return found


async def test_purchase_shows_its_money_beside_its_price(admin: httpx.AsyncClient, bought: tuple[UUID, UUID]) -> None:
    purchase = await shown(admin, bought[1])
    assert (purchase["pack"], purchase["unit"], purchase["credits"]) == ("Money", "USD", 0)
    assert (purchase["money"], purchase["amount_minor"], purchase["discount_percent"]) == ("25.000000", 2250, "10")
    assert (purchase["credited"], purchase["state"], purchase["card_last4"]) == (True, "succeeded", "4242")
    assert purchase["session_id"].startswith("cs_test_")
    assert purchase["receipt_url"].startswith("http")
    assert {event["type"] for event in purchase["events"]} == {"checkout.session.completed", "charge.succeeded"}
    [listed] = (await admin.get(PURCHASES)).json()["purchases"]
    assert listed == {name: purchase[name] for name in listed}
    [row] = csv.DictReader(io.StringIO((await admin.get(f"{PURCHASES}.csv")).text))
    assert (row["unit"], row["money"], row["amount_minor"]) == ("USD", "25.000000", "2250")


async def test_refund_in_part_takes_the_share_of_the_money(
    shop: Shop, admin: httpx.AsyncClient, bought: tuple[UUID, UUID]
) -> None:
    account_id, purchase_id = bought
    body = {"amount_minor": 450, "reason": "ticket", "idempotency_key": "r1"}
    for _ in range(2):
        answer = await admin.post(f"{PURCHASES}/{purchase_id}/refund", json=body)
        assert answer.status_code == 200, answer.text
    after = answer.json()
    assert (after["refunded_minor"], after["money_refunded"], after["state"]) == (450, "5.000000", "partially_refunded")
    assert await shop.money(account_id) == (20 * DOLLAR, 0)
    rest = await admin.post(f"{PURCHASES}/{purchase_id}/refund", json={"reason": "ticket", "idempotency_key": "r2"})
    assert (rest.json()["state"], rest.json()["money_refunded"]) == ("refunded", "25.000000")
    assert await shop.money(account_id) == (0, 0)
    assert (await admin.get(PURCHASES, params={"view": "refunded_but_credited"})).json()["purchases"] == []


async def test_views_find_money_that_is_not_as_it_should_be(
    shop: Shop, admin: httpx.AsyncClient, bought: tuple[UUID, UUID]
) -> None:
    await shop.execute("UPDATE purchases SET refunded_minor = 450")
    listed = (await admin.get(PURCHASES, params={"view": "refunded_but_credited"})).json()["purchases"]
    assert [row["purchase_id"] for row in listed] == [str(bought[1])]
    await shop.execute("UPDATE purchases SET refunded_minor = 0")


async def test_unpaid_page_is_reconciled_by_hand(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    page = await click(shop, account_id)
    await shop.control(f"checkout_sessions/{page.session_id}/pay", method="pm_card_visa")
    [purchase] = await shop.purchases(account_id)
    answer = await admin.post(f"{PURCHASES}/{purchase['purchase_id']}/reconcile")
    assert (answer.json()["booked"], answer.json()["purchase"]["credited"]) == (True, True)
    assert await shop.money(account_id) == (25 * DOLLAR, 0)


async def test_reports_count_the_price_that_was_paid(
    shop: Shop, admin: httpx.AsyncClient, bought: tuple[UUID, UUID]
) -> None:
    account_id = await shop.account()
    payment = await shop.open(account_id)
    await shop.pay(payment.payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    answer = (await admin.get("/admin/analytics/overview")).json()
    text = str(answer)
    assert "2750" in text  # 22.50 and 5.00 of net sales
    assert "25.000000" in text  # the money that was bought


async def test_books_agree_once_the_person_is_erased(
    shop: Shop, admin: httpx.AsyncClient, bought: tuple[UUID, UUID]
) -> None:
    account_id, purchase_id = bought
    async with shop.db.transaction() as tx:
        await erase_person(tx, account_id, shop.now)
    await forget_texts(shop.db, account_id, [TEXTS, MONEY_TEXTS])
    [purchase] = await shop.purchases(account_id)
    for name in ("buyer", "success_url", "cancel_url", "receipt_url", "card_last4", "idempotency_key"):
        assert purchase[name] is None, name
    await admin.post(f"{PURCHASES}/{purchase_id}/refund", json={"reason": "ticket", "idempotency_key": "r"})
    await shop.deliver_all(("charge.refunded", "charge.succeeded"))
    [purchase] = await shop.purchases(account_id)
    assert (purchase["money_refunded_nanos"], purchase["receipt_url"]) == (25 * DOLLAR, None)
    verification = await verify_books(shop.db, shop.now)
    assert verification.ok, verification.problem
