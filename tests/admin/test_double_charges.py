"""The back office lists charges that were flagged as probably double, and sets the policy of a key."""

import uuid
from typing import Any

import httpx
import pytest

from app.auth.api_keys.usage_terms import DOUBLE_CHARGES_SINCE
from app.db.schema_check import newest_revision
from app.db.version_mark import OLDEST
from tests.admin.conftest import Office
from tests.admin.people import somebody
from tests.admin.test_erasure import erase, work
from tests.books import connected

KEYS, DOUBLES, CHARGES = "/admin/api-keys", "/admin/double-charges", "/v1/billing/charges"
KEY = {"environment": "live", "name": "Agent 7", "permissions": ["billing:write", "billing:read"]}


async def new_key(admin: httpx.AsyncClient, **fields: str) -> tuple[str, str]:
    answer = await admin.post(KEYS, json={**KEY, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()["key_id"], answer.json()["api_key"]


async def charge(office: Office, api_key: str, user: str, key: str, **fields: Any) -> dict[str, Any]:
    body = {
        "oauth_provider": "oauth:google",
        "external_id": user,
        "customer_email": f"{user}@example.com",
        "amount_minor": 100,
        "idempotency_key": key,
        "metadata": {"request_id": "r"},
        **fields,
    }
    async with office.client(None) as agent:
        answer = await agent.post(CHARGES, json=body, headers={"X-API-Key": api_key})
    assert answer.status_code == 201, answer.text
    charged: dict[str, Any] = answer.json()
    return charged


async def listed(client: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    answer = await client.get(DOUBLES, params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


async def test_flagged_charges_are_listed_newest_first(
    office: Office, admin: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    key_id, api_key = await new_key(admin, double_charges="flag")
    user, other = uuid.uuid4().hex, uuid.uuid4().hex
    first = await charge(office, api_key, user, "a", description="An answer")
    doubles = [await charge(office, api_key, user, key, description="An answer") for key in "bc"]
    for key in "ab":
        await charge(office, api_key, other, key)
    found = (await listed(viewer, account_id=first["account_id"]))["double_charges"]
    assert [(row["idempotency_key"], row["first_idempotency_key"]) for row in found] == [("c", "a"), ("b", "a")]
    of_key = (await listed(viewer, key_id=key_id))["double_charges"]
    assert [row["idempotency_key"] for row in of_key] == ["b", "c", "b"]
    assert (await listed(viewer, key_id="another"))["double_charges"] == []
    assert [row["charge_id"] for row in found] == [double["charge_id"] for double in reversed(doubles)]
    newest = found[0]
    assert newest["person"]["customer_email"] == f"{user}@example.com"
    expected = {"double_of": first["charge_id"], "request_id": "r", "description": "An answer", "amount_minor": 100}
    expected |= {"key_id": key_id, "key_name": "Agent 7", "first_created_at": first["created_at"]}
    assert {name: newest[name] for name in expected} == expected
    page = await listed(viewer, limit=2)
    assert len(page["double_charges"]) == 2
    after = await listed(viewer, limit=2, cursor=page["next_cursor"])
    both = [row["charge_id"] for row in (*page["double_charges"], *after["double_charges"])]
    assert len(set(both)) == len(both) >= 3
    last = await listed(viewer, account_id=first["account_id"], cursor=doubles[0]["charge_id"])
    assert last == {"double_charges": [], "next_cursor": None}


async def test_the_policy_is_chosen_changed_inherited_and_audited(office: Office, admin: httpx.AsyncClient) -> None:
    key_id, _ = await new_key(admin)
    path = f"{KEYS}/{key_id}"
    assert (await admin.get(path)).json()["double_charges"] == "ignore"
    changed = await admin.patch(path, json={"double_charges": "refuse"})
    assert changed.json()["double_charges"] == "refuse"
    as_it_is = await admin.patch(path, json={"double_charges": None, "name": "renamed"})
    assert (as_it_is.json()["double_charges"], as_it_is.json()["name"]) == ("refuse", "renamed")
    successor = (await admin.post(f"{path}/rotate")).json()["key_id"]
    assert (await admin.get(f"{KEYS}/{successor}")).json()["double_charges"] == "refuse"
    rows = await office.rows(
        'SELECT "before", "after" FROM admin_audit_log WHERE target_id = $1 AND action = $2 ORDER BY audit_id',
        *(key_id, "api_key.change"),
    )
    assert (rows[0]["before"], rows[0]["after"]) == ('{"double_charges": "ignore"}', '{"double_charges": "refuse"}')
    wrong = await admin.post(KEYS, json={**KEY, "double_charges": "forgive"})
    assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["body", "double_charges"])


@pytest.mark.parametrize("policy", ["flag", "refuse"])
async def test_a_policy_needs_a_finished_upgrade(office: Office, admin: httpx.AsyncClient, policy: str) -> None:
    """A version before would charge twice, and record nothing to find the double by."""
    key_id, _ = await new_key(admin)
    before = str(int(DOUBLE_CHARGES_SINCE) - 1).zfill(4)
    async with connected(office.urls) as connection:
        await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format(before)}'")
        try:
            answers = [
                await admin.post(KEYS, json={**KEY, "double_charges": policy}),
                await admin.patch(f"{KEYS}/{key_id}", json={"double_charges": policy}),
            ]
            assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "upgrade_in_progress")] * 2
            assert (await admin.patch(f"{KEYS}/{key_id}", json={"double_charges": "ignore"})).status_code == 200
        finally:
            await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format(newest_revision())}'")


async def test_erasure_forgets_the_purpose(office: Office, admin: httpx.AsyncClient) -> None:
    _, api_key = await new_key(admin, double_charges="flag")
    person = await somebody(office)
    user = person.user["external_id"]
    for key in "ab":
        await charge(office, api_key, user, key, description=person.names[0])
    [double] = (await listed(admin, account_id=person.account_id))["double_charges"]
    assert double["description"] == person.names[0]
    assert (await erase(admin, person)).status_code == 200
    await work(office)
    [after] = (await listed(admin, account_id=person.account_id))["double_charges"]
    assert (after["description"], after["request_id"], after["double_of"]) == (None, None, double["double_of"])
    left = await office.rows(
        "SELECT purpose FROM charge_purposes WHERE account_id = $1 AND purpose IS NOT NULL", person.account_id
    )
    assert left == []
