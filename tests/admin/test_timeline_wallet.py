"""Grants, money and usage events in the timeline: each once, with the exact amount and the balance right after."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.ledger.pools import Credits
from app.wallet.expiry import expire_grants
from tests.admin.conftest import DOMAIN, Office
from tests.admin.test_timeline import timeline
from tests.conftest import ACTOR, make_usage_key
from tests.metering.conftest import put_in_force, usage
from tests.support.wallets import DOLLAR, give

PROVIDER = "oauth:zero"
TERMS = UsageTerms(PROVIDER, "router", "debt", debt_limit_nanos=100 * DOLLAR, max_cost_nanos=100 * DOLLAR)


@pytest.fixture(scope="module")
async def api(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    await put_in_force(office.db)
    key = await make_usage_key(office.db, TERMS, "live", *Permission)
    transport = httpx.ASGITransport(office.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"X-API-Key": key}) as api:
        yield api


@pytest.fixture
async def customer(office: Office, api: httpx.AsyncClient) -> tuple[str, UUID]:
    """The id of a user without anything, and of the account."""
    user = str(uuid.uuid4())
    assert (await api.post("/v1/usage/check", json={"user_id": user, "required_cents": 0})).status_code == 200
    [row] = await office.rows("SELECT account_id FROM account_identities WHERE external_id = $1", user)
    return user, UUID(str(row["account_id"]))


def shown(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["kind"], entry["title"], [(m["pool"], m["unit"], m["amount"], m["balance"]) for m in entry["moves"]]


def credits_of(entry: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(move["pool"], move["delta"], move["balance_after"]) for move in entry["moves"]]


async def test_money_and_usage_events_show_exact_amounts(
    api: httpx.AsyncClient, viewer: httpx.AsyncClient, customer: tuple[str, UUID]
) -> None:
    user, account_id = customer
    await api.post("/v1/credits/add", json={"user_id": user, "amount_cents": 50, "reason": "Goodwill"})
    earlier = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    reports: list[dict[str, Any]] = [{"cost": "0.0004", "time": earlier, "agent_id": "helper"}, {"cost": "0.9"}]
    for report in reports:
        answer = await api.post("/v1/usage", json=usage(user, **report))
        assert answer.status_code == 200, answer.text
    entries = await timeline(viewer, account_id)
    assert [shown(entry) for entry in entries] == [
        ("money", "Goodwill", [("money", "USD", "0.500000", "0.500000")]),
        ("usage", "claude-3-5-sonnet", [("money", "USD", "-0.000400", "0.499600")]),
        ("usage", "claude-3-5-sonnet", [("money", "USD", "-0.499600", "0.000000")]),
    ]
    late, owing = (entry["details"] for entry in entries[1:])
    assert (late["cost"], late["owed"], late["agent_id"], late["status"]) == ("0.000400", None, "helper", "charged")
    assert late["occurred_at"][:10] == earlier[:10]
    assert (owing["cost"], owing["owed"], owing["status"]) == ("0.900000", "0.400400", "debt")
    assert [entry["kind"] for entry in await timeline(viewer, account_id, "usage")] == ["usage", "usage"]


async def test_grants_are_shown_when_they_are_given_and_when_they_end(
    office: Office,
    api: httpx.AsyncClient,
    viewer: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    customer: tuple[str, UUID],
) -> None:
    user, account_id = customer
    now = datetime.now(UTC)
    await give(office.db, account_id, 7, now - timedelta(hours=2), expires_at=now - timedelta(hours=1))
    assert await expire_grants(office.db, now) >= 1
    body = {"idempotency_key": "k", "reason": "Ticket 1", "money": "5.25"}
    given = await admin.post(f"/admin/users/{account_id}/grants", json=body)
    assert given.status_code == 201, given.text
    path = f"/admin/users/{account_id}/grants/{given.json()['grant']['grant_id']}/end"
    assert (await admin.post(path, json={"reason": "Ticket 2"})).status_code == 200
    await give(office.db, account_id, 3, now)
    spent = {"oauth_provider": PROVIDER, "external_id": user, "amount_minor": 300}
    assert (await api.post("/v1/billing/charges", json=spent)).status_code == 201
    entries = {entry["id"]: entry for entry in await timeline(viewer, account_id)}
    grants = [entry for entry in entries.values() if entry["kind"] == "grant"]
    assert len(entries) == 6
    assert sorted((entry["title"], *credits_of(entry)) for entry in grants) == [
        ("grant_ended", ("grant", -5_250_000_000, 0)),
        ("grant_expiry", ("grant", -7, 0)),
        ("grant_given", ("grant", 3, 3)),
        ("grant_given", ("grant", 7, 7)),
        ("grant_given", ("grant", 5_250_000_000, 5_250_000_000)),
    ]
    by_admin = {entry["title"]: entry["details"] for entry in grants if entry["details"]["admin"] is not None}
    assert {title: details["reason"] for title, details in by_admin.items()} == {
        "grant_given": "Ticket 1",
        "grant_ended": "Ticket 2",
    }
    assert {details["admin"] for details in by_admin.values()} == {f"admin@{DOMAIN}"}
    actions = [entry["title"] for entry in await timeline(viewer, account_id, "admin")]
    assert actions == ["account.give_grant", "account.end_grant"]


async def test_pages_contain_each_event_once(
    office: Office, api: httpx.AsyncClient, viewer: httpx.AsyncClient, customer: tuple[str, UUID]
) -> None:
    """Also a grant that ends in the millisecond in which it is given."""
    user, account_id = customer
    now = datetime.now(UTC)
    for hours in (1, 2, 3):
        await give(office.db, account_id, 1, now - timedelta(hours=hours), expires_at=now - timedelta(minutes=hours))
    await expire_grants(office.db, now)
    await api.post("/v1/usage", json=usage(user, cost="0.1"))
    found: list[str] = []
    params: dict[str, Any] = {"limit": 1}
    while True:
        page = (await viewer.get(f"/admin/users/{account_id}/timeline", params=params)).json()
        found += [f"{entry['title']} {entry['id']}" for entry in page["entries"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert len(found) == len(set(found)) == 7


async def test_a_charge_that_many_grants_pay_shows_all_of_them(
    office: Office, api: httpx.AsyncClient, viewer: httpx.AsyncClient, customer: tuple[str, UUID]
) -> None:
    user, account_id = customer
    now = datetime.now(UTC)
    for _ in range(12):
        await give(office.db, account_id, 2, now)
    fields = {"oauth_provider": PROVIDER, "external_id": user}
    for credits in (21, 5):
        answer = await api.post("/v1/billing/charges", json={**fields, "amount_minor": 100 * credits})
        assert answer.status_code == 201, answer.text
    many, mixed = await timeline(viewer, account_id, "charge")
    assert credits_of(many) == [("grant", -21, 3)]
    assert credits_of(mixed) == [("grant", -3, 0), ("free", -2, 1)]
    assert (many["credits"], mixed["credits"]) == (0, 0)


async def test_a_tool_use_shows_the_pools_that_paid(
    office: Office, api: httpx.AsyncClient, viewer: httpx.AsyncClient, customer: tuple[str, UUID]
) -> None:
    user, account_id = customer
    now = datetime.now(UTC)
    await give(office.db, account_id, 4, now)
    billing = office.app.state.billing
    await billing.credit(account_id, credits=Credits(8), currency=None, transaction_type="grant", actor=ACTOR, now=now)
    for _ in range(6):
        body = {"oauth_provider": PROVIDER, "external_id": user, "product_type": "image_gen"}
        assert (await api.post("/v1/tools/charge", json=body)).status_code == 200
    last = (await timeline(viewer, account_id, "tool_use"))[-1]
    assert (last["credits"], credits_of(last)) == (-6, [("grant", -4, 0), ("paid", -6, 2)])
