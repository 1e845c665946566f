"""Putting a customer right: exactly what was asked, once, within the role's limits, with its row in the audit log."""

import asyncio
import json
import uuid
from uuid import UUID

import httpx
import pytest

from app.accounts.directory import Identity, Profile
from app.auth.caller import Permission
from app.ledger.pools import Credits
from tests.admin.conftest import Office
from tests.books import balances
from tests.conftest import ACTOR, make_key


@pytest.fixture
async def customer(office: Office, now: object) -> tuple[UUID, dict[str, str]]:
    """An account with 50 paid credits, and its user as request fields."""
    identity = Identity("live", "oauth:google", f"Customer-{uuid.uuid4()}@example.com")
    billing = office.app.state.billing
    profile = Profile(customer_email=f"Mail_{identity.external_id}", display_name=f"Name% {identity.external_id}")
    account_id = await billing.accounts.directory.resolve(identity, profile, ACTOR, now)
    await billing.credit(account_id, credits=Credits(50), currency=None, transaction_type="grant", actor=ACTOR, now=now)
    return account_id, {"oauth_provider": identity.oauth_provider, "external_id": identity.external_id}


def adjustment(credits: int, key: str, reason: str = "Ticket 1") -> dict[str, object]:
    return {"credits": credits, "idempotency_key": key, "reason": reason}


async def rows_about(office: Office, account_id: UUID) -> list[dict[str, object]]:
    return await office.rows("SELECT * FROM admin_audit_log WHERE target_id = $1 ORDER BY audit_id", str(account_id))


async def test_twenty_equal_adjustments_at_once_are_one(
    office: Office, support: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, _ = customer
    path = f"/admin/users/{account_id}/credits"
    answers = await asyncio.gather(*(support.post(path, json=adjustment(7, "k")) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["replayed"] for answer in answers) == [False] + [True] * 19
    assert (await balances(office.urls, account_id))["paid"] == 57
    [row] = await rows_about(office, account_id)
    assert (row["action"], row["reason"], row["admin_email"]) == ("account.adjust", "Ticket 1", "support@example.com")
    reused = await support.post(path, json=adjustment(8, "k"))
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    [entry] = await office.rows(
        "SELECT * FROM ledger_entries WHERE account_id = $1 AND kind = 'adjustment'", account_id
    )
    assert (entry["delta"], entry["actor_type"], entry["actor_id"]) == (7, "admin", str(row["admin_id"]))


async def test_a_correction_is_no_replay_of_an_api_keys_credit(
    office: Office, support: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    """The same key, amount and type: the correction is given, audited, and repeated under its own credit's id."""
    account_id, user = customer
    path, credit = f"/admin/users/{account_id}/credits", {**user, "amount_minor": 500, "idempotency_key": "k"}
    async with office.client(None) as minter:
        minter.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        sent = {**credit, "transaction_type": "adjustment"}
        answers = await asyncio.gather(
            *(minter.post("/v1/billing/credits", json=sent) for _ in range(5)),
            *(support.post(path, json=adjustment(5, "k")) for _ in range(5)),
        )
    assert sorted(answer.status_code for answer in answers[:5]) == [201] + [409] * 4
    assert sorted(answer.json()["replayed"] for answer in answers[5:]) == [False] + [True] * 4
    ids = [answer.json()["credit_id"] for answer in answers]
    assert (len(set(ids[:5])), len(set(ids[5:])), len(set(ids))) == (1, 1, 2)
    assert (await balances(office.urls, account_id))["paid"] == 60
    [row] = await rows_about(office, account_id)
    assert row["action"] == "account.adjust"


async def test_what_is_taken_must_be_there(
    office: Office, admin: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, _ = customer
    path = f"/admin/users/{account_id}/credits"
    answers = await asyncio.gather(*(admin.post(path, json=adjustment(-20, f"k{i}")) for i in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 402, 402, 402]
    pools = await balances(office.urls, account_id)
    assert (pools["paid"], pools["debt"]) == (10, 0)
    assert len(await rows_about(office, account_id)) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (adjustment(0, "k"), 422),
        (adjustment(1, ""), 422),
        (adjustment(1, "k", reason="  "), 422),
        ({"credits": 1.5, "idempotency_key": "k", "reason": "because"}, 422),
        ({"credits": 1, "reason": "because"}, 422),
        (adjustment(101, "k"), 403),
        (adjustment(-101, "k"), 403),
        (adjustment(100, "k"), 201),
    ],
)
async def test_supports_limit_and_wrong_bodies(
    office: Office,
    support: httpx.AsyncClient,
    customer: tuple[UUID, dict[str, str]],
    body: dict[str, object],
    status: int,
) -> None:
    account_id, _ = customer
    answer = await support.post(f"/admin/users/{account_id}/credits", json=body)
    assert answer.status_code == status, answer.text
    assert len(await rows_about(office, account_id)) == (status == 201)


async def test_suspended_users_agent_hears_why_until_the_account_is_open_again(
    office: Office, support: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, user = customer
    key = await make_key(office.db, "live", *Permission)
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = key
        charge = {**user, "amount_minor": 100, "currency": "USD"}
        for _ in range(2):  # again: no effect
            suspended = await support.post(f"/admin/users/{account_id}/suspend", json={"reason": "chargebacks"})
            assert suspended.json()["status"] == "suspended"
        refused = await agent.post("/v1/billing/charges", json=charge)
        assert (refused.status_code, refused.json()["detail"]) == (403, "Account suspended: chargebacks")
        assert (await support.post(f"/admin/users/{account_id}/reopen", json={"reason": "sorted"})).status_code == 200
        assert (await agent.post("/v1/billing/charges", json=charge)).status_code == 201
    rows = await rows_about(office, account_id)
    audited = [(row["action"], json.loads(str(row["before"])), json.loads(str(row["after"]))) for row in rows]
    assert audited == [
        ("account.suspend", {"status": "active"}, {"status": "suspended", "status_reason": "chargebacks"}),
        ("account.reopen", {"status": "suspended", "status_reason": "chargebacks"}, {"status": "active"}),
    ]


async def test_audit_rows_name_no_person(
    office: Office, admin: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, user = customer
    for action in ("suspend", "reopen", "close", "revoke-tokens"):
        assert (await admin.post(f"/admin/users/{account_id}/{action}", json={"reason": "because"})).status_code == 200
    rows = await rows_about(office, account_id)
    assert len(rows) == 4
    assert user["external_id"].lower() not in str(rows).lower()


async def test_search_finds_by_id_and_by_how_names_begin(
    viewer: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    """In any letter case; % and _ mean themselves."""
    account_id, user = customer
    name = user["external_id"]
    for search in (str(account_id), name[:30].upper(), f"mail_{name}"[:36], f"NAME% {name}"[:38]):
        found = (await viewer.get("/admin/users", params={"search": search})).json()["users"]
        assert [row["account_id"] for row in found] == [str(account_id)], search
    for search in (f"mail%{name}", f"name_ {name}", name[5:], "\\"):
        assert (await viewer.get("/admin/users", params={"search": search})).json()["users"] == []


async def test_pages_are_complete_while_accounts_are_opened(
    office: Office, viewer: httpx.AsyncClient, now: object
) -> None:
    billing = office.app.state.billing
    prefix = f"page-{uuid.uuid4().hex}"

    async def open_account(i: int) -> UUID:
        opened: UUID = await billing.accounts.directory.resolve(
            Identity("test", "oauth:google", f"{prefix}-{i}"), Profile(), ACTOR, now
        )
        return opened

    opened = [await open_account(i) for i in range(25)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"search": prefix, "environment": "test", "limit": "10", **({"cursor": cursor} if cursor else {})}
        page = (await viewer.get("/admin/users", params=params)).json()
        seen += [row["account_id"] for row in page["users"]]
        await open_account(100 + len(seen))  # newer than the first page: on none that follows
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [str(account_id) for account_id in reversed(opened)]


async def test_timeline_merges_everything_newest_first(
    office: Office, admin: httpx.AsyncClient, customer: tuple[UUID, dict[str, str]]
) -> None:
    account_id, user = customer
    key = await make_key(office.db, "live", *Permission)
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = key
        await agent.post("/v1/billing/charges", json={**user, "amount_minor": 100, "currency": "USD"})
        for _ in range(6):  # the main pool pays the sixth, and the timeline lists it once
            await agent.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
    await admin.post(f"/admin/users/{account_id}/credits", json=adjustment(3, "k"))
    path = f"/admin/users/{account_id}/timeline"
    entries = (await admin.get(path)).json()["entries"]
    kinds = [entry["kind"] for entry in entries]
    assert kinds == ["credit", *["tool_use"] * 6, "charge", "credit"]
    assert entries[0]["id"] > entries[1]["id"]
    only = (await admin.get(path, params={"kind": ["charge", "admin"]})).json()["entries"]
    assert [entry["kind"] for entry in only] == ["admin", "charge"]
    pages: list[str] = []
    cursor: str | None = None
    while True:
        page = (await admin.get(path, params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        pages += [entry["id"] for entry in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == [entry["id"] for entry in entries]


async def test_a_keys_life(office: Office, admin: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    """Shown once, narrowed, rotated with a grace period, revoked; each proven by a real request."""
    made = (
        await admin.post(
            "/admin/api-keys",
            json={"environment": "live", "name": "life", "permissions": ["billing:read", "billing:write"]},
        )
    ).json()

    async def call(key: str, path: str = "/v1/billing/check", **fields: object) -> int:
        async with office.client(None) as agent:
            agent.headers["X-API-Key"] = key
            body = {"oauth_provider": "oauth:google", "external_id": "keys@example.com", **fields}
            return (await agent.post(path, json=body)).status_code

    charge = {"path": "/v1/billing/charges", "amount_minor": 100, "currency": "USD"}
    assert await call(made["api_key"]) == 200
    assert await call(made["api_key"], **charge) == 201  # type: ignore[arg-type]  # a path and fields
    secret = made["api_key"].rsplit("_", 1)[1]
    for path in ("/admin/api-keys", f"/admin/api-keys/{made['key_id']}", "/admin/audit-logs"):
        page = (await viewer.get(path)).text
        assert made["key_id"] in page
        assert secret not in page
        assert "argon2" not in page
    path = f"/admin/api-keys/{made['key_id']}"
    assert (await admin.patch(path, json={"permissions": ["billing:read"]})).status_code == 200
    await asyncio.sleep(1)  # within a second, it says
    assert await call(made["api_key"], **charge) == 403  # type: ignore[arg-type]  # a path and fields
    successor = (await admin.post(f"{path}/rotate")).json()
    assert [await call(key) for key in (made["api_key"], successor["api_key"])] == [200, 200]
    assert (await admin.post(f"{path}/rotate")).status_code == 409
    for _ in range(2):
        assert (await admin.post(f"{path}/revoke")).json()["status"] == "revoked"
    await asyncio.sleep(1)
    assert [await call(key) for key in (made["api_key"], successor["api_key"])] == [401, 200]
    actions = await office.rows(
        "SELECT action FROM admin_audit_log WHERE target_id = $1 ORDER BY audit_id", made["key_id"]
    )
    assert [row["action"] for row in actions] == [
        "api_key.create",
        "api_key.change",
        "api_key.rotate",
        "api_key.revoke",
    ]
