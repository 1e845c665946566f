"""People where they matter: buyers, cards and refunds of purchases, whom alerts and audit entries are about."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, event

from app.accounts.directory import Profile
from app.accounts.erasure import erase_person, forget_texts
from app.admin.audit.log import record_by_system
from app.payments.erasure import TEXTS
from app.risk.service import look
from tests.admin.conftest import DOMAIN
from tests.admin.shops import open_shop, sign_in
from tests.admin.test_purchases import PURCHASES, bought, listed
from tests.books import connected
from tests.databases import Urls
from tests.payments.conftest import Shop

NOBODY = {"customer_email": None, "display_name": None, "external_id": None, "erased": True}


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


async def sold_to(shop: Shop, email: str | None = None, name: str | None = None, **options: Any) -> dict[str, Any]:
    """Return a purchase on a new account, after every event of Stripe about it was delivered."""
    account_id = await shop.account()
    if email is not None or name is not None:
        await shop.billing.accounts.directory.record_profile(
            account_id, Profile(customer_email=email, display_name=name), shop.now
        )
    purchase = await bought(shop, account_id, **options)
    await shop.deliver_all(("charge.succeeded",))
    return purchase


async def erase(shop: Shop, account_id: UUID) -> None:
    async with shop.db.transaction() as tx:
        await erase_person(tx, account_id, shop.now)
    await forget_texts(shop.db, account_id, [TEXTS])


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- purchases ----------------------------------------------------------------------------------------------------


async def test_purchases_name_their_buyer_and_card(shop: Shop, admin: httpx.AsyncClient) -> None:
    """The mail or the name, else the external id; of an erased person nothing, and no card either."""
    sold = [await sold_to(shop, "ann@example.com", "Ann"), await sold_to(shop, name="Bob"), await sold_to(shop)]
    gone = await sold_to(shop, "gone@example.com")
    await erase(shop, gone["account_id"])
    rows = {UUID(row["purchase_id"]): row for row in (await get(admin, PURCHASES))["purchases"]}
    buyers = [(row["buyer"]["customer_email"], row["buyer"]["display_name"]) for row in map(rows.get, ids(sold)) if row]
    assert buyers == [("ann@example.com", "Ann"), (None, "Bob"), (None, None)]
    assert rows[sold[2]["purchase_id"]]["buyer"]["external_id"]
    assert {(row["card_brand"], row["card_last4"]) for row in map(rows.get, ids(sold)) if row} == {("visa", "4242")}
    assert (rows[gone["purchase_id"]]["buyer"], rows[gone["purchase_id"]]["card_last4"]) == (NOBODY, None)
    one = await get(admin, f"{PURCHASES}/{sold[0]['purchase_id']}")
    assert (one["buyer"]["customer_email"], one["card_brand"], one["card_last4"]) == ("ann@example.com", "visa", "4242")
    file = (await admin.get(f"{PURCHASES}.csv")).text.removeprefix("\ufeff")
    exported = {row["purchase_id"]: row for row in csv.DictReader(io.StringIO(file, newline=""))}
    row = exported[str(sold[0]["purchase_id"])]
    assert (row["customer_email"], row["card_brand"], row["card_last4"]) == ("ann@example.com", "visa", "4242")


def ids(purchases: list[dict[str, Any]]) -> list[UUID]:
    return [purchase["purchase_id"] for purchase in purchases]


async def test_purchases_are_found_by_what_a_buyer_can_tell(shop: Shop, admin: httpx.AsyncClient) -> None:
    """Date, amount, name, mail and the card's last digits, each and together."""
    ann, bob = await sold_to(shop, "ann@example.com", "Ann Archer"), await sold_to(shop, "bob@example.com")
    large = await sold_to(shop, "ann.other@example.com", pack="large")
    yesterday = shop.now - timedelta(days=1)
    await shop.execute("UPDATE purchases SET created_at = $2 WHERE purchase_id = $1", bob["purchase_id"], yesterday)
    await shop.execute("UPDATE purchases SET card_last4 = '1111' WHERE purchase_id = $1", ann["purchase_id"])
    at = (shop.now - timedelta(hours=1)).isoformat()
    for params, expected in (
        ({"buyer": "ann"}, [large, ann]),
        ({"buyer": "Ann Arch"}, [ann]),
        ({"buyer": str(bob["account_id"])}, [bob]),
        ({"buyer": "nobody"}, []),
        ({"card_last4": "1111"}, [ann]),
        ({"card_last4": "4242"}, [large, bob]),
        ({"amount_minor": 500}, [bob, ann]),
        ({"amount_minor": 2000, "currency": "USD"}, [large]),
        ({"amount_minor": 2000, "currency": "EUR"}, []),
        ({"since": at}, [large, ann]),
        ({"until": at}, [bob]),
        ({"since": at, "buyer": "ann", "amount_minor": 500, "card_last4": "1111"}, [ann]),
    ):
        assert await listed(admin, **params) == ids(expected), params
    for wrong in ({"card_last4": "42 42"}, {"amount_minor": 0}, {"currency": "usd"}, {"since": "yesterday"}):
        assert (await admin.get(PURCHASES, params=wrong)).status_code == 422, wrong


async def test_partially_refunded_is_a_state_of_its_own(shop: Shop, admin: httpx.AsyncClient) -> None:
    kept, partly, wholly = [await sold_to(shop) for _ in range(3)]
    await shop.refund(partly["payment_intent_id"], 100)
    await shop.refund(wholly["payment_intent_id"], 500)
    await shop.deliver_all(("charge.refunded",))
    rows = {UUID(row["purchase_id"]): row["state"] for row in (await get(admin, PURCHASES))["purchases"]}
    assert rows == dict(zip(ids([kept, partly, wholly]), ("succeeded", "partially_refunded", "refunded"), strict=True))
    for state, expected in (
        ("partially_refunded", [partly]),
        ("refunded", [wholly]),
        ("succeeded", [wholly, partly, kept]),
        ("canceled", []),
    ):
        assert await listed(admin, status=state) == ids(expected), state


async def test_each_refund_has_its_amount_person_and_reason(shop: Shop, admin: httpx.AsyncClient) -> None:
    """Also one whose answer was lost: Stripe's own event says which request it was. One made at Stripe names none."""
    purchase = await sold_to(shop)
    path = f"{PURCHASES}/{purchase['purchase_id']}"
    for amount, reason, key in ((100, "too slow", "a"), (150, "again \u20ac", "key \u20ac")):
        body = {"amount_minor": amount, "reason": reason, "idempotency_key": key}
        assert (await admin.post(f"{path}/refund", json=body)).status_code == 200
    await shop.execute("DELETE FROM purchase_refunds WHERE amount_minor = 150")  # as if we had died before noting it
    await shop.refund(purchase["payment_intent_id"], 50)
    await shop.deliver_all(("refund.created", "charge.refunded"))
    detail = await get(admin, path)
    refunds = sorted((r["amount_minor"], r["status"], r["asked_by"], r["reason"]) for r in detail["refunds"])
    assert refunds == [
        (50, "succeeded", None, None),
        (100, "succeeded", f"admin@{DOMAIN}", "too slow"),
        (150, "succeeded", f"admin@{DOMAIN}", "again \u20ac"),
    ]
    assert (detail["refunded_minor"], detail["state"]) == (300, "partially_refunded")


async def test_a_page_of_purchases_asks_as_often_as_one_purchase(shop: Shop, admin: httpx.AsyncClient) -> None:
    await sold_to(shop, "ann@example.com")
    statements: list[str] = []

    def count(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        await get(admin, PURCHASES)
        one = len(statements)
        for n in range(4):
            await sold_to(shop, f"{n}@example.com")
        statements.clear()
        assert len((await get(admin, PURCHASES))["purchases"]) == 5
        assert len(statements) == one
    finally:
        event.remove(Engine, "before_cursor_execute", count)


BIG = """
    INSERT INTO purchases (account_id, purchase_id, environment, pack, credits, amount_minor, currency, status,
                           status_at, received_minor, received_currency, credit_id, card_last4, refunded_minor,
                           credits_refunded, credits_disputed, created_at, updated_at)
    SELECT $1, CAST(lpad(to_hex(n), 32, '0') AS uuid), 'live', 'standard', 20, 500 + n % 300, 'USD', 'succeeded', now(),
           500, 'USD', gen_random_uuid(), lpad(CAST(n % 9000 AS text), 4, '0'), 0, 0, 0,
           now() - make_interval(mins => 40000 - n), now()
      FROM generate_series(1, 40000) n
"""


@pytest.mark.parametrize(
    "params",
    [
        "p.card_last4 = '4242'",
        "p.amount_minor = 555",
        "p.status = 'failed'",
        "p.created_at >= now() - interval '20 days' AND p.created_at < now() - interval '19 days'",
        "p.account_id = ANY (ARRAY[CAST('00000000-0000-0000-0000-000000000007' AS uuid)])",
        "true",
    ],
)
async def test_no_filter_reads_the_purchases_from_end_to_end(big: Urls, params: str) -> None:
    """The list's order and its limit, with each filter, on 40,000 purchases."""
    async with connected(big) as connection:
        rows = await connection.fetch(
            f"EXPLAIN SELECT * FROM purchases p WHERE {params} ORDER BY p.purchase_id DESC LIMIT 51"
        )
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert "Seq Scan" not in plan, plan


@pytest.fixture
async def big(shop: Shop) -> Urls:
    account_id = await shop.account()
    async with connected(shop.urls) as connection:
        await connection.execute(BIG, account_id)
        await connection.execute("ANALYZE purchases")
    return shop.urls


# --- alerts and the audit log -------------------------------------------------------------------------------------


async def test_alerts_name_people_the_card_and_the_reason_of_the_decision(shop: Shop, admin: httpx.AsyncClient) -> None:
    await shop.execute("UPDATE alert_rules SET threshold = 2 WHERE rule = 'purchases_per_card'")
    ann, _ = await sold_to(shop, "ann@example.com"), await sold_to(shop, "bob@example.com")
    assert await look(shop.db, shop.db, shop.billing, record_by_system, shop.now) == 1
    [alert] = (await get(admin, "/admin/alerts"))["alerts"]
    assert {person["customer_email"] for person in alert["people"]} == {"ann@example.com", "bob@example.com"}
    assert [person["account_id"] for person in alert["people"]] == alert["account_ids"]
    assert (alert["card_brand"], alert["card_last4"], alert["reason"]) == ("visa", "4242", None)
    path = f"/admin/alerts/{alert['alert_id']}"
    for decision, reason in (("hold", "first look"), ("dismiss", "a family card")):
        assert (await admin.post(f"{path}/{decision}", json={"reason": reason})).json()["reason"] == reason
    await erase(shop, ann["account_id"])
    detail = await get(admin, path)
    assert (detail["reason"], detail["decided_by"]) == ("a family card", f"admin@{DOMAIN}")
    assert [person["erased"] for person in detail["people"] if person["account_id"] == str(ann["account_id"])] == [True]


async def test_the_audit_log_names_whom_it_is_about(shop: Shop, admin: httpx.AsyncClient) -> None:
    """Looked up when it is read: the entries themselves hold no person, so erasing one needs no change to them."""
    purchase = await sold_to(shop, "ann@example.com")
    account_id, purchase_id = purchase["account_id"], purchase["purchase_id"]
    assert (await admin.post(f"/admin/users/{account_id}/suspend", json={"reason": "why"})).status_code == 200
    assert (await admin.post(f"{PURCHASES}/{purchase_id}/reconcile")).status_code == 200

    async def named() -> set[tuple[str, str | None]]:
        entries = (await get(admin, "/admin/audit-logs"))["entries"]
        return {(e["target_type"], e["person"] and e["person"]["customer_email"]) for e in entries}

    assert {("account", "ann@example.com"), ("purchase", "ann@example.com")} <= await named()
    assert "ann@" not in json.dumps(await shop.rows("SELECT * FROM admin_audit_log"), default=str)
    assert "ann@" not in (await admin.get("/admin/audit-logs.csv")).text
    await erase(shop, account_id)
    assert ("account", None) in await named()
    assert ("purchase", "ann@example.com") not in await named()
