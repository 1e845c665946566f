"""Stale tabs: an admin acts on old data. The answer gives the present data and its last author; nothing is done."""

import asyncio
import uuid
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.caller import Permission
from tests.admin.conftest import DOMAIN, Office
from tests.admin.shops import open_shop, sign_in
from tests.admin.test_purchases import PURCHASES, bought
from tests.admin.test_users import USERS, adjust, audit_of, open_account
from tests.books import balances, connected
from tests.conftest import make_key
from tests.databases import Urls

ADMIN, SUPPORT = f"admin@{DOMAIN}", f"support@{DOMAIN}"


def stale(answer: httpx.Response) -> tuple[dict[str, Any], str | None]:
    """Return the present values and their last author."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (409, "changed_meanwhile"), answer.text
    assert (body["changed_at"] is None) == (body["changed_by"] is None)
    return body["current"], body["changed_by"]


# --- corrections --------------------------------------------------------------------------------------------------


async def correct(
    client: httpx.AsyncClient, account_id: UUID, credits: int, seen_paid: int, key: str
) -> httpx.Response:
    body = {"credits": credits, "seen_paid": seen_paid, "idempotency_key": key, "reason": "because"}
    return await client.post(f"{USERS}/{account_id}/credits", json=body)


async def test_correction_after_the_balance_changed(
    office: Office, admin: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    """By a colleague, and by an agent that charged."""
    user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    account_id = await open_account(office, user["external_id"], paid=20)
    assert (await adjust(support, account_id, 5)).status_code == 201
    current, by = stale(await correct(admin, account_id, -22, 20, "a"))
    assert (current, by) == ({"paid": 25}, f"{SUPPORT} (adjustment)")
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        charged = await agent.post("/v1/billing/charges", json={**user, "amount_minor": 500, "currency": "USD"})
        assert charged.status_code == 201
    current, by = stale(await correct(admin, account_id, -22, 25, "a"))
    assert current == {"paid": 23}
    assert str(by).endswith("(charge)")
    assert (await correct(admin, account_id, -22, 23, "a")).json()["paid_after"] == 1
    # A repeated request is a replay, independent of the balance that it saw.
    assert (await correct(admin, account_id, -22, 23, "a")).json()["replayed"] is True
    assert [row["action"] for row in await audit_of(office, account_id)] == ["account.adjust", "account.adjust"]


async def test_of_two_corrections_that_saw_the_same_one_is_made(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office, paid=5)
    answers = await asyncio.gather(*(correct(admin, account_id, 3, 5, f"k{n}") for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    assert (await balances(office.urls, account_id))["paid"] == 8


async def test_too_few_credits_are_told_in_credits(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office, paid=5)
    answer = await adjust(admin, account_id, -7)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (402, "insufficient_credits")
    assert body["detail"] == "The account has 5 paid credits, so 7 cannot be taken"
    assert (body["balance_minor"], body["required_minor"], body["shortfall_minor"]) == (500, 700, 200)


# --- the status of an account, and alerts -------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "seen"), [("suspend", "active"), ("reopen", "suspended"), ("close", "active")])
async def test_status_that_a_colleague_changed(
    office: Office, admin: httpx.AsyncClient, support: httpx.AsyncClient, action: str, seen: str
) -> None:
    account_id = await open_account(office)
    path = f"{USERS}/{account_id}"
    now = "suspended" if seen == "active" else "active"
    if seen == "suspended":
        assert (await admin.post(f"{path}/suspend", json={"reason": "first"})).status_code == 200
    other = "suspend" if seen == "active" else "reopen"
    assert (await support.post(f"{path}/{other}", json={"reason": "ticket 7"})).status_code == 200
    current, by = stale(await admin.post(f"{path}/{action}", json={"reason": "mine", "seen_status": seen}))
    assert current == {"status": now, **({"status_reason": "ticket 7"} if now == "suspended" else {})}
    assert by == SUPPORT
    done = await admin.post(f"{path}/{action}", json={"reason": "mine", "seen_status": now})
    assert done.status_code == 200


async def test_alert_that_a_colleague_decided(
    office: Office, admin: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    account_id = await open_account(office)
    alert_id = uuid.uuid4()
    async with connected(office.urls) as connection:
        await connection.execute(
            """
            INSERT INTO alerts (alert_id, environment, rule, subject, day, observed, threshold, window_h, account_ids,
                                created_at, last_seen_at)
            VALUES ($1, 'live', 'spend_spike', CAST($2 AS text), current_date, 9, 1, 24,
                    ARRAY[CAST(CAST($2 AS text) AS uuid)], now(), now())
            """,
            alert_id,
            str(account_id),
        )
    path = f"/admin/alerts/{alert_id}"
    assert (await support.post(f"{path}/hold", json={"reason": "looks bad"})).status_code == 200
    seen_open = {"reason": "fine", "seen_status": "open", "seen_stopped": None}
    for decision in ("dismiss", "hold", "suspend"):
        current, by = stale(await admin.post(f"{path}/{decision}", json=seen_open))
        assert (current, by) == ({"status": "acted", "stopped": "hold"}, SUPPORT)
    answer = await admin.post(
        f"{path}/dismiss", json={"reason": "fine", "seen_status": "acted", "seen_stopped": "hold"}
    )
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "dismissed", "fine")


# --- refunds ------------------------------------------------------------------------------------------------------


def refund(key: str, seen: int | None, amount_minor: int | None = None) -> dict[str, Any]:
    return {"amount_minor": amount_minor, "idempotency_key": key, "reason": "because", "seen_refunded_minor": seen}


async def test_refund_after_a_colleagues_or_one_at_stripe(own_database: Urls) -> None:
    async with open_shop(own_database) as shop, await sign_in(shop, "admin") as admin:
        purchase = await bought(shop)
        path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
        assert (await admin.post(path, json=refund("a", 0, 200))).status_code == 200
        current, by = stale(await admin.post(path, json=refund("b", 0, 400)))
        assert (current, by) == ({"refunded_minor": 200, "left_minor": 300, "currency": "USD"}, ADMIN)
        # Money goes back at Stripe, and no webhook tells us: Stripe refuses, and is asked why.
        await shop.refund(purchase["payment_intent_id"], 250)
        current, by = stale(await admin.post(path, json=refund("b", 200, 300)))
        assert (current, by) == ({"refunded_minor": 450, "left_minor": 50, "currency": "USD"}, "Stripe")
        assert (await admin.post(path, json=refund("c", 450))).json()["state"] == "refunded"
        assert (await admin.post(path, json=refund("c", 450))).status_code == 200  # the same request again
        current, _ = stale(await admin.post(path, json=refund("d", 450)))
        assert current["left_minor"] == 0


async def test_of_two_refunds_that_saw_the_same_one_is_made(own_database: Urls) -> None:
    """The second request sees the first one, although no money of the first one has moved yet."""
    async with open_shop(own_database) as shop, await sign_in(shop, "admin") as admin:
        purchase = await bought(shop)
        path = f"{PURCHASES}/{purchase['purchase_id']}/refund"
        answers = await asyncio.gather(*(admin.post(path, json=refund(f"k{n}", 0, 100)) for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, *[409] * 4]
        for answer in answers:
            if answer.status_code == 409:
                assert stale(answer)[1] == ADMIN
        [row] = await shop.purchases(purchase["account_id"])
        assert row["refunded_minor"] == 100
