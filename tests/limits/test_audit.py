"""The audit log names the API keys and users that set and remove limits, with the amounts before and after."""

import json
from typing import Any

import httpx
import pytest

from tests.limits.conftest import LIMITS, OWN, Teller

SETTINGS = "/api/billing/settings"
ENTRIES = """
    SELECT action, admin_email, address, environment, before, after, reason, request_id FROM admin_audit_log
     WHERE target_type = 'account' AND target_id = $1::text ORDER BY audit_id
    """


async def entries(teller: Teller, user: str) -> list[dict[str, Any]]:
    rows = await teller.desk.rows(ENTRIES, str(await teller.desk.account_id(user)))
    return [{**row, **{name: json.loads(row[name] or "null") for name in ("before", "after")}} for row in rows]


@pytest.mark.parametrize(
    ("path", "owner"), [pytest.param(LIMITS, "operator", id="key"), pytest.param(OWN, "user", id="user")]
)
async def test_each_change_of_a_limit_is_recorded(
    teller: Teller, user: str, person: httpx.AsyncClient, path: str, owner: str
) -> None:
    """Set, changed, set to the same amount, refused, and removed: the third and the fourth change nothing."""
    sender, author = (teller.boss, f"API key {teller.key_id}") if path == LIMITS else (person, "user")
    limit: dict[str, Any] = {"user_id": user, "window": "day", "unit": "credits"}
    answers = [await sender.put(path, json={**limit, "amount": amount}) for amount in ("5", "4", "4", "-1")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422]
    limit_id = answers[0].json()["id"]
    removed = [await sender.delete(f"{path}/{limit_id}") for _ in range(2)]
    assert [answer.status_code for answer in removed] == [200, 404]
    about = {"limit_id": limit_id, "scope": "account", "window": "day", "unit": "credits", "action": "refuse"}
    facts = {**about, "owner": owner}
    found = await entries(teller, user)
    assert [(entry["action"], entry["before"], entry["after"]) for entry in found] == [
        ("account.set_limit", None, {**facts, "amount": "5"}),
        ("account.set_limit", {"amount": "5"}, {**facts, "amount": "4"}),
        ("account.remove_limit", {"amount": "4"}, facts),
    ]
    requests = [answers[0], answers[1], removed[0]]
    assert [entry["request_id"] for entry in found] == [answer.headers["X-Request-ID"] for answer in requests]
    assert {(entry["admin_email"], entry["address"], entry["environment"], entry["reason"]) for entry in found} == {
        (author, "API", "live", None)
    }


async def test_limits_of_the_second_layer_are_recorded(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    """Two limits in one request. The default ones are the operator's rule, which no caller sets."""
    assert (await person.put(SETTINGS, json={"daily_limit_usd": 3, "monthly_limit_usd": 9})).status_code == 200
    found = await entries(teller, user)
    assert [(entry["admin_email"], entry["after"]["window"], entry["after"]["amount"]) for entry in found] == [
        ("user", "day", "3.000000"),
        ("user", "month", "9.000000"),
    ]


async def test_a_change_that_fails_records_nothing(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    await teller.limit(user, amount="5")
    before = len(await entries(teller, user))
    answer = await person.put(OWN, json={"window": "day", "unit": "credits", "amount": "6"})
    assert (answer.status_code, answer.json()["code"]) == (422, "above_operator_limit")
    assert len(await entries(teller, user)) == before
