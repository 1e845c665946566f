"""Accounts whose metered usage is recorded and priced, and never charged."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.verification import verify_books
from tests.admin.conftest import Office
from tests.books import account_locked, waiting_for_locks
from tests.conftest import make_usage_key
from tests.metering.conftest import put_in_force, usage

PROVIDER = "oauth:google"
ALL = (Permission.USAGE_WRITE, Permission.USAGE_READ, Permission.MONEY_CREDIT)


@pytest.fixture(scope="module")
async def key(office: Office) -> str:
    await put_in_force(office.db, datetime(2026, 1, 1, tzinfo=UTC))
    return await make_usage_key(office.db, UsageTerms(PROVIDER), "live", *ALL)


@pytest.fixture
async def service(office: Office, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with office.client(None) as client:
        client.headers["X-API-Key"] = key
        yield client


@pytest.fixture
async def user_id(service: httpx.AsyncClient) -> str:
    """A user with one dollar."""
    user_id = str(uuid.uuid4())
    await service.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    added = await service.post("/v1/credits/add", json={"user_id": user_id, "amount_cents": 100, "reason": "r"})
    assert added.status_code == 200, added.text
    return user_id


async def account_id_of(office: Office, user_id: str) -> str:
    [row] = await office.rows("SELECT account_id FROM account_identities WHERE external_id = $1", user_id)
    return str(row["account_id"])


async def switch(client: httpx.AsyncClient, account_id: str, enabled: Any, **more: Any) -> httpx.Response:
    body = {"billing_enabled": enabled, "reason": "a partner", **more}
    return await client.post(f"/admin/users/{account_id}/billing", json=body)


async def check(service: httpx.AsyncClient, user_id: str, cents: int) -> bool:
    answer = await service.post("/v1/usage/check", json={"user_id": user_id, "required_cents": cents})
    sufficient: bool = answer.json()["sufficient"]
    return sufficient


async def test_usage_is_recorded_and_priced_and_not_charged(
    office: Office, admin: httpx.AsyncClient, service: httpx.AsyncClient, user_id: str
) -> None:
    account_id = await account_id_of(office, user_id)
    off = await switch(admin, account_id, False)
    assert (off.status_code, off.json()) == (200, {"account_id": account_id, "billing_enabled": False})
    assert (await admin.get(f"/admin/users/{account_id}")).json()["billing_enabled"] is False
    assert await check(service, user_id, 10_000)
    event = usage(user_id, "free-of-charge")
    sent = await service.post("/v1/usage", json=event)
    assert (sent.status_code, sent.json()["cost"], sent.json()["balance_cents"]) == (200, "0.004500", 100)
    quoted = (await service.post("/v1/usage/quote", json={"metric": event["metric"]})).json()
    assert quoted["cost"] == "0.004500"
    [row] = await office.rows("SELECT status, cost_nanos FROM usage_events WHERE event_id = 'free-of-charge'")
    assert (row["status"], row["cost_nanos"]) == ("recorded", 4_500_000)
    assert (await switch(admin, account_id, True)).json()["billing_enabled"] is True
    assert not await check(service, user_id, 10_000)
    repeated = await service.post("/v1/usage", json=event)
    assert (repeated.status_code, repeated.json()["balance_cents"]) == (409, 100)
    charged = await service.post("/v1/usage", json=usage(user_id))
    assert charged.json()["balance"] == "0.995500"
    verification = await verify_books(office.db, datetime.now(UTC))
    assert verification.ok, verification.problem


async def test_each_change_is_audited_once(office: Office, admin: httpx.AsyncClient, user_id: str) -> None:
    account_id = await account_id_of(office, user_id)
    for enabled in (False, False, True):
        assert (await switch(admin, account_id, enabled)).status_code == 200
    audit = [row for row in await office.audit("account.set_billing") if row["target_id"] == account_id]
    assert [(row["before"], row["after"], row["reason"]) for row in audit] == [
        ('{"billing_enabled": true}', '{"billing_enabled": false}', "a partner"),
        ('{"billing_enabled": false}', '{"billing_enabled": true}', "a partner"),
    ]


async def test_waits_for_reports_under_way(office: Office, admin: httpx.AsyncClient, user_id: str) -> None:
    account_id = await account_id_of(office, user_id)
    async with account_locked(office.urls, account_id):
        waiting = asyncio.create_task(switch(admin, account_id, False))
        await waiting_for_locks(office.urls, 1)
        assert not waiting.done()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize("wrong", [None, "false", 0, 1, [], {}])
async def test_only_true_and_false(wrong: object, office: Office, admin: httpx.AsyncClient, user_id: str) -> None:
    refused = await switch(admin, await account_id_of(office, user_id), wrong)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "billing_enabled"]


async def test_refusals(office: Office, admin: httpx.AsyncClient, support: httpx.AsyncClient, user_id: str) -> None:
    account_id = await account_id_of(office, user_id)
    assert (await switch(support, account_id, False)).status_code == 403
    assert (await switch(admin, str(uuid.UUID(int=7)), False)).status_code == 404
    named = await switch(admin, account_id, False, reason=f"for {user_id}")
    assert (named.status_code, named.json()["field"]) == (422, "reason")
    await admin.post(f"/admin/users/{account_id}/erase", json={"confirm": account_id, "reason": "a ticket"})
    assert (await switch(admin, account_id, False)).json()["code"] == "account_erased"
