"""The timeline: each event once, with its credits, their pool, and the balance right after."""

import uuid
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.caller import Permission
from app.ledger.pools import Credits
from tests.admin.conftest import DOMAIN, Office
from tests.admin.test_users import USERS, adjust, open_account
from tests.conftest import ACTOR, make_key

Moves = list[tuple[str, int, int]]


async def timeline(client: httpx.AsyncClient, account_id: UUID, *kinds: str) -> list[dict[str, Any]]:
    """Oldest first."""
    answer = await client.get(f"{USERS}/{account_id}/timeline", params={"kind": list(kinds)})
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries[::-1]


def moves(entry: dict[str, Any]) -> Moves:
    return [(move["pool"], move["delta"], move["balance_after"]) for move in entry["moves"]]


@pytest.fixture
async def customer(office: Office) -> tuple[UUID, dict[str, str]]:
    """With 25 paid credits and the three free uses that every account begins with."""
    user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    return await open_account(office, user["external_id"], paid=25), user


async def test_tool_uses_show_what_they_cost(
    office: Office, viewer: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    """Five free image generations cost nothing; the sixth costs ten credits."""
    account_id, user = customer
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        for _ in range(6):
            used = await agent.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
            assert used.status_code == 200, used.text
    entries = await timeline(viewer, account_id)
    assert [entry["credits"] for entry in entries] == [0, 0, 0, 0, 0, -10]
    assert [moves(entry) for entry in entries] == [
        *([("image_gen/free", -1, left)] for left in (4, 3, 2, 1, 0)),
        [("paid", -10, 15)],
    ]
    detail = (await viewer.get(f"{USERS}/{account_id}")).json()
    # Six uses, of which one spent ten credits: a use is no credit.
    assert (detail["uses"], detail["total_uses"], detail["paid"]) == (6, 10, 15)


async def test_tool_uses_that_were_given_show_the_products_own_pool(
    office: Office, viewer: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, user = customer
    await office.app.state.tools.grant(account_id, "image_gen", Credits(2), actor=ACTOR, now=datetime.now(UTC))
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        for _ in range(6):
            await agent.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
    last = (await timeline(viewer, account_id))[-1]
    assert (last["credits"], moves(last)) == (0, [("image_gen/paid", -1, 1)])


async def test_charges_show_every_pool_that_paid(
    office: Office, viewer: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, user = customer
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        for amount_minor in (100, 450):
            answer = await agent.post("/v1/billing/charges", json={**user, "amount_minor": amount_minor})
            assert answer.status_code == 201, answer.text
    entries = await timeline(viewer, account_id)
    assert [(entry["credits"], moves(entry)) for entry in entries] == [
        (0, [("free", -1, 2)]),
        (-3, [("free", -2, 0), ("paid", -3, 22)]),
    ]
    detail = (await viewer.get(f"{USERS}/{account_id}")).json()
    assert (detail["uses"], detail["total_uses"]) == (2, 6)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [((), "credit"), (("credit",), "credit"), (("admin",), "admin"), (("credit", "admin"), "credit")],
)
async def test_an_adjustment_appears_once(
    admin: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]], kinds: tuple[str, ...], expected: str
) -> None:
    account_id, _ = customer
    assert (await adjust(admin, account_id, -5)).status_code == 201
    [entry] = await timeline(admin, account_id, *kinds)
    assert (entry["kind"], entry["credits"], moves(entry)) == (expected, -5, [("paid", -5, 20)])
    assert entry["details"]["admin"] == f"admin@{DOMAIN}"
    assert "because" in (entry["title"], entry["details"].get("reason"))


async def test_what_other_admins_did_is_no_adjustments(
    office: Office, admin: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    """A credit given by an API key names no admin, even if admins changed the account."""
    account_id, user = customer
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        given = {**user, "amount_minor": 300, "currency": "USD", "transaction_type": "adjustment", "description": "api"}
        assert (await agent.post("/v1/billing/credits", json=given)).status_code == 201
    assert (await adjust(admin, account_id, 1)).status_code == 201
    entries = await timeline(admin, account_id)
    assert [(entry["title"], entry["details"]["admin"]) for entry in entries] == [
        ("api", None),
        ("because", f"admin@{DOMAIN}"),
    ]
