"""The approvals queue: who may decide, what the audit log keeps, and the pages of the list."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from tests.admin.conftest import Office
from tests.conftest import make_usage_key
from tests.support.wallets import DOLLAR

PROVIDER = "oauth:zero"
QUEUE = "/admin/approvals"


@pytest.fixture(scope="module")
async def agent(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    key = await make_usage_key(office.db, UsageTerms(PROVIDER, max_cost_nanos=DOLLAR), "live", *Permission)
    transport = httpx.ASGITransport(office.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"X-API-Key": key}) as api:
        yield api


async def ask(agent: httpx.AsyncClient) -> tuple[str, str]:
    """A new user's request above a limit. Return the user and the approval that it waits for."""
    user_id = str(uuid.uuid4())
    limit = {"user_id": user_id, "window": "day", "unit": "credits", "amount": "1", "action": "ask"}
    account = {"oauth_provider": PROVIDER, "external_id": user_id}
    assert (await agent.post("/v1/billing/accounts", json=account)).status_code == 201
    assert (await agent.put("/v1/billing/limits", json=limit)).status_code == 200
    return user_id, await request(agent, user_id)


async def request(agent: httpx.AsyncClient, user_id: str) -> str:
    body = {"user_id": user_id, "amount_minor": 200}
    answer = await agent.post("/v1/billing/charges", json=body)
    assert (answer.status_code, answer.json().get("code")) == (402, "approval_required"), answer.text
    return str(answer.json()["approval_id"])


async def queued(viewer: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await viewer.get(QUEUE, params=query)
    assert answer.status_code == 200, answer.text
    return [approval["approval_id"] for approval in answer.json()["approvals"]]


async def test_an_admin_allows_a_request_and_it_succeeds_once(
    office: Office, agent: httpx.AsyncClient, viewer: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    user_id, approval_id = await ask(agent)
    assert approval_id in await queued(viewer)
    decision = {"reason": "Ticket 17", "valid_for_s": 60}
    for _ in range(2):  # a double click decides once
        answer = await support.post(f"{QUEUE}/{approval_id}/approve", json=decision)
        assert (answer.status_code, answer.json()["status"], answer.json()["decided_by"]) == (200, "approved", "admin")
    body = {"user_id": user_id, "amount_minor": 200}
    answers = [await agent.post("/v1/billing/charges", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 402]
    assert approval_id not in await queued(viewer)
    assert approval_id in await queued(viewer, show="all")
    rows = await office.rows("SELECT * FROM admin_audit_log WHERE action = 'approval.approve' AND reason = 'Ticket 17'")
    [row] = [row for row in rows if approval_id in row["after"]]
    assert '"allowed": "2"' in row["after"]
    assert user_id not in str(dict(row))


async def test_a_denied_request_is_not_asked_again(
    agent: httpx.AsyncClient, viewer: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    user_id, approval_id = await ask(agent)
    answer = await support.post(f"{QUEUE}/{approval_id}/deny", json={"reason": "Too much"})
    assert (answer.status_code, answer.json()["status"]) == (200, "denied")
    answer = await agent.post("/v1/billing/charges", json={"user_id": user_id, "amount_minor": 200})
    assert (answer.status_code, answer.json()["code"]) == (402, "limit_exceeded")
    answer = await support.post(f"{QUEUE}/{approval_id}/approve", json={"reason": "After all"})
    assert (answer.status_code, answer.json()["code"]) == (409, "approval_closed")


async def test_the_queue_has_pages_and_an_accounts_own(agent: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    asked = [(await ask(agent))[1] for _ in range(3)]
    first = (await viewer.get(QUEUE, params={"limit": 2})).json()
    second = await queued(viewer, limit=2, cursor=first["next_cursor"])
    assert [approval["approval_id"] for approval in first["approvals"]] == asked[:0:-1]
    assert second[0] == asked[0]
    account_id = first["approvals"][0]["account_id"]
    assert await queued(viewer, account_id=account_id) == [asked[2]]


@pytest.mark.parametrize("body", [{}, {"reason": "no"}, {"reason": "Ticket 17", "amount": "0"}])
async def test_bad_decisions_are_refused(
    agent: httpx.AsyncClient, support: httpx.AsyncClient, body: dict[str, str]
) -> None:
    _, approval_id = await ask(agent)
    answer = await support.post(f"{QUEUE}/{approval_id}/approve", json=body)
    assert answer.status_code == 422


async def test_a_reason_must_not_name_the_user(agent: httpx.AsyncClient, support: httpx.AsyncClient) -> None:
    user_id, approval_id = await ask(agent)
    answer = await support.post(f"{QUEUE}/{approval_id}/deny", json={"reason": f"{user_id} asked"})
    assert (answer.status_code, answer.json().get("field")) == (422, "reason"), answer.text
