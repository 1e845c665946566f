"""Holds of an account in the back office: the open ones, all of them, and their pages."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.auth.caller import Permission
from tests.admin.conftest import Office
from tests.conftest import make_key

HOLDS = "/v1/billing/holds"


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
    credit = {**user, "amount_minor": 1000, "transaction_type": "grant"}
    assert (await service.post("/v1/billing/credits", json=credit)).status_code == 201
    return user


async def opened(service: httpx.AsyncClient, user: dict[str, str], **fields: Any) -> dict[str, Any]:
    answer = await service.post(HOLDS, json={**user, "amount_minor": 100, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_holds_are_listed_newest_first(
    viewer: httpx.AsyncClient, service: httpx.AsyncClient, user: dict[str, str]
) -> None:
    found = await service.get("/v1/billing/accounts/by-user", params=user)
    path = f"/admin/users/{found.json()['account_id']}/holds"
    assert (await viewer.get(path)).json() == {"holds": [], "next_cursor": None}
    first, second, third = [await opened(service, user, product_type=f"work_{number}") for number in range(3)]
    captured = await service.post(f"{HOLDS}/{second['hold_id']}/capture", json={"amount_minor": 100})
    assert captured.status_code == 200, captured.text
    second = (await service.get(f"{HOLDS}/{second['hold_id']}")).json()
    assert (await viewer.get(path)).json() == {"holds": [third, first], "next_cursor": None}
    page = (await viewer.get(path, params={"show": "all", "limit": 2})).json()
    assert page["holds"] == [third, second]
    rest = await viewer.get(path, params={"show": "all", "limit": 2, "cursor": page["next_cursor"]})
    assert rest.json() == {"holds": [first], "next_cursor": None}


async def test_holds_of_an_unknown_account_are_404(viewer: httpx.AsyncClient) -> None:
    assert (await viewer.get(f"/admin/users/{uuid.uuid4()}/holds")).status_code == 404
