"""Granting free credits: into the one-time free pool, once for each key, within the role's limits, on the books."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest

from app.accounts.erasure import BOOKS, erase_person, forget_texts
from app.verification import verify_books
from tests.admin.conftest import Office
from tests.admin.test_users import open_account
from tests.books import balances


def path(account_id: UUID) -> str:
    return f"/admin/users/{account_id}/free-credits"


def grant(credits: object, key: str = "k", reason: str = "Ticket 1") -> dict[str, object]:
    return {"credits": credits, "idempotency_key": key, "reason": reason}


async def test_twenty_equal_grants_at_once_are_one(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    before = await balances(office.urls, account_id)
    answers = await asyncio.gather(*(admin.post(path(account_id), json=grant(7)) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert sum(not answer.json()["replayed"] for answer in answers) == 1
    assert {answer.json()["free_after"] for answer in answers} == {before["free"] + 7}
    assert await balances(office.urls, account_id) == {**before, "free": before["free"] + 7}
    [entry] = await office.rows(
        "SELECT pool, delta, kind, cause_type, actor_type FROM ledger_entries WHERE account_id = $1 AND kind = 'grant'",
        account_id,
    )
    assert tuple(entry.values()) == ("free", 7, "grant", "account", "admin")
    [row] = await office.rows(
        "SELECT before, after, reason FROM admin_audit_log WHERE target_id = $1 AND action = 'account.grant_free'",
        str(account_id),
    )
    assert json.loads(row["before"]) == {"free": before["free"]}
    assert json.loads(row["after"])["free"] == before["free"] + 7
    assert (await verify_books(office.db, datetime.now(UTC))).problem is None


async def test_what_is_granted_is_spent_before_paid_credits(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office, paid=5)
    assert (await admin.post(path(account_id), json=grant(4))).status_code == 201
    user = (await admin.get(f"/admin/users/{account_id}")).json()
    assert (user["free"], user["paid"]) == (7, 5)
    entries = (await admin.get(f"/admin/users/{account_id}/timeline", params={"kind": "admin"})).json()["entries"]
    assert [entry["title"] for entry in entries] == ["account.grant_free"]
    [move] = entries[0]["moves"]
    assert (move["pool"], move["delta"], move["balance_after"]) == ("free", 4, 7)


@pytest.mark.parametrize("credits", [0, -1, 1.5, "5", 10**9 + 1, True, None])
async def test_what_is_no_amount_is_refused(office: Office, admin: httpx.AsyncClient, credits: object) -> None:
    account_id = await open_account(office)
    assert (await admin.post(path(account_id), json=grant(credits))).status_code == 422
    assert (await balances(office.urls, account_id))["free"] == 3


async def test_a_key_with_another_amount_is_refused(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    assert (await admin.post(path(account_id), json=grant(5))).status_code == 201
    answer = await admin.post(path(account_id), json=grant(6))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert (await balances(office.urls, account_id))["free"] == 8


async def test_roles_and_limits_are_those_of_corrections(
    office: Office, viewer: httpx.AsyncClient, support: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    account_id = await open_account(office)
    assert (await viewer.post(path(account_id), json=grant(1))).status_code == 403
    at_once = office.app.state.settings.admin_support_credit_limit
    assert (await support.post(path(account_id), json=grant(at_once + 1))).status_code == 403
    assert (await admin.post(path(account_id), json=grant(at_once + 1))).status_code == 201
    a_day = office.app.state.settings.admin_support_daily_credit_limit
    refused = None
    for number in range(a_day // at_once + 1):
        answer = await support.post(path(account_id), json=grant(at_once, f"s{number}"))
        if answer.status_code != 201:
            refused = answer
            break
    assert refused is not None
    assert (refused.status_code, refused.json()["code"]) == (403, "admin_forbidden")
    body = {"credits": at_once, "idempotency_key": "paid", "reason": "Ticket 1"}  # both kinds count together
    assert (await support.post(f"/admin/users/{account_id}/credits", json=body)).status_code == 403


async def test_closed_accounts_get_nothing_and_names_stay_out(office: Office, admin: httpx.AsyncClient) -> None:
    name = f"somebody{uuid.uuid4().hex}@example.com"
    account_id = await open_account(office, name)
    assert (await admin.post(path(account_id), json=grant(5, reason=f"for {name}"))).status_code == 422
    await office.app.state.billing.accounts.set_status(account_id, "closed", None, datetime.now(UTC))
    answer = await admin.post(path(account_id), json=grant(5))
    assert answer.status_code in (403, 409)
    assert (await balances(office.urls, account_id))["free"] == 3
    assert (await admin.post(path(UUID(int=7)), json=grant(5))).status_code == 404


async def test_a_grant_is_exported_and_its_key_is_forgotten(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    assert (await admin.post(path(account_id), json=grant(5, "for ann"))).status_code == 201
    [exported] = (await admin.get(f"/admin/users/{account_id}/export")).json()["free_grants"]
    assert (exported["credits"], exported["idempotency_key"]) == (5, "for ann")
    async with office.db.transaction() as tx:
        await erase_person(tx, account_id, datetime.now(UTC))
    await forget_texts(office.db, account_id, BOOKS)
    [row] = await office.rows("SELECT credits, idempotency_key FROM free_grants WHERE account_id = $1", account_id)
    assert tuple(row.values()) == (5, None)
