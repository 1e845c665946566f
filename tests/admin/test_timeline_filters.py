"""Filters of a timeline: before a moment, a page size, or the charges of one interaction."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.auth.caller import Permission
from tests.admin.conftest import Office
from tests.conftest import make_key


@pytest.fixture
async def spent(office: Office) -> tuple[str, list[str], dict[str, str]]:
    """A user's account, the interactions that were charged, oldest first, and the user as request fields."""
    who = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    interactions = [uuid.uuid4().hex for _ in range(4)]
    key = await make_key(office.db, "live", *Permission)
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = key
        account = {**who, "initial_balance_minor": 90_000}
        account_id = (await agent.post("/v1/billing/accounts", json=account)).json()["account_id"]
        for prefix, interaction in zip(("", "charge:", "", "charge:"), interactions, strict=True):
            body = {**who, "amount_minor": 100, "idempotency_key": f"{prefix}{interaction}"}
            assert (await agent.post("/v1/billing/charges", json=body)).status_code == 201
        tool = {**who, "product_type": "web_search", "request_id": interactions[0], "idempotency_key": "t"}
        assert (await agent.post("/v1/tools/charge", json=tool)).status_code == 200
    return account_id, interactions, who


async def timeline(client: httpx.AsyncClient, account_id: str, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/admin/users/{account_id}/timeline", params=params)
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


def made_at_ms(entry_id: str) -> int:
    """Return the time in an id, UUIDv7: Unix milliseconds of the database's clock."""
    return uuid.UUID(entry_id).int >> 80


async def test_a_moment_leaves_out_what_is_not_older(
    office: Office, viewer: httpx.AsyncClient, spent: tuple[str, list[str], dict[str, str]]
) -> None:
    account_id, _, _ = spent
    everything = await timeline(viewer, account_id)
    assert len(everything) == 5
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await timeline(viewer, account_id, until=later) == everything
    until = datetime.fromisoformat(everything[2]["at"])
    older = await timeline(viewer, account_id, until=until.isoformat())
    assert older == [entry for entry in everything if made_at_ms(entry["id"]) < round(until.timestamp() * 1000)]
    assert await timeline(viewer, account_id, until="2001-01-01T00:00:00Z") == []
    page = await timeline(viewer, account_id, until=later, cursor=everything[3]["id"])
    assert page == everything[4:]  # a page's cursor continues from there
    assert len(await timeline(viewer, account_id, limit=2)) == 2


@pytest.mark.parametrize("number", range(4))
async def test_an_interaction_is_found_by_its_id(
    office: Office, viewer: httpx.AsyncClient, spent: tuple[str, list[str], dict[str, str]], number: int
) -> None:
    """Under either spelling of its idempotency key, with the tool uses that its request named."""
    account_id, interactions, _ = spent
    found = await timeline(viewer, account_id, interaction_id=interactions[number])
    keys = [entry["details"]["idempotency_key"] for entry in found if entry["kind"] == "charge"]
    assert len(keys) == 1
    assert interactions[number] in keys[0]
    assert [entry["kind"] for entry in found] == (["tool_use", "charge"] if number == 0 else ["charge"])
    assert await timeline(viewer, account_id, interaction_id=interactions[number], kind="credit") == []
    assert await timeline(viewer, account_id, interaction_id="of nobody") == []
