"""Limits in the back office: counters, changes with their audit rows, and the removal of users' limits."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.auth.caller import Permission
from app.observability.metrics import REGISTRY
from tests.admin.conftest import Office
from tests.conftest import make_key

DAY = {"window": "day", "unit": "credits", "amount": "2", "reason": "a ticket"}


@pytest.fixture
async def service(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    key = await make_key(office.db, "live", *Permission)
    async with office.client(None) as client:
        client.headers["X-API-Key"] = key
        yield client


@pytest.fixture
async def user(service: httpx.AsyncClient) -> dict[str, str]:
    user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    assert (await service.post("/v1/billing/accounts", json=user)).status_code == 201
    return user


@pytest.fixture
async def path(service: httpx.AsyncClient, user: dict[str, str]) -> str:
    found = await service.get("/v1/billing/accounts/by-user", params=user)
    return f"/admin/users/{found.json()['account_id']}/limits"


async def audited(office: Office, path: str, action: str) -> list[dict[str, Any]]:
    return [row for row in await office.audit(action) if row["target_id"] == path.split("/")[3]]


async def test_admins_set_and_change_limits(
    office: Office, admin: httpx.AsyncClient, service: httpx.AsyncClient, user: dict[str, str], path: str
) -> None:
    first = await admin.put(path, json=DAY)
    assert first.status_code == 200, first.text
    assert (first.json()["was"], first.json()["limit"]["amount"], first.json()["limit"]["owner"]) == (
        *(None, "2"),
        "operator",
    )
    charge = {**user, "amount_minor": 100}
    answers = [await service.post("/v1/billing/charges", json=charge) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 402]
    assert answers[2].json()["limit"]["id"] == first.json()["limit"]["id"]
    changed = await admin.put(path, json={**DAY, "amount": "5"})
    assert (changed.json()["was"], changed.json()["limit"]["spent"]) == ("2", "2")
    assert (await admin.put(path, json={**DAY, "amount": "5"})).json()["was"] == "5"
    [listed] = (await admin.get(path)).json()["limits"]
    assert listed == changed.json()["limit"]
    rows = await audited(office, path, "account.set_limit")
    assert len(rows) == 2, "a repeat is not recorded"
    assert {row["reason"] for row in rows} == {"a ticket"}


async def test_a_limit_below_what_was_spent_is_reported_once(
    admin: httpx.AsyncClient, service: httpx.AsyncClient, user: dict[str, str], path: str
) -> None:
    def crossed() -> float:
        return REGISTRY.get_sample_value("billing_limits_crossed_total", {"action": "refuse"}) or 0

    assert (await service.post("/v1/billing/charges", json={**user, "amount_minor": 200})).status_code == 201
    before = crossed()
    for amount in ("1", "1", "0"):
        assert (await admin.put(path, json={**DAY, "amount": amount})).status_code == 200
    assert (await service.post("/v1/billing/charges", json={**user, "amount_minor": 100})).status_code == 402
    assert crossed() == before + 1


async def test_admins_remove_any_limit(
    office: Office, admin: httpx.AsyncClient, service: httpx.AsyncClient, user: dict[str, str], path: str
) -> None:
    limit = (await admin.put(path, json={**DAY, "amount": "0"})).json()["limit"]
    account_id = path.split("/")[3]
    await office.rows("UPDATE limits SET owner = 'user' WHERE account_id = $1 RETURNING 1", uuid.UUID(account_id))
    removed = await admin.post(f"{path}/{limit['id']}/remove", json={"reason": "a ticket"})
    assert (removed.status_code, removed.json()["id"], removed.json()["owner"]) == (200, limit["id"], "user")
    assert (await service.post("/v1/billing/charges", json={**user, "amount_minor": 100})).status_code == 201
    again = await admin.post(f"{path}/{limit['id']}/remove", json={"reason": "a ticket"})
    assert (again.status_code, again.json()["code"]) == (404, "limit_not_found")
    assert len(await audited(office, path, "account.remove_limit")) == 1


async def test_a_limit_of_another_account_is_not_found(admin: httpx.AsyncClient, path: str, office: Office) -> None:
    limit = (await admin.put(path, json=DAY)).json()["limit"]
    key = await make_key(office.db, "live", *Permission)
    async with office.client(None) as client:
        client.headers["X-API-Key"] = key
        other = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
        account_id = (await client.post("/v1/billing/accounts", json=other)).json()["account_id"]
    answer = await admin.post(f"/admin/users/{account_id}/limits/{limit['id']}/remove", json={"reason": "a ticket"})
    assert (answer.status_code, answer.json()["code"]) == (404, "limit_not_found")


@pytest.mark.parametrize(
    "changes", [{"reason": ""}, {"reason": None}, {"amount": "x"}, {"window": "week"}, {"scope": {"type": "key"}}]
)
async def test_bad_input_changes_nothing(changes: dict[str, Any], admin: httpx.AsyncClient, path: str) -> None:
    assert (await admin.put(path, json={**DAY, **changes})).status_code == 422
    assert (await admin.get(path)).json() == {"limits": []}
