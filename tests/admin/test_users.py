"""Finding users by any name among any number of users; and further effects and rejections of corrections."""

import asyncio
import itertools
import json
import uuid
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.accounts.directory import Identity, Opening, Profile
from app.auth.caller import Environment, Permission
from app.billing.service import BillingService
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.books import account_locked, balances, connected
from tests.conftest import ACTOR, make_key, running_app, settings_for

USERS = "/admin/users"
NOBODY = UUID(int=7)
REASON = {"reason": "because"}


async def open_account(
    office: Office,
    external_id: str | None = None,
    *,
    environment: Environment = "live",
    plan_name: str | None = None,
    paid: int = 0,
    **profile: Any,
) -> UUID:
    billing: BillingService = office.app.state.billing
    identity = Identity(environment, "oauth:google", external_id or f"{uuid.uuid4()}@example.com")
    opening = Opening(paid=paid, plan_name=plan_name)
    account_id, created = await billing.accounts.get_or_create_account(
        identity, Profile(**profile), opening, ACTOR, datetime.now(UTC)
    )
    assert created
    return account_id


async def found(client: httpx.AsyncClient, **params: Any) -> set[UUID]:
    """The accounts on all pages, each on one page only, newest first."""
    ids: list[UUID] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        answer = await client.get(USERS, params={"limit": 2, **params, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [UUID(user["account_id"]) for user in page["users"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert ids == sorted(set(ids), reverse=True)
    return set(ids)


async def adjust(client: httpx.AsyncClient, account_id: UUID, credits: int, key: str = "k") -> httpx.Response:
    body = {"credits": credits, "idempotency_key": key, **REASON}
    return await client.post(f"{USERS}/{account_id}/credits", json=body)


async def audit_of(office: Office, account_id: UUID) -> list[dict[str, Any]]:
    return await office.rows("SELECT * FROM admin_audit_log WHERE target_id = $1 ORDER BY audit_id", str(account_id))


# --- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["external_id", "customer_email", "display_name"])
@pytest.mark.parametrize(
    "name",
    ["100%_sure\\", "%", "_", "\\", "\\%", "'; DROP TABLE accounts; --", ":name", "a b ", "\u540d\u524d"],
)
async def test_what_a_name_begins_with_is_taken_literally(
    office: Office, viewer: httpx.AsyncClient, field: str, name: str
) -> None:
    unique = f"u{uuid.uuid4().hex}"  # without its u it would be a UUID
    # If the first name were a pattern, the second name would match it.
    matching, other = f"{unique}{name}end", f"{unique}x{name.translate({ord(c): 'x' for c in '%_'})}end"
    given: list[dict[str, Any]] = [{field: matching}, {field: other}]
    account_id, another = [await open_account(office, **fields) for fields in given]
    assert await found(viewer, search=matching) == {account_id}
    assert await found(viewer, search=f"{unique}{name}") == {account_id}
    assert await found(viewer, search=unique) == {account_id, another}
    assert await found(viewer, search=matching[1:]) == set()


@pytest.mark.parametrize("name", ["\u00c4rztin", "\u00d8YVIND", "\u0130stanbul", "STRASSE \u1e9e"])
async def test_name_with_capitals_beyond_ascii_is_found_as_it_is_written(
    office: Office, viewer: httpx.AsyncClient, name: str
) -> None:
    name = f"{name} {uuid.uuid4().hex}"
    account_id = await open_account(office, display_name=name)
    assert await found(viewer, search=name) == {account_id}


async def test_external_id_that_is_a_uuid_is_found_like_any_other(office: Office, viewer: httpx.AsyncClient) -> None:
    """Many sign-in providers name their users so."""
    external_id = str(uuid.uuid4())
    account_id = await open_account(office, external_id)
    assert await found(viewer, search=external_id[:-1]) == {account_id}
    assert await found(viewer, search=external_id) == {account_id}


async def test_account_id_is_found_in_every_spelling(office: Office, viewer: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    for spelling in (str(account_id), str(account_id).upper(), account_id.hex):
        assert await found(viewer, search=spelling) == {account_id}
    assert await found(viewer, search=str(NOBODY)) == set()


async def test_filters_narrow_each_other(office: Office, admin: httpx.AsyncClient) -> None:
    """Every combination of environment, status, balance and plan, against what the accounts were made with."""
    mark = f"m{uuid.uuid4().hex}"
    made: dict[UUID, tuple[str, str, str, str]] = {}
    environments: tuple[Environment, ...] = ("live", "test")
    statuses, worths, plans = ("active", "suspended", "closed"), ("empty", "paid", "debt"), (f"a-{mark}", f"b-{mark}")
    for environment, status, worth, plan in itertools.product(environments, statuses, worths, plans):
        account_id = await open_account(
            office,
            f"{mark}-{uuid.uuid4()}",
            environment=environment,
            plan_name=plan,
            paid=5 if worth == "paid" else 0,
        )
        if status != "active":
            act = {"suspended": "suspend", "closed": "close"}[status]
            assert (await admin.post(f"{USERS}/{account_id}/{act}", json=REASON)).status_code == 200
        made[account_id] = (environment, status, worth, plan)
    async with connected(office.urls) as connection:
        # Neither state is within reach of a new account; the ledger of this database is not verified.
        for account_id, (_, _, worth, _) in made.items():
            free, debt = (0 if worth == "empty" else 3), (4 if worth == "debt" else 0)
            await connection.execute(
                "UPDATE accounts SET free = $2, debt = $3 WHERE account_id = $1", account_id, free, debt
            )
    choices = itertools.product((None, *environments), (None, *statuses), (None, *worths), (None, *plans))
    for choice in choices:
        params = dict(zip(("environment", "status", "balance", "plan_name"), choice, strict=True))
        expected = {
            account_id
            for account_id, facts in made.items()
            if all(want in (None, fact) for want, fact in zip(choice, facts, strict=True))
        }
        sent = {name: value for name, value in params.items() if value is not None}
        assert await found(admin, search=mark, limit=20, **sent) == expected, params


@pytest.mark.parametrize(
    "params",
    [
        {"status": "gone"},
        {"balance": "rich"},
        {"environment": "prod"},
        {"limit": 0},
        {"limit": 201},
        {"cursor": "x"},
        {"search": ""},
        {"search": "a\0b"},
        {"search": "x" * 256},
    ],
)
async def test_questions_that_make_no_sense_are_422(viewer: httpx.AsyncClient, params: dict[str, Any]) -> None:
    assert (await viewer.get(USERS, params=params)).status_code == 422


async def test_walking_all_pages_meets_everyone_once_while_accounts_are_opened(
    office: Office, viewer: httpx.AsyncClient
) -> None:
    plan = f"walk-{uuid.uuid4().hex}"
    before = {await open_account(office, plan_name=plan) for _ in range(15)}
    stop = asyncio.Event()

    async def keep_opening() -> None:
        while not stop.is_set():
            await open_account(office, plan_name=plan)

    opening = asyncio.create_task(keep_opening())
    try:
        walks = [await found(viewer, plan_name=plan) for _ in range(3)]
    finally:
        stop.set()
        await opening
    assert all(before <= walk for walk in walks)
    assert len(await found(viewer, plan_name=plan)) > len(before)


# --- one user -----------------------------------------------------------------------------------------------------


async def test_detail_tells_the_person_the_pools_and_the_products(office: Office, viewer: httpx.AsyncClient) -> None:
    user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    account_id = await open_account(
        office,
        user["external_id"],
        paid=25,
        customer_email="Somebody@example.com",
        display_name="Somebody",
        marketing_opt_in=True,
        marketing_opt_in_source="web",
    )
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        for _ in range(6):  # five are free, the sixth costs ten credits
            used = await agent.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
            assert used.status_code == 200, used.text
    detail = (await viewer.get(f"{USERS}/{account_id}")).json()
    person = ("external_id", "customer_email", "display_name", "marketing_opt_in", "marketing_opt_in_source")
    assert [detail[name] for name in person] == [user["external_id"], "Somebody@example.com", "Somebody", True, "web"]
    assert (detail["status"], detail["status_reason"], detail["currency"]) == ("active", None, "USD")
    stored = await balances(office.urls, account_id)
    assert {name: detail[name] for name in ("daily_free", "free", "paid", "debt")} == {
        name: stored[name] for name in ("daily_free", "free", "paid", "debt")
    }
    products = {product.pop("product_type"): product for product in detail["products"]}
    assert set(products) == {"web_search", "image_gen"}
    assert products["image_gen"] == {"free": 0, "paid": 0, "main_pool": 1, "total_uses": 6}
    assert products["web_search"]["total_uses"] == 0
    listed = (await viewer.get(USERS, params={"search": str(account_id)})).json()["users"]
    assert listed == [{name: detail[name] for name in listed[0]}]


async def test_person_who_was_erased_still_has_an_account(office: Office, admin: httpx.AsyncClient) -> None:
    account_id = await open_account(office, paid=5, display_name="Gone")
    async with connected(office.urls) as connection:
        for table in ("account_identities", "account_profiles"):
            await connection.execute(f"DELETE FROM {table} WHERE account_id = $1", account_id)
    detail = (await admin.get(f"{USERS}/{account_id}")).json()
    assert [detail[name] for name in ("external_id", "customer_email", "display_name")] == [None, None, None]
    assert (await adjust(admin, account_id, -5)).json()["paid_after"] == 0
    revoked = await admin.post(f"{USERS}/{account_id}/revoke-tokens", json=REASON)
    assert (revoked.status_code, revoked.json()["code"]) == (404, "account_not_found")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/timeline", None),
        ("POST", "/credits", {"credits": 1, "idempotency_key": "k", **REASON}),
        ("POST", "/suspend", REASON),
        ("POST", "/reopen", REASON),
        ("POST", "/close", REASON),
        ("POST", "/revoke-tokens", REASON),
    ],
)
async def test_nobody_is_404_and_leaves_no_audit_row(
    office: Office, admin: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await admin.request(method, f"{USERS}/{NOBODY}{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")
    assert await audit_of(office, NOBODY) == []


async def test_timeline_is_of_this_account_alone_and_says_what_each_thing_was(
    office: Office, admin: httpx.AsyncClient
) -> None:
    user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    account_id, neighbour = await open_account(office, user["external_id"]), await open_account(office)
    assert (await adjust(admin, neighbour, 9)).status_code == 201
    given = (await adjust(admin, account_id, 9)).json()
    async with office.client(None) as agent:
        agent.headers["X-API-Key"] = await make_key(office.db, "live", *Permission)
        charge = {**user, "amount_minor": 450, "description": "Five", "idempotency_key": "c1"}
        charged = (await agent.post("/v1/billing/charges", json=charge)).json()
        assert (await agent.post("/v1/billing/charges", json=charge)).status_code == 409
    path = f"{USERS}/{account_id}/timeline"
    assert (await admin.post(f"{USERS}/{account_id}/suspend", json=REASON)).status_code == 200
    entries = {entry["kind"]: entry for entry in (await admin.get(path)).json()["entries"]}
    assert set(entries) == {"charge", "credit", "admin"}
    assert (entries["charge"]["id"], entries["charge"]["title"]) == (charged["charge_id"], "Five")
    assert entries["charge"]["credits"] == -2  # of 4.5 credits, rounded up, three were free
    assert {"amount_minor": 450, "idempotency_key": "c1"}.items() <= entries["charge"]["details"].items()
    assert (entries["credit"]["id"], entries["credit"]["credits"]) == (given["credit_id"], 9)
    assert (entries["admin"]["title"], entries["admin"]["credits"]) == ("account.suspend", None)
    assert entries["admin"]["details"]["reason"] == "because"
    for kind in ("charge", "tool_use", "credit", "purchase", "admin"):
        only = (await admin.get(path, params={"kind": kind})).json()["entries"]
        # Asked for alone, what admins did holds the adjustment as well.
        assert [entry["kind"] for entry in only] == [kind] * {"charge": 1, "credit": 1, "admin": 2}.get(kind, 0)
    assert (await admin.get(path, params={"kind": "gossip"})).status_code == 422


# --- putting right ------------------------------------------------------------------------------------------------


async def test_supports_limit_is_a_setting_and_admins_have_none(
    office: Office, admin: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    account_id = await open_account(office)
    refused = await adjust(support, account_id, 101)
    assert (refused.status_code, refused.json()["code"]) == (403, "admin_forbidden")
    assert (await adjust(admin, account_id, 101)).json()["paid_after"] == 101
    settings = settings_for(office.urls, admin_session_secret=SECRET, admin_support_credit_limit=5)
    async with running_app(settings) as app:
        strict = Office(app, office.urls, office.tokens)
        async with strict.client("support") as client:
            assert [(await adjust(client, account_id, n, f"k{n}")).status_code for n in (6, -6, 5, -5)] == [
                *(403, 403),
                *(201, 201),
            ]


async def test_correction_in_flight_waits_for_the_account_and_then_counts_what_is_there(
    office: Office, admin: httpx.AsyncClient
) -> None:
    account_id = await open_account(office, paid=5)
    async with account_locked(office.urls, account_id):
        both = [asyncio.create_task(adjust(admin, account_id, -5, f"k{i}")) for i in range(2)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in both)
    assert sorted([(await task).status_code for task in both]) == [201, 402]
    assert (await balances(office.urls, account_id))["paid"] == 0
    assert len(await audit_of(office, account_id)) == 1


async def test_closed_account_gives_back_but_receives_nothing(
    office: Office, admin: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    account_id = await open_account(office, paid=5)
    assert (await support.post(f"{USERS}/{account_id}/close", json=REASON)).status_code == 403
    assert (await admin.post(f"{USERS}/{account_id}/close", json=REASON)).json()["status"] == "closed"
    refused = await adjust(admin, account_id, 1)
    assert (refused.status_code, refused.json()["code"]) == (403, "account_closed")
    assert (await adjust(admin, account_id, -5)).json()["paid_after"] == 0
    assert [row["action"] for row in await audit_of(office, account_id)] == ["account.close", "account.adjust"]


async def test_of_many_equal_changes_of_status_one_is_told(office: Office, support: httpx.AsyncClient) -> None:
    account_id = await open_account(office)
    for action in ("suspend", "reopen"):
        path = f"{USERS}/{account_id}/{action}"
        answers = await asyncio.gather(*(support.post(path, json=REASON) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
    assert [row["action"] for row in await audit_of(office, account_id)] == ["account.suspend", "account.reopen"]


async def test_another_reason_for_a_suspension_is_no_silent_change(office: Office, support: httpx.AsyncClient) -> None:
    """An admin changes the text that the agent receives: either nothing changes or the audit log records it."""
    account_id = await open_account(office)
    for reason in ("first reason", "second reason"):
        assert (await support.post(f"{USERS}/{account_id}/suspend", json={"reason": reason})).status_code == 200
    reasons = [row["reason"] for row in await audit_of(office, account_id)]
    assert (await support.get(f"{USERS}/{account_id}")).json()["status_reason"] == reasons[-1]


async def test_revoking_tokens_moves_the_users_cut_off(office: Office, support: httpx.AsyncClient) -> None:
    external_id = f"{uuid.uuid4()}@example.com"
    account_id = await open_account(office, external_id)
    assert (await support.post(f"{USERS}/{account_id}/revoke-tokens", json=REASON)).status_code == 200
    [cutoff] = await office.rows("SELECT * FROM token_cutoffs WHERE external_id = $1", external_id)
    assert (cutoff["environment"], cutoff["oauth_provider"]) == ("live", "oauth:google")
    [row] = await audit_of(office, account_id)
    assert (row["action"], row["reason"]) == ("account.revoke_tokens", "because")
    assert datetime.fromisoformat(json.loads(row["after"])["tokens_before"]) == cutoff["not_before"]


@pytest.mark.parametrize("reason", [None, "", "  ", "ab", " ab ", "a\0bc", "x" * 501])
async def test_no_change_without_a_reason(office: Office, admin: httpx.AsyncClient, reason: str | None) -> None:
    account_id = await open_account(office)
    bodies = {"credits": {"credits": 1, "idempotency_key": "k"}, "suspend": {}, "close": {}, "revoke-tokens": {}}
    for action, body in bodies.items():
        answer = await admin.post(f"{USERS}/{account_id}/{action}", json={**body, "reason": reason})
        assert answer.status_code == 422
    assert await audit_of(office, account_id) == []


@pytest.mark.parametrize("field", ["external_id", "customer_email", "display_name"])
async def test_a_reason_that_names_the_user_is_refused(office: Office, admin: httpx.AsyncClient, field: str) -> None:
    name = f"Somebody {uuid.uuid4().hex}"
    given: dict[str, Any] = {field: name}
    account_id = await open_account(office, **given)
    reason = {"reason": f"from the user: {name.upper()}."}
    bodies = {"credits": {"credits": 1, "idempotency_key": "k"}, "suspend": {}, "close": {}, "revoke-tokens": {}}
    for action, body in bodies.items():
        answer = await admin.post(f"{USERS}/{account_id}/{action}", json={**body, **reason})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert await audit_of(office, account_id) == []


async def test_no_audit_row_names_a_person_by_any_of_their_names(office: Office, admin: httpx.AsyncClient) -> None:
    names: dict[str, Any] = {
        field: f"{field}-{uuid.uuid4().hex}" for field in ("customer_email", "display_name", "external_id")
    }
    account_id = await open_account(office, **names)
    assert (await adjust(admin, account_id, 3)).status_code == 201
    for action in ("suspend", "reopen", "revoke-tokens", "close", "reopen"):
        assert (await admin.post(f"{USERS}/{account_id}/{action}", json=REASON)).status_code == 200
    rows = await audit_of(office, account_id)
    assert len(rows) == 6
    assert {(row["admin_email"], row["environment"], row["reason"]) for row in rows} == {
        (f"admin@{DOMAIN}", "live", "because")
    }
    everything = json.dumps(await office.rows("SELECT * FROM admin_audit_log"), default=str)
    assert not [name for name in names.values() if name in everything]
