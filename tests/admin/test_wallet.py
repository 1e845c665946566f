"""Money and grants on the user page: exact figures, grants given and ended once, within the role's limits."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.ledger.entries import Cause, Kind
from app.verification import verify_books
from tests.admin.conftest import Office
from tests.admin.test_support_limits import supporting
from tests.admin.test_users import open_account
from tests.conftest import ACTOR
from tests.support.wallets import locked

NOBODY = UUID(int=7)
SOON = timedelta(days=30)


def path(account_id: UUID, rest: str = "grants") -> str:
    return f"/admin/users/{account_id}/{rest}"


def grant(key: str = "k", **fields: Any) -> dict[str, Any]:
    return {"idempotency_key": key, "reason": "Ticket 1", **fields}


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def given(client: httpx.AsyncClient, account_id: UUID, **fields: Any) -> dict[str, Any]:
    answer = await client.post(path(account_id), json=grant(uuid.uuid4().hex, **fields))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["grant"]
    return found


async def end(client: httpx.AsyncClient, account_id: UUID, grant_id: str) -> httpx.Response:
    return await client.post(path(account_id, f"grants/{grant_id}/end"), json={"reason": "Ticket 2"})


async def actions(office: Office, account_id: UUID, action: str) -> list[dict[str, Any]]:
    rows = await office.audit(action)
    return [
        {name: json.loads(row[name]) if row[name] else None for name in ("before", "after")}
        for row in rows
        if row["target_id"] == str(account_id)
    ]


async def test_the_wallet_is_exact(office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    now = datetime.now(UTC)
    async with locked(office.db, account_id, now) as account:
        account.give_money(9_007_199_254_740_993_001, Kind.OPENING_GRANT, Cause("account", account_id), ACTOR, now)
    await given(admin, account_id, money="0.000000001")
    await given(admin, account_id, credits=20)
    wallet = await get(viewer, path(account_id, "wallet"))
    assert (wallet["currency"], wallet["money"]) == ("USD", "9007199254.740993001")
    assert (wallet["granted_money"], wallet["granted_credits"], wallet["grants"]) == ("0.000000001", 20, 2)
    assert (wallet["debt"], wallet["lifetime_purchased"], wallet["held_money"]) == ("0.000000",) * 3
    assert Decimal(wallet["lifetime_granted"]) == Decimal("9007199254.740993002")
    assert wallet["billing_enabled"] is True
    assert (await viewer.get(path(NOBODY, "wallet"))).status_code == 404
    assert (await verify_books(office.db, datetime.now(UTC))).problem is None


async def test_twenty_equal_grants_at_once_are_one(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    body = grant(money="5.00", expires_at=(datetime.now(UTC) + SOON).isoformat(), category="promotional", priority=10)
    answers = await asyncio.gather(*(admin.post(path(account_id), json=body) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert sum(not answer.json()["replayed"] for answer in answers) == 1
    assert len({answer.json()["grant"]["grant_id"] for answer in answers}) == 1
    wallet = await get(admin, path(account_id, "wallet"))
    assert (wallet["granted_money"], wallet["lifetime_granted"]) == ("5.000000", "5.000000")
    [recorded] = await actions(office, account_id, "account.give_grant")
    assert (recorded["after"]["money"], recorded["after"]["currency"]) == ("5.000000", "USD")
    assert (recorded["after"]["category"], recorded["after"]["priority"]) == ("promotional", 10)
    assert (await verify_books(office.db, datetime.now(UTC))).problem is None


async def test_open_grants_are_in_the_order_in_which_they_are_spent(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    account_id = await open_account(office)
    now = datetime.now(UTC)
    later = await given(admin, account_id, credits=1, expires_at=(now + 2 * SOON).isoformat())
    never = await given(admin, account_id, money="1")
    early = await given(admin, account_id, credits=2, expires_at=(now + SOON).isoformat())
    first = await given(admin, account_id, credits=3, priority=1)
    order = [first, early, later, never]
    listed = await get(viewer, path(account_id))
    assert listed == {"grants": order, "next_cursor": None}
    page = await get(viewer, path(account_id), limit=3)
    assert (page["grants"], page["next_cursor"]) == (order[:3], 3)
    assert (await get(viewer, path(account_id), limit=3, cursor=3))["grants"] == order[3:]
    newest = [first, early, never, later]
    assert (await get(viewer, path(account_id), show="all"))["grants"] == newest


@pytest.mark.parametrize(("fields", "amount"), [({"credits": 13}, "13"), ({"money": "2.5"}, "2.500000")])
async def test_an_ended_grant_loses_its_rest_once(
    office: Office, admin: httpx.AsyncClient, fields: dict[str, Any], amount: str
) -> None:
    account_id = await open_account(office)
    made = await given(admin, account_id, **fields)
    ended = (await end(admin, account_id, made["grant_id"])).json()
    assert (ended["lost"], ended["grant"]["status"], ended["grant"]["remaining"][0]) == (amount, "closed", "0")
    again = (await end(admin, account_id, made["grant_id"])).json()
    assert again["grant"] == ended["grant"]
    assert Decimal(again["lost"]) == 0
    assert (await get(admin, path(account_id)))["grants"] == []
    [all_of_them] = (await get(admin, path(account_id), show="all"))["grants"]
    assert (all_of_them["amount"], all_of_them["status"]) == (amount, "closed")
    [recorded] = await actions(office, account_id, "account.end_grant")
    name = next(iter(fields))
    assert Decimal(recorded["before"][name]) == Decimal(amount)
    assert Decimal(recorded["after"][name]) == 0
    assert (await verify_books(office.db, datetime.now(UTC))).problem is None


async def test_a_grant_of_another_account_is_not_found(office: Office, admin: httpx.AsyncClient) -> None:
    account_id, other = await open_account(office), await open_account(office)
    made = await given(admin, account_id, credits=5)
    answer = await end(admin, other, made["grant_id"])
    assert (answer.status_code, answer.json()["code"]) == (404, "grant_not_found")
    assert (await end(admin, account_id, str(NOBODY))).status_code == 404
    assert (await get(admin, path(account_id)))["grants"] == [made]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "credits"),
        ({"credits": 1, "money": "1"}, "credits"),
        ({"credits": 0}, "credits"),
        ({"credits": 1.5}, "credits"),
        ({"credits": 10**9 + 1}, "credits"),
        ({"money": 1.5}, "money"),
        ({"money": "-1"}, "money"),
        ({"money": "0.0000000001"}, "money"),
        ({"money": "99999999999999999999"}, "money"),
        ({"money": "1", "currency": "EUR"}, "currency"),
        ({"credits": 1, "priority": 101}, "priority"),
        ({"credits": 1, "category": "purchased"}, "category"),
        ({"credits": 1, "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"credits": 1, "expires_at": "9999-12-31T00:00:00Z"}, "expires_at"),
        ({"credits": 1, "idempotency_key": "k\0"}, "idempotency_key"),
        ({"credits": 1, "reason": ""}, "reason"),
    ],
)
async def test_what_is_no_grant_is_refused(
    office: Office, admin: httpx.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    account_id = await open_account(office)
    answer = await admin.post(path(account_id), json=grant() | fields)
    assert 400 <= answer.status_code < 500
    assert field in answer.text
    assert (await get(admin, path(account_id), show="all"))["grants"] == []


async def test_a_key_of_another_grant_is_refused(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    assert (await admin.post(path(account_id), json=grant(credits=5))).status_code == 201
    for other in ({"credits": 6}, {"money": "0.000000005"}, {"credits": 5, "category": "promotional"}):
        answer = await admin.post(path(account_id), json=grant(**other))
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await get(admin, path(account_id), show="all"))["grants"]) == 1


async def test_closed_accounts_get_nothing_and_names_stay_out(office: Office, admin: httpx.AsyncClient) -> None:
    name = f"somebody{uuid.uuid4().hex}@example.com"
    account_id = await open_account(office, name)
    assert (await admin.post(path(account_id), json=grant(credits=5, reason=f"for {name}"))).status_code == 422
    await office.app.state.billing.accounts.set_status(account_id, "closed", None, datetime.now(UTC))
    assert (await admin.post(path(account_id), json=grant(credits=5))).status_code in (403, 409)
    assert (await get(admin, path(account_id), show="all"))["grants"] == []


async def test_the_role_support_is_limited_at_once_and_in_a_day(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    large = await given(admin, account_id, money="3.000000001")
    many = await given(admin, account_id, credits=6)
    limits = {
        "admin_support_credit_limit": 5,
        "admin_support_daily_credit_limit": 8,
        "admin_support_money_limit": 3,
        "admin_support_daily_money_limit": 7,
    }
    async with supporting(office, **limits) as client:
        me = await get(client, "/admin/oauth/user")
        assert (me["credit_limit"], me["money_limit"]) == (5, 3)

        async def give(**fields: Any) -> tuple[int, str]:
            answer = await client.post(path(account_id), json=grant(uuid.uuid4().hex, **fields))
            return answer.status_code, answer.json().get("detail", "")

        assert "more than 3 USD at once" in (await give(money="3.000000001"))[1]
        assert [(await give(**fields))[0] for fields in ({"money": "3.000000001"}, {"credits": 6})] == [403, 403]
        for held in (large, many):  # ending takes as much
            assert (await end(client, account_id, held["grant_id"])).status_code == 403
        assert [(await give(money="3"))[0] for _ in range(3)] == [201, 201, 403]
        assert (await give(money="1.000000001"))[0] == 403
        assert (await give(money="1"))[0] == 201
        assert "7 USD in 24 hours" in (await give(money="0.01"))[1]
        assert [(await give(credits=5))[0] for _ in range(2)] == [201, 403]
        body = {"credits": 4, "idempotency_key": "paid", "reason": "Ticket 1"}  # all kinds of credits count together
        assert (await client.post(path(account_id, "credits"), json=body)).status_code == 403
    wallet = await get(admin, path(account_id, "wallet"))
    assert (wallet["granted_money"], wallet["granted_credits"]) == ("10.000000001", 11)


async def test_viewers_give_and_end_nothing(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    account_id = await open_account(office)
    made = await given(admin, account_id, credits=5)
    assert (await viewer.post(path(account_id), json=grant(credits=1))).status_code == 403
    assert (await end(viewer, account_id, made["grant_id"])).status_code == 403
    assert (await get(viewer, path(account_id)))["grants"] == [made]
