"""Setting, changing and removing limits: permissions, owners, and refused input."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.limits.service import MAX_LIMITS
from tests.conftest import make_usage_key
from tests.demo.oidc_server import SPA
from tests.limits.conftest import LIMITS, OWN, ClientOf, Teller
from tests.metering.conftest import PROVIDER, client

DAY = {"window": "day", "unit": "credits", "amount": "3"}


async def test_a_limit_is_set_once_and_keeps_its_counter(teller: Teller, user: str) -> None:
    first = await teller.limit(user, amount=10)
    assert {name: first[name] for name in ("scope", "scope_value", "window", "unit", "amount", "spent")} == {
        "scope": "account",
        "scope_value": None,
        "window": "day",
        "unit": "credits",
        "amount": "10",
        "spent": "0",
    }
    assert (first["action"], first["owner"], first["crossed_at"]) == ("refuse", "operator", None)
    assert await teller.limit(user, amount="10") == first
    assert (await teller.spend("charge", user)).status_code == 201
    lowered = await teller.limit(user, amount="2")
    assert (lowered["id"], lowered["spent"], lowered["amount"]) == (first["id"], "3", "2")
    assert lowered["crossed_at"] is not None
    raised = await teller.limit(user, amount="3")
    assert (raised["spent"], raised["crossed_at"]) == ("3", None)
    assert await teller.limits(user) == [raised]


async def test_a_removed_limit_limits_nothing(teller: Teller, user: str) -> None:
    kept, gone = await teller.limit(user, amount="0"), await teller.limit(user, window="hour", amount="0")
    for limit, flag in ((gone, True), (kept, False)):
        removed = await teller.boss.delete(f"{LIMITS}/{limit['id']}")
        assert (removed.status_code, removed.json()["id"]) == (200, limit["id"])
        again = await teller.boss.delete(f"{LIMITS}/{limit['id']}")
        assert (again.status_code, again.json()["code"]) == (404, "limit_not_found")
        account = await teller.desk.account_id(user)
        [row] = await teller.desk.rows("SELECT has_limits FROM accounts WHERE account_id = $1", account)
        assert row["has_limits"] is flag
    assert (await teller.spend("charge", user)).status_code == 201
    assert (await teller.limit(user, amount="5"))["spent"] == "3"


@pytest.mark.parametrize("limit_id", ["limit_" + "A" * 43, "limit_x", "x", str(uuid.UUID(int=7)), "hold_" + "A" * 43])
async def test_unknown_limits_are_not_found(limit_id: str, teller: Teller, user: str, client_of: ClientOf) -> None:
    person = client_of(user, aud=SPA.client_id)
    for answer in (await teller.boss.delete(f"{LIMITS}/{limit_id}"), await person.delete(f"{OWN}/{limit_id}")):
        assert (answer.status_code, answer.json()["code"]) == (404, "limit_not_found")


async def test_limits_of_another_environment_or_user_are_not_found(
    teller: Teller, user: str, client_of: ClientOf
) -> None:
    limit = await teller.limit(user)
    test_key = await make_usage_key(teller.desk.db, UsageTerms(PROVIDER), "test", *{*Permission} - {"usage:set_cost"})
    async with client(teller.desk.url, test_key) as tester:
        assert (await tester.delete(f"{LIMITS}/{limit['id']}")).status_code == 404
        assert (await tester.get(LIMITS, params={"user_id": user})).json() == {"limits": []}
    other = client_of(await teller.user(), aud=SPA.client_id)
    assert (await other.delete(f"{OWN}/{limit['id']}")).status_code == 404
    assert len(await teller.limits(user)) == 1


@pytest.mark.parametrize("permission", [p for p in Permission if p not in ("limits:write", "usage:set_cost")])
async def test_no_other_permission_sets_or_removes_limits(permission: Permission, teller: Teller, user: str) -> None:
    """An agent's key that may spend cannot widen what it may spend."""
    limit = await teller.limit(user)
    key = await make_usage_key(teller.desk.db, UsageTerms(PROVIDER), "live", permission)
    async with client(teller.desk.url, key) as agent:
        answers = [
            await agent.put(LIMITS, json={"user_id": user, **DAY, "amount": "9"}),
            await agent.delete(f"{LIMITS}/{limit['id']}"),
        ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "missing_permission")] * 2
    assert await teller.limits(user) == [limit]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"amount": "-1"}, "amount"),
    ({"amount": -1}, "amount"),
    ({"amount": 1.5}, "amount"),
    ({"amount": 2.0}, "amount"),
    ({"amount": True}, "amount"),
    ({"amount": None}, "amount"),
    ({"amount": "1.5"}, "amount"),
    ({"amount": "1e3"}, "amount"),
    ({"amount": "٣"}, "amount"),
    ({"amount": ""}, "amount"),
    ({"amount": "9" * 41}, "amount"),
    ({"amount": 2**63}, "amount"),
    ({"amount": str(2**63)}, "amount"),
    ({"amount": "1.0000000001", "unit": "money"}, "amount"),
    ({"amount": "-0.5", "unit": "money"}, "amount"),
    ({"amount": "9223372037", "unit": "money"}, "amount"),
    ({"unit": "EUR"}, "unit"),
    ({"unit": "credit"}, "unit"),
    ({"window": "week"}, "window"),
    ({"window": None}, "window"),
    ({"action": "warn"}, "action"),
    ({"scope": {"type": "account", "value": "x"}}, "scope"),
    ({"scope": {"type": "agent"}}, "scope"),
    ({"scope": {"type": "agent", "value": ""}}, "scope"),
    ({"scope": {"type": "agent", "value": "a\0"}}, "scope"),
    ({"scope": {"type": "agent", "value": "a" * 256}}, "scope"),
    ({"scope": {"type": "run", "value": "a"}}, "scope"),
    ({"scope": {"type": "key", "value": "cbk_live_x"}}, "scope"),
    ({"scope": {"type": "model", "value": "gpt"}}, "unit"),
    ({"scope": "account"}, "scope"),
]


@pytest.mark.parametrize(("changes", "field"), BAD)
async def test_bad_input_is_refused_by_its_field(
    changes: dict[str, Any], field: str, teller: Teller, client_of: ClientOf
) -> None:
    user = str(uuid.uuid4())
    for answer in (await teller.put(user, **changes), await client_of(user).put(OWN, json={**DAY, **changes})):
        assert answer.status_code == 422, answer.text
        assert field in answer.text
    assert await teller.limits(user) == []


@pytest.mark.parametrize(
    ("amount", "unit", "shown"),
    [
        (2**63 - 1, "uses", str(2**63 - 1)),
        ("007", "credits", "7"),
        (5, "money", "5.000000"),
        ("9223372036.854775807", "money", "9223372036.854775807"),
    ],
)
async def test_amounts_are_exact(amount: object, unit: str, shown: str, teller: Teller, user: str) -> None:
    limit = await teller.limit(user, amount=amount, unit=unit)
    assert (limit["amount"], limit["unit"]) == (shown, "USD" if unit == "money" else unit)
    assert (await teller.spend("charge", user)).status_code == 201


async def test_an_account_has_a_bounded_number_of_limits_of_each_owner(
    teller: Teller, user: str, client_of: ClientOf
) -> None:
    own = client_of(user)
    for number in range(MAX_LIMITS):
        body = {**DAY, "scope": {"type": "agent", "value": f"a{number}"}}
        assert (await own.put(OWN, json=body)).status_code == 200
    full = await own.put(OWN, json=DAY)
    assert (full.status_code, full.json()["code"]) == (422, "too_many_limits")
    assert (await own.put(OWN, json={**body, "amount": "2"})).status_code == 200
    assert (await teller.put(user)).status_code == 200


async def test_a_closed_account_gets_no_limits(teller: Teller, user: str) -> None:
    account = await teller.desk.account_id(user)
    await teller.desk.rows("UPDATE accounts SET status = 'closed' WHERE account_id = $1 RETURNING 1", account)
    answer = await teller.put(user)
    assert (answer.status_code, answer.json()["code"]) == (403, "account_closed")


# --- the user's token ---


async def test_users_create_and_lower_limits_below_the_operators(
    teller: Teller, user: str, client_of: ClientOf
) -> None:
    own = client_of(user)
    await teller.limit(user, amount="10")
    above = await own.put(OWN, json={**DAY, "amount": "11"})
    assert (above.status_code, above.json()["code"]) == (422, "above_operator_limit")
    assert (above.json()["field"], above.json()["error"]["code"]) == ("amount", "bad_request")
    for amount in ("10", "5", "5"):
        answer = await own.put(OWN, json={**DAY, "amount": amount})
        assert (answer.status_code, answer.json()["owner"]) == (200, "user")
    listed = (await own.get(OWN)).json()["limits"]
    assert sorted((limit["owner"], limit["amount"]) for limit in listed) == [("operator", "10"), ("user", "5")]
    assert (await teller.spend("charge", user)).status_code == 201
    assert (await teller.spend("charge", user)).json()["limit"]["amount"] == "5"


async def test_an_agent_with_the_users_token_cannot_raise_or_remove(
    teller: Teller, user: str, client_of: ClientOf
) -> None:
    agent = client_of(user)
    limit = (await agent.put(OWN, json=DAY)).json()
    for answer in (await agent.put(OWN, json={**DAY, "amount": "4"}), await agent.delete(f"{OWN}/{limit['id']}")):
        assert (answer.status_code, answer.json()["code"]) == (403, "person_required")
    assert await teller.limits(user) == [limit]


@pytest.mark.parametrize(
    ("claims", "is_person"),
    [
        ({}, True),
        ({"auth_time": timedelta(minutes=-9)}, True),
        ({"auth_time": timedelta(minutes=-11)}, False),
        ({"auth_time": timedelta(minutes=5)}, False),
        ({"auth_time": "yesterday"}, False),
        ({"auth_time": -1}, False),
        ({"auth_time": True}, False),
    ],
)
async def test_a_person_who_has_just_signed_in_raises_and_removes(
    claims: dict[str, Any], is_person: bool, teller: Teller, user: str, client_of: ClientOf
) -> None:
    now = datetime.now(UTC)
    claims = {name: int((now + at).timestamp()) if isinstance(at, timedelta) else at for name, at in claims.items()}
    person = client_of(user, aud=SPA.client_id, **claims)
    limit = (await person.put(OWN, json=DAY)).json()
    raised = await person.put(OWN, json={**DAY, "amount": "4"})
    removed = await person.delete(f"{OWN}/{limit['id']}")
    expected = [(200, None)] * 2 if is_person else [(403, "person_required")] * 2
    assert [(answer.status_code, answer.json().get("code")) for answer in (raised, removed)] == expected
    assert len(await teller.limits(user)) == (0 if is_person else 1)


async def test_each_owner_removes_its_own_limits(teller: Teller, user: str, client_of: ClientOf) -> None:
    person = client_of(user, aud=SPA.client_id)
    theirs = (await person.put(OWN, json={**DAY, "amount": "1"})).json()
    ours = await teller.limit(user)
    answers = [await teller.boss.delete(f"{LIMITS}/{theirs['id']}"), await person.delete(f"{OWN}/{ours['id']}")]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "not_limit_owner")] * 2


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_keys_do_not_open_the_users_routes(method: str, teller: Teller) -> None:
    path = OWN if method != "DELETE" else f"{OWN}/limit_{'A' * 43}"
    answer = await teller.boss.request(method, path, json=DAY)
    assert answer.status_code == 401


async def test_unknown_users_have_no_limits(teller: Teller, client_of: ClientOf) -> None:
    user = str(uuid.uuid4())
    answers: list[httpx.Response] = [
        await teller.boss.get(LIMITS, params={"user_id": user}),
        await client_of(user).get(OWN),
    ]
    assert [answer.json() for answer in answers] == [{"limits": []}] * 2
    assert await teller.desk.rows("SELECT 1 FROM account_identities WHERE external_id = $1", user) == []
