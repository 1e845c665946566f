"""Purchases: filters, views of what should not be there, one in full; refunds and reconciliations at their edges."""

import asyncio
import csv
import io
import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.verification import verify_books
from tests.admin.conftest import DOMAIN
from tests.admin.shops import open_shop, sign_in
from tests.databases import Urls
from tests.payments.conftest import Shop

PURCHASES = "/admin/purchases"
VIEWS = ("paid_not_credited", "refunded_but_credited", "for_review")
DELIVERED = ("payment_intent.succeeded", "charge.refunded", "charge.dispute.created", "charge.dispute.closed")


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(
        own_database,
        packs={"standard": {"price_minor": 500, "credits": 20}, "large": {"price_minor": 2000, "credits": 100}},
    ) as shop:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "admin") as client:
        yield client


async def bought(shop: Shop, account_id: UUID | None = None, **options: Any) -> dict[str, Any]:
    """A purchase that is paid and credited, as its row."""
    account_id = account_id or await shop.account()
    payment = await shop.open(account_id, **options)
    await shop.pay(payment.payment_id)
    await shop.payments.payment("live", payment.payment_id, shop.now)
    [row] = await shop.rows("SELECT * FROM purchases WHERE payment_intent_id = $1", payment.payment_id)
    assert row["status"] == "succeeded"
    return row


async def listed(client: httpx.AsyncClient, **params: Any) -> list[UUID]:
    """All pages, which are small."""
    ids: list[UUID] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        answer = await client.get(PURCHASES, params={"limit": 2, **params, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [UUID(purchase["purchase_id"]) for purchase in page["purchases"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert ids == sorted(set(ids), reverse=True)
    return ids


async def test_the_file_is_all_that_matches_page_by_page(
    shop: Shop, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.admin.csv_export.EXPORTED_AT_ONCE", 2)
    sold = [await bought(shop) for _ in range(5)]
    for params, rows in (({}, sold[::-1]), ({"account_id": str(sold[2]["account_id"])}, sold[2:3])):
        export = await admin.get(f"{PURCHASES}.csv", params=params)
        assert export.headers["Content-Disposition"] == 'attachment; filename="purchases.csv"'
        lines = list(csv.DictReader(io.StringIO(export.content.decode("utf-8-sig"), newline="")))
        assert [row["purchase_id"] for row in lines] == [str(row["purchase_id"]) for row in rows]
        assert {(row["received_minor"], row["credits"], row["status"]) for row in lines} == {("500", "20", "succeeded")}
    assert (await admin.get(f"{PURCHASES}.csv", params={"view": "for_review"})).text.count("\n") == 1


async def views(client: httpx.AsyncClient) -> dict[str, list[UUID]]:
    """The purchases in each view that is not empty."""
    shown = {view: await listed(client, view=view) for view in VIEWS}
    return {view: ids for view, ids in shown.items() if ids}


def refund(key: str, amount_minor: int | None = None) -> dict[str, Any]:
    return {"idempotency_key": key, "amount_minor": amount_minor, "reason": "unhappy"}


async def refund_audit_rows(shop: Shop) -> list[dict[str, Any]]:
    rows = await shop.rows("SELECT * FROM admin_audit_log WHERE action = 'purchase.refund' ORDER BY audit_id")
    return [{**row, **{name: json.loads(row[name]) for name in ("before", "after")}} for row in rows]


async def verified(shop: Shop) -> None:
    verification = await verify_books(shop.db, datetime.now(UTC))
    assert verification.ok, verification.problem


# --- lists --------------------------------------------------------------------------------------------------------


async def test_filters_narrow_each_other(shop: Shop, admin: httpx.AsyncClient) -> None:
    buyer, other = await shop.account(), await shop.account()
    paid = [await bought(shop, buyer, pack="standard"), await bought(shop, other, pack="large")]
    for account_id, pack in ((buyer, "large"), (buyer, "standard"), (other, "standard")):
        await shop.open(account_id, pack=pack)
    rows = await shop.rows("SELECT * FROM purchases")
    assert len(rows) == 5
    assert await listed(admin) == sorted((row["purchase_id"] for row in rows), reverse=True)
    payments = [row["payment_intent_id"] for row in paid]
    statuses = {row["status"] for row in rows}
    choices = itertools.product(
        (None, "live", "test"), (None, *statuses, "canceled"), (None, buyer, other), (None, *payments)
    )
    for choice in choices:
        names = ("environment", "status", "account_id", "payment_intent_id")
        expected = {
            row["purchase_id"]
            for row in rows
            if all(want in (None, row[name]) for name, want in zip(names, choice, strict=True))
        }
        sent = dict(zip(("environment", "status", "account_id", "payment_id"), choice, strict=True))
        params = {name: str(value) for name, value in sent.items() if value is not None}
        assert set(await listed(admin, **params)) == expected, params


async def test_questions_that_make_no_sense_are_422(admin: httpx.AsyncClient) -> None:
    questions: tuple[dict[str, Any], ...] = (
        {"environment": "prod"},
        {"account_id": "x"},
        {"view": "all"},
        {"limit": 0},
        {"payment_id": "a\0"},
    )
    for params in questions:
        assert (await admin.get(PURCHASES, params=params)).status_code == 422, params


async def test_healthy_purchases_are_in_no_view(shop: Shop, admin: httpx.AsyncClient) -> None:
    """Unpaid, paid, refunded in part and in full, disputed, and disputed after a refund."""
    await shop.open(await shop.account())
    for parts in ([], [1], [24], [25], [333], [500], [200, 300]):
        purchase = await bought(shop)
        for amount_minor in parts:
            await shop.refund(purchase["payment_intent_id"], amount_minor)
    disputed = [await bought(shop) for _ in range(3)]
    await shop.refund(disputed[0]["payment_intent_id"], 250)
    for purchase in disputed:
        await shop.control(f"payment_intents/{purchase['payment_intent_id']}/dispute", amount=250)
    await shop.deliver_all(DELIVERED)
    assert await views(admin) == {}
    dispute = (await shop.rows("SELECT dispute_id FROM purchase_disputes LIMIT 1"))[0]["dispute_id"]
    await shop.control(f"disputes/{dispute}/close", outcome="lost")
    await shop.deliver_all(DELIVERED)
    assert await views(admin) == {}
    await verified(shop)


async def test_views_show_what_should_not_be_there_and_nothing_else(shop: Shop, admin: httpx.AsyncClient) -> None:
    await bought(shop)
    short = await shop.open(await shop.account())
    await shop.control(f"payment_intents/{short.payment_id}/succeed", amount_received=499)
    await shop.deliver_all(("payment_intent.succeeded",))
    [wrong] = await shop.rows("SELECT purchase_id FROM purchases WHERE payment_intent_id = $1", short.payment_id)
    # Neither can come about by what Stripe tells; a mistake of ours is what the views are for.
    kept, lost = await bought(shop), await bought(shop)
    await shop.execute("UPDATE purchases SET refunded_minor = 500 WHERE purchase_id = $1", kept["purchase_id"])
    await shop.execute(
        "UPDATE purchases SET credit_id = NULL, status = 'processing' WHERE purchase_id = $1", lost["purchase_id"]
    )
    assert await views(admin) == {
        "for_review": [wrong["purchase_id"]],
        "refunded_but_credited": [kept["purchase_id"]],
        "paid_not_credited": [lost["purchase_id"], wrong["purchase_id"]],
    }
    assert await listed(admin, view="paid_not_credited", status="processing") == [lost["purchase_id"]]
    assert await listed(admin, view="for_review", environment="test") == []
    # First, one of the due credits is missing; then none.
    for taken_back, expected in ((19, [kept["purchase_id"]]), (20, [])):
        await shop.execute(
            "UPDATE purchases SET credits_refunded = $2 WHERE purchase_id = $1", kept["purchase_id"], taken_back
        )
        assert await listed(admin, view="refunded_but_credited") == expected


# --- one purchase -------------------------------------------------------------------------------------------------


async def test_detail_tells_the_events_in_order_and_the_disputes(shop: Shop, admin: httpx.AsyncClient) -> None:
    purchase, neighbour = await bought(shop), await bought(shop)
    payment_id = purchase["payment_intent_id"]
    await shop.refund(payment_id, 100)
    await shop.control(f"payment_intents/{payment_id}/dispute", amount=200)
    arrivals = [event for event in await shop.events(*DELIVERED) if payment_id in json.dumps(event)]
    assert [event["type"] for event in arrivals] == list(DELIVERED[:3])
    # The page lists a late event by its arrival, not by its own time.
    for minutes, event in enumerate(reversed(arrivals)):
        late = Shop(shop.app, shop.urls, shop.settings, shop.local, shop.http, shop.now + timedelta(minutes=minutes))
        await late.deliver(event)
    detail = (await admin.get(f"{PURCHASES}/{purchase['purchase_id']}")).json()
    assert [event["event_id"] for event in detail["events"]] == [event["id"] for event in reversed(arrivals)]
    assert {event["outcome"] for event in detail["events"]} == {"applied"}
    [dispute] = detail["disputes"]
    assert (dispute["amount_minor"], dispute["status"]) == (200, "open")
    assert (detail["refunded_minor"], detail["credits_refunded"], detail["credits_disputed"]) == (100, 4, 8)
    assert (detail["credited"], detail["received_minor"], detail["currency"]) == (True, 500, "USD")
    [row] = (await admin.get(PURCHASES, params={"payment_id": payment_id})).json()["purchases"]
    assert row == {name: detail[name] for name in row}
    assert (await admin.get(f"{PURCHASES}/{neighbour['purchase_id']}")).json()["disputes"] == []
    entries = (await admin.get(f"/admin/users/{purchase['account_id']}/timeline")).json()["entries"]
    # The purchase was booked once, as a purchase; withdrawn credits were booked as credits.
    moved = sorted((entry["kind"], entry["credits"]) for entry in entries)
    assert moved == [("credit", -8), ("credit", -4), ("purchase", 20)]


async def test_unknown_purchase_is_404_and_leaves_no_audit_row(shop: Shop, admin: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("POST", "/refund"), ("POST", "/reconcile")):
        body = refund("k") if path == "/refund" else None
        answer = await admin.request(method, f"{PURCHASES}/{UUID(int=7)}{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found"), path
    assert await shop.rows("SELECT * FROM admin_audit_log") == []


# --- giving back --------------------------------------------------------------------------------------------------


async def test_ten_equal_refunds_at_once_give_back_once(shop: Shop, admin: httpx.AsyncClient) -> None:
    purchase = await bought(shop)
    path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
    answers = await asyncio.gather(*(admin.post(path, json=refund("k", 125)) for _ in range(10)))
    # Stripe may report a key as "in use" for longer than we wait; a repeated request gets the answer.
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert (await admin.post(path, json=refund("k", 125))).json()["refunded_minor"] == 125
    [charge] = (await shop.stripe("GET", "charges", payment_intent=purchase["payment_intent_id"]))["data"]
    assert charge["amount_refunded"] == 125
    assert await shop.balances(purchase["account_id"]) == (15, 0)
    await verified(shop)


async def test_refund_of_what_is_spent_becomes_debt(shop: Shop, admin: httpx.AsyncClient) -> None:
    purchase = await bought(shop)
    body = {"credits": -15, "idempotency_key": "k", "reason": "spent elsewhere"}
    assert (await admin.post(f"/admin/users/{purchase['account_id']}/credits", json=body)).status_code == 201
    path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
    assert (await admin.post(path, json=refund("k"))).json()["credits_refunded"] == 20
    assert await shop.balances(purchase["account_id"]) == (0, 15)
    [entry] = await refund_audit_rows(shop)
    assert (entry["target_id"], entry["admin_email"]) == (str(purchase["purchase_id"]), f"admin@{DOMAIN}")
    assert (entry["before"], entry["reason"]) == ({"refunded_minor": 0, "currency": "USD"}, "unhappy")
    assert entry["after"] == {"refund_minor": "all that is left", "currency": "USD", "idempotency_key": "k"}
    await verified(shop)


async def test_what_stripe_refuses_changes_nothing_and_is_told(shop: Shop, admin: httpx.AsyncClient) -> None:
    purchase = await bought(shop)
    path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
    assert (await admin.post(path, json=refund("a", 501))).status_code == 409
    assert (await admin.post(path, json=refund("b", 100))).status_code == 200
    reused = await admin.post(path, json=refund("b", 200))
    assert (reused.status_code, reused.json()["code"]) == (409, "refund_refused")
    assert (await admin.post(path, json=refund("c"))).json()["refunded_minor"] == 500
    again = await admin.post(path, json=refund("d"))
    assert (again.status_code, again.json()["code"]) == (409, "refund_refused")
    assert [row["before"]["refunded_minor"] for row in await refund_audit_rows(shop)] == [0, 0, 100, 100, 500]
    assert await shop.balances(purchase["account_id"]) == (0, 0)


@pytest.mark.parametrize("key", ["zurück", "two\nlines"])
async def test_a_refunds_key_may_be_any_text(shop: Shop, admin: httpx.AsyncClient, key: str) -> None:
    """Though to Stripe it goes in a header."""
    purchase = await bought(shop)
    path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
    for _ in range(2):
        answer = await admin.post(path, json=refund(key, 100))
        assert (answer.status_code, answer.json()["refunded_minor"]) == (200, 100)
    assert await shop.balances(purchase["account_id"]) == (16, 0)


async def test_unpaid_purchase_has_nothing_to_give_back(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.open(account_id)
    [purchase] = await shop.purchases(account_id)
    answer = await admin.post(f"{PURCHASES}/{purchase['purchase_id']}/refund", json=refund("k"))
    assert (answer.status_code, answer.json()["code"]) == (409, "refund_refused")


async def test_stripe_away_answers_503_and_what_was_asked_is_told(shop: Shop, admin: httpx.AsyncClient) -> None:
    purchase = await bought(shop)
    path = f"{PURCHASES}/{purchase['purchase_id']}"
    for method in ("GET", "POST"):
        await shop.control("failures", method=method, path="/v1/", status=503, times=1000)
    away = await admin.post(f"{path}/refund", json=refund("k", 125))
    assert (away.status_code, away.json()["code"]) == (503, "payment_provider_unavailable")
    [entry] = await refund_audit_rows(shop)
    assert entry["after"] == {"refund_minor": 125, "currency": "USD", "idempotency_key": "k"}
    assert (await admin.get(path)).json()["refunded_minor"] == 0
    assert await shop.balances(purchase["account_id"]) == (20, 0)


async def test_refund_that_makes_no_sense_asks_nobody(shop: Shop, admin: httpx.AsyncClient) -> None:
    purchase = await bought(shop)
    path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
    refused: tuple[dict[str, Any], ...] = (
        *({"amount_minor": amount_minor} for amount_minor in (0, -1, 1.5, "125", 2**63)),
        *({"reason": reason} for reason in (None, "  ")),
        *({"idempotency_key": key} for key in ("", None)),
    )
    for wrong in refused:
        assert (await admin.post(path, json={**refund("k"), **wrong})).status_code == 422, wrong
    assert await refund_audit_rows(shop) == []
    [charge] = (await shop.stripe("GET", "charges", payment_intent=purchase["payment_intent_id"]))["data"]
    assert charge["amount_refunded"] == 0


async def test_support_may_reconcile_but_not_refund(shop: Shop) -> None:
    account_id = await shop.account()
    payment = await shop.open(account_id)
    await shop.pay(payment.payment_id)
    [purchase] = await shop.purchases(account_id)
    path = f"{PURCHASES}/{purchase['purchase_id']}"
    async with await sign_in(shop, "support") as support:
        assert (await support.post(f"{path}/refund", json=refund("k"))).status_code == 403
        assert await refund_audit_rows(shop) == []
        assert (await support.post(f"{path}/reconcile")).json()["booked"] is True
        assert (await support.post(f"{path}/reconcile")).json()["booked"] is False
    assert await shop.balances(account_id) == (20, 0)
    rows = await shop.rows("SELECT action, after FROM admin_audit_log ORDER BY audit_id")
    assert [row["action"] for row in rows[:2]] == ["purchase.reconcile", "purchase.reconciled"]
    assert json.loads(rows[1]["after"]) == {"status": "succeeded", "credited": True}


async def test_reconciling_without_stripe_tells_that_it_failed(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    [purchase] = await shop.purchases(account_id)
    for method in ("GET", "POST"):
        await shop.control("failures", method=method, path="/v1/", status=503, times=1000)
    one = await admin.post(f"{PURCHASES}/{purchase['purchase_id']}/reconcile")
    assert (one.status_code, one.json()["code"]) == (503, "payment_provider_unavailable")
    [entry] = await shop.rows("SELECT action FROM admin_audit_log")  # the request is logged, even if it fails
    assert entry["action"] == "purchase.reconcile"
    assert await shop.balances(account_id) == (0, 0)
