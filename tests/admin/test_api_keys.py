"""Edge cases of API keys: rejected request bodies, ended keys, concurrent changes by two admins."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from app.clock import request_time
from app.db.schema_check import newest_revision
from app.db.version_mark import OLDEST
from tests.admin.conftest import Office
from tests.books import connected

KEYS = "/admin/api-keys"
KEY = {"environment": "live", "name": "Agent 7", "permissions": ["billing:write", "billing:read"]}
UNKNOWN = "0123456789abcdef"
TAKES_EFFECT_IN_S = 1
FACTS = {
    *("key_id", "environment", "name", "status", "permissions", "ip_allow_list", "client_subject"),
    "rate_limit_per_minute",
    *("identity_provider", "event_source", "usage_policy", "debt_limit_nanos", "max_cost_nanos", "double_charges"),
    *("created_at", "expires_at", "revoked_at", "rotated_to", "grace_ends_at", "last_used_at"),
    *("requests_total", "credits_charged"),
}


async def create(admin: httpx.AsyncClient, **fields: Any) -> tuple[str, str]:
    """The id and the text of a new key."""
    answer = await admin.post(KEYS, json={**KEY, **fields})
    assert answer.status_code == 201, answer.text
    assert set(answer.json()) == {"key_id", "api_key"}
    return answer.json()["key_id"], answer.json()["api_key"]


async def use(office: Office, api_key: str) -> httpx.Response:
    async with office.client(None) as agent:
        body = {"oauth_provider": "oauth:google", "external_id": "keys@example.com"}
        return await agent.post("/v1/billing/check", json=body, headers={"X-API-Key": api_key})


async def audit_of(office: Office, key_id: str) -> list[dict[str, Any]]:
    rows = await office.rows("SELECT * FROM admin_audit_log WHERE target_id = $1 ORDER BY audit_id", key_id)
    return [{**row, **{name: json.loads(row[name] or "null") for name in ("before", "after")}} for row in rows]


async def test_new_key_is_what_was_asked_for(office: Office, admin: httpx.AsyncClient) -> None:
    expires_at = (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="milliseconds")  # as answers tell it
    chosen = {"ip_allow_list": ["127.0.0.0/8", "2001:db8::/32"], "rate_limit_per_minute": 5, "expires_at": expires_at}
    key_id, api_key = await create(admin, **chosen)
    detail = (await admin.get(f"{KEYS}/{key_id}")).json()
    assert set(detail) == FACTS
    assert (detail["name"], detail["environment"], detail["status"]) == ("Agent 7", "live", "active")
    assert detail["permissions"] == ["billing:read", "billing:write"]
    assert (detail["ip_allow_list"], detail["rate_limit_per_minute"]) == (["127.0.0.0/8", "2001:db8::/32"], 5)
    assert datetime.fromisoformat(detail["expires_at"]) == datetime.fromisoformat(expires_at)
    assert [(await use(office, api_key)).status_code for _ in range(6)] == [200] * 5 + [429]
    [row] = await audit_of(office, key_id)
    assert (row["action"], row["environment"], row["before"]) == ("api_key.create", "live", None)
    assert (row["after"]["name"], row["after"]["rate_limit_per_minute"]) == ("Agent 7", 5)


async def test_key_is_bound_to_a_client_certificate_and_let_go(office: Office, admin: httpx.AsyncClient) -> None:
    subject = "CN=agent-7,O=Example"
    key_id, api_key = await create(admin, client_subject=subject)
    assert (await admin.get(f"{KEYS}/{key_id}")).json()["client_subject"] == subject
    refused = await use(office, api_key)
    assert (refused.status_code, refused.json()["code"]) == (403, "client_certificate_required")
    changed = await admin.patch(f"{KEYS}/{key_id}", json={"client_subject": None})
    assert changed.json()["client_subject"] is None
    await asyncio.sleep(TAKES_EFFECT_IN_S)
    assert (await use(office, api_key)).status_code == 200
    created, let_go = await audit_of(office, key_id)
    assert created["after"]["client_subject"] == subject
    assert (let_go["before"], let_go["after"]) == ({"client_subject": subject}, {"client_subject": None})


async def test_usage_terms_are_chosen_changed_and_inherited(office: Office, admin: httpx.AsyncClient) -> None:
    terms = {"identity_provider": "oauth:zero", "usage_policy": "debt", "debt_limit_nanos": 5, "max_cost_nanos": 7}
    key_id, _ = await create(admin, permissions=["usage:write", "usage:set_cost"], **terms)
    path = f"{KEYS}/{key_id}"
    read = (await admin.get(path)).json()
    assert {name: read[name] for name in terms} == terms
    assert (read["event_source"], read["permissions"]) == (f"api-key:{key_id}", ["usage:set_cost", "usage:write"])
    for change, field in (
        ({"debt_limit_nanos": None}, "debt_limit_nanos"),
        ({"max_cost_nanos": None}, "max_cost_nanos"),
    ):
        refused = await admin.patch(path, json=change)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    changed = await admin.patch(
        path, json={"usage_policy": "refuse", "debt_limit_nanos": None, "event_source": "other"}
    )
    assert (changed.json()["usage_policy"], changed.json()["debt_limit_nanos"]) == ("refuse", None)
    assert (changed.json()["identity_provider"], changed.json()["max_cost_nanos"]) == ("oauth:zero", 7)
    successor = (await admin.post(f"{path}/rotate")).json()["key_id"]
    inherited = (await admin.get(f"{KEYS}/{successor}")).json()
    for name in ("permissions", "identity_provider", "event_source", "usage_policy", "max_cost_nanos"):
        assert inherited[name] == changed.json()[name], name
    assert inherited["event_source"] == f"api-key:{key_id}"
    audited = (await audit_of(office, key_id))[1]
    assert audited["before"] == {"usage_policy": "debt", "debt_limit_nanos": 5}
    assert audited["after"] == {"usage_policy": "refuse", "debt_limit_nanos": None}


async def test_no_answer_but_the_first_holds_anything_secret(
    office: Office, admin: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    key_id, api_key = await create(admin)
    secret = api_key.rsplit("_", 1)[1]
    texts = [
        (await viewer.get(KEYS)).text,
        (await viewer.get(KEYS, params={"environment": "live"})).text,
        (await viewer.get(f"{KEYS}/{key_id}")).text,
        (await admin.patch(f"{KEYS}/{key_id}", json={"name": "renamed"})).text,
        (await viewer.get("/admin/audit-logs")).text,
        (await viewer.get("/admin/audit-logs.csv")).text,
    ]
    rotated = await admin.post(f"{KEYS}/{key_id}/rotate")
    assert secret not in rotated.text
    texts.append((await admin.post(f"{KEYS}/{key_id}/revoke")).text)
    [row] = await office.rows("SELECT secret_hash FROM api_keys WHERE key_id = $1", key_id)
    for text in texts:
        assert key_id in text
        assert secret not in text
        assert row["secret_hash"] not in text
        assert row["secret_hash"][-20:] not in text
        assert rotated.json()["api_key"] not in text
    everything = json.dumps(await office.rows("SELECT * FROM admin_audit_log"), default=str)
    assert secret not in everything
    assert row["secret_hash"] not in everything


async def test_credits_charged_are_told_wherever_a_key_is(office: Office, admin: httpx.AsyncClient) -> None:
    key_id, api_key = await create(admin)
    user = {"oauth_provider": "oauth:google", "external_id": "charged-by-key@example.com"}
    async with office.client(None) as agent:
        for cost in (200, 100, 100):  # the last is more than there is
            charge = {**user, "amount_minor": cost, "currency": "USD"}
            await agent.post("/v1/billing/charges", json=charge, headers={"X-API-Key": api_key})
    listed = {key["key_id"]: key for key in (await admin.get(KEYS)).json()["api_keys"]}
    details = [
        listed[key_id],
        (await admin.get(f"{KEYS}/{key_id}")).json(),
        (await admin.patch(f"{KEYS}/{key_id}", json={"name": "renamed"})).json(),
        (await admin.post(f"{KEYS}/{key_id}/revoke")).json(),
    ]
    assert [key["credits_charged"] for key in details] == [3] * 4


async def test_list_is_newest_first_and_of_one_environment_when_asked(
    admin: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    live, _ = await create(admin)
    test, text = await create(admin, environment="test")
    assert text.startswith("cbk_test_")
    listed = [key["key_id"] for key in (await viewer.get(KEYS)).json()["api_keys"]]
    assert listed[:2] == [test, live]
    for environment, here, there in (("live", live, test), ("test", test, live)):
        keys = (await viewer.get(KEYS, params={"environment": environment})).json()["api_keys"]
        assert {key["environment"] for key in keys} == {environment}
        assert here in [key["key_id"] for key in keys]
        assert there not in [key["key_id"] for key in keys]


@pytest.mark.parametrize(
    "wrong",
    [
        {"environment": "prod"},
        {"name": ""},
        {"name": "a\0b"},
        {"name": "x" * 256},
        {"permissions": []},
        {"permissions": ["billing:everything"]},
        {"permissions": ["usage:set_cost"]},
        {"identity_provider": "zero"},
        {"identity_provider": "oauth:\0"},
        {"event_source": "a b"},
        {"usage_policy": "forgive"},
        {"usage_policy": "debt"},
        {"debt_limit_nanos": -1},
        {"debt_limit_nanos": 2**53},
        {"max_cost_nanos": 1.5},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"ip_allow_list": ["10.0.0.1/8"]},
        {"ip_allow_list": ["example.com"]},
        {"ip_allow_list": ["10.0.0.1"] * 101},
        {"client_subject": ""},
        {"client_subject": "a\0b"},
        {"client_subject": "x" * 513},
        {"rate_limit_per_minute": 0},
        {"rate_limit_per_minute": 2**31},
    ],
)
async def test_key_that_makes_no_sense_is_not_made(
    office: Office, admin: httpx.AsyncClient, wrong: dict[str, Any]
) -> None:
    count = "SELECT (SELECT count(*) FROM api_keys) AS keys, (SELECT count(*) FROM admin_audit_log) AS audited"
    before = await office.rows(count)
    answer = await admin.post(KEYS, json={**KEY, **wrong})
    assert answer.status_code == 422, answer.text
    assert await office.rows(count) == before


async def test_change_touches_only_what_is_given_and_null_takes_a_limit_away(
    office: Office, admin: httpx.AsyncClient
) -> None:
    expires_at = (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="milliseconds")  # as answers tell it
    key_id, api_key = await create(admin, rate_limit_per_minute=1, expires_at=expires_at, ip_allow_list=["10.0.0.0/8"])
    assert (await use(office, api_key)).status_code == 403  # we call from 127.0.0.1
    path = f"{KEYS}/{key_id}"
    before = (await admin.get(path)).json()
    changed = (await admin.patch(path, json={"ip_allow_list": []})).json()
    assert changed == {**before, "ip_allow_list": []}
    changed = (await admin.patch(path, json={"rate_limit_per_minute": None, "expires_at": None, "name": None})).json()
    assert changed == {**before, "ip_allow_list": [], "rate_limit_per_minute": None, "expires_at": None}
    await asyncio.sleep(TAKES_EFFECT_IN_S)
    assert [(await use(office, api_key)).status_code for _ in range(3)] == [200] * 3
    changes = [(row["before"], row["after"]) for row in (await audit_of(office, key_id))[1:]]
    assert changes[0] == ({"ip_allow_list": ["10.0.0.0/8"]}, {"ip_allow_list": []})
    assert changes[1][1] == {"rate_limit_per_minute": None, "expires_at": None}
    assert changes[1][0]["rate_limit_per_minute"] == 1


@pytest.mark.parametrize("change", [{}, {"name": None}, {"name": KEY["name"]}, {"permissions": KEY["permissions"]}])
async def test_change_that_changes_nothing_is_not_told(
    office: Office, admin: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    key_id, _ = await create(admin)
    assert (await admin.patch(f"{KEYS}/{key_id}", json=change)).status_code == 200
    assert [row["action"] for row in await audit_of(office, key_id)] == ["api_key.create"]


async def test_expiry_that_has_passed_ends_the_key(office: Office, admin: httpx.AsyncClient) -> None:
    key_id, api_key = await create(admin)
    assert (await use(office, api_key)).status_code == 200
    past = {"expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}
    assert (await admin.patch(f"{KEYS}/{key_id}", json=past)).json()["status"] == "expired"
    await asyncio.sleep(TAKES_EFFECT_IN_S)
    assert (await use(office, api_key)).status_code == 401


@pytest.mark.parametrize("ended", ["revoked", "expired", "rotated"])
async def test_ended_key_is_neither_changed_nor_rotated(office: Office, admin: httpx.AsyncClient, ended: str) -> None:
    key_id, _ = await create(admin)
    path = f"{KEYS}/{key_id}"
    match ended:
        case "revoked":
            await admin.post(f"{path}/revoke")
        case "expired":
            await admin.patch(path, json={"expires_at": "2020-01-01T00:00:00Z"})
        case _:
            await admin.post(f"{path}/rotate")
    assert (await admin.get(path)).json()["status"] == ended
    audited = len(await audit_of(office, key_id))
    for answer in (await admin.patch(path, json={"name": "new"}), await admin.post(f"{path}/rotate")):
        assert (answer.status_code, answer.json()["code"]) == (409, "api_key_not_active")
        assert ended in answer.json()["detail"]
    assert len(await audit_of(office, key_id)) == audited


async def test_successor_inherits_and_the_old_key_ends_with_its_grace_period(
    office: Office, admin: httpx.AsyncClient
) -> None:
    old_id, old = await create(admin, rate_limit_per_minute=50, ip_allow_list=["127.0.0.1/32"])
    new = (await admin.post(f"{KEYS}/{old_id}/rotate")).json()
    rotated, successor = [(await admin.get(f"{KEYS}/{key_id}")).json() for key_id in (old_id, new["key_id"])]
    inherited = ("environment", "name", "permissions", "rate_limit_per_minute", "ip_allow_list", "expires_at")
    assert [successor[name] for name in inherited] == [rotated[name] for name in inherited]
    assert (rotated["status"], rotated["rotated_to"], successor["status"]) == ("rotated", new["key_id"], "active")
    ends_at = datetime.fromisoformat(rotated["grace_ends_at"])
    grace = ends_at - datetime.now(UTC)
    await asyncio.sleep(1)  # by then every process knows of the rotation
    assert timedelta(hours=23) < grace <= timedelta(days=1)
    for moment, status in ((ends_at - timedelta(seconds=1), 200), (ends_at + timedelta(seconds=1), 401)):
        office.app.dependency_overrides[request_time] = partial(_same, moment)
        try:
            assert (await use(office, old)).status_code == status
            assert (await use(office, new["api_key"])).status_code == 200
        finally:
            office.app.dependency_overrides.pop(request_time)


async def _same(moment: datetime) -> datetime:
    return moment


@pytest.mark.parametrize("action", ["rotate", "revoke"])
async def test_two_admins_at_once_leave_one_audit_row(office: Office, admin: httpx.AsyncClient, action: str) -> None:
    key_id, _ = await create(admin)
    async with connected(office.urls) as connection, connection.transaction():
        await connection.execute("SELECT FROM api_keys WHERE key_id = $1 FOR UPDATE", key_id)
        both = [asyncio.create_task(admin.post(f"{KEYS}/{key_id}/{action}")) for _ in range(2)]
        await asyncio.sleep(0.5)  # until both wait for the key
    statuses = sorted([(await task).status_code for task in both])
    assert statuses == ([201, 409] if action == "rotate" else [200, 200])
    assert [row["action"] for row in await audit_of(office, key_id)] == ["api_key.create", f"api_key.{action}"]


async def test_what_a_change_found_is_told_even_when_somebody_else_was_changing_it(
    office: Office, admin: httpx.AsyncClient
) -> None:
    key_id, _ = await create(admin)
    async with connected(office.urls) as connection:
        async with connection.transaction():
            await connection.execute("UPDATE api_keys SET name = 'between' WHERE key_id = $1", key_id)
            change = asyncio.create_task(admin.patch(f"{KEYS}/{key_id}", json={"name": "last"}))
            await asyncio.sleep(0.5)  # until it waits for the key
        assert (await change).status_code == 200
    row = (await audit_of(office, key_id))[-1]
    assert (row["before"], row["after"]) == ({"name": "between"}, {"name": "last"})


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("POST", "/revoke")])
@pytest.mark.parametrize("key_id", [UNKNOWN, "x", "%00", "x" * 1000])
async def test_unknown_key_is_404_and_leaves_no_audit_row(
    office: Office, admin: httpx.AsyncClient, method: str, path: str, key_id: str
) -> None:
    before = await office.rows("SELECT count(*) FROM admin_audit_log")
    body = {"name": "new"} if method == "PATCH" else None
    answer = await admin.request(method, f"{KEYS}/{key_id}{path}", json=body)
    if key_id == UNKNOWN:
        assert (answer.status_code, answer.json()["code"]) == (404, "api_key_not_found")
    assert answer.status_code in (404, 422), answer.text
    assert await office.rows("SELECT count(*) FROM admin_audit_log") == before


@pytest.mark.parametrize("expires_at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
async def test_expiry_beyond_all_time_is_422(admin: httpx.AsyncClient, expires_at: str) -> None:
    body = {"environment": "live", "name": "late", "permissions": ["billing:read"], "expires_at": expires_at}
    assert (await admin.post(KEYS, json=body)).status_code == 422
    assert (await admin.get("/admin/audit-logs", params={"since": expires_at})).status_code == 422


@pytest.fixture
async def upgrade_in_progress(office: Office) -> AsyncIterator[None]:
    """A version that does not know usage may still run."""
    async with connected(office.urls) as connection:
        await connection.execute("COMMENT ON TABLE alembic_version IS NULL")
        yield
        await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format(newest_revision())}'")


@pytest.mark.usefixtures("upgrade_in_progress")
async def test_nothing_that_the_version_before_cannot_read_is_stored_during_an_upgrade(
    admin: httpx.AsyncClient,
) -> None:
    """Its list of keys fails for a permission that it does not know."""
    key_id, _ = await create(admin)
    path = f"{KEYS}/{key_id}"
    for new in (
        {"permissions": ["usage:read"]},
        {"identity_provider": "oauth:zero"},
        {"event_source": "gateway"},
        {"debt_limit_nanos": 1},
    ):
        answers = [await admin.post(KEYS, json={**KEY, **new})]
        if "event_source" not in new:  # it cannot be changed
            answers.append(await admin.patch(path, json=new))
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "upgrade_in_progress")
            assert int(answer.headers["Retry-After"]) > 0
    as_before = {"name": "renamed", "permissions": ["billing:read"], "usage_policy": "refuse", "max_cost_nanos": None}
    assert (await admin.patch(path, json=as_before)).status_code == 200
    assert (await admin.post(f"{path}/rotate")).status_code == 201
